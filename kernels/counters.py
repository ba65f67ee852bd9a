"""Numbers that look random, as pure functions of counters: the same wherever and whenever they are asked for."""

from __future__ import annotations

import numpy as np

from kernels.contract import Array

_GOLDEN, _FIRST, _SECOND = (
    np.uint64(0x9E3779B97F4A7C15),
    np.uint64(0xBF58476D1CE4E5B9),
    np.uint64(0x94D049BB133111EB),
)


def mixed(counters: Array) -> Array:
    """64 bits for each counter: uint64 of any shape → uint64.

    Source: the finaliser of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014), a bijection whose output
    bits each depend on all input bits.
    """
    z = (counters + np.uint64(1)) * _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * _FIRST
    z = (z ^ (z >> np.uint64(27))) * _SECOND
    return np.asarray(z ^ (z >> np.uint64(31)))


def shares(seed: int, stream: int, numbers: Array, columns: int) -> Array:
    """Uniform numbers in [0, 1), float64 (n, columns), of rows `numbers` (n,) in one of many streams."""
    start = mixed(np.array([seed], np.uint64)) ^ mixed(
        np.array([stream], np.uint64) << np.uint64(32)
    )
    rows = mixed(start ^ mixed(numbers.astype(np.uint64)))
    cells = mixed(rows[:, None] ^ mixed(np.arange(columns, dtype=np.uint64))[None, :])
    return np.asarray((cells >> np.uint64(11)).astype(np.float64) * 2.0**-53)
