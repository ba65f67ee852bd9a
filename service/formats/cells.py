"""Hashes of cells and words, and rows of them in the order of their slots, compiled.

Rules: bytes in, arrays out; what a cell means, and which column's seed it has, `hashed` knows.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt

from kernels.contract import Sparse
from kernels.loops import FLAGS, checksum, frozen
from service.formats import hashing
from service.formats.contract import Integers
from service.formats.hashing import murmur

parts = nb.njit(**FLAGS)
GAPS = (1750, 701, 301, 132, 57, 23, 10, 4, 1)
"""Of shell sort (Ciura, FCT 2001): rows are short, and nothing is allocated."""


@parts
def in_order(slots, values, start, stop):
    """Puts entries in the order of their slots, and adds those that meet; where they end now, -1 where a
    sum is too large."""
    grows = True
    for e in range(start + 1, stop):
        grows &= slots[e - 1] < slots[e]
    if grows:
        return stop
    for gap in GAPS:
        for e in range(start + gap, stop):
            slot, value, at = slots[e], values[e], e
            while at >= start + gap and slots[at - gap] > slot:
                slots[at], values[at] = slots[at - gap], values[at - gap]
                at -= gap
            slots[at], values[at] = slot, value
    kept = start
    for e in range(start + 1, stop):
        if slots[e] == slots[kept]:
            values[kept] += values[e]
            if not np.isfinite(values[kept]):
                return -1
        else:
            kept += 1
            slots[kept], values[kept] = slots[e], values[e]
    return kept + 1


@parts
def _is_letter(byte):
    """Whether a byte is part of a word: 0 to 9, a to z, _ and all beyond ASCII (A to Z are lower case here)."""
    return 48 <= byte <= 57 or 97 <= byte <= 122 or byte == 95 or byte >= 128


@parts
def _hash_words(data, ends, seed, ngrams, recent, counts, found):
    """counts (n,) and found ← the hashes of each cell's words and runs of up to `ngrams` words; how many.

    recent (ngrams,) is scratch: the hashes of the runs that end with the word before.
    """
    entry, i = 0, 0
    for row in range(len(ends)):
        first, known = entry, 0
        while i < ends[row]:
            if not _is_letter(data[i]):
                i += 1
                continue
            begin = i
            while i < ends[row] and _is_letter(data[i]):
                i += 1
            for length in range(min(known, ngrams - 1), -1, -1):
                before = seed if length == 0 else recent[length - 1]
                recent[length] = murmur(data, begin, i, before)
                found[entry] = recent[length]
                entry += 1
            known += 1
        counts[row] = entry - first
    return entry


@parts
def _put_in_order(starts, slots, values, mask):
    """Masks hashes, and puts each row's entries in order; rows close up, and values of 0 are left out."""
    entry = 0
    for row in range(len(starts) - 1):
        begin, end = starts[row], starts[row + 1]
        for e in range(begin, end):
            slots[e] &= mask
        starts[row] = entry
        for e in range(begin, max(in_order(slots, values, begin, end), begin)):
            if values[e] != 0.0:
                slots[entry], values[entry] = slots[e], values[e]
                entry += 1
    starts[-1] = entry


def _entries(sources: int) -> tuple[Any, Any, Any]:
    @nb.njit(cache=True, **FLAGS)
    def cells(data, ends, seed, found):
        _ = sources
        begin = 0
        for row in range(len(ends)):
            found[row] = murmur(data, begin, ends[row], seed)
            begin = ends[row]

    @nb.njit(cache=True, **FLAGS)
    def words(data, ends, seed, ngrams, recent, counts, found):
        _ = sources
        return _hash_words(data, ends, seed, ngrams, recent, counts, found)

    @nb.njit(cache=True, **FLAGS)
    def order(starts, slots, values, mask):
        _ = sources
        _put_in_order(starts, slots, values, mask)

    return cells, words, order


_cells, _words, _order = _entries(checksum(hashing))
Bytes = npt.NDArray[np.uint8]
Hashes = npt.NDArray[np.uint32]


def cell_hashes(data: Bytes, ends: Integers, seed: int) -> Hashes:
    """The hash (n,) of each cell; ends (n,) are where they end in `data`."""
    found = np.empty(len(ends), np.uint32)
    _cells(frozen(data), ends, np.uint64(seed), found)
    return found


def word_hashes(data: Bytes, ends: Integers, seed: int, ngrams: int) -> tuple[Integers, Hashes]:
    """How many hashes each cell has (n,), and the hashes: of its words, and of up to `ngrams` words in a row."""
    counts = np.empty(len(ends), np.int64)
    found = np.empty((len(data) // 2 + len(ends) + 1) * ngrams, np.uint32)
    recent = np.empty(ngrams, np.uint64)
    total = _words(frozen(data), ends, np.uint64(seed), ngrams, recent, counts, found)
    return counts, found[:total]


def ordered(starts: Integers, hashes: Hashes, values: npt.NDArray[np.float32], bits: int) -> Sparse:
    """Sparse rows of these entries, in place: each in the slot of its hash, and what meets is added."""
    _order(starts, hashes, values, np.uint32((1 << bits) - 1))
    return Sparse(starts, hashes[: starts[-1]], values[: starts[-1]])
