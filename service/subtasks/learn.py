"""Rounds: rows and a state become the next state, and what is recorded of the rows.

    one lane                  run: source ─▶ target
    lanes, one local step     gradient: source ─▶ one region a lane; apply: regions ─▶ target
    lanes, many local steps   run: source ─▶ one region a lane; average: regions ─▶ target

Rules: a state is read in one region and written in another, which is copied whole first, so that
a sub-task may run again; sums go in the order of the lanes, never in that of their arrival.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kernels import metrics
from kernels.contract import Array, Layout, Problem
from kernels.learner import Learner, build
from service.runtime.arena import Region, arrays, back, size_of
from service.storage import checkpoints
from service.subtasks.blocks import Part, rows_of


@dataclass(frozen=True, slots=True)
class Shape:
    """What the daemon must know of a learner to plan for it, without building one itself."""

    spec: str
    problem: Problem
    outputs: int
    parameters: int
    state_layout: Layout
    scores_layout: Layout
    gradient_bytes: int

    @property
    def state_bytes(self) -> int:
        return size_of(self.state_layout)

    @property
    def scores_bytes(self) -> int:
        return size_of(self.scores_layout)

    def results_bytes(self, rows: int, gradients: bool) -> int:
        """Room for what is recorded of `rows` rows: four float64 arrays, each aligned."""
        numbers = 2 * self.outputs + 1 + (self.parameters if gradients else 0)
        return 8 * numbers * rows + 4 * 64


@dataclass(frozen=True, slots=True)
class Learnt:
    """What a round's last sub-task says of the state that it made."""

    finite: bool
    learning_rate: float


SCORED = ("file", "before", "lifetime", "segment")
"""The metric states that travel with a model: over the file, by the model before the file, over the
job's life, and over the rows since the last progress record."""


def shape(spec: str) -> Shape:
    """Sizes of a learner's state, gradients and metric states."""
    learner = build(spec)
    return Shape(
        spec=spec,
        problem=learner.problem,
        outputs=learner.outputs,
        parameters=learner.parameter_count,
        state_layout=learner.layout(),
        scores_layout=scores_layout(learner),
        gradient_bytes=size_of(learner.gradient_layout()),
    )


def scores_layout(learner: Learner) -> Layout:
    one = metrics.layout(learner.problem, learner.outputs)
    return {f"{scope}/{name}": entry for scope in SCORED for name, entry in one.items()}


def scope(scores: Mapping[str, Array], name: str) -> dict[str, Array]:
    """One of the metric states in `scores`."""
    prefix = f"{name}/"
    return {key[len(prefix) :]: a for key, a in scores.items() if key.startswith(prefix)}


def start(spec: str, state: Region, scores: Region) -> Learnt:
    """Fills a new job's state and metric states."""
    learner = build(spec)
    learner.init(_backed(state, learner.layout()))
    for array in _backed(scores, scores_layout(learner)).values():
        array[...] = 0
    return _learnt(learner, arrays(state, learner.layout()))


def restore(spec: str, path: str, sha256: str | None, state: Region, scores: Region) -> Learnt:
    """Fills a state and metric states from a model file.

    What the model file lacks, or has in another shape (a job whose optimizer was changed), starts
    anew. Raises StorageDamaged when the file isn't what the journal recorded.
    """
    start(spec, state, scores)
    learner = build(spec)
    saved = checkpoints.read(Path(path), sha256).tensors
    _take_over(saved, "state/", arrays(state, learner.layout()))
    _take_over(saved, "scores/", arrays(scores, scores_layout(learner)))
    return _learnt(learner, arrays(state, learner.layout()))


def adopt(old: str, source: Region, spec: str, target: Region) -> Learnt:
    """Fills the state of a job whose settings changed from its state before."""
    learner = build(spec)
    state = _backed(target, learner.layout())
    learner.init(state)
    _take_over(arrays(source, build(old).layout()), "", state)
    return _learnt(learner, state)


def run(
    spec: str,
    source: Region,
    target: Region,
    parts: Sequence[Part],
    batch_rows: int,
    results: Region,
    gradients: bool,
) -> Learnt:
    """One lane: its batches in order, from the state in `source` to the one in `target`."""
    learner = build(spec)
    state = _copied(learner, source, target)
    rows = rows_of(parts)
    learner.run(state, rows, batch_rows, _results(learner, results, len(rows.y), gradients))
    return _learnt(learner, state)


def gradient(
    spec: str,
    source: Region,
    lanes: Sequence[Sequence[Part]],
    lane: int,
    out: Region,
    results: Region,
    gradients: bool,
) -> None:
    """One lane of a round with one local step: its sum of gradients, with the round's statistics."""
    learner = build(spec)
    rows = [rows_of(parts) for parts in lanes]
    learner.gradient(
        arrays(source, learner.layout()),
        rows,
        lane,
        _backed(out, learner.gradient_layout()),
        _results(learner, results, len(rows[lane].y), gradients),
    )


def apply(
    spec: str, source: Region, target: Region, outs: Sequence[Region], total_rows: int
) -> Learnt:
    """One step along the lanes' gradients, added in lane order."""
    learner = build(spec)
    state = _copied(learner, source, target)
    learner.apply(state, [arrays(out, learner.gradient_layout()) for out in outs], total_rows)
    return _learnt(learner, state)


def average(
    spec: str,
    source: Region,
    target: Region,
    lanes: Sequence[Region],
    lane_rows: Sequence[int],
) -> Learnt:
    """The lanes' states averaged by rows, their statistics merged in lane order."""
    learner = build(spec)
    state = _copied(learner, source, target)
    learner.average(
        state,
        arrays(source, learner.layout()),
        [arrays(lane, learner.layout()) for lane in lanes],
        lane_rows,
    )
    return _learnt(learner, state)


def _learnt(learner: Learner, state: dict[str, Array]) -> Learnt:
    return Learnt(learner.finite(state), float(learner.rate(state)))


def _backed(region: Region, layout: Layout) -> dict[str, Array]:
    back(region, size_of(layout))
    return arrays(region, layout)


def _copied(learner: Learner, source: Region, target: Region) -> dict[str, Array]:
    state = _backed(target, learner.layout())
    for name, array in arrays(source, learner.layout()).items():
        state[name][...] = array
    return state


def _results(learner: Learner, region: Region, rows: int, gradients: bool) -> dict[str, Array]:
    return _backed(region, learner.results_layout(rows, gradients))


def _take_over(saved: Mapping[str, Array], prefix: str, state: Mapping[str, Array]) -> None:
    for name, array in state.items():
        old = saved.get(prefix + name)
        if old is not None and old.shape == array.shape and old.dtype == array.dtype:
            array[...] = old
