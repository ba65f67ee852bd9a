"""What tests of kernels share: learners on arrays of their own, and random rows."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from kernels.contract import Rows
from kernels.learner import Learner
from kernels.losses import LOSSES

sys.path.append(str(Path(__file__).parent))  # modules that tests share


class Bench:
    """Makes rows, states and results, and runs whole lanes."""

    @staticmethod
    def rows(n, features, classes=0, seed=0, weighted=True, loss="squared"):
        """Random rows; labels are numbers far from 0 unless there are classes, or what a loss asks for."""
        random = np.random.default_rng(seed)
        x = random.normal(3.0, 2.0, (n, features)) * np.arange(1, features + 1)
        y = random.normal(500.0, 80.0, n)
        problem = LOSSES[loss].problem if loss in LOSSES else "multiclass"
        if problem == "counts":
            y = random.poisson(4.0, n) + (loss == "gamma") * 1.0
        if problem == "binary" and not classes:
            classes = 2
        if classes:
            y = random.integers(0, classes, n).astype(np.float64)
        w = random.uniform(0.5, 2.0, n) if weighted else np.ones(n)
        return Rows(x, y.astype(np.float64), w, np.zeros(n))

    @staticmethod
    def arrays(layout):
        return {name: np.full(shape, 77, dtype) for name, (shape, dtype) in layout.items()}

    def state(self, learner: Learner):
        state = self.arrays(learner.layout())
        learner.init(state)
        return state

    def results(self, learner: Learner, rows, extra="gradient"):
        return self.arrays(learner.results_layout(len(rows.y), extra))

    def run(self, spec, rows, batch_rows, state=None):
        """The state and the results after one lane."""
        learner = Learner(spec)
        state = self.state(learner) if state is None else state
        results = self.results(learner, rows)
        learner.run(state, rows, batch_rows, results)
        return state, results


@pytest.fixture
def bench():
    return Bench()


@pytest.fixture
def strangers(monkeypatch):
    """The name of the module of strangers' kernels, made importable."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return "strangers"


@pytest.fixture(autouse=True)
def quiet_numbers():
    """Overflows are found by the guard, as in a worker; they are no news."""
    with np.errstate(all="ignore"):
        yield
