"""Who threw a model beyond all bounds: the row, or the rows of one step, at which a lane breaks.

    a lane ─▶ its first batch that breaks ─▶ the first row that breaks it, with those before it ─▶ that row alone

Rules: a batch breaks where `Learner.run` says that numbers aren't finite. Where that happens is found by learning again,
in copies and by halves, from a model that is whole to one that isn't: a refused file costs a few rounds more, and all
others nothing. A round whose rows make one step together, in lanes or by columns, is a single batch to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from kernels import sparse
from kernels.contract import Results, Rows, State
from kernels.learner import Learner, are_finite
from kernels.scaling import LARGEST

LOUD = math.sqrt(LARGEST)
"""The square of a number beyond this is beyond all bounds."""


class Culprit(NamedTuple):
    """Rows `start` up to `stop` of a lane: one, or all of a step that none of them is known to break by itself.

    `by_step` says that what they leave behind is finite, and that the model after their step isn't.
    """

    start: int
    stop: int
    by_step: bool

    def moved(self, rows: int) -> Culprit:
        """The same in a run of rows that begins so many earlier."""
        return self._replace(start=self.start + rows, stop=self.stop + rows)


class _Trial(NamedTuple):
    """What became of a copy of a model that learnt some rows."""

    state: State
    results: Results
    breaks: bool


def culprit(learner: Learner, before: State, rows: Rows, batch_rows: int) -> Culprit | None:
    """Which of a lane's rows threw the model that was whole `before` them; None where nothing breaks, or it was broken.

    Rows with a number beyond `LOUD` are to blame for what breaks at them or after them, if nothing does without them: who
    comes with such a row, or later, is measured by moments that it moved.
    """
    if rows.sparse is not None:
        before, rows = sparse.part_of(before, rows, learner.layout(), learner.spec.bits)
    with np.errstate(all="ignore"):
        if not learner.finite(before) or not _tried(learner, before, rows, batch_rows).breaks:
            return None
        state, start = _before_the_break(learner, before, rows, batch_rows)
        batch = rows.slice(start, start + batch_rows)
        size = len(batch.y)

        def broken_by(first: int, stop: int) -> _Trial:
            return _tried(learner, state, _weighing(batch, first, stop), size)

        last = _first(size, lambda stop: broken_by(0, stop).breaks) - 1
        alone = broken_by(last, last + 1)
        row = start + last
        loud = _loudest(learner, before, rows.slice(0, start + size), batch_rows, row)
        if loud is not None and loud < row:
            return Culprit(loud, loud + 1, by_step=True)
        if loud == row or alone.breaks:
            return Culprit(row, row + 1, by_step=are_finite(alone.results))
        return Culprit(start, start + size, by_step=True)


def _loudest(learner: Learner, before: State, rows: Rows, batch_rows: int, row: int) -> int | None:
    """Row `row`, or else the one before it with the largest number, if it is loud, and if nothing breaks without all that are."""
    features = np.nanmax(np.abs(rows.x), axis=1, initial=0.0)
    largest = np.max([features, np.abs(rows.y), rows.w, np.abs(rows.offset)], axis=0)
    is_loud = largest > LOUD
    if is_loud.all() or not is_loud[: row + 1].any():
        return None
    quiet = int(np.argmin(is_loud))
    at = np.where(is_loud, quiet, np.arange(len(is_loud)))
    x, y, w, offset = (array[at] for array in rows[:4])
    calm = rows._replace(x=x, y=y, w=np.where(is_loud, 0.0, w), offset=offset)
    if _tried(learner, before, calm, batch_rows).breaks:
        return None
    return row if is_loud[row] else int(np.argmax(largest[: row + 1]))


def _before_the_break(
    learner: Learner, before: State, rows: Rows, batch_rows: int
) -> tuple[State, int]:
    """The whole state before a batch of a lane that breaks it, and that batch's first row."""
    low, high = 0, -(-len(rows.y) // batch_rows)
    while high - low > 1:
        middle = (low + high) // 2
        part = rows.slice(low * batch_rows, middle * batch_rows)
        trial = _tried(learner, before, part, batch_rows)
        if trial.breaks:
            high = middle
        else:
            low, before = middle, trial.state
    return before, low * batch_rows


def _first(count: int, breaks: Callable[[int], bool]) -> int:
    """A number up to `count`, which breaks, that breaks where the one before it, or 0, doesn't."""
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) // 2
        if breaks(middle):
            high = middle
        else:
            low = middle
    return high


def _weighing(batch: Rows, start: int, stop: int) -> Rows:
    """A batch of the same size in which only these of its rows have a weight; the others are copies of the first of them."""
    if stop - start == len(batch.y):
        return batch
    at = np.arange(len(batch.y))
    chosen = (at >= start) & (at < stop)
    x, y, w, offset = (array[np.where(chosen, at, start)] for array in batch[:4])
    return Rows(x, y, np.where(chosen, w, 0.0), offset)


def _tried(learner: Learner, before: State, rows: Rows, batch_rows: int) -> _Trial:
    state = {name: array.copy() for name, array in before.items()}
    layout = learner.results_layout(len(rows.y))
    results = {name: np.zeros(shape, dtype) for name, (shape, dtype) in layout.items()}
    return _Trial(state, results, not learner.run(state, rows, batch_rows, results))
