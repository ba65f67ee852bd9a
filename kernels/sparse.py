"""Sparse rows: the slots of a linear model, and the part of them that some rows touch.

A model of sparse rows has 2^bits slots beside its features. What it keeps of them stands in the state as
arrays whose last axis is the slots; their names begin with `sparse/`:

    normalised   sparse/scale (slots,), sparse/squares and sparse/weights (k, slots)
    ftrl         sparse/squares and sparse/z (k, slots); a weight is a function of them and of the steps

Rules: nothing here costs more than the non-zeros of its rows, but `pack`, once for each model that is
written. A round works on a part of the state, which is the state of a smaller model: the slots that its
rows touch, in the order in which they do.

    slots of rows ─▶ compacted ─▶ part ─▶ (rows are learnt) ─▶ put: the part's values into the state

`put` writes values and adds nothing, so that it may be done again. A model file holds only the slots that
were ever touched (`pack`, `unpack`), with their numbers in `sparse/slots`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kernels.contract import Array, Layout, Rows, Sparse, State
from kernels.optimizers import OPTIMIZERS

PREFIX = "sparse/"
SLOTS = "sparse/slots"
MOST_BITS = 24


def layout(rule: str, outputs: int, slots: int, dtype: str) -> Layout:
    """The arrays of so many slots for an optimizer."""
    each = ((outputs, slots), dtype)
    if rule == "ftrl":
        return {"sparse/squares": each, "sparse/z": each}
    return {"sparse/scale": ((slots,), dtype), "sparse/squares": each, "sparse/weights": each}


def part_layout(whole: Layout, slots: int) -> Layout:
    """The layout of a part of `slots` slots of a state of this layout, with their numbers."""
    found: Layout = {
        name: ((*shape[:-1], slots), dtype) if name.startswith(PREFIX) else (shape, dtype)
        for name, (shape, dtype) in whole.items()
    }
    return dict(sorted((found | {SLOTS: ((slots,), "uint32")}).items()))


def compacted(rows: Sparse, bits: int) -> tuple[Array, Sparse]:
    """The slots that rows touch (u,), in the order of their first, and the rows with places among these."""
    from kernels.passes.slots import compact

    first, last = int(rows.starts[0]), int(rows.starts[-1])
    slots, places = compact(rows.slots[first:last], bits)
    return slots, Sparse(rows.starts - first, places, rows.values[first:last])


def joined(parts: Sequence[Sparse]) -> Sparse:
    """The rows of several, one after the other, in arrays of their own."""
    ends = [(int(rows.starts[0]), int(rows.starts[-1])) for rows in parts]
    starts, at = [np.zeros(1, np.int64)], 0
    for rows, (first, last) in zip(parts, ends, strict=True):
        starts.append(rows.starts[1:] + (at - first))
        at += last - first
    slots = [rows.slots[a:b] for rows, (a, b) in zip(parts, ends, strict=True)]
    values = [rows.values[a:b] for rows, (a, b) in zip(parts, ends, strict=True)]
    return Sparse(np.concatenate(starts), np.concatenate(slots), np.concatenate(values))


def take(state: State, slots: Array, part: State) -> None:
    """Fills a part with the state of these slots (u,), and all that isn't of slots."""
    for name, array in part.items():
        if name == SLOTS:
            array[...] = slots
        elif name.startswith(PREFIX):
            np.take(state[name], slots, axis=-1, out=array)
        else:
            array[...] = state[name]


def part_of(state: State, rows: Rows, whole: Layout, bits: int) -> tuple[State, Rows]:
    """The part of a state of layout `whole` that rows touch, in arrays of its own, and the rows with places in it."""
    assert rows.sparse is not None
    slots, entries = compacted(rows.sparse, bits)
    layout = part_layout(whole, len(slots))
    part = {name: np.empty(shape, dtype) for name, (shape, dtype) in layout.items()}
    take(state, slots, part)
    return part, rows._replace(sparse=entries)


def put(part: State, state: State) -> None:
    """Writes a part back into the state; doing it again changes nothing."""
    slots = part[SLOTS]
    for name, array in part.items():
        if name != SLOTS and name.startswith(PREFIX):
            state[name][..., slots] = array
        elif name != SLOTS:
            state[name][...] = array


def weights(
    state: State, slots: Array, options: Any, penalty: tuple[float, float], rate: float
) -> Array:
    """The weights (k, u) float64 of slots (u,): as stored, or those of FTRL after the state's steps, at this rate."""
    if "sparse/weights" in state:
        return state["sparse/weights"][:, slots].astype(np.float64)
    optimizer = OPTIMIZERS["ftrl"]
    z, squares = (
        state[name][:, slots].astype(np.float64) for name in ("sparse/z", "sparse/squares")
    )
    numbers = optimizer.numbers(options, int(state["steps"][0]), 1)
    nothing = np.zeros_like(z)
    found = optimizer.step(
        nothing, nothing, z, squares, nothing, nothing, nothing, rate, *penalty, numbers
    )
    return np.asarray(found[0])


def touched(state: State) -> Array:
    """The slots (u,) uint32 that any row has touched, growing."""
    name = "sparse/scale" if "sparse/scale" in state else "sparse/squares"
    return np.flatnonzero(np.atleast_2d(state[name]).any(axis=0)).astype(np.uint32)


def unpack(saved: Mapping[str, Array], layout: Layout) -> State:
    """The whole state of a model file's arrays: what isn't in it is 0. Arrays of a dense model stay as they are.

    Raises ValueError where the file is one of more slots.
    """
    if SLOTS not in saved:
        return dict(saved)
    slots = saved[SLOTS]
    found: State = {}
    for name, array in saved.items():
        if name == SLOTS:
            continue
        if name.startswith(PREFIX) and name in layout:
            shape, dtype = layout[name]
            if len(slots) and int(slots.max()) >= shape[-1]:
                raise ValueError(f"slots: must be below {shape[-1]}, got {slots.max()}")
            found[name] = np.zeros(shape, dtype)
            found[name][..., slots] = array
        else:
            found[name] = array
    return found
