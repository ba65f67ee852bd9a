"""The stages of a job's line, each one coroutine between two channels; they never import one another.

intake ─Sample─▶ decode ─Decoded─▶ train ─Learning─▶ record
"""
