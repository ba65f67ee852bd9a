"""Rounds of models with slots: a round learns in a part of the state, and the part is written back.

    source ─▶ learn ─▶ part       part ─▶ put ─▶ the same state, in place

Rules: `learn` only reads the state, and `put` writes values that don't depend on what it finds there; so each
may run again, though a state of 2^24 slots is never copied for a round. Whoever shares a state with others copies
it once before he learns in it. What a model file holds of a state are the slots that were ever touched.
"""

from __future__ import annotations

from collections.abc import Sequence

from kernels import sparse
from kernels.contract import Layout
from kernels.learner import build
from service.runtime.arena import Region, arrays, back, size_of
from service.subtasks.blocks import Part, rows_of
from service.subtasks.learn import Learnt, backed, recorded, started


def copy(spec: str, source: Region, target: Region) -> None:
    """A state of one's own."""
    started(build(spec), source, target)


def learn(
    spec: str, source: Region, out: Region, parts: Sequence[Part], results: Region
) -> tuple[Learnt, int]:
    """Learns from the rows, in order, in the part of the state that they touch; how many slots that has."""
    learner, rows = build(spec), rows_of(parts)
    assert rows.sparse is not None
    slots, entries = sparse.compacted(rows.sparse, learner.spec.bits)
    part = backed(out, sparse.part_layout(learner.layout(), len(slots)))
    sparse.take(arrays(source, learner.layout()), slots, part)
    found = recorded(learner, results, len(rows.y), "")
    is_finite = learner.run(part, rows._replace(sparse=entries), 1, found)
    return Learnt(is_finite, learner.rate(part)), len(slots)


def put(spec: str, part: Region, slots: int, state: Region) -> None:
    """Writes a part of so many slots into the state."""
    whole = build(spec).layout()
    sparse.put(arrays(part, sparse.part_layout(whole, slots)), arrays(state, whole))


def pack(spec: str, state: Region, out: Region) -> Layout:
    """What a model file holds of a state; the layout that it has in `out`."""
    whole = build(spec).layout()
    found = arrays(state, whole)
    slots = sparse.touched(found)
    layout = sparse.part_layout(whole, len(slots))
    back(out, size_of(layout))
    sparse.take(found, slots, arrays(out, layout))
    return layout
