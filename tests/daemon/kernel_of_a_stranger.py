"""Kernels as somebody else would write them: a line without intercept under Huber's loss, and some that kill."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass

import numpy as np

from kernels.contract import Defaults


@dataclass(frozen=True)
class _HuberLoss:
    delta: float

    def value(self, output, y):
        error = np.abs(output[:, 0] - y)
        near = np.minimum(error, self.delta)
        return near * (error - near / 2)

    def residual(self, output, y):
        return np.clip(output - y[:, None], -self.delta, self.delta)

    def link(self, output):
        return output[:, 0]


class Huber:
    @dataclass(frozen=True)
    class Options:
        delta: float = 1.0

    l2 = 0.0
    penalised = ()

    def __init__(self, options, features, outputs):
        self.features = features
        self.loss = _HuberLoss(options.delta)

    @classmethod
    def problem(cls, options):
        return "regression"

    @classmethod
    def defaults(cls, options):
        return Defaults(batch_rows=4, lanes=2, local_steps=1, dtype="float64", optimizer="sgd")

    def init(self, generator):
        return {"weights": np.zeros((1, self.features))}

    def forward(self, parameters, x):
        return np.sum(x * parameters["weights"], axis=1, keepdims=True), x

    def backward(self, parameters, tape, residual):
        return {"weights": np.sum(residual * tape, axis=0, keepdims=True)}

    def norms(self, parameters, tape, residual):
        return np.abs(residual[:, 0]) * np.sqrt(np.sum(tape * tape, axis=1))

    def gradients(self, parameters, tape, residual):
        return residual * tape

    def coefficients(self, parameters):
        return np.zeros(1), parameters["weights"]


class Slow(Huber):
    """Takes its time for each batch, so that a round lasts."""

    def backward(self, parameters, tape, residual):
        time.sleep(0.1)
        return super().backward(parameters, tape, residual)


class _DeadlyLoss(_HuberLoss):
    def value(self, output, y):
        if np.any(y == 7):
            _die()
        return super().value(output, y)


class Deadly(Huber):
    """Its worker dies: of a feature below -1000 while it learns, of a label 7 while it reports, or at once."""

    @dataclass(frozen=True)
    class Options:
        at_once: bool = False

    def __init__(self, options, features, outputs):
        self.features = features
        self.at_once = options.at_once
        self.loss = _DeadlyLoss(1.0)

    def init(self, generator):
        if self.at_once:
            _die()
        return super().init(generator)

    def forward(self, parameters, x):
        if np.any(x < -1000):
            _die()
        return super().forward(parameters, x)


class Regicide(Huber):
    """The daemon dies of a feature below -1000."""

    def forward(self, parameters, x):
        if np.any(x < -1000):
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)  # until we die with it
        return super().forward(parameters, x)


def _die():
    os.abort()
