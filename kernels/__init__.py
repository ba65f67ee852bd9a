"""Arrays in, arrays out: model families, losses, optimizers, scaling and metrics.

Rules: numpy, numba and the standard library only; no files, no time, no processes. Every function
is deterministic, and every sum has a fixed order. `contract` is what a stranger implements;
`learner` is what the service calls.
"""
