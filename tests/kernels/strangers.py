"""Kernels as a stranger would write them, loaded by name in tests: `strangers:Plain...`.

The plain ones have no compiled pass, so that the learner's own pass does their work.
"""

from __future__ import annotations

import numpy as np

from kernels.linear import Linear, Logistic, Softmax


class PlainLinear(Linear):
    def compiled(self, spec):
        return None


class PlainLogistic(Logistic):
    def compiled(self, spec):
        return None


class PlainSoftmax(Softmax):
    def compiled(self, spec):
        return None


class NoKernel:
    """Has nothing of what a kernel must have."""


class Moody(PlainLogistic):
    """Gives norms of the wrong shape, but only for rows that are far out."""

    def norms(self, parameters, tape, residual):
        norms = super().norms(parameters, tape, residual)
        return norms[:1] if np.abs(tape).max() > 50 else norms
