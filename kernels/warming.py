"""Everything that is compiled, run once: so that one process fills numba's cache before others read it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from kernels import metrics
from kernels.contract import Rows, Sparse, Spec
from kernels.learner import build

USUAL = (
    Spec("logistic", 2, optimizer={"name": "experts"}),
    Spec("logistic", 2),
    Spec("mlp", 2, outputs=2, dtype="float32"),
)
"""What nearly every job runs; the rest is compiled where it is first needed."""


def warm(specs: Iterable[Spec] = USUAL) -> None:
    """Compiles, or reads from numba's cache, what learners of these specs run."""
    dense = Rows(
        np.arange(8.0).reshape(4, 2), np.array([0.0, 1.0, 0.0, 1.0]), np.ones(4), np.zeros(4)
    )
    entries = Sparse(np.arange(5), np.zeros(4, np.uint32), np.ones(4, np.float32))
    for spec in specs:
        rows = dense._replace(sparse=entries if spec.bits else None)
        learner = build(spec.to_json())
        state = {key: np.zeros(*shape) for key, shape in learner.layout().items()}
        results = {key: np.zeros(*shape) for key, shape in learner.results_layout(4).items()}
        learner.init(state)
        for batch_rows in (1, 2):
            learner.run(state, rows, batch_rows, results)
        output = learner.predict(state, rows.x, None, rows.sparse)
        layout = metrics.layout(learner.problem, learner.outputs, learner.is_likelihood)
        scores = {key: np.zeros(*shape) for key, shape in layout.items()}
        loss, prediction = learner.loss(output, rows.y), learner.prediction(output)
        floor = learner.floor(rows.y)
        metrics.update(scores, output, prediction, rows.y, rows.w, loss, floor)
        metrics.summary(scores)
        words = np.zeros((4, 0), np.int64)
        judged = output, prediction, loss
        metrics.count_files(
            scores, np.arange(1, 5), rows.y, rows.w, judged, judged, words[0], words
        )
