"""The peers, each with its own defaults, row after row: scored first, then learnt from.

Rules: a peer gives a prediction for each row, made before the row was learnt (`progressive`), and one
made by the model as it was at the beginning of the row's file (`before`). Where a peer's users put a
scaler in front, it may have one; of its variants the better one counts, by the progressive loss.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from benchmarks.quality.sets import Floats, Set


class Predictions(NamedTuple):
    """Of n rows: numbers (n,), P(1) (n,) or classes' probabilities (n, k)."""

    progressive: Floats
    before: Floats


class Online:
    """One learner, row by row; `freeze` gives a function that predicts as it is now."""

    def predict(self, i: int) -> Any:
        raise NotImplementedError

    def learn(self, i: int) -> None:
        raise NotImplementedError

    step = 1
    """Rows that are scored, and then learnt, at a time."""

    def predict_all(self, rows: range) -> Floats:
        return np.array([self.predict(i) for i in rows])

    def learn_all(self, rows: range) -> None:
        for i in rows:
            self.learn(i)


def run(make: Callable[[Set], Online], data: Set, files: list[range]) -> Predictions:
    """Both predictions of every row."""
    learner = make(data)
    progressive, before = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for rows in files:
            before.append(learner.predict_all(rows))
            for start in range(rows.start, rows.stop, learner.step):
                part = range(start, min(start + learner.step, rows.stop))
                progressive.append(learner.predict_all(part))
                learner.learn_all(part)
    return Predictions(np.concatenate(progressive), np.concatenate(before))


class VowpalWabbit(Online):
    """Vowpal Wabbit with the loss that fits; many classes one against all, with probabilities."""

    def __init__(self, data: Set) -> None:
        from vowpalwabbit import pyvw

        kind = {
            "binary": "--loss_function logistic --link logistic",
            "regression": "--loss_function squared",
            "counts": "--loss_function poisson --link poisson",
            "multiclass": f"--loss_function logistic --oaa {data.classes} --probabilities",
        }[data.problem]
        self.vw = pyvw.Workspace(f"{kind} --quiet")
        self.data = data
        self.texts = [
            "| " + " ".join(f"{j}:{v:.9g}" for j, v in enumerate(row) if v) for row in data.x
        ]

    def predict(self, i: int) -> Any:
        return self.vw.predict(self.texts[i])

    def learn(self, i: int) -> None:
        y = self.data.y[i]
        if self.data.problem == "binary":
            label = "1" if y else "-1"
        elif self.data.problem == "multiclass":
            label = str(int(y) + 1)
        else:
            label = repr(float(y))
        self.vw.learn(f"{label} {self.texts[i]}")


class River(Online):
    """River's linear models behind its StandardScaler, as its pages have it, or bare."""

    def __init__(self, data: Set, scaled: bool = True) -> None:
        from river import linear_model, optim, preprocessing

        model: Any = {
            "binary": linear_model.LogisticRegression,
            "multiclass": linear_model.SoftmaxRegression,
            "regression": linear_model.LinearRegression,
            "counts": lambda: linear_model.LinearRegression(loss=optim.losses.Poisson()),
        }[data.problem]()
        self.model = preprocessing.StandardScaler() | model if scaled else model
        self.data = data
        self.rows = [dict(enumerate(map(float, row))) for row in data.x]

    def predict(self, i: int) -> Any:
        row, problem = self.rows[i], self.data.problem
        try:
            if problem == "binary":
                return self.model.predict_proba_one(row).get(True, 0.5)
            if problem == "multiclass":
                found = self.model.predict_proba_one(row)
                shares = np.array([found.get(c, 0.0) for c in range(self.data.classes)])
                total = shares.sum()
                return shares / total if total > 0 else np.full(len(shares), 1 / len(shares))
            return (
                np.exp(self.model.predict_one(row))
                if problem == "counts"
                else self.model.predict_one(row)
            )
        except OverflowError:
            return np.inf

    def learn(self, i: int) -> None:
        y: Any = float(self.data.y[i])
        if self.data.problem == "binary":
            y = bool(y)
        elif self.data.problem == "multiclass":
            y = int(y)
        with suppress(OverflowError):
            self.model.learn_one(self.rows[i], y)


class ScikitLearn(Online):
    """SGDClassifier or SGDRegressor by `partial_fit`, behind a StandardScaler that goes along, or bare.

    It learns row by row, but is called with ten: a call costs as much as hundreds of rows.
    """

    step = 10

    def __init__(self, data: Set, scaled: bool = True) -> None:
        from sklearn.linear_model import SGDClassifier, SGDRegressor
        from sklearn.preprocessing import StandardScaler

        classes = data.problem in ("binary", "multiclass")
        self.model: Any = SGDClassifier(loss="log_loss") if classes else SGDRegressor()
        self.scaler = StandardScaler() if scaled else None
        self.data = data
        self.classes = np.arange(data.classes) if classes else None

    def _rows(self, rows: slice) -> Floats:
        x = self.data.x[rows]
        return self.scaler.transform(x) if self.scaler is not None and self._fitted else x

    @property
    def _fitted(self) -> bool:
        return hasattr(self.model, "coef_")

    def predict_all(self, rows: range) -> Floats:
        if not self._fitted:
            if self.data.problem == "multiclass":
                return np.full((len(rows), self.data.classes), 1 / self.data.classes)
            return np.full(len(rows), 0.5 if self.data.problem == "binary" else 0.0)
        x = self._rows(slice(rows.start, rows.stop))
        if self.classes is None:
            return np.asarray(self.model.predict(x))
        shares = self.model.predict_proba(x)
        return np.asarray(shares[:, 1] if self.data.problem == "binary" else shares)

    def learn_all(self, rows: range) -> None:
        part = slice(rows.start, rows.stop)
        x = self.data.x[part]
        if self.scaler is not None:
            x = self.scaler.partial_fit(x).transform(x)
        more = {} if self.classes is None else {"classes": self.classes}
        self.model.partial_fit(x, self.data.y[part], **more)


Variant = Callable[[Set], Online]
PEERS: dict[str, list[Variant]] = {
    "Vowpal Wabbit": [VowpalWabbit],
    "River": [River, lambda data: River(data, scaled=False)],
    "scikit-learn": [ScikitLearn, lambda data: ScikitLearn(data, scaled=False)],
}


def files_of(rows: int, count: int = 10) -> Iterator[range]:
    """The rows of each file that the stream is cut into."""
    ends = np.linspace(0, rows, count + 1).astype(int).tolist()
    yield from map(range, ends[:-1], ends[1:])
