"""What there is to say of each row of a round: of the outputs that it met, and of those of the model before its file.

Rules: a row's loss and prediction are the same, to the bit, whichever rows stand beside it; so those of many small files may be
worked out together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np

from kernels.contract import Array
from kernels.learner import Extra, Learner, Rows
from kernels.losses import SingleOutput
from kernels.scaling import scoring
from service.core.sent import sent
from service.runtime.arena import Region, arrays
from service.subtasks.blocks import Part, rows_of


@sent
@dataclass(frozen=True, slots=True)
class RoundResults:
    """A round that was learnt: its rows, and what was recorded of them lane by lane."""

    parts: tuple[Part, ...]
    results: tuple[tuple[Region, int], ...]
    extra: Extra
    rows_from: int
    version: int
    learning_rate: float

    @property
    def rows(self) -> int:
        return sum(rows for _, rows in self.results)


class Judged(NamedTuple):
    """Outputs (n, k) of n rows, their losses (n,), and predictions as the loss's link gives them."""

    output: Array
    loss: Array
    prediction: Array


@dataclass(frozen=True, slots=True)
class Scored:
    """A round's rows with what was recorded of them: as the model that they met has them, and as the one before the file;
    `floor` (n,) is the least loss that each can have."""

    rows: Rows
    results: Mapping[str, Array]
    met: Judged
    before: Judged
    floor: Array


def score(
    learner: Learner, rounds: Sequence[RoundResults], befores: Sequence[Region]
) -> list[Scored]:
    """What there is to say of each row of some rounds, and of how the model `before` each round's file does on it, which
    serves between files."""
    rows = [rows_of(done.parts) for done in rounds]
    results = [_joined(learner, done) for done in rounds]
    labels = [one.y for one in rows]
    met = _judged(
        learner,
        [one["output"] for one in results],
        labels,
        [one["unit"] for one in results] if learner.in_spreads else [],
    )
    models = [arrays(before, learner.layout()) for before in befores]
    outputs = [
        learner.predict(model, one.x, one.offset, one.sparse, learner.spec.dtype)
        for model, one in zip(models, rows, strict=True)
    ]
    units = [scoring(learner.watching.unit(m)).unit for m in models] if learner.in_spreads else []
    whole = [np.full(len(y), unit) for y, unit in zip(labels, units, strict=False)]
    before = _judged(learner, outputs, labels, whole)
    floors = [learner.floor(y) for y in labels]
    return list(map(Scored, rows, results, met, before, floors))


def _judged(
    learner: Learner,
    outputs: Sequence[Array],
    labels: Sequence[Array],
    units: Sequence[Array],
) -> list[Judged]:
    """Losses and predictions of the rows of some files; `units` are those of the rows' labels, if a loss depends on them.

    Our losses of one output are formulas of numbers, the same wherever a row stands: they are worked out for all files at once.
    """
    if len(outputs) > 1 and type(learner.kernel.loss) is SingleOutput:
        unit = np.concatenate(units) if units else 1.0
        output = np.concatenate(outputs)
        loss, prediction = (
            learner.loss(output, np.concatenate(labels), unit),
            learner.prediction(output),
        )
        ends = list(accumulate(map(len, labels), initial=0))
        return [
            Judged(own, loss[start:stop], prediction[start:stop])
            for own, (start, stop) in zip(outputs, pairwise(ends), strict=True)
        ]
    return [
        Judged(own, learner.loss(own, y, units[place] if units else 1.0), learner.prediction(own))
        for place, (own, y) in enumerate(zip(outputs, labels, strict=True))
    ]


def _joined(learner: Learner, done: RoundResults) -> dict[str, Array]:
    lanes = [
        arrays(region, learner.results_layout(rows, done.extra)) for region, rows in done.results
    ]
    if len(lanes) == 1:
        return lanes[0]
    return {name: np.concatenate([lane[name] for lane in lanes]) for name in lanes[0]}
