"""What the frozen copies of learners lose on rows to come, for the pass of experts.

Rules: those of `loops` and `rows`. The copies stay as they are for hundreds of rows, so that many rows wait and are tried at once:
four by four, in loops of their own. Copy c's output j stands in row c · k + j of an array ((E + 1) k, F), F features filled up
to whole vector registers.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np

from kernels import losses
from kernels.contract import Array
from kernels.elementary import log
from kernels.loops import FLAGS, SOFTMAX, inlined, values_loop
from kernels.registers import LENGTH, fma, larger, load, splat, store, summed, zeros

MOST_WAITING, MOST_NUMBERS = 32, 1 << 20
"""So many rows wait at most, and so many numbers of theirs."""
TOGETHER = 4
"""Rows that are tried at once: a copy's weights are loaded once for all of them."""


class Waiting(NamedTuple):
    """Rows that the frozen copies have yet to be tried on."""

    z: Array  # (n, F)
    aims: Array  # (n,), as all that follow
    numbers: Array
    shifts: Array
    weights: Array
    outputs: Array  # (k, n)
    values: Array  # (n,)


def waiting_of(outputs: int, features: int, dtype: np.dtype) -> Waiting:
    """Room for the rows that wait, of a model with k `outputs` and F `features`."""
    rows = min(MOST_WAITING, MOST_NUMBERS // features)
    rows = max(TOGETHER, rows // TOGETHER * TOGETHER)
    aims, numbers, shifts, weights, values = (zeros((rows,)) for _ in range(5))
    z = zeros((rows, features), dtype)
    return Waiting(z, aims, numbers, shifts, weights, zeros((outputs, rows)), values)


@inlined
def _outputs(copies, at, z, rows, intercept, j, outputs):
    """outputs[j, i] ← copies[at] · z[i] + intercept of the first `rows` that wait, or some more: up to the next four."""
    zero = splat(copies.dtype.type(0.0))
    for i in range(0, rows, TOGETHER):
        a, b, c, d = zero, zero, zero, zero
        for f in range(0, copies.shape[1], LENGTH):
            weights = load(copies, (at, f))
            a = fma(load(z, (i, f)), weights, a)
            b = fma(load(z, (i + 1, f)), weights, b)
            c = fma(load(z, (i + 2, f)), weights, c)
            d = fma(load(z, (i + 3, f)), weights, d)
        outputs[j, i] = intercept + summed(a)
        outputs[j, i + 1] = intercept + summed(b)
        outputs[j, i + 2] = intercept + summed(c)
        outputs[j, i + 3] = intercept + summed(d)


@inlined
def _softmax_values(outputs, aims, values):
    """values (n,) ← the losses of n rows' outputs (k, n)."""
    for i in range(0, len(values), LENGTH):
        top = load(outputs, (0, i))
        for j in range(1, len(outputs)):
            top = larger(top, load(outputs, (j, i)))
        powers = splat(0.0)
        for j in range(len(outputs)):
            powers += losses.exp(load(outputs, (j, i)) - top)
        store(values, (i,), log(powers) + top)
    for i in range(len(values)):
        values[i] -= outputs[int(aims[i]), i]


@nb.njit(**FLAGS)  # a call: three places would each have all losses
def try_copies(plan, count, k, copies, intercepts, rows, waiting, lost):
    """lost (count,) of the copies ← what they lose on the first `rows` that wait, row by row; intercepts (count, k)."""
    z, aims, numbers, shifts, weights, outputs, values = waiting
    for c in range(count):
        for j in range(k):
            _outputs(copies, c * k + j, z, rows, intercepts[c, j], j, outputs)
        if plan.loss == SOFTMAX:
            _softmax_values(outputs, aims, values)
        else:
            values_loop(plan.loss, outputs, shifts, aims, numbers, values)
        for i in range(rows):
            lost[c] += weights[i] * values[i]
