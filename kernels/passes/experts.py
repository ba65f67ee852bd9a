"""The compiled pass of linear kernels with experts.

Rules: those of `loops` and `rows`; it equals `kernels.experts` to rounding. Learner e's output j stands
in row e · k + j of arrays (E k, f), the mixture's copy behind them.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import numba as nb
import numpy as np

from kernels import experts, loops, losses, optimizers, scaling
from kernels.contract import Array, CompiledPass, Results, Rows, Spec, State
from kernels.experts import (
    EPSILON,
    FAR_OFF,
    FARTHEST,
    HEAT_MEMORY,
    LEAST_LOSS,
    SQUARES_MEMORY,
    Experts,
)
from kernels.loops import (
    FLAGS,
    SOFTMAX,
    checksum,
    dot_loop,
    inlined,
    loss_point,
    loss_value,
)
from kernels.passes import rows as passes_rows
from kernels.passes.rows import (
    Plan,
    aim_of,
    enter_features,
    enter_labels,
    kept,
    lane_of,
    plan_of,
    record_of,
    room_of,
    scaled_row,
    softmax_residual,
    watched_of,
    write_row,
)


class Mix(NamedTuple):
    """The rule's numbers."""

    is_spread: bool
    is_bounded: bool
    is_held: bool
    share: float
    serve_rows: float
    serve_share: float
    half_life: float
    l1: float
    l2: float


class Model(NamedTuple):
    """The state that the pass changes: of E learners with k outputs each."""

    weights: Array  # (E k, f)
    squares: Array  # (E k, f)
    frozen: Array  # ((E + 1) k, f)
    intercept: Array  # (E, k)
    intercept_squares: Array  # (E, k)
    frozen_intercept: Array  # (E + 1, k)
    shares: Array  # (E,)
    serving: Array  # (E + 1,)
    frozen_losses: Array  # (E + 1,)
    frozen_rows: Array  # (1,)
    mean_heat: Array  # (2,)
    mean_squares: Array  # (E + 1,) or empty


class Room(NamedTuple):
    """Scratch beside that of every pass."""

    zz: Array  # (1, f) a row's squares
    pace: Array  # (1, f) 1/√G
    plain: Array  # (E k, f) sums of gradients; zeros before and after, as the next three
    damped: Array  # (E k, f)
    plain_ones: Array  # (E, k) those of the intercepts
    damped_ones: Array  # (E, k)
    mixture: Array  # (k,) outputs
    pushes: Array  # (E, k) derivatives by the outputs
    bents: Array  # (E, k) second ones
    losses: Array  # (E + 1,) of a batch
    row_squares: Array  # (E + 1,) of a batch
    roots: Array  # (E,) of the mean squares of residuals


@inlined
def _softmax_value(outputs, y):
    top = outputs[0]
    for j in range(1, len(outputs)):
        top = max(top, outputs[j])
    total = 0.0
    for j in range(len(outputs)):
        total += math.exp(outputs[j] - top)
    return math.log(total) - (outputs[int(y)] - top)


@inlined
def _value_of(plan, outputs, aim, number, shift):
    """The loss of raw outputs (k,)."""
    if plan.loss == SOFTMAX:
        return _softmax_value(outputs, aim)
    return loss_value(plan.loss, outputs[0] + shift, aim, number)


@inlined
def _point_of(plan, outputs, aim, number, shift, push, bent):
    """The loss of raw outputs (k,); push (k,) and bent (k,) ← its derivatives by them.

    Of classes each output's curvature is that of its probability.
    """
    if plan.loss == SOFTMAX:
        softmax_residual(outputs, aim, push)
        for j in range(len(push)):
            chance = push[j] + (1.0 if int(aim) == j else 0.0)
            bent[j] = chance * (1.0 - chance)
        return _softmax_value(outputs, aim)
    value, push[0], bent[0] = loss_point(plan.loss, outputs[0] + shift, aim, number)
    return value


@inlined
def _forward(weights, intercept, which, z, outputs):
    """outputs (k,) of learner or copy `which`."""
    k = len(outputs)
    for j in range(k):
        outputs[j] = dot_loop(weights, which * k + j, z, 0) + intercept[which, j]


@inlined
def _answer(squares, at, keep, push, z, zz, pace):
    """Σ z²/√G with the row's own gradient in G, of zz = z²; pace (1, f) ← 1/√G."""
    square = push * push
    for f in range(z.shape[1]):
        pace[0, f] = 1.0 / (math.sqrt(squares[at, f] * keep + square * zz[0, f]) + EPSILON)
    return dot_loop(zz, 0, pace, 0)


@inlined
def _root(s):
    return 1.0 / (math.sqrt(s) + EPSILON)


@inlined
def _move(theta, squares, at, keep, plain, damped, n, rate, l1, l2):
    """One step of row `at`, from the batch's gradients, row `at` of plain and damped, summed over n rows."""
    kind = theta.dtype.type
    for f in range(theta.shape[1]):
        step = damped[at, f] / n + l2 * theta[at, f]
        g = max(abs(plain[at, f] / n + l2 * theta[at, f]), abs(step))
        s = squares[at, f] * keep + g * g
        squares[at, f] = kind(s)
        pace = rate * _root(s)
        theta[at, f] -= kind(pace * step)
        if l1 > 0.0:
            theta[at, f] = kind(optimizers.shrunk(theta[at, f], pace * l1))


@inlined
def _held(push, spread, z):
    """A residual as the step of a feature that is z deviations out takes it."""
    most = spread * max(FAR_OFF, abs(z))
    return max(min(push, most), -most)


@inlined
def _move_along(theta, squares, at, keep, pushed, z, zz, pace, push, spread, pace_of_row):
    """One step of row `at` straight from a row: no penalty, and 1/√G is there."""
    kind = theta.dtype.type
    square = pushed * pushed
    for f in range(theta.shape[1]):
        squares[at, f] = kind(squares[at, f] * keep + square * zz[0, f])
        step = pace_of_row * _held(push, spread, z[0, f])
        theta[at, f] -= kind(step * z[0, f] * pace[0, f])


@inlined
def _move_shares(shares, losses, heat, share):
    """`experts.moved`, in place."""
    count = len(shares)
    least = losses[0]
    for e in range(1, count):
        least = min(least, losses[e])
    total = 0.0
    for e in range(count):
        shares[e] *= math.exp(-(losses[e] - least) / heat)
        total += shares[e]
    for e in range(count):
        shares[e] = (1.0 - share) * shares[e] / total + share / count


@inlined
def _take_copies(model, k):
    """The frozen copies become today's learners and mixture."""
    weights, frozen, shares = model.weights, model.frozen, model.shares
    intercept, frozen_intercept = model.intercept, model.frozen_intercept
    count = len(shares)
    kind = weights.dtype.type
    for at in range(count * k):
        for f in range(weights.shape[1]):
            frozen[at, f] = weights[at, f]
    for e in range(count):
        for j in range(k):
            frozen_intercept[e, j] = intercept[e, j]
    for j in range(k):
        last = count * k + j
        for f in range(weights.shape[1]):
            total = shares[0] * weights[j, f]
            for e in range(1, count):
                total += shares[e] * weights[e * k + j, f]
            frozen[last, f] = kind(total)
        total = shares[0] * intercept[0, j]
        for e in range(1, count):
            total += shares[e] * intercept[e, j]
        frozen_intercept[count, j] = kind(total)


@inlined
def _root_of(mean_squares, e):
    """`experts.root`."""
    if mean_squares[e] == 0.0:
        return np.inf
    return math.sqrt(mean_squares[e] / mean_squares[-1])


@inlined
def _take_squares(mean_squares, squares, rows):
    """The running means after a batch's weighted squares and, behind them, its weight."""
    keep = SQUARES_MEMORY**rows
    weight = squares[-1]
    for e in range(len(squares)):
        mean_squares[e] = mean_squares[e] * keep + (1.0 - keep) * (squares[e] / weight)


@inlined
def _heat(is_spread, total, weight):
    """`Experts._heat`."""
    return 2.0 * max(total / weight, LEAST_LOSS) if is_spread else total / weight


@inlined
def _serve(mix, model, heat, k):
    """The shares that serve, once the copies have been watched for long enough."""
    serving, losses, rows = model.serving, model.frozen_losses, model.frozen_rows
    shares = model.shares
    count = len(shares)
    if rows[0] < mix.serve_rows:
        return
    total = 0.0
    for e in range(count + 1):
        total += serving[e]
    if total > 0.0:
        if mix.is_spread:
            heat = _heat(True, losses[count], rows[0])
        _move_shares(serving, losses, heat, mix.serve_share)
    else:
        for e in range(count):
            serving[e] = 0.5 * shares[e]
        serving[count] = 0.5
    _take_copies(model, k)
    for e in range(count + 1):
        losses[e] = 0.0
    rows[0] = 0.0


@inlined
def _learn(lane, batch_rows, rates, own_rates, plan, mix, model, watched, record, room, own_room):
    """Learns from a lane, batch after batch; rates (batches,), own_rates (E,)."""
    x, y, plain_y, w, offset, push_w = lane
    seen, mean, m2, target_seen, target_mean, target_m2 = watched
    output, residual, norm, gradient, units = record
    weights, squares, frozen, intercept, intercept_squares, frozen_intercept = model[:6]
    shares, frozen_losses, frozen_rows = model[6], model[8], model[9]
    mean_heat, mean_squares = model[10], model[11]
    total_rows, features = x.shape
    count = len(shares)
    k = intercept.shape[1]
    z, outputs, push, own, inverse, scratch = room
    zz, pace, plain, damped, plain_ones, damped_ones = own_room[:6]
    mixture, pushes, bents, losses, row_squares, roots = own_room[6:]
    for batch in range(len(rates)):
        start = batch * batch_rows
        stop = min(start + batch_rows, total_rows)
        n = stop - start
        base, unit, base_after, unit_after = enter_labels(
            plain_y, w, start, stop, plan, target_seen, target_mean, target_m2
        )
        enter_features(x, w, start, stop, plan, seen, mean, m2, inverse, scratch)
        keep = kept(mix.half_life, n)
        is_direct = n == 1 and mix.l1 == 0.0 and mix.l2 == 0.0
        weighty = 0.0
        for e in range(count + 1):
            losses[e] = 0.0
            row_squares[e] = 0.0
        if mix.is_held:
            for e in range(count):
                roots[e] = _root_of(mean_squares, e)
        for i in range(start, stop):
            scaled_row(x, i, plan, mean, inverse, z)
            for f in range(features):
                zz[0, f] = z[0, f] * z[0, f]
            aim, number, shift = aim_of(
                plan, y[i, 0], plain_y[i, 0], offset[i], base_after, unit_after
            )
            for e in range(count + 1):
                _forward(frozen, frozen_intercept, e, z, outputs)
                frozen_losses[e] += push_w[i] * _value_of(plan, outputs, aim, number, shift)
            for j in range(k):
                mixture[j] = 0.0
            for e in range(count):
                _forward(weights, intercept, e, z, outputs)
                value = _point_of(plan, outputs, aim, number, shift, push, own)
                losses[e] += push_w[i] * value
                for j in range(k):
                    pushes[e, j], bents[e, j] = push[j], own[j]
                    mixture[j] += shares[e] * outputs[j]
            losses[count] += push_w[i] * _point_of(plan, mixture, aim, number, shift, push, own)
            write_row(
                plan, i, y[i, 0], offset[i], base, unit, mixture, z, push, own,
                output, residual, norm, gradient, units,
            )  # fmt: skip
            for e in range(count):
                rate = rates[batch] * own_rates[e]
                if mix.is_held:
                    own_square = pushes[e, 0] * pushes[e, 0]
                    row_squares[e] += push_w[i] * own_square
                for j in range(k):
                    at = e * k + j
                    bent, pushed = push_w[i] * bents[e, j], push_w[i] * pushes[e, j]
                    answer = _answer(squares, at, keep, pushed, z, zz, pace)
                    if plan.intercept:
                        answer += _root(intercept_squares[e, j] * keep + pushed * pushed)
                    answer *= rate
                    ease = push_w[i] / (1.0 + bent * answer)
                    far = abs(pushes[e, j] * ease * answer)
                    if mix.is_bounded and far > FARTHEST:
                        ease *= FARTHEST / far
                    spread = roots[e] if mix.is_held else np.inf
                    plain_ones[e, j] += pushed
                    damped_ones[e, j] += ease * _held(pushes[e, j], spread, 0.0)
                    if is_direct:
                        _move_along(
                            weights, squares, at, keep, pushed, z, zz, pace,
                            pushes[e, j], spread, rate * ease,
                        )  # fmt: skip
                    else:
                        for f in range(features):
                            plain[at, f] += pushed * z[0, f]
                            damped[at, f] += ease * _held(pushes[e, j], spread, z[0, f]) * z[0, f]
            row_squares[count] += push_w[i]
            if push_w[i] > 0.0:
                weighty += 1.0
        for e in range(count):
            rate = rates[batch] * own_rates[e]
            for j in range(k):
                if not is_direct:
                    at = e * k + j
                    _move(weights, squares, at, keep, plain, damped, n, rate, mix.l1, mix.l2)
                    for f in range(features):
                        plain[at, f] = 0.0
                        damped[at, f] = 0.0
                if plan.intercept:
                    step = damped_ones[e, j] / n
                    g = max(abs(plain_ones[e, j] / n), abs(step))
                    s = intercept_squares[e, j] * keep + g * g
                    intercept_squares[e, j] = s
                    intercept[e, j] -= rate * _root(s) * step
                plain_ones[e, j] = 0.0
                damped_ones[e, j] = 0.0
        if weighty > 0.0:
            frozen_rows[0] += weighty
            memory = HEAT_MEMORY**weighty
            total = losses[count] if mix.is_spread else row_squares[count]
            mean_heat[0] = mean_heat[0] * memory + (1.0 - memory) * (total / weighty)
            mean_heat[1] = mean_heat[1] * memory + (1.0 - memory)
            if mix.is_held:
                _take_squares(mean_squares, row_squares, weighty)
            heat = _heat(mix.is_spread, mean_heat[0], mean_heat[1])
            _move_shares(shares, losses, heat, mix.share)
            _serve(mix, model, heat, k)


def _entry(sources: int) -> Any:
    @nb.njit(cache=True, **FLAGS)
    def learn(
        lane, batch_rows, rates, own_rates, plan, mix, model, watched, record, room, own_room
    ):
        _ = sources
        _learn(
            lane, batch_rows, rates, own_rates, plan, mix, model, watched, record, room, own_room
        )

    return learn


learn = _entry(checksum(experts, losses, loops, scaling, optimizers, passes_rows))


def experts_pass(spec: Spec, kernel: Any, rule: Experts) -> CompiledPass:
    """The pass of a linear kernel for this rule."""
    options = rule.options
    mix = Mix(
        is_spread=rule.is_spread,
        is_bounded=rule.is_bounded,
        is_held=rule.is_held,
        share=float(options.share),
        serve_rows=float(options.serve_rows),
        serve_share=float(options.serve_share),
        half_life=float(options.half_life),
        l1=float(kernel.l1),
        l2=float(kernel.l2),
    )
    return partial(_run, plan_of(spec, kernel.loss), mix, rule.rates)


def _run(
    plan: Plan,
    mix: Mix,
    own_rates: Array,
    state: State,
    rows: Rows,
    pushes: Array,
    batch_rows: int,
    rates: Array,
    results: Results,
) -> None:
    lane, watched, record = lane_of(plan, rows, pushes), watched_of(state), record_of(results)
    model = _model(state)
    weights = state["parameters/weights"]
    room, own_room = room_of(weights), _room(weights, len(own_rates))
    learn(lane, batch_rows, rates, own_rates, plan, mix, model, watched, record, room, own_room)
    state["steps"][0] += len(rates)
    state["rows"][0] += len(rows.y)


def _room(weights: Array, count: int) -> Room:
    """Room for `count` learners with weights (k, f) each."""
    k, features = weights.shape
    zz, pace = np.empty((2, 1, features))
    plain, damped = np.zeros((2, count * k, features))
    plain_ones, damped_ones = np.zeros((2, count, k))
    pushes, bents = np.empty((2, count, k))
    losses, row_squares = np.empty((2, count + 1))
    return Room(
        zz, pace, plain, damped, plain_ones, damped_ones, np.empty(k), pushes,
        bents, losses, row_squares, np.empty(count),
    )  # fmt: skip


def _model(state: State) -> Model:
    def held(kind: str) -> tuple[Array, Array]:
        weights = state[f"optimizer/{kind}/weights"]
        count, k, features = weights.shape
        none = np.zeros((count, k), weights.dtype)
        beside = state.get(f"optimizer/{kind}/intercept", none)
        return weights.reshape(count * k, features), beside

    weights, intercept = held("experts")
    squares, intercept_squares = held("squares")
    frozen, frozen_intercept = held("frozen")
    return Model(
        weights,
        squares,
        frozen,
        intercept,
        intercept_squares,
        frozen_intercept,
        state["optimizer/shares"],
        state["optimizer/serving"],
        state["optimizer/frozen/losses"],
        state["optimizer/frozen/rows"],
        state["optimizer/mean_heat"],
        state.get("optimizer/mean_squares", np.empty(0)),
    )
