"""The slots of sparse rows, compiled: which ones rows touch, and what they add to outputs.

Rules: those of `loops`. A row's cost is that of its non-zeros.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np

from kernels.contract import Array, Sparse
from kernels.loops import FLAGS, frozen, inlined


class Entries(NamedTuple):
    """What is not 0 of a lane's rows, read-only: as `contract.Sparse`, but with places of the part."""

    starts: Array
    places: Array
    values: Array


def entries_of(rows: Sparse) -> Entries:
    """The rows as a pass takes them."""
    return Entries(*(frozen(array) for array in rows))


@inlined
def _home(slot, mask):
    """Where a table of mask + 1 places begins to look for a slot (Fibonacci hashing, Knuth 6.4)."""
    return (slot * nb.uint64(11400714819323198485) >> nb.uint64(32)) & mask


@nb.njit(cache=True, **FLAGS)
def _compact(slots, table, found, places):
    """places (m,) ← each slot's number among the distinct ones, found (m,) ← those; how many they are.

    table: zeros, a power of two and at least twice the distinct ones.
    """
    mask = nb.uint64(len(table) - 1)
    count = 0
    for e in range(len(slots)):
        slot = slots[e]
        at = _home(nb.uint64(slot), mask)
        while table[at] != 0 and found[table[at] - 1] != slot:
            at = (at + nb.uint64(1)) & mask
        if table[at] == 0:
            found[count] = slot
            count += 1
            table[at] = count
        places[e] = table[at] - 1
    return count


def compact(slots: Array, bits: int) -> tuple[Array, Array]:
    """The distinct ones of slots (m,) uint32, in the order of their first, and each one's place (m,) uint32."""
    most = min(len(slots), 1 << bits)
    table = np.zeros(2 << max(most - 1, 1).bit_length(), np.uint32)
    found, places = np.empty((2, len(slots)), np.uint32)
    count = _compact(frozen(slots), table, found, places)
    return found[:count], places


@inlined
def square_of(starts, values, i):
    """|row i|²."""
    total = 0.0
    for e in range(starts[i], starts[i + 1]):
        total += np.float64(values[e]) * np.float64(values[e])
    return total


@inlined
def add_slots(starts, places, values, i, weights, outputs):
    """outputs (k,) += weights (k, u) · row i."""
    for j in range(len(outputs)):
        total = outputs[j]
        for e in range(starts[i], starts[i + 1]):
            total += np.float64(weights[j, places[e]]) * np.float64(values[e])
        outputs[j] = total


@nb.njit(cache=True, **FLAGS)
def _outputs(starts, places, values, weights, outputs):
    for i in range(len(outputs)):
        for j in range(len(weights)):
            total = outputs[i, j]
            for e in range(starts[i], starts[i + 1]):
                total += np.float64(weights[j, places[e]]) * np.float64(values[e])
            outputs[i, j] = total


def add_outputs(rows: Sparse, weights: Array, out: Array) -> None:
    """out (n, k) += weights (k, u) · the sparse rows, whose slots are places of u, in float64; in place."""
    _outputs(*entries_of(rows), frozen(weights), out)
