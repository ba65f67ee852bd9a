"""The loops that every learner runs, compiled by numba: taking rows in, scaling, optimizer steps.

Rules: every loop works in place on arrays it is given; branches on codes stand outside the loops
over features, so that these become vector instructions. No fast mathematics: with it a sum's order
depends on whether the compiler's vector loop may run, and that, on where arrays happen to lie in
memory. Without it every operation is IEEE's, in the order written. The formulas are those of `optimizers`, compiled. Names in `..._rows` and `step` at
the end are what Python calls; the others are parts of these and of the pass in `compiled`. Arrays
are passed whole, with an index: a slice inside a loop costs more than the work on thirty features.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numba as nb
import numpy as np

from kernels import optimizers
from kernels.contract import Array
from kernels.optimizers import Constants

FLAGS: dict[str, Any] = {
    "error_model": "numpy",
    "nogil": True,
}
inlined = nb.njit(**FLAGS)

OPTIMIZER_CODES = {"sgd": 0, "adagrad": 1, "adam": 2}
SGD, ADAGRAD, ADAM = range(3)

_sgd = inlined(optimizers.sgd_direction)
_adagrad = inlined(optimizers.adagrad_direction)
_adam = inlined(optimizers.adam_direction)


@inlined
def dot_loop(a, i, b, j):
    """a[i] · b[j], in eight interleaved sums and a rest: an order that fills vector registers."""
    zero = a.dtype.type(0.0)
    s0, s1, s2, s3, s4, s5, s6, s7 = zero, zero, zero, zero, zero, zero, zero, zero
    whole = a.shape[1] // 8 * 8
    for f in range(0, whole, 8):
        s0 += a[i, f] * b[j, f]
        s1 += a[i, f + 1] * b[j, f + 1]
        s2 += a[i, f + 2] * b[j, f + 2]
        s3 += a[i, f + 3] * b[j, f + 3]
        s4 += a[i, f + 4] * b[j, f + 4]
        s5 += a[i, f + 5] * b[j, f + 5]
        s6 += a[i, f + 6] * b[j, f + 6]
        s7 += a[i, f + 7] * b[j, f + 7]
    total = ((s0 + s4) + (s2 + s6)) + ((s1 + s5) + (s3 + s7))
    for f in range(whole, a.shape[1]):
        total += a[i, f] * b[j, f]
    return total


@inlined
def take_in_loop(x, start, stop, count, mean, m2, sums):
    """Merges rows start..stop of x (n, f) into count (1,), mean (f,), m2 (f,); sums (f,) is scratch.

    Deviations are from the mean so far (at the start, from the first row), so that a feature that
    never changes has a spread of exactly 0. Chan, Golub & LeVeque, Stanford STAN-CS-79-773.
    """
    n = stop - start
    features = len(mean)
    if count[0] == 0:
        for f in range(features):
            mean[f] = x[start, f]
    total = count[0] + n
    between = count[0] / total
    if n == 1:
        share = 1.0 / total
        for f in range(features):
            d = x[start, f] - mean[f]
            mean[f] += d * share
            m2[f] += d * d * between
    else:
        for f in range(features):
            sums[f] = 0.0
        for i in range(start, stop):
            for f in range(features):
                sums[f] += x[i, f] - mean[f]
        for f in range(features):
            sums[f] /= n
        for i in range(start, stop):
            for f in range(features):
                d = x[i, f] - mean[f] - sums[f]
                m2[f] += d * d
        for f in range(features):
            m2[f] += sums[f] * sums[f] * (n * between)
            mean[f] += sums[f] * (n / total)
    count[0] = total


@inlined
def inverse_deviations_loop(count, m2, inverse):
    """inverse (f,) ← 1/sd, 0 where sd is 0."""
    share = 1.0 / max(count[0], 1)
    for f in range(len(m2)):
        variance = m2[f] * share
        inverse[f] = 1.0 / math.sqrt(variance) if variance > 0.0 else 0.0


@inlined
def scale_loop(x, i, mean, inverse, clip, z, to):
    """Row `to` of z ← (row i of x - mean) · inverse, bounded by ±clip where clip isn't 0."""
    bound = clip if clip > 0.0 else np.inf
    for f in range(len(mean)):
        s = (x[i, f] - mean[f]) * inverse[f]
        s = bound if s > bound else s
        z[to, f] = -bound if s < -bound else s


@inlined
def step_loop(code, theta, first, second, j, vector, at, factor, l2, rate, constants):
    """One optimizer step of row j of theta, with gradient factor · vector[at] + l2 · theta[j]."""
    kind = theta.dtype.type
    factor, l2, rate = kind(factor), kind(l2), kind(rate)
    a, b = kind(constants[0]), kind(constants[1])
    c, d, e = kind(constants[2]), kind(constants[3]), kind(constants[4])
    zero = kind(0.0)
    if code == SGD:
        for i in range(theta.shape[1]):
            gradient = factor * vector[at, i] + l2 * theta[j, i]
            direction, _, _ = _sgd(gradient, zero, zero, a, b, c, d, e)
            theta[j, i] -= rate * direction
    elif code == ADAGRAD:
        for i in range(theta.shape[1]):
            gradient = factor * vector[at, i] + l2 * theta[j, i]
            direction, first[j, i], _ = _adagrad(gradient, first[j, i], zero, a, b, c, d, e)
            theta[j, i] -= rate * direction
    else:
        for i in range(theta.shape[1]):
            gradient = factor * vector[at, i] + l2 * theta[j, i]
            direction, first[j, i], second[j, i] = _adam(
                gradient, first[j, i], second[j, i], a, b, c, d, e
            )
            theta[j, i] -= rate * direction


@inlined
def constants_loop(code, b1, b2, epsilon, step):
    """`optimizers.constants` of step number `step`, counted from 1."""
    if code != ADAM:
        return 1.0, 1.0, 1.0, 1.0, epsilon
    first = 1.0 / (1.0 - b1 ** float(step))
    second = 1.0 / (1.0 - b2 ** float(step))
    return 1.0 - b1, 1.0 - b2, first, second, epsilon


def checksum(*modules: Any) -> int:
    """A checksum of modules' sources.

    Numba's cache on disk only looks at the time stamp of the file that a function stands in, but
    the parts stand in others. What a function closes over is part of the cache's key: so functions
    that are cached close over the checksum of what they are compiled from.
    """
    value = 0
    for module in modules:
        value = zlib.crc32(Path(module.__file__).read_bytes(), value)
    return value


def _entries(sources: int) -> tuple[Any, Any, Any]:
    @nb.njit(cache=True, **FLAGS)
    def take_in(x, count, mean, m2):
        _ = sources
        take_in_loop(x, 0, len(x), count, mean, m2, np.empty(len(mean)))

    @nb.njit(cache=True, **FLAGS)
    def scale(x, count, mean, m2, clip, z):
        _ = sources
        inverse = np.empty(len(mean))
        inverse_deviations_loop(count, m2, inverse)
        for i in range(len(x)):
            scale_loop(x, i, mean, inverse, clip, z, i)

    @nb.njit(cache=True, **FLAGS)
    def step(code, theta, first, second, gradient, factor, l2, rate, constants):
        _ = sources
        step_loop(code, theta, first, second, 0, gradient, 0, factor, l2, rate, constants)

    return take_in, scale, step


_take_in, _scale, _step = _entries(checksum(optimizers))


def frozen(array: Array) -> Array:
    """A read-only view: numba compiles for read-only arrays and for others apart, so all are alike."""
    view = array.view()
    view.flags.writeable = False
    return view


def take_in_rows(x: Array, count: Array, mean: Array, m2: Array) -> None:
    """Merges the rows x (n, f) into count (1,) int64, mean (f,) and m2 (f,), in place."""
    _take_in(frozen(x), count, mean, m2)


def scale_rows(x: Array, count: Array, mean: Array, m2: Array, clip: float, z: Array) -> None:
    """z (n, f) ← the rows x (n, f) standardised, and bounded by ±clip where clip isn't 0."""
    _scale(frozen(x), count, mean, m2, float(clip), z)


def step(
    name: str,
    theta: Array,
    slots: Sequence[Array],
    gradient: Array,
    factor: float,
    l2: float,
    rate: float,
    constants: Constants,
) -> None:
    """One step of optimizer `name`, in place, with gradient factor · gradient + l2 · theta."""
    first, second = [_row(slot) for slot in (*slots, theta, theta)][:2]  # unused ones: any array
    code = OPTIMIZER_CODES[name]
    _step(
        code,
        _row(theta),
        first,
        second,
        frozen(_row(gradient)),
        float(factor),
        float(l2),
        float(rate),
        tuple(constants),
    )


def _row(array: Array) -> Array:
    return array.reshape(1, -1)
