"""Everything that is compiled, run once: so that one process fills numba's cache before others read it."""

from __future__ import annotations

import numpy as np

from kernels import metrics
from kernels.contract import Rows, Spec
from kernels.learner import build


def warm() -> None:
    """Compiles, or reads from numba's cache, everything that the built-in kernels run."""
    rows = Rows(np.arange(8.0).reshape(4, 2), np.array([0.0, 1.0, 0.0, 1.0]), np.ones(4))
    for name in ("logistic", "mlp"):
        for dtype in ("float64", "float32"):
            outputs = 2 if name == "mlp" else 1
            learner = build(Spec(name, features=2, outputs=outputs, dtype=dtype).to_json())
            state = {key: np.zeros(*shape) for key, shape in learner.layout().items()}
            results = {key: np.zeros(*shape) for key, shape in learner.results_layout(4).items()}
            learner.init(state)
            learner.run(state, rows, 2, results)
            output = learner.predict(state, rows.x)
            scores = {
                key: np.zeros(*shape)
                for key, shape in metrics.layout(learner.problem, outputs).items()
            }
            loss, prediction = learner.loss(output, rows.y), learner.prediction(output)
            metrics.update(scores, output, prediction, rows.y, rows.w, loss)
            metrics.summary(scores)
