"""The compiled pass of linear kernels with experts.

Rules: those of `loops` and `rows`; it equals `kernels.experts` to rounding. Learner e's output j stands
in row e · k + j of arrays (E k, f), the mixture's copy behind them.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numba as nb
import numpy as np

from kernels import experts, exponentials, loops, losses, optimizers, scaling
from kernels.contract import Array, Ends, Results, Rows, Spec, State
from kernels.experts import (
    EPSILON,
    FAR_OFF,
    HEAT_MEMORY,
    LEAST_LOSS,
    LEAST_PART,
    SQUARES_MEMORY,
    Experts,
)
from kernels.loops import (
    FLAGS,
    SOFTMAX,
    checksum,
    dot_loop,
    inlined,
    points_loop,
    values_loop,
)
from kernels.losses import exp
from kernels.passes import rows as passes_rows
from kernels.passes.rows import (
    Plan,
    aim_of,
    enter_features,
    enter_labels,
    enter_row,
    kept,
    lane_of,
    plan_of,
    record_of,
    room_of,
    scaled_row,
    watched_of,
    write_row,
)


class Mix(NamedTuple):
    """The rule's numbers."""

    is_spread: bool
    farthest: float
    is_held: bool
    share: float
    serve_rows: float
    serve_share: float
    half_life: float
    l1: float
    l2: float
    slow: float


class Model(NamedTuple):
    """The state that the pass changes: of E learners with k outputs each."""

    weights: Array  # (E k, f)
    squares: Array  # (k, f)
    frozen: Array  # ((E + 1) k, f)
    intercept: Array  # (E, k)
    intercept_squares: Array  # (k,)
    frozen_intercept: Array  # (E + 1, k)
    shares: Array  # (E,)
    serving: Array  # (E + 1,)
    frozen_losses: Array  # (E + 1,)
    frozen_rows: Array  # (1,)
    mean_heat: Array  # (2,)
    mean_squares: Array  # (E + 1,) or empty
    served: Array  # (k, f)
    served_intercept: Array  # (k,)
    steps: Array  # (1,)
    rows: Array  # (1,)


class Room(NamedTuple):
    """Scratch beside that of every pass. Of a row, where M is E + 1 and filled up to whole vector registers: the
    learners', and behind them the mixture's."""

    zz: Array  # (1, f) squares
    pace: Array  # (1, f) 1/√G
    along: Array  # (1, f) z/√G
    outputs: Array  # (M k,)
    values: Array  # (M,) losses
    pushes: Array  # (M k,) derivatives by the outputs
    bents: Array  # (M k,) second ones
    parts: Array  # (E,) what each learner has of G
    powers: Array  # (E + 1,)
    plain: Array  # (E k, f) sums of gradients; zeros before and after, as the next three
    damped: Array  # (E k, f)
    plain_ones: Array  # (E, k) those of the intercepts
    damped_ones: Array  # (E, k)
    losses: Array  # (E + 1,) of a batch
    row_squares: Array  # (E + 1,) of a batch
    roots: Array  # (E,) of the mean squares of residuals


class Waiting(NamedTuple):
    """Rows that the frozen copies have yet to be tried on. They stay as they are for hundreds of rows, so that many rows
    are tried at once, in loops of their own."""

    z: Array  # (n, f)
    aims: Array  # (n,), as all that follow
    numbers: Array
    shifts: Array
    weights: Array
    outputs: Array
    values: Array
    own: Array  # (k,) one row's outputs
    powers: Array  # (k,)


MOST_WAITING, MOST_NUMBERS = 32, 1 << 20
"""So many rows wait at most, and so many numbers of theirs."""
_REGISTER = 8
"""Numbers in a vector register, or two."""


@inlined
def _softmax_value(outputs, start, k, y, powers):
    """The loss of outputs[start : start + k]; powers (k,) is scratch."""
    top = outputs[start]
    for j in range(1, k):
        top = max(top, outputs[start + j])
    for j in range(k):
        powers[j] = exp(outputs[start + j] - top)
    total = 0.0
    for j in range(k):
        total += powers[j]
    return math.log(total) - (outputs[start + int(y)] - top)


@inlined
def _points(plan, count, k, outputs, shift, aim, number, values, pushes, bents):
    """The losses of `count` learners' outputs, and their derivatives: of classes each output's own second one."""
    if plan.loss != SOFTMAX:
        points_loop(plan.loss, outputs, shift, aim, number, values, pushes, bents)
        return
    for e in range(count):
        start = e * k
        top = outputs[start]
        for j in range(1, k):
            top = max(top, outputs[start + j])
        for j in range(k):
            pushes[start + j] = exp(outputs[start + j] - top)
        total = 0.0
        for j in range(k):
            total += pushes[start + j]
        values[e] = math.log(total) - (outputs[start + int(aim)] - top)
        for j in range(k):
            chance = pushes[start + j] / total
            pushes[start + j] = chance
            bents[start + j] = chance * (1.0 - chance)
        pushes[start + int(aim)] -= 1.0


@inlined
def _try_copies(plan, count, k, frozen, intercept, rows, waiting, losses):
    """losses (count,) of the frozen copies ← what they lose on the first `rows` that wait, row by row."""
    z, aims, numbers, shifts, weights, outputs, values, own, powers = waiting
    for e in range(count):
        if plan.loss == SOFTMAX:
            for i in range(rows):
                for j in range(k):
                    own[j] = dot_loop(frozen, e * k + j, z, i) + intercept[e, j]
                losses[e] += weights[i] * _softmax_value(own, 0, k, aims[i], powers)
        else:
            for i in range(rows):
                outputs[i] = dot_loop(frozen, e, z, i) + intercept[e, 0]
            values_loop(plan.loss, outputs, shifts, aims, numbers, values)
            for i in range(rows):
                losses[e] += weights[i] * values[i]


@inlined
def _root(s):
    return 1.0 / (math.sqrt(s) + EPSILON)


@inlined
def _pace(squares, j, keep, square, z, zz, pace, along):
    """Σ z²/√G of output j with a row's own gradients, of squares square · zz, in G; pace ← 1/√G, along ← z/√G, (1, f)."""
    for f in range(z.shape[1]):
        pace[0, f] = _root(squares[j, f] * keep + square * zz[0, f])
        along[0, f] = z[0, f] * pace[0, f]
    return dot_loop(zz, 0, pace, 0)


@inlined
def _take_squares_in(squares, j, keep, square, zz):
    """G of output j after a row."""
    kind = squares.dtype.type
    for f in range(squares.shape[1]):
        squares[j, f] = kind(squares[j, f] * keep + square * zz[0, f])


@inlined
def _held(push, spread, z):
    """A residual as the step of a feature that is z deviations out takes it."""
    most = spread * max(FAR_OFF, abs(z))
    return max(min(push, most), -most)


@inlined
def _move_along(theta, at, z, along, push, spread, pace_of_row):
    """One step of row `at` straight from a row: no penalty, and z/√G is there."""
    kind = theta.dtype.type
    if abs(push) <= FAR_OFF * spread:
        step = pace_of_row * push
        for f in range(theta.shape[1]):
            theta[at, f] -= kind(step * along[0, f])
    else:
        for f in range(theta.shape[1]):
            step = pace_of_row * _held(push, spread, z[0, f])
            theta[at, f] -= kind(step * along[0, f])


@inlined
def _sum_up(plain, damped, at, z, pushed, ease, push, spread):
    """Adds a row's gradient, and the one that is damped, to those of a batch."""
    for f in range(z.shape[1]):
        plain[at, f] += pushed * z[0, f]
        damped[at, f] += ease * _held(push, spread, z[0, f]) * z[0, f]


@inlined
def _move(theta, squares, count, k, keep, plain, damped, n, rates, factor, parts, l1, l2):
    """One step of all learners, from a batch's gradients (E k, f), plain and damped, summed over n rows."""
    kind = theta.dtype.type
    for j in range(k):
        for f in range(theta.shape[1]):
            total = 0.0
            for e in range(count):
                at = e * k + j
                shrinking = l2 * theta[at, f]
                g = max(abs(plain[at, f] / n + shrinking), abs(damped[at, f] / n + shrinking))
                total += parts[e] * (g * g)
            s = squares[j, f] * keep + total
            squares[j, f] = kind(s)
            root = _root(s)
            for e in range(count):
                at = e * k + j
                pace = factor * rates[e] * root
                theta[at, f] -= kind(pace * (damped[at, f] / n + l2 * theta[at, f]))
                if l1 > 0.0:
                    theta[at, f] = kind(optimizers.shrunk(theta[at, f], pace * l1))
                plain[at, f] = 0.0
                damped[at, f] = 0.0


@inlined
def _move_intercepts(theta, squares, count, k, keep, plain, damped, n, rates, factor, parts):
    """The same of the intercepts theta (E, k), without a penalty."""
    kind = theta.dtype.type
    share = 1.0 / n
    for j in range(k):
        total = 0.0
        for e in range(count):
            g = share * max(abs(plain[e, j]), abs(damped[e, j]))
            total += parts[e] * (g * g)
        s = squares[j] * keep + total
        squares[j] = kind(s)
        root = _root(s)
        for e in range(count):
            theta[e, j] -= kind(factor * rates[e] * root * (share * damped[e, j]))
            plain[e, j] = 0.0
            damped[e, j] = 0.0


@inlined
def _move_shares(shares, losses, heat, share, powers):
    """`experts.moved`, in place."""
    count = len(shares)
    least = losses[0]
    for e in range(1, count):
        least = min(least, losses[e])
    for e in range(count):
        powers[e] = exp(-(losses[e] - least) / heat)
    total = 0.0
    for e in range(count):
        powers[e] *= shares[e]
        total += powers[e]
    rest, least = (1.0 - share) / total, share / count
    for e in range(count):
        shares[e] = rest * powers[e] + least


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
def _kept(memory, rows):
    """memory^rows: a power takes longer than all else that is done with it, and of one row it is none."""
    return memory if rows == 1.0 else memory**rows


@inlined
def _take_squares(mean_squares, squares, rows):
    """The running means after a batch's weighted squares and, behind them, its weight."""
    keep = _kept(SQUARES_MEMORY, rows)
    share = (1.0 - keep) / squares[-1]
    for e in range(len(squares)):
        mean_squares[e] = mean_squares[e] * keep + share * squares[e]


@inlined
def _heat(is_spread, total, weight):
    """`Experts._heat`."""
    return 2.0 * max(total / weight, LEAST_LOSS) if is_spread else total / weight


@inlined
def _serve(mix, model, heat, k, powers):
    """The shares that serve, once the copies have been watched for long enough."""
    serving, losses, rows = model.serving, model.frozen_losses, model.frozen_rows
    shares = model.shares
    count = len(shares)
    total = 0.0
    for e in range(count + 1):
        total += serving[e]
    if total > 0.0:
        if mix.is_spread:
            heat = _heat(True, losses[count], rows[0])
        _move_shares(serving, losses, heat, mix.serve_share, powers)
    else:
        for e in range(count):
            serving[e] = 0.5 * shares[e]
        serving[count] = 0.5
    _take_copies(model, k)
    for e in range(count + 1):
        losses[e] = 0.0
    rows[0] = 0.0


@inlined
def _settle(mix, slow, own_rates, model, k, powers):
    """`Experts.settle`, to the bit."""
    weights, intercept = model.weights, model.intercept
    served, served_intercept = model.served, model.served_intercept
    shares, serving = model.shares, model.serving
    count = len(shares)
    kind = weights.dtype.type
    is_serving = False
    for e in range(count + 1):
        is_serving |= serving[e] != 0.0
    for e in range(count):
        powers[e] = shares[e]
        if is_serving:
            powers[e] = (1.0 - mix.slow) * (serving[e] + serving[count] * shares[e]) + slow[e]
    voting = 0.0
    for e in range(count):
        voting += powers[e] if own_rates[e] > 0.0 else 0.0
    for j in range(k):
        for f in range(weights.shape[1]):
            total = powers[0] * weights[j, f]
            for e in range(1, count):
                total += powers[e] * weights[e * k + j, f]
            if mix.l1 > 0.0:
                alive = 0.0
                for e in range(count):
                    alive += powers[e] if weights[e * k + j, f] != 0.0 else 0.0
                total = total if alive > 0.5 * voting else 0.0
            served[j, f] = kind(total)
        total = powers[0] * intercept[0, j]
        for e in range(1, count):
            total += powers[e] * intercept[e, j]
        served_intercept[j] = kind(total)


@inlined
def _learn(
    lane, ends, batch_rows, rates, own_rates, intercept_rates, slow, plan, mix, model, watched, record, room, own_room, waiting
):  # fmt: skip
    """Learns from a lane, batch after batch, and from file to file; rates (batches,), own_rates, intercept_rates and slow (E,)."""
    stops, whole, copies = ends
    x, y, plain_y, w, offset, push_w = lane
    seen, mean, m2, target_seen, target_mean, target_m2, extremes = watched
    output, residual, norm, gradient, units = record
    weights, squares, frozen, intercept, intercept_squares, frozen_intercept = model[:6]
    shares, frozen_losses, frozen_rows = model[6], model[8], model[9]
    mean_heat, mean_squares = model[10], model[11]
    features = x.shape[1]
    count = len(shares)
    k = intercept.shape[1]
    z, mixture, push, own, inverse, scratch = room
    zz, pace, along, outputs, values, pushes, bents, parts, powers = own_room[:9]
    plain, damped, plain_ones, damped_ones, losses, row_squares, roots = own_room[9:]
    waiting_z, aims, numbers, shifts, waiting_weights = waiting[:5]
    least_part = LEAST_PART / count
    queued, file, stop = 0, 0, 0
    for batch in range(len(rates)):
        start = stop
        stop = min(start + batch_rows, stops[file])
        n = stop - start
        scored_by, base_after, unit_after = enter_labels(
            plain_y, w, start, stop, plan, target_seen, target_mean, target_m2, extremes
        )
        if n == 1:
            enter_row(x, start, w, plan, seen, mean, m2, z, inverse, scratch)
        else:
            enter_features(x, w, start, stop, plan, seen, mean, m2, inverse, scratch)
        keep = kept(mix.half_life, n)
        is_direct = n == 1 and mix.l1 == 0.0 and mix.l2 == 0.0
        weighty = 0.0
        for e in range(count + 1):
            losses[e] = 0.0
            row_squares[e] = 0.0
        for e in range(count):
            parts[e] = (1.0 - LEAST_PART) * shares[e] + least_part
            roots[e] = _root_of(mean_squares, e) if mix.is_held else np.inf
        for i in range(start, stop):
            if n > 1:
                scaled_row(x, i, plan, mean, inverse, z)
            for f in range(features):
                zz[0, f] = z[0, f] * z[0, f]
                waiting_z[queued, f] = z[0, f]
            aim, number, shift = aim_of(
                plan, y[i, 0], plain_y[i, 0], offset[i], base_after, unit_after
            )
            aims[queued], numbers[queued], shifts[queued] = aim, number, shift
            waiting_weights[queued] = push_w[i]
            queued += 1
            if queued == len(aims):
                _try_copies(
                    plan, count + 1, k, frozen, frozen_intercept, queued, waiting, frozen_losses
                )
                queued = 0
            for j in range(k):
                mixture[j] = 0.0
            for e in range(count):
                for j in range(k):
                    out = dot_loop(weights, e * k + j, z, 0) + intercept[e, j]
                    outputs[e * k + j] = out
                    mixture[j] += shares[e] * out
            for j in range(k):
                outputs[count * k + j] = mixture[j]
            _points(plan, count + 1, k, outputs, shift, aim, number, values, pushes, bents)
            for e in range(count + 1):
                losses[e] += push_w[i] * values[e]
            for j in range(k):
                push[j] = pushes[count * k + j]
            write_row(
                plan, i, y[i, 0], offset[i], scored_by, mixture, z, push, own,
                output, residual, norm, gradient, units,
            )  # fmt: skip
            if mix.is_held:
                for e in range(count):
                    row_squares[e] += push_w[i] * (pushes[e] * pushes[e])
            for j in range(k):
                square = 0.0
                for e in range(count):
                    pushed = push_w[i] * pushes[e * k + j]
                    square += parts[e] * (pushed * pushed)
                answer = _pace(squares, j, keep, square, z, zz, pace, along)
                ones = intercept_squares[j] * keep + square
                one = _root(ones) if plan.intercept else 0.0
                answer += one
                if is_direct:
                    _take_squares_in(squares, j, keep, square, zz)
                    intercept_squares[j] = ones
                for e in range(count):
                    at = e * k + j
                    rate = rates[batch] * own_rates[e]
                    intercept_rate = rates[batch] * intercept_rates[e]
                    own_answer = intercept_rate * (answer if own_rates[e] > 0.0 else one)
                    ease = push_w[i] / (1.0 + push_w[i] * bents[at] * own_answer)
                    far = abs(pushes[at] * ease * own_answer)
                    if far > mix.farthest:
                        ease *= mix.farthest / far
                    if is_direct:
                        _move_along(weights, at, z, along, pushes[at], roots[e], rate * ease)
                        intercept[e, j] -= (
                            intercept_rate * ease * one * _held(pushes[at], roots[e], 0.0)
                        )
                    else:
                        pushed = push_w[i] * pushes[at]
                        _sum_up(plain, damped, at, z, pushed, ease, pushes[at], roots[e])
                        plain_ones[e, j] += pushed
                        damped_ones[e, j] += ease * _held(pushes[at], roots[e], 0.0)
            row_squares[count] += push_w[i]
            if push_w[i] > 0.0:
                weighty += 1.0
        if not is_direct:
            _move(
                weights, squares, count, k, keep, plain, damped, n, own_rates, rates[batch],
                parts, mix.l1, mix.l2,
            )  # fmt: skip
            if plan.intercept:
                _move_intercepts(
                    intercept, intercept_squares, count, k, keep, plain_ones, damped_ones, n,
                    intercept_rates, rates[batch], parts,
                )  # fmt: skip
        if weighty > 0.0:
            frozen_rows[0] += weighty
            memory = _kept(HEAT_MEMORY, weighty)
            total = losses[count] if mix.is_spread else row_squares[count]
            mean_heat[0] = mean_heat[0] * memory + (1.0 - memory) * (total / weighty)
            mean_heat[1] = mean_heat[1] * memory + (1.0 - memory)
            if mix.is_held:
                _take_squares(mean_squares, row_squares, weighty)
            heat = _heat(mix.is_spread, mean_heat[0], mean_heat[1])
            _move_shares(shares, losses, heat, mix.share, powers)
            if frozen_rows[0] >= mix.serve_rows:
                _try_copies(
                    plan, count + 1, k, frozen, frozen_intercept, queued, waiting, frozen_losses
                )
                queued = 0
                _serve(mix, model, heat, k, powers)
        model.steps[0] += 1
        model.rows[0] += n
        if stop == stops[file]:
            _try_copies(
                plan, count + 1, k, frozen, frozen_intercept, queued, waiting, frozen_losses
            )
            queued = 0
            _settle(mix, slow, own_rates, model, k, powers)
            if file < len(copies):
                for i in range(len(whole)):
                    copies[file, i] = whole[i]
            file += 1


def _entry(sources: int) -> Any:
    @nb.njit(cache=True, **FLAGS)
    def learn(
        lane,
        ends,
        batch_rows,
        rates,
        own_rates,
        intercept_rates,
        slow,
        plan,
        mix,
        model,
        watched,
        record,
        room,
        own_room,
        waiting,
    ):
        _ = sources
        _learn(
            lane, ends, batch_rows, rates, own_rates, intercept_rates, slow, plan, mix, model, watched, record, room, own_room, waiting
        )  # fmt: skip

    return learn


learn = _entry(checksum(experts, exponentials, losses, loops, scaling, optimizers, passes_rows))


@dataclass(frozen=True, slots=True)
class ExpertsPass:
    """A `FilesPass`."""

    plan: Plan
    mix: Mix
    own_rates: Array
    intercept_rates: Array
    slow: Array

    def __call__(
        self,
        state: State,
        rows: Rows,
        pushes: Array,
        batch_rows: int,
        rates: Array,
        results: Results,
    ) -> None:
        end = np.array([len(rows.y)], np.int64)
        ends = Ends(end, np.empty(0, np.int64), np.empty((0, 0), np.int64))
        self.files(state, rows, pushes, batch_rows, rates, results, ends)

    def files(
        self,
        state: State,
        rows: Rows,
        pushes: Array,
        batch_rows: int,
        rates: Array,
        results: Results,
        ends: Ends,
    ) -> None:
        plan, mix, slow = self.plan, self.mix, self.slow
        own_rates, intercept_rates = self.own_rates, self.intercept_rates
        lane, watched, record = lane_of(plan, rows, pushes), watched_of(state), record_of(results)
        weights = state["parameters/weights"]
        room, own_room = room_of(weights), _room(weights, len(own_rates))
        learn(
            lane, ends, batch_rows, rates, own_rates, intercept_rates, slow, plan, mix, _model(state), watched, record, room, own_room,
            _waiting(weights),
        )  # fmt: skip


def experts_pass(spec: Spec, kernel: Any, rule: Experts) -> ExpertsPass:
    """The pass of a linear kernel for this rule."""
    options = rule.options
    mix = Mix(
        is_spread=rule.is_spread,
        farthest=float(rule.farthest),
        is_held=rule.is_held,
        share=float(options.share),
        serve_rows=float(options.serve_rows),
        serve_share=float(options.serve_share),
        half_life=float(options.half_life),
        l1=float(kernel.l1),
        l2=float(kernel.l2),
        slow=float(rule.slow.sum()),
    )
    return ExpertsPass(plan_of(spec, kernel.loss), mix, rule.rates, rule.intercept_rates, rule.slow)


def _room(weights: Array, count: int) -> Room:
    """Room for `count` learners with weights (k, f) each."""
    k, features = weights.shape
    whole = -(count + 1) // _REGISTER * -_REGISTER
    zz, pace, along = np.empty((3, 1, features))
    outputs, pushes, bents = np.zeros((3, whole * k))
    plain, damped = np.zeros((2, count * k, features))
    plain_ones, damped_ones = np.zeros((2, count, k))
    losses, row_squares, powers = np.empty((3, count + 1))
    parts, roots = np.empty((2, count))
    return Room(
        zz, pace, along, outputs, np.empty(whole), pushes, bents, parts, powers,
        plain, damped, plain_ones, damped_ones, losses, row_squares, roots,
    )  # fmt: skip


def _waiting(weights: Array) -> Waiting:
    """Room for the rows that wait, of a model with weights (k, f)."""
    k, features = weights.shape
    rows = max(1, min(MOST_WAITING, MOST_NUMBERS // max(features, 1)))
    aims, numbers, shifts, row_weights, outputs, values = np.zeros((6, rows))
    own, powers = np.empty((2, k))
    return Waiting(
        np.empty((rows, features), weights.dtype), aims, numbers, shifts, row_weights, outputs,
        values, own, powers,
    )  # fmt: skip


def _model(state: State) -> Model:
    def held(kind: str) -> tuple[Array, Array]:
        weights = state[f"optimizer/{kind}/weights"]
        count, k, features = weights.shape
        none = np.zeros((count, k), weights.dtype)
        return weights.reshape(count * k, features), state.get(f"optimizer/{kind}/intercept", none)

    weights, intercept = held("experts")
    squares = state["optimizer/shared/weights"]
    beside = state.get("optimizer/shared/intercept", np.zeros(len(squares), squares.dtype))
    frozen, frozen_intercept = held("frozen")
    return Model(
        weights,
        squares,
        frozen,
        intercept,
        beside,
        frozen_intercept,
        state["optimizer/shares"],
        state["optimizer/serving"],
        state["optimizer/frozen/losses"],
        state["optimizer/frozen/rows"],
        state["optimizer/mean_heat"],
        state.get("optimizer/mean_squares", np.empty(0)),
        state["parameters/weights"],
        state.get("parameters/intercept", np.zeros(len(squares), squares.dtype)),
        state["steps"],
        state["rows"],
    )
