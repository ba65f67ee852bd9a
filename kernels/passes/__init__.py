"""Compiled passes: a lane's batches, from raw rows to results, in one call."""
