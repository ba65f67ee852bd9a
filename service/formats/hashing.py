"""The hash of feature names: MurmurHash3 for 32 bits, of the UTF-8 bytes, which is ours to keep.

Source: Austin Appleby, MurmurHash3_x86_32 (public domain); Vowpal Wabbit hashes with it, too. A slot is the low
bits of a hash, so a name has its slot on every machine, in every version and run.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
from __future__ import annotations

import numba as nb
import numpy as np

from kernels.loops import FLAGS, inlined

LOW = np.uint64(0xFFFFFFFF)


@inlined
def _times(a, b):
    return (a * b) & LOW


@inlined
def _turned(value, left):
    return ((value << left) | (value >> (np.uint64(32) - left))) & LOW


@inlined
def _mixed(k):
    k = _turned(_times(k, np.uint64(0xCC9E2D51)), np.uint64(15))
    return _times(k, np.uint64(0x1B873593))


@nb.njit(**FLAGS)
def murmur(data, start, stop, seed):
    """The hash of data[start:stop] uint8, as uint64 below 2^32; `seed` likewise."""
    h = np.uint64(seed) & LOW
    whole = start + (stop - start) // 4 * 4
    for i in range(start, whole, 4):
        k = np.uint64(0)
        for j in range(3, -1, -1):
            k = (k << np.uint64(8)) | np.uint64(data[i + j])
        h = _turned(h ^ _mixed(k), np.uint64(13))
        h = (_times(h, np.uint64(5)) + np.uint64(0xE6546B64)) & LOW
    if whole < stop:
        k = np.uint64(0)
        for i in range(stop - 1, whole - 1, -1):
            k = (k << np.uint64(8)) | np.uint64(data[i])
        h ^= _mixed(k)
    h ^= np.uint64(stop - start)
    h = _times(h ^ (h >> np.uint64(16)), np.uint64(0x85EBCA6B))
    h = _times(h ^ (h >> np.uint64(13)), np.uint64(0xC2B2AE35))
    return h ^ (h >> np.uint64(16))


@nb.njit(**FLAGS)
def name_hash(data, start, stop, seed):
    """The hash of a feature's name, as Vowpal Wabbit has it: of digits alone their number, added to the seed."""
    number = np.uint64(0)
    for i in range(start, stop):
        digit = np.uint64(data[i]) - np.uint64(48)
        if digit > np.uint64(9):
            return murmur(data, start, stop, seed)
        number = number * np.uint64(10) + digit
    return number + np.uint64(seed)


def hash_of(text: str, seed: int = 0) -> int:
    """The hash of a text, from 0 to 2^32 - 1."""
    data = np.frombuffer(text.encode(), np.uint8)
    return int(murmur(data, 0, len(data), np.uint64(seed)))
