"""Which row's step threw a model beyond all bounds, when the rows after it are scored with numbers that are none."""

from __future__ import annotations

import numpy as np

from kernels.contract import Results, Rows, State
from kernels.learner import Learner
from kernels.scaling import LARGEST


def culprit(
    learner: Learner, before: State, rows: Rows, batch_rows: int, broken: int, results: Results
) -> int | None:
    """The row whose step left parameters, or a mean of labels, beyond all bounds before row `broken` was scored; None
    where that row is itself to blame.

    `learner.run` went from `before` over these rows, and filled `results`. The batch is found by running again, some of
    its batches at a time; of its rows it is the one that pulled hardest, by its weight, the length of its gradient, and
    what it is a count of. A weight beyond all bounds is to blame in any case.
    """
    heavy = rows.w[: (broken // batch_rows + 1) * batch_rows] > LARGEST
    if heavy.any():  # the rows of its batch are scaled by its moments
        return int(np.argmax(heavy))

    def is_wild_after(batches: int) -> bool:
        return _is_wild_after(learner, before, rows.slice(0, batches * batch_rows), batch_rows)

    low, high = 0, broken // batch_rows  # the state is whole after `low` batches
    if high == 0 or not is_wild_after(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if is_wild_after(middle):
            high = middle
        else:
            low = middle
    batch = slice(low * batch_rows, high * batch_rows)
    pulls = np.log(np.maximum(rows.w[batch], 1e-300))
    if learner.watching.scale == "mean":
        pulls -= rows.offset[batch]
    pulls += np.log(np.maximum(results["norm"][batch], 1e-300))
    return batch.start + int(np.argmax(pulls))


def _is_wild_after(learner: Learner, before: State, rows: Rows, batch_rows: int) -> bool:
    state = {name: array.copy() for name, array in before.items()}
    layout = learner.results_layout(len(rows.y))
    results = {name: np.zeros(shape, dtype) for name, (shape, dtype) in layout.items()}
    learner.run(state, rows, batch_rows, results)
    kept = [a for name, a in state.items() if name.startswith(("parameters/", "target/mean"))]
    return not all((np.abs(array) < LARGEST).all() for array in kept)
