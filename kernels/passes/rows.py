"""What every compiled pass does with a row: scale it, score it, write down what it leaves.

Rules: those of `loops`. A pass works on one lane, batch after batch:

    per batch:  take labels and features in ─▶ per row: scale ─▶ outputs ─▶ residuals ─▶ results
                                                          ╰──────▶ what the rule's step needs

Labels come twice: as they are, and without their offsets (`plain`), of which their unit is taken.
What is inlined takes arrays one by one: an array taken out of a tuple costs a count of references
each time, and rows are many.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from kernels import losses, scaling
from kernels.contract import Array, Results, Rows, Spec, State
from kernels.elementary import inverse_deviation
from kernels.loops import (
    LOSS_CODES,
    SOFTMAX,
    dot_loop,
    frozen,
    inlined,
    inverse_deviations_loop,
    loss_residual,
    scale_loop,
    take_in_labels_loop,
    take_in_loop,
)
from kernels.losses import Scale
from kernels.registers import LENGTH, larger, load, smaller, store, widened
from kernels.scaling import REACHES

SPREAD, MEAN = 1, 2
_SCALE_CODES: dict[Scale, int] = {"none": 0, "spread": SPREAD, "mean": MEAN}


class Plan(NamedTuple):
    """What the rows of a pass are to it, as numbers."""

    loss: int
    number: float
    number_is_length: bool
    in_spreads: bool
    scale: int
    standardise: bool
    clip: float
    half_life: float
    intercept: bool


class Watched(NamedTuple):
    """The moments that a pass takes in; those that it has no use for are never read."""

    seen: Array
    mean: Array
    m2: Array
    target_seen: Array
    target_mean: Array
    target_m2: Array
    extremes: Array
    against: Array


class Lane(NamedTuple):
    """The rows of a lane: x (n, f), y and plain (n, 1), w, offset and push (n,); read-only."""

    x: Array
    y: Array
    plain: Array
    w: Array
    offset: Array
    push: Array


class Record(NamedTuple):
    """Where a pass writes results; an empty gradient or unit isn't asked for."""

    output: Array
    residual: Array
    norm: Array
    gradient: Array
    unit: Array


class Room(NamedTuple):
    """Scratch of every pass: a row z (1, f) in the model's dtype, its outputs, residuals (k,), ..."""

    z: Array
    outputs: Array
    push: Array
    own: Array
    inverse: Array
    sums: Array


@inlined
def kept(half_life, rows):
    """`scaling.kept`."""
    return 2.0 ** (-rows / half_life) if half_life > 0.0 else 1.0


@inlined
def unit_of(scale, count, mean, m2):
    """Base and unit of the labels so far, as `scaling.unit` has them."""
    if count[0] == 0.0:
        return 0.0, 1.0
    if scale == MEAN:
        return math.log(mean[0]) if mean[0] > 0.0 else 0.0, 1.0
    return mean[0], math.sqrt(m2[0] / count[0])


@inlined
def variation_of(plan, watched):
    """`scaling.variation`, of labels that are scaled by their mean."""
    count, mean, m2 = watched.target_seen, watched.target_mean, watched.target_m2
    if plan.scale != MEAN or mean[0] <= 0.0:
        return scaling.LARGEST
    relative = math.sqrt(m2[0] / count[0]) / mean[0]
    return min(relative * relative, scaling.LARGEST)


@inlined
def bounds_of(scale, count, extremes, against):
    """The lowest and the highest output by the labels so far, and the least and the most of these, as `scaling.unit` has them."""
    least, most = extremes[0], extremes[1]
    if count[0] == 0.0 or (most <= 0.0 if scale == MEAN else most == least):
        return -np.inf, np.inf, -np.inf, np.inf
    if scale == MEAN:
        return -np.inf, math.log(most), -np.inf, np.inf
    best = len(REACHES) - 1
    for r in range(len(REACHES) - 2, -1, -1):
        if against[r] < against[best]:
            best = r
    far = REACHES[best] * (most - least)
    return least - far, most + far, least, most


@inlined
def vote(output, label, weight, least, most, against):
    """`Unit.votes` of one row, whose output lies beyond the labels so far."""
    apart = most - least
    farthest = REACHES[-1] * apart
    label = min(max(label, least - farthest), most + farthest)
    total = 0.0
    for r in range(len(REACHES)):
        missed = _missed(output, label, REACHES[r] * apart, least, most)
        total += missed * missed
    if total > 0.0:
        for r in range(len(REACHES)):
            missed = _missed(output, label, REACHES[r] * apart, least, most)
            against[r] += weight * (missed * missed / total)


@inlined
def _missed(output, label, far, least, most):
    """By how much, in how far labels lie apart, an output that is held `far` beyond them misses a label."""
    return (min(max(output, least - far), most + far) - label) / (most - least)


@inlined
def take_extremes_in(plain, w, start, stop, count, extremes):
    """The least and the most label with those of a batch, before it is counted."""
    is_first = count[0] == 0.0
    for i in range(start, stop):
        if w[i] > 0.0:
            extremes[0] = plain[i, 0] if is_first else min(extremes[0], plain[i, 0])
            extremes[1] = plain[i, 0] if is_first else max(extremes[1], plain[i, 0])
            is_first = False


@inlined
def enter_features(x, w, start, stop, plan, seen, mean, m2, inverse, scratch):
    """Takes a batch's features in."""
    if plan.standardise:
        share = kept(plan.half_life, stop - start)
        take_in_loop(x, w, start, stop, share, seen, mean, m2, scratch)
        inverse_deviations_loop(seen, m2, inverse)


@inlined
def enter_labels(plain, w, start, stop, plan, watched):
    """Takes a batch's labels in; returns what rows are scored by, their unit without it: (base, unit, lowest, highest, least,
    most), with the labels, weights and reaches that `vote` asks for; and base and unit with it."""
    seen, mean, m2 = watched.target_seen, watched.target_mean, watched.target_m2
    extremes, against = watched.extremes, watched.against
    if plan.scale == 0:
        nowhere = (0.0, 1.0, -np.inf, np.inf, -np.inf, np.inf)
        return (*nowhere, plain, w, against), 0.0, 1.0
    base, unit = unit_of(plan.scale, seen, mean, m2)
    lowest, highest, least, most = bounds_of(plan.scale, seen, extremes, against)
    take_extremes_in(plain, w, start, stop, seen, extremes)
    take_in_labels_loop(plain, w, start, stop, kept(plan.half_life, stop - start), seen, mean, m2)
    base_after, unit_after = unit_of(plan.scale, seen, mean, m2)
    scored_by = (base, unit, lowest, highest, least, most, plain, w, against)
    return scored_by, base_after, unit_after


@inlined
def scaled_row(x, i, plan, mean, inverse, z):
    """z (1, f) ← row i, as the job scales it."""
    if plan.standardise:
        scale_loop(x, i, mean, inverse, plan.clip, z, 0)
    else:
        for f in range(x.shape[1]):
            z[0, f] = x[i, f]


@inlined
def _entered(x, mean, m2, keep, part, between, share, bound):
    """Features' mean and m2 with the row's x, and what x is scaled to: of one feature, or of a register's."""
    d = x - mean
    mean = mean + d * part
    m2 = m2 * keep + d * d * between
    z = (x - mean) * inverse_deviation(m2 * share)
    return mean, m2, larger(smaller(z, bound), -bound)


@inlined
def enter_row(x, i, w, plan, seen, mean, m2, z, inverse, scratch):
    """z (1, f) ← row i, a batch of its own: taken in and scaled, as `enter_features` and `scaled_row` do, but in one go."""
    if not plan.standardise or len(seen) == len(mean) or seen[0] == 0.0 or w[i] <= 0.0:
        enter_features(x, w, i, i + 1, plan, seen, mean, m2, inverse, scratch)
        scaled_row(x, i, plan, mean, inverse, z)
        return
    keep = kept(plan.half_life, 1)
    before = seen[0] * keep
    total = before + w[i]
    part = w[i] / total
    between = w[i] * (before / total)
    share = 1.0 / total
    bound = plan.clip if plan.clip > 0.0 else np.inf
    whole = len(mean) // LENGTH * LENGTH
    for f in range(0, whole, LENGTH):
        found = _entered(
            widened(load(x, (i, f))),
            load(mean, (f,)),
            load(m2, (f,)),
            keep,
            part,
            between,
            share,
            bound,
        )
        store(mean, (f,), found[0])
        store(m2, (f,), found[1])
        store(z, (0, f), found[2])
    for f in range(whole, len(mean)):
        own = np.float64(x[i, f])
        found = _entered(own, mean[f], m2[f], keep, part, between, share, bound)
        mean[f], m2[f], z[0, f] = found
    seen[0] = total


@inlined
def raw_outputs(weights, intercept, z, outputs):
    """outputs (k,) ← intercept (1, k) + weights (k, f) · z."""
    for j in range(len(outputs)):
        outputs[j] = dot_loop(weights, j, z, 0) + intercept[0, j]


@inlined
def softmax_residual(outputs, y, residual):
    """residual (k,) ← p - [class y]."""
    top = outputs[0]
    for j in range(1, len(outputs)):
        top = max(top, outputs[j])
    total = 0.0
    for j in range(len(outputs)):
        residual[j] = math.exp(outputs[j] - top)
        total += residual[j]
    for j in range(len(outputs)):
        residual[j] /= total
    residual[int(y)] -= 1.0


@inlined
def aim_of(plan, y, plain, offset, base, unit):
    """What a row's raw output is driven to: (label, the loss's number, what is added to the output)."""
    if plan.scale == SPREAD:
        if unit > 0.0:
            is_own = plan.in_spreads or not plan.number_is_length
            number = plan.number if is_own else plan.number / unit
            return (plain - base) / unit, number, 0.0
        return 0.0, plan.number, 0.0
    if plan.scale == MEAN:
        return y / math.exp(base), plan.number, offset
    return y, plan.number, offset


@inlined
def push_of(plan, outputs, aim, number, shift, push):
    """push (k,) ← the derivative of the aim's loss by the raw outputs (k,)."""
    if plan.loss == SOFTMAX:
        softmax_residual(outputs, aim, push)
    else:
        push[0] = loss_residual(plan.loss, outputs[0] + shift, aim, number)


@inlined
def write_outputs(
    plan, i, y, offset, scored_by, outputs, size, push, own, output, residual, norm, units
):
    """What row i, of |z|² `size`, leaves behind of its raw outputs (k,); own (k,) becomes its derivatives.

    Where labels aren't scaled, the step's derivative `push` is the row's own.
    """
    if plan.scale == 0:
        for j in range(len(outputs)):
            output[i, j] = outputs[j] + offset
            own[j] = push[j]
    else:
        base, unit, lowest, highest, least, most, plain, w, against = scored_by
        unit = unit if unit > 0.0 else 1.0
        scored = outputs[0] * unit + base
        if abs(scored) <= scaling.LARGEST:
            if scored < least or scored > most:
                vote(scored, plain[i, 0], w[i], least, most, against)
            scored = min(max(scored, lowest), highest)
        scored += offset
        output[i, 0] = scored
        number = plan.number * unit if plan.in_spreads else plan.number
        own[0] = loss_residual(plan.loss, scored, y, number) * unit
        if units.shape[0] > 0:
            units[i] = unit
    total = 0.0
    for j in range(len(own)):
        residual[i, j] = own[j]
        total += own[j] * own[j]
    ones = 1.0 if plan.intercept else 0.0
    norm[i] = math.sqrt(total * (size + ones))


@inlined
def write_row(
    plan, i, y, offset, scored_by, outputs, z, push, own, output, residual, norm, gradient, units
):
    """What row i leaves behind: outputs, derivatives, norm, and its gradient where that is asked for."""
    size = dot_loop(z, 0, z, 0)
    write_outputs(
        plan, i, y, offset, scored_by, outputs, size, push, own, output, residual, norm, units
    )
    if gradient.shape[0] > 0:
        at = 0
        if plan.intercept:
            for j in range(len(own)):
                gradient[i, j] = own[j]
            at = len(own)
        for j in range(len(own)):
            for f in range(z.shape[1]):
                gradient[i, at] = own[j] * z[0, f]
                at += 1


def plan_of(spec: Spec, loss: Any) -> Plan:
    """The plan of a spec whose kernel is linear and has this loss."""
    number = losses.LOSSES[loss.name].number if loss.name in losses.LOSSES else None
    return Plan(
        loss=LOSS_CODES.get(loss.name, SOFTMAX),
        number=float(getattr(loss, "number", 0.0)),
        number_is_length=number is not None and number.is_length,
        in_spreads=spec.scale_target and bool(getattr(loss, "in_spreads", False)),
        scale=_SCALE_CODES[loss.scale] if spec.scale_target else 0,
        standardise=spec.standardise,
        clip=float(spec.clip),
        half_life=float(spec.half_life),
        intercept=bool(spec.options.get("intercept", True)),
    )


def lane_of(plan: Plan, rows: Rows, pushes: Array) -> Lane:
    """The lane's arrays as a pass takes them: read-only, and labels without their offsets beside them."""
    x, y, w, offset = np.ascontiguousarray(rows.x), rows.y, rows.w, rows.offset
    x, y, w, offset, push = (frozen(array) for array in (x, y, w, offset, pushes))
    plain = y
    if plan.scale != 0:
        scale: Scale = "mean" if plan.scale == MEAN else "spread"
        plain = frozen(scaling.without_offset(scale, y, offset))
    return Lane(x, y.reshape(-1, 1), plain.reshape(-1, 1), w, offset, push)


def room_of(weights: Array) -> Room:
    """Room for the rows of a model with these weights (k, f)."""
    k, features = weights.shape
    outputs, push, own = np.empty((3, k))
    inverse, sums = np.empty((2, features))
    return Room(np.empty((1, features), weights.dtype), outputs, push, own, inverse, sums)


def watched_of(state: State) -> Watched:
    """The moments of a state, as views; empty ones where it has none."""
    found = []
    for prefix in ("scaling", "target"):
        found += [state.get(f"{prefix}/{name}", np.zeros(1)) for name in ("count", "mean", "m2")]
    found.append(state.get("target/extremes", np.zeros(2)))
    found.append(state.get("target/reaches", np.zeros(len(REACHES))))
    return Watched(*found)


def record_of(results: Results) -> Record:
    """Where results go."""
    gradient = results.get("gradient", np.empty((0, 0)))
    unit = results.get("unit", np.empty(0))
    return Record(results["output"], results["residual"], results["norm"], gradient, unit)
