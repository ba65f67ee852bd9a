"""A stranger's kernel: two classes that a circle tells apart, and no line can.

outputs = intercept + linear · x + square · x², with x² taken feature by feature. It is linear in its parameters, so that
each gradient is the residual times what the parameter is multiplied with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernels.contract import Defaults
from kernels.losses import SingleOutput


@dataclass(frozen=True, slots=True)
class Options:
    """What may stand in [jobs.model] beside `kernel`; each key with its default."""

    l2: float = 0.0

    def __post_init__(self):
        if not 0 <= self.l2 < float("inf"):
            raise ValueError(f"l2: must be 0 or greater, and finite, got {self.l2}")


class Quadratic:
    Options = Options
    loss = SingleOutput("logistic")
    penalised = ("linear", "square")  # not the intercept

    def __init__(self, options, features, outputs):
        self.l2 = options.l2
        self._features = features

    @classmethod
    def problem(cls, options):
        return "binary"

    @classmethod
    def defaults(cls, options):
        return Defaults(
            batch_rows=16, lanes=1, local_steps=64, dtype="float64", optimizer="adagrad"
        )

    def init(self, generator):
        zeros = np.zeros(self._features)
        return {"intercept": np.zeros(1), "linear": zeros, "square": zeros.copy()}

    def forward(self, parameters, x):
        output = parameters["intercept"] + x @ parameters["linear"] + (x * x) @ parameters["square"]
        return output[:, None], x  # outputs (n, 1); the tape is what `backward` needs again

    def backward(self, parameters, tape, residual):
        return {
            "intercept": residual.sum(axis=0),
            "linear": residual[:, 0] @ tape,
            "square": residual[:, 0] @ (tape * tape),
        }

    def norms(self, parameters, tape, residual):
        squares = tape * tape
        return np.abs(residual[:, 0]) * np.sqrt(1 + squares.sum(axis=1) + (squares**2).sum(axis=1))

    def gradients(self, parameters, tape, residual):
        parts = [np.ones((len(tape), 1)), tape, tape * tape]  # in the order of the names
        return residual * np.hstack(parts)

    def coefficients(self, parameters):
        return None  # the outputs are not linear in x
