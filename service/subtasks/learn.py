"""Rounds: rows and a state become the next state, and what is recorded of the rows.

    one lane                  run: source ─▶ target
    lanes, one local step     gradient: source ─▶ one region a lane; apply: regions ─▶ target
    lanes, many local steps   run: source ─▶ one region a lane; average: regions ─▶ target
    one that isn't finite     culprit: source ─▶ the rows to blame

Rules: a state is read in one region and written in another, which is copied whole first, so that
a sub-task may run again; sums go in the order of the lanes, never in that of their arrival.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from kernels import guard, metrics, sparse
from kernels.columns import ByColumns
from kernels.contract import Array, Layout, Problem
from kernels.guard import Culprit
from kernels.learner import Extra, Learner, build
from kernels.scaling import UNWATCHED
from service.core.sent import sent
from service.runtime.arena import Region, arrays, back, size_of, view
from service.storage import checkpoints
from service.subtasks.blocks import Part, rows_of

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Shape:
    """What the daemon must know of a learner to plan for it, without building one itself."""

    spec: str
    problem: Problem
    features: int
    first_layer: int
    outputs: int
    parameters: int
    state_layout: Layout
    scores_layout: Layout
    gradient_bytes: int
    ends_files: bool
    in_spreads: bool
    """Whether the unit of the labels is recorded with each row."""
    factors: tuple[int, ...]
    """Numbers per row of each array that a row's gradient is a product of; none where the residual will do."""
    slots: int
    """Slots of sparse rows; 0: none."""

    @property
    def state_bytes(self) -> int:
        return size_of(self.state_layout)

    @property
    def scores_bytes(self) -> int:
        return size_of(self.scores_layout)

    @property
    def lasting_layout(self) -> Layout:
        """Those of the metric states that go into the model of a whole file: what it lacks begins with zeros."""
        return lasting(self.scores_layout)

    @property
    def lasting_bytes(self) -> int:
        return size_of(self.lasting_layout)

    def part_bytes(self, entries: int) -> int:
        """Room for a part of the state with the slots of so many entries."""
        return size_of(sparse.part_layout(self.state_layout, min(entries, self.slots)))

    def partial_bytes(self, rows: int) -> int:
        """Room for what the first half of a step cut by features writes, whatever its columns."""
        return 8 * (rows * (self.first_layer + 1) + 3 * self.features) + 64 * 5

    def results_bytes(self, rows: int, extra: Extra) -> int:
        """Room for what is recorded of `rows` rows: float64 arrays, each aligned."""
        more = {"gradient": (self.parameters,), "factors": self.factors, "": ()}[extra]
        numbers = 2 * self.outputs + 1 + self.in_spreads + sum(more)
        return 8 * numbers * rows + 64 * (3 + self.in_spreads + len(more))


@sent
@dataclass(frozen=True, slots=True)
class Learnt:
    """What a round's sub-task says of the numbers that it made: whether all are finite, and the rate of the state that
    it leaves; of a lane's sums, which leave none, that of the state before."""

    finite: bool
    learning_rate: float


SCORED = ("file", "before", "lifetime", "segment")
"""The metric states that travel with a model: over the file, by the model before the file, over the
job's life, and over the rows since the last progress record."""
OPTIMIZER = "optimizer/"
"""So begins what an optimizer remembers."""
LASTING = "lifetime/"
"""So begin the arrays that outlast a file; all others are zeros between two files."""


def shape(spec: str) -> Shape:
    """Sizes of a learner's state, gradients and metric states.

    Raises KernelFault where a stranger's kernel breaks its contract: here, in a worker, it may die of it.
    """
    learner = build(spec)
    learner.rehearse()
    return Shape(
        spec=spec,
        problem=learner.problem,
        features=learner.spec.features,
        first_layer=learner.first_layer,
        outputs=learner.outputs,
        parameters=learner.parameter_count,
        state_layout=learner.layout(),
        scores_layout=scores_layout(learner),
        gradient_bytes=size_of(learner.gradient_layout()),
        ends_files=learner.rule.ends_files,
        in_spreads=learner.in_spreads,
        factors=tuple(
            shape[1]
            for name, (shape, _) in learner.results_layout(1, "factors").items()
            if name.startswith("factor/")
        ),
        slots=learner.slots,
    )


def scores_layout(learner: Learner) -> Layout:
    one = metrics.layout(learner.problem, learner.outputs, learner.is_likelihood)
    return {f"{scope}/{name}": entry for scope in SCORED for name, entry in one.items()}


def lasting(scores: Mapping[str, V]) -> dict[str, V]:
    """Those of the metric states that outlast a file."""
    return {name: value for name, value in scores.items() if name.startswith(LASTING)}


def scopes(scores: Mapping[str, Array]) -> dict[str, dict[str, Array]]:
    """The metric states by scope and name."""
    found: dict[str, dict[str, Array]] = {scope: {} for scope in SCORED}
    for key, array in scores.items():
        scope, _, name = key.partition("/")
        found[scope][name] = array
    return found


def start(spec: str, state: Region, scores: Region) -> Learnt:
    """Fills a new job's state and metric states."""
    learner = build(spec)
    learner.init(backed(state, learner.layout()))
    for array in backed(scores, scores_layout(learner)).values():
        array[...] = 0
    return learnt(learner, arrays(state, learner.layout()))


def restore(spec: str, path: str, sha256: str | None, state: Region, scores: Region) -> Learnt:
    """Fills a state and metric states from a model file.

    What the model file lacks, or has in another shape (a job whose optimizer was changed), starts
    anew. Raises StorageDamaged when the file isn't what the journal recorded.
    """
    start(spec, state, scores)
    learner = build(spec)
    saved = checkpoints.read(Path(path), sha256).tensors
    _take_over(state_of(saved, learner), "", arrays(state, learner.layout()))
    _take_over(saved, "scores/", arrays(scores, scores_layout(learner)))
    return learnt(learner, arrays(state, learner.layout()))


def state_of(tensors: Mapping[str, Array], learner: Learner) -> dict[str, Array]:
    """The state that a model file holds; what one of a version before 0.3.0 lacks for a prediction is there, too."""
    found = {k.removeprefix("state/"): a for k, a in tensors.items() if k.startswith("state/")}
    if "target/extremes" in learner.layout():
        found.setdefault("target/extremes", UNWATCHED)
    return dict(sparse.unpack(found, learner.layout()))


def adopt(old: str, source: Region, spec: str, target: Region) -> Learnt:
    """Fills the state of a job whose settings or classes changed from its state before."""
    learner, before = build(spec), build(old)
    state = backed(target, learner.layout())
    learner.init(state)
    outputs = before.outputs, learner.outputs
    whole = arrays(source, before.layout())
    is_sequel = learner.rule.continues(before.rule)
    saved = {k: a for k, a in whole.items() if is_sequel or not k.startswith(OPTIMIZER)}
    if not _take_over(saved, "", state, outputs):
        learner.rule.init(state)
        learner.rule.go_on(before.rule, whole, state)
    return learnt(learner, state)


def adopt_scores(old: str, source: Region, spec: str, target: Region) -> None:
    """Fills the metric states of a job whose classes have become more from those before."""
    learner, before = build(spec), build(old)
    scores = backed(target, scores_layout(learner))
    for array in scores.values():
        array[...] = 0
    outputs = before.outputs, learner.outputs
    _take_over(arrays(source, scores_layout(before)), "", scores, outputs)


def run(
    spec: str,
    source: Region,
    target: Region,
    parts: Sequence[Part],
    batch_rows: int,
    results: Region,
    extra: Extra,
) -> Learnt:
    """One lane: its batches in order, from the state in `source` to the one in `target`."""
    learner = build(spec)
    back(target, size_of(learner.layout()))
    back(results, size_of(learner.results_layout(sum(part.rows for part in parts), extra)))
    return go_on(learner, source, target, parts, batch_rows, results, extra)


def go_on(
    learner: Learner,
    source: Region,
    target: Region,
    parts: Sequence[Part],
    batch_rows: int,
    results: Region,
    extra: Extra,
) -> Learnt:
    """As `run`, where the regions have memory."""
    state = copied(source, target, learner.layout())
    rows = rows_of(parts)
    found = arrays(results, learner.results_layout(len(rows.y), extra))
    is_finite = learner.run(state, rows, batch_rows, found)
    return Learnt(is_finite, learner.rate(state))


def gradient(
    spec: str,
    source: Region,
    lanes: Sequence[Sequence[Part]],
    lane: int,
    out: Region,
    results: Region,
    extra: Extra,
) -> Learnt:
    """One lane of a round with one local step: its sums, with the round's statistics."""
    learner = build(spec)
    rows = [rows_of(parts) for parts in lanes]
    state = arrays(source, learner.layout())
    is_finite = learner.gradient(
        state,
        rows,
        lane,
        backed(out, learner.gradient_layout()),
        recorded(learner, results, len(rows[lane].y), extra),
    )
    return Learnt(is_finite, learner.rate(state))


def apply(
    spec: str, source: Region, target: Region, outs: Sequence[Region], total_rows: int
) -> Learnt:
    """One step along the lanes' gradients, added in lane order."""
    learner = build(spec)
    state = started(learner, source, target)
    learner.apply(state, [arrays(out, learner.gradient_layout()) for out in outs], total_rows)
    return learnt(learner, state)


def average(
    spec: str,
    source: Region,
    target: Region,
    lanes: Sequence[Region],
    lane_rows: Sequence[int],
) -> Learnt:
    """The lanes' states averaged by rows, their statistics merged in lane order."""
    learner = build(spec)
    state = started(learner, source, target)
    learner.average(
        state,
        arrays(source, learner.layout()),
        [arrays(lane, learner.layout()) for lane in lanes],
        lane_rows,
    )
    return learnt(learner, state)


def partial(
    spec: str, source: Region, parts: Sequence[Part], columns: tuple[int, int], out: Region
) -> None:
    """The first half of a step cut by features: what these columns add to the first layer."""
    halves, learner = by_columns(spec), build(spec)
    rows = rows_of(parts)
    place = backed(out, halves.partial_layout(len(rows.y), columns))
    halves.partial(arrays(source, learner.layout()), rows, columns, place)


def finish(
    spec: str,
    source: Region,
    target: Region,
    parts: Sequence[Part],
    ranges: Sequence[tuple[int, int]],
    part: int,
    outs: Sequence[Region],
    results: Region,
    extra: Extra,
) -> bool:
    """The second half: a part's columns of the next state, and the first part all else.

    The target must be whole before it is read: all parts write it, and `check` tells whether it is finite. Returns whether
    what the part writes of the rows is.
    """
    halves, learner = by_columns(spec), build(spec)
    rows = rows_of(parts)
    state, target_state = arrays(source, learner.layout()), arrays(target, learner.layout())
    sums = [
        arrays(out, halves.partial_layout(len(rows.y), columns))
        for out, columns in zip(outs, ranges, strict=True)
    ]
    found = arrays(results, learner.results_layout(len(rows.y), extra))
    return halves.finish(state, rows, ranges, part, sums, target_state, found)


def prepare(spec: str, target: Region, results: Region, rows: int, extra: Extra) -> None:
    """Backs by memory what all parts of a step cut by features write."""
    learner = build(spec)
    backed(target, learner.layout())
    recorded(learner, results, rows, extra)


def check(spec: str, target: Region) -> Learnt:
    """What there is to say of a state that several parts have written."""
    learner = build(spec)
    return learnt(learner, arrays(target, learner.layout()))


def culprit(
    spec: str, source: Region, lanes: Sequence[Sequence[Part]], batch_rows: int
) -> Culprit | None:
    """Which rows of a round, counted from its first, threw the model in `source`: those of the first of its lanes, each
    begun there, that breaks. None where none does."""
    learner, at = build(spec), 0
    before = arrays(source, learner.layout())
    for parts in lanes:
        rows = rows_of(parts)
        found = guard.culprit(learner, before, rows, batch_rows)
        if found is not None:
            return found.moved(at)
        at += len(rows.y)
    return None


def end_file(spec: str, source: Region, target: Region) -> Learnt:
    """What an optimizer of whole files does at the end of one."""
    learner = build(spec)
    state = started(learner, source, target)
    learner.end_file(state)
    return learnt(learner, state)


def by_columns(spec: str) -> ByColumns:
    """The halves of a learner's steps that are cut by features."""
    return ByColumns(build(spec))


def learnt(learner: Learner, state: dict[str, Array]) -> Learnt:
    return Learnt(learner.finite(state), learner.rate(state))


def backed(region: Region, layout: Layout) -> dict[str, Array]:
    back(region, size_of(layout))
    return arrays(region, layout)


def started(learner: Learner, source: Region, target: Region) -> dict[str, Array]:
    """A state to go on from, in a region of its own."""
    layout = learner.layout()
    back(target, size_of(layout))
    return copied(source, target, layout)


def copied(source: Region, target: Region, layout: Layout) -> dict[str, Array]:
    """The arrays of `target`, which has memory, with what stands in those of `source`."""
    length = size_of(layout)
    view(target)[:length] = view(source)[:length]
    return arrays(target, layout)


def recorded(learner: Learner, region: Region, rows: int, extra: Extra) -> dict[str, Array]:
    return backed(region, learner.results_layout(rows, extra))


def _take_over(
    saved: Mapping[str, Array],
    prefix: str,
    state: Mapping[str, Array],
    outputs: tuple[int, int] = (1, 1),
) -> bool:
    """What was `saved` under the same name. With more `outputs` than before an array is longer along the axes that
    have one place for each: the new places, which come last, stay as they are.

    Of what an optimizer remembers nothing is taken over where one of its arrays has another shape: the rest would be of a life that has
    no sequel. Returns whether any of what it remembers was.
    """
    found = {
        name: old
        for name, array in state.items()
        if (old := _saved_as(saved, prefix + name, array)) is not None
    }
    fits = {name for name, old in found.items() if _fits(old, state[name], outputs)}
    if any(name.startswith(OPTIMIZER) for name in found.keys() - fits):
        fits = {name for name in fits if not name.startswith(OPTIMIZER)}
    for name in fits:
        old = found[name]
        state[name][tuple(slice(length) for length in old.shape)] = old
    return any(name.startswith(OPTIMIZER) for name in fits)


def _saved_as(saved: Mapping[str, Array], name: str, array: Array) -> Array | None:
    """What `array` was saved as, by this version or by one before."""
    old = saved.get(name)
    if name == "scaling/count" and old is not None and old.shape == (1,):
        return np.broadcast_to(old, array.shape)  # all rows so far had every feature
    if old is None and name.startswith(f"{OPTIMIZER}shared/"):
        own = saved.get(name.replace("/shared/", "/squares/"))  # of each expert, once
        return None if own is None else own.mean(axis=0, dtype=own.dtype)
    return old


def _fits(old: Array, array: Array, outputs: tuple[int, int]) -> bool:
    """Whether an array with the shape and numbers of `old` may become `array`."""
    if old.dtype != array.dtype or old.ndim != array.ndim or outputs[0] > outputs[1]:
        return False
    pairs = zip(old.shape, array.shape, strict=True)
    return all(pair == outputs for pair in pairs if pair[0] != pair[1])
