"""The loops that every learner runs, compiled by numba: taking rows in, scaling, optimizer steps.

Rules: every loop works in place on arrays it is given; branches on codes stand outside the loops
over features, so that these become vector instructions. No fast mathematics: with it a sum's order
depends on whether the compiler's vector loop may run, and that, on where arrays happen to lie in
memory. Without it every operation is IEEE's, in the order written; where a product and a sum are to be
one, `fma` says so. No loop allocates: room is given, so that nothing compiled counts references (which
took a third of the time). The formulas are those of `optimizers` and `losses`, compiled. Names in `..._rows` and `step` at the end are what Python calls;
the others are parts of these and of the passes. Arrays are passed whole, with an index: a slice
inside a loop costs more than the work on thirty features.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
from __future__ import annotations

import math
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numba as nb
import numpy as np
from numba.extending import register_jitable

from kernels import elementary, losses, optimizers, registers, scaling
from kernels.contract import Array
from kernels.elementary import inverse_deviation
from kernels.losses import LOSSES
from kernels.optimizers import OPTIMIZERS
from kernels.registers import LENGTH, fma, load, of_registers, splat, store, summed
from kernels.scaling import FAR_LABEL, MOST_OF_M2

FLAGS: dict[str, Any] = {
    "error_model": "numpy",
    "nogil": True,
    "_nrt": False,
}
inlined = nb.njit(forceinline=True, **FLAGS)
register_jitable(optimizers.shrunk)  # called by the steps that are compiled

OPTIMIZER_CODES = {name: code for code, name in enumerate(OPTIMIZERS)}
LOSS_CODES = {name: code for code, name in enumerate(LOSSES)}
SOFTMAX = len(LOSSES)
"""The code of the one loss of several outputs."""


def chosen(functions: Sequence[Callable[..., Any]]) -> Any:
    """The compiled function f(code, ...) that calls the function of that code.

    It is made of functions inside one another, since a compiled one can't look up a table.
    """
    first = inlined(functions[0])
    if len(functions) == 1:

        @inlined
        def only(code, *args):
            return first(*args)

        return only
    others = chosen(functions[1:])

    @inlined
    def either(code, *args):
        if code == 0:
            return first(*args)
        return others(code - 1, *args)

    return either


loss_value = chosen([formula.value for formula in LOSSES.values()])
loss_residual = chosen([formula.residual for formula in LOSSES.values()])


def _curvature(code: int) -> Any:
    """A loss's curvature, or where it has none its residual's square."""
    formula = list(LOSSES.values())[code]
    if formula.curvature is not None:
        return formula.curvature
    residual = inlined(formula.residual)

    def square(o, y, c):
        slope = residual(o, y, c)
        return slope * slope

    return square


def _point(code: int) -> Any:
    """Value, residual and curvature at once: what they have in common is worked out once."""
    formula = list(LOSSES.values())[code]
    functions = (formula.value, formula.residual, _curvature(code))
    value, residual, curvature = (of_registers(inlined(function)) for function in functions)

    def point(o, y, c):
        return value(o, y, c), residual(o, y, c), curvature(o, y, c)

    return point


loss_curvature = chosen([_curvature(code) for code in range(len(LOSSES))])


def _points_loop(code: int) -> Any:
    """One loss's points of many outputs of a row."""
    point = inlined(_point(code))

    def loop(outputs, shift, y, c, values, residuals, curvatures):
        for e in range(0, len(values), LENGTH):
            value, residual, curvature = point(load(outputs, (0, e)) + shift, y, c)
            store(values, (e,), value)
            store(residuals, (0, e), residual)
            store(curvatures, (0, e), curvature)

    return loop


def _values_loop(code: int) -> Any:
    """One loss's values of an output of many rows."""
    value = of_registers(inlined(list(LOSSES.values())[code].value))

    def loop(outputs, shifts, ys, cs, values):
        for i in range(0, len(values), LENGTH):
            output = load(outputs, (0, i)) + load(shifts, (i,))
            store(values, (i,), value(output, load(ys, (i,)), load(cs, (i,))))

    return loop


points_loop = chosen([_points_loop(code) for code in range(len(LOSSES))])
"""points_loop(code, outputs, shift, y, c, values, residuals, curvatures): values (n,) and the others (1, n), of one row, n a multiple of LENGTH."""
values_loop = chosen([_values_loop(code) for code in range(len(LOSSES))])
"""values_loop(code, outputs, shifts, ys, cs, values): outputs (1, n) and the others (n,), of n rows, as many."""


@inlined
def dot_loop(a, i, b, j):
    """a[i] · b[j], in sixteen interleaved sums and a rest."""
    zero = splat(a.dtype.type(0.0))
    s0, s1, s2, s3 = zero, zero, zero, zero
    length = a.shape[1]
    whole = length // (4 * LENGTH) * (4 * LENGTH)
    for f in range(0, whole, 4 * LENGTH):
        s0 = fma(load(a, (i, f)), load(b, (j, f)), s0)
        s1 = fma(load(a, (i, f + LENGTH)), load(b, (j, f + LENGTH)), s1)
        s2 = fma(load(a, (i, f + 2 * LENGTH)), load(b, (j, f + 2 * LENGTH)), s2)
        s3 = fma(load(a, (i, f + 3 * LENGTH)), load(b, (j, f + 3 * LENGTH)), s3)
    fours = length // LENGTH * LENGTH
    for f in range(whole, fours, LENGTH):
        s0 = fma(load(a, (i, f)), load(b, (j, f)), s0)
    found = summed((s0 + s2) + (s1 + s3))
    for f in range(fours, length):
        found = fma(a[i, f], b[j, f], found)
    return found


@nb.njit(**FLAGS)  # a call: inlined in every pass, it would slow the rows without gaps
def take_in_each_loop(x, w, start, stop, share, count, mean, m2):
    """As `take_in_loop`, feature by feature, each from the rows that have it; the same operations in
    the same order, so that without a NaN the bits are the same, too."""
    for f in range(len(mean)):
        if share < 1.0:
            count[f] *= share
            m2[f] *= share
        weight = 0.0
        first = -1
        for i in range(start, stop):
            if not math.isnan(x[i, f]):
                weight += w[i]
                first = i if first < 0 else first
        if weight <= 0.0:
            continue
        if count[f] == 0.0:
            mean[f] = x[first, f]
        total = count[f] + weight
        between = weight * (count[f] / total)
        count[f] = total
        if stop - start == 1:
            d = x[start, f] - mean[f]
            mean[f] += d * (weight / total)
            m2[f] += d * d * between
            continue
        apart = 0.0
        for i in range(start, stop):
            if not math.isnan(x[i, f]):
                apart += w[i] * (x[i, f] - mean[f])
        apart /= weight
        for i in range(start, stop):
            if not math.isnan(x[i, f]):
                d = x[i, f] - mean[f] - apart
                m2[f] += w[i] * d * d
        m2[f] += apart * apart * between
        mean[f] += apart * (weight / total)


@inlined
def take_in_loop(x, w, start, stop, share, count, mean, m2, sums):
    """Merges rows start..stop of x (n, f), by their weights w (n,), into count (1,), mean and m2 (f,).

    What is there counts by `share` from now on; sums (f,) is scratch. Deviations are from the mean
    so far (at the start, from the first row), so that a feature that never changes has a spread of
    exactly 0. Chan, Golub & LeVeque, Stanford STAN-CS-79-773. With a count (f,) of each feature a NaN
    is no value.
    """
    if len(count) == len(mean):
        take_in_each_loop(x, w, start, stop, share, count, mean, m2)
        return
    features = len(mean)
    if share < 1.0:
        count[0] *= share
        for f in range(features):
            m2[f] *= share
    weight = 0.0
    for i in range(start, stop):
        weight += w[i]
    if weight <= 0.0:
        return
    if count[0] == 0.0:
        for f in range(features):
            mean[f] = x[start, f]
    total = count[0] + weight
    between = weight * (count[0] / total)
    if stop - start == 1:
        part = weight / total
        for f in range(features):
            d = x[start, f] - mean[f]
            mean[f] += d * part
            m2[f] += d * d * between
    else:
        for f in range(features):
            sums[f] = 0.0
        for i in range(start, stop):
            for f in range(features):
                sums[f] += w[i] * (x[i, f] - mean[f])
        for f in range(features):
            sums[f] /= weight
        for i in range(start, stop):
            for f in range(features):
                d = x[i, f] - mean[f] - sums[f]
                m2[f] += w[i] * d * d
        for f in range(features):
            m2[f] += sums[f] * sums[f] * between
            mean[f] += sums[f] * (weight / total)
    count[0] = total


@inlined
def _held(y, w, mean, variance, m2):
    """`scaling.held`, of one label."""
    bound = math.sqrt(max(FAR_LABEL * FAR_LABEL * variance, MOST_OF_M2 * m2 / w))
    return min(max(y, mean - bound), mean + bound) if m2 > 0.0 else y


@inlined
def take_in_labels_loop(y, w, start, stop, share, count, mean, m2):
    """As `take_in_loop` for labels y (n, 1), held where they are far off, see `scaling.held`."""
    middle, before, variance = mean[0], m2[0], 0.0
    if count[0] > 0.0:
        variance = m2[0] / count[0]
    if share < 1.0:
        count[0] *= share
        m2[0] *= share
    weight = 0.0
    for i in range(start, stop):
        weight += w[i]
    if weight <= 0.0:
        return
    if count[0] == 0.0:
        mean[0] = y[start, 0]
    total = count[0] + weight
    if stop - start == 1:
        shift = _held(y[start, 0], w[start], middle, variance, before) - mean[0]
    else:
        shift = 0.0
        for i in range(start, stop):
            shift += w[i] * (_held(y[i, 0], w[i], middle, variance, before) - mean[0])
        shift /= weight
        for i in range(start, stop):
            apart = _held(y[i, 0], w[i], middle, variance, before) - mean[0] - shift
            m2[0] += w[i] * apart * apart
    m2[0] += shift * shift * (weight * (count[0] / total))
    mean[0] += shift * (weight / total)
    count[0] = total


@inlined
def inverse_deviations_loop(count, m2, inverse):
    """inverse (f,) ← 1/sd, 0 where sd is 0; count (1,), or (f,) of each feature."""
    each = len(count) == len(m2)
    share = 1.0 / count[0] if count[0] > 0.0 else 0.0
    for f in range(len(m2)):
        if each:
            share = 1.0 / count[f] if count[f] > 0.0 else 0.0
        inverse[f] = inverse_deviation(m2[f] * share)


@inlined
def scale_loop(x, i, mean, inverse, clip, z, to):
    """Row `to` of z ← (row i of x - mean) · inverse, bounded by ±clip where clip isn't 0.

    A NaN stands for a missing value, and becomes 0: the mean.
    """
    bound = clip if clip > 0.0 else np.inf
    for f in range(len(mean)):
        s = (x[i, f] - mean[f]) * inverse[f]
        s = 0.0 if x[i, f] != x[i, f] else s
        s = bound if s > bound else s
        z[to, f] = -bound if s < -bound else s


def _step_loop(code: int) -> Any:
    """One optimizer's loop over a row j of θ, with gradient factor · vector[at]."""
    optimizer = list(OPTIMIZERS.values())[code]
    one, count = inlined(optimizer.step), len(optimizer.slots)

    @inlined
    def loop(theta, s0, s1, s2, s3, s4, j, vector, at, factor, rate, l1, l2, k):
        kind = theta.dtype.type
        a = b = c = d = e = kind(0.0)
        for i in range(theta.shape[1]):
            if count > 0:
                a = s0[j, i]
            if count > 1:
                b = s1[j, i]
            if count > 2:
                c = s2[j, i]
                d = s3[j, i]
                e = s4[j, i]
            g = factor * vector[at, i]
            theta[j, i], a, b, c, d, e = one(theta[j, i], g, a, b, c, d, e, rate, l1, l2, k)
            if count > 0:
                s0[j, i] = a
            if count > 1:
                s1[j, i] = b
            if count > 2:
                s2[j, i] = c
                s3[j, i] = d
                s4[j, i] = e

    def both(theta, s0, s1, s2, s3, s4, j, vector, at, factor, rate, l1, l2, k):
        kind = theta.dtype.type
        factor, rate, l1, l2 = kind(factor), kind(rate), kind(l1), kind(l2)
        k = (kind(k[0]), kind(k[1]), kind(k[2]), kind(k[3]), kind(k[4]))
        if l1 > kind(0.0):
            loop(theta, s0, s1, s2, s3, s4, j, vector, at, factor, rate, l1, l2, k)
        else:  # a constant: the loop has no branch, and becomes vector instructions
            loop(theta, s0, s1, s2, s3, s4, j, vector, at, factor, rate, kind(0.0), l2, k)

    return both


step_loop = chosen([_step_loop(code) for code in range(len(OPTIMIZERS))])
"""step_loop(code, theta, five slots, j, vector, at, factor, rate, l1, l2, k): a step of row j of θ."""


def checksum(*modules: Any) -> int:
    """A checksum of the sources of modules and of what all compiled loops are made of.

    Numba's cache on disk only looks at the time stamp of the file that a function stands in, but
    the parts stand in others. What a function closes over is part of the cache's key: so functions
    that are cached close over the checksum of what they are compiled from.
    """
    value = 0
    for module in (*_PARTS, *modules):
        value = zlib.crc32(Path(module.__file__).read_bytes(), value)
    return value


_PARTS = (elementary, losses, optimizers, registers, scaling, sys.modules[__name__])


def _entries(sources: int) -> tuple[Any, Any, Any]:
    @nb.njit(cache=True, **FLAGS)
    def take_in(x, w, share, count, mean, m2, sums):
        _ = sources
        take_in_loop(x, w, 0, len(x), share, count, mean, m2, sums)

    @nb.njit(cache=True, **FLAGS)
    def scale(x, count, mean, m2, clip, z, inverse):
        _ = sources
        inverse_deviations_loop(count, m2, inverse)
        for i in range(len(x)):
            scale_loop(x, i, mean, inverse, clip, z, i)

    @nb.njit(cache=True, **FLAGS)
    def step(code, theta, slots, gradient, factor, rate, l1, l2, k):
        _ = sources
        step_loop(code, theta, *slots, 0, gradient, 0, factor, rate, l1, l2, k)

    return take_in, scale, step


_take_in, _scale, _step = _entries(checksum())


def frozen(array: Array) -> Array:
    """A read-only view: numba compiles for read-only arrays and for others apart, so all are alike."""
    view = array.view()
    view.flags.writeable = False
    return view


def take_in_rows(x: Array, w: Array, share: float, count: Array, mean: Array, m2: Array) -> None:
    """Merges the rows x (n, f) by their weights w (n,) into count, mean (f,) and m2 (f,), in place.

    What is there counts by `share` from now on. With a count (f,) of each feature, not (1,) of all, a
    NaN is no value.
    """
    _take_in(frozen(x), frozen(w), float(share), count, mean, m2, np.empty(len(mean)))


def scale_rows(x: Array, count: Array, mean: Array, m2: Array, clip: float, z: Array) -> None:
    """z (n, f) ← the rows x (n, f) standardised, and bounded by ±clip where clip isn't 0."""
    _scale(frozen(x), count, mean, m2, float(clip), z, np.empty(len(mean)))


def step(
    name: str,
    theta: Array,
    slots: Sequence[Array],
    gradient: Array,
    factor: float,
    rate: float,
    penalty: tuple[float, float],
    k: Array,
) -> None:
    """One step of optimizer `name`, in place, with gradient factor · gradient; penalty (l1, l2)."""
    _step(
        OPTIMIZER_CODES[name],
        _row(theta),
        padded([_row(slot) for slot in slots], _row(theta)),
        frozen(_row(gradient)),
        float(factor),
        float(rate),
        *map(float, penalty),
        tuple(map(float, k)),
    )


def padded(slots: Sequence[Array], unused: Array) -> tuple[Array, ...]:
    """Five arrays: the slots, and for those that an optimizer lacks any array of their kind."""
    return (*slots, *[unused] * (optimizers.MOST_SLOTS - len(slots)))


def _row(array: Array) -> Array:
    return array.reshape(1, -1)
