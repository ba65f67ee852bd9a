"""The compiled pass of linear kernels with experts.

Rules: those of `loops`, `rows` and `team`; it equals `kernels.experts` to rounding.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba as nb
import numpy as np

from kernels import experts, losses, optimizers
from kernels.contract import Array, Ends, Results, Rows, Spec, State
from kernels.elementary import inverse_root, log
from kernels.experts import (
    EPSILON,
    FAR_OFF,
    HEAT_MEMORY,
    LEAST_PART,
    LEAST_SPREAD,
    Experts,
)
from kernels.loops import (
    FLAGS,
    SOFTMAX,
    checksum,
    inlined,
    loss_curvature,
    loss_residual,
    loss_value,
    points_loop,
)
from kernels.passes import copies as passes_copies
from kernels.passes import rows as passes_rows
from kernels.passes import team as passes_team
from kernels.passes.copies import try_copies, waiting_of
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
    softmax_residual,
    variation_of,
    watched_of,
    write_row,
)
from kernels.passes.team import (
    Mix,
    enter,
    filled,
    heat_of,
    kept_over,
    leave,
    model_of,
    move_shares,
    root_of,
    serve,
    settle,
    take_squares,
    team_of,
)
from kernels.registers import (
    LENGTH,
    choose,
    fma,
    larger,
    load,
    narrowed,
    smaller,
    splat,
    spread,
    store,
    summed,
    widened,
)
from kernels.scaling import FAR_LABEL, LARGEST, LEAST_CURVATURE

_spanned = inlined(experts.spanned)

# A row


@inlined
def _outputs(weights, j, z, intercept, outputs):
    """outputs[j] (W,) ← weights[j] (F, W) · z + intercept[j]."""
    zero = splat(weights.dtype.type(0.0))
    width = weights.shape[2]
    for e in range(0, width, LENGTH):
        a, b, c, d = zero, zero, zero, zero
        for f in range(0, weights.shape[1], 4):
            a = fma(load(weights, (j, f, e)), spread(z, (0, f)), a)
            b = fma(load(weights, (j, f + 1, e)), spread(z, (0, f + 1)), b)
            c = fma(load(weights, (j, f + 2, e)), spread(z, (0, f + 2)), c)
            d = fma(load(weights, (j, f + 3, e)), spread(z, (0, f + 3)), d)
        found = widened((a + b) + (c + d))
        at = (j, e)
        store(outputs, at, found + widened(load(intercept, at)))


@inlined
def _sum(shares, values, j):
    """Σ shares[e] · values[j, e]."""
    found = splat(0.0)
    for e in range(0, len(shares), LENGTH):
        found = fma(load(shares, (e,)), load(values, (j, e)), found)
    return summed(found)


@inlined
def _sum_of_squares(parts, pushes, j, weight):
    """Σ parts[e] · (weight · pushes[j, e])²."""
    found = splat(0.0)
    for e in range(0, len(parts), LENGTH):
        pushed = weight * load(pushes, (j, e))
        found = fma(load(parts, (e,)), pushed * pushed, found)
    return summed(found)


@inlined
def _points(plan, k, outputs, shift, aim, number, values, pushes, bents):
    """The losses of the learners' outputs, and their derivatives: of classes each output's own second one."""
    if plan.loss != SOFTMAX:
        points_loop(plan.loss, outputs, shift, aim, number, values, pushes, bents)
        return
    label = int(aim)
    for e in range(0, len(values), LENGTH):
        top = load(outputs, (0, e))
        for j in range(1, k):
            top = larger(top, load(outputs, (j, e)))
        powers = splat(0.0)
        for j in range(k):
            power = losses.exp(load(outputs, (j, e)) - top)
            store(pushes, (j, e), power)
            powers += power
        store(values, (e,), log(powers) - (load(outputs, (label, e)) - top))
        share = 1.0 / powers
        for j in range(k):
            chance = load(pushes, (j, e)) * share
            store(pushes, (j, e), chance)
            store(bents, (j, e), chance * (1.0 - chance))
        store(pushes, (label, e), load(pushes, (label, e)) - 1.0)


@inlined
def _pearson(loss, output, push, number):
    """`Aim.pearson` of one row, unweighted, whose residual is `push`."""
    usual = loss_curvature(loss, output, losses.exp(output), number)
    return min(push * (push / max(usual, LEAST_CURVATURE)), LARGEST)


@inlined
def _silence(idle, values, pushes, bents):
    """What fills the last register has no losses and no derivatives: they may overflow, and 0 · ∞ is no number."""
    e = len(idle) - LENGTH
    is_idle = load(idle, (e,)) > 0.0
    store(values, (e,), choose(is_idle, 0.0, load(values, (e,))))
    for j in range(len(pushes)):
        at = (j, e)
        store(pushes, at, choose(is_idle, 0.0, load(pushes, at)))
        store(bents, at, choose(is_idle, 0.0, load(bents, at)))


@inlined
def _paces(squares, j, keep, square, z, along):
    """Σ z²/√G of output j with a row's own gradients, of squares square · z², in G; along (1, F) ← z/√G."""
    first, second = splat(0.0), splat(0.0)
    for f in range(0, z.shape[1], 2 * LENGTH):
        own = widened(load(z, (0, f)))
        carrying = own * inverse_root(_with(squares, j, f, keep, square, own) + EPSILON)
        store(along, (0, f), carrying)
        first = fma(own, carrying, first)
        own = widened(load(z, (0, f + LENGTH)))
        carrying = own * inverse_root(_with(squares, j, f + LENGTH, keep, square, own) + EPSILON)
        store(along, (0, f + LENGTH), carrying)
        second = fma(own, carrying, second)
    return summed(first + second)


@inlined
def _with(squares, j, f, keep, square, z):
    """G of four features with a row's own gradients."""
    return fma(square, z * z, widened(load(squares, (j, f))) * keep)


@inlined
def _take_squares_in(squares, j, keep, square, z):
    """G of output j after a row."""
    for f in range(0, z.shape[1], LENGTH):
        own = widened(load(z, (0, f)))
        store(squares, (j, f), _with(squares, j, f, keep, square, own))


@inlined
def _eases(mix, j, weight, answer, one, pushes, bents, paces, intercept_paces, eases):
    """eases[j] (W,) ← the row's weight as an implicit step takes it, and so that it moves its output by `farthest` at most."""
    for e in range(0, len(paces), LENGTH):
        own = fma(load(paces, (e,)), answer, load(intercept_paces, (e,)) * one)
        ease = weight / fma(weight * load(bents, (j, e)), own, 1.0)
        far = abs(load(pushes, (j, e)) * ease * own)
        store(eases, (j, e), choose(far > mix.farthest, ease * (mix.farthest / far), ease))


@inlined
def _held(push, spread, z):
    """A residual as the step of a feature that is z deviations out takes it."""
    most = spread * max(FAR_OFF, abs(z))
    return max(min(push, most), -most)


@inlined
def _move_intercepts_along(intercept, j, paces, one, eases, pushes, roots):
    """One step of the intercepts of output j straight from a row."""
    for e in range(0, len(paces), LENGTH):
        most = FAR_OFF * load(roots, (e,))
        held = larger(smaller(load(pushes, (j, e)), most), -most)
        step = load(paces, (e,)) * one * load(eases, (j, e)) * held
        at = (j, e)
        store(intercept, at, load(intercept, at) - narrowed(step, intercept))


@inlined
def _move_along(weights, j, z, along, count, paces, eases, pushes, roots, is_held, steps):
    """One step of output j's weights straight from a row: no penalty, and z/√G is there."""
    kind = weights.dtype.type
    width = weights.shape[2]
    for e in range(0, width, LENGTH):
        store(steps, (j, e), -(load(paces, (e,)) * load(eases, (j, e)) * load(pushes, (j, e))))
    if is_held:
        for e in range(count):
            if abs(pushes[j, e]) > FAR_OFF * roots[e]:
                steps[j, e] = 0.0
                for f in range(weights.shape[1]):
                    step = paces[e] * eases[j, e] * _held(pushes[j, e], roots[e], z[0, f])
                    weights[j, f, e] = fma(-kind(step), along[0, f], weights[j, f, e])
    for e in range(0, width, LENGTH):
        step = narrowed(load(steps, (j, e)), along)
        for f in range(weights.shape[1]):
            at = (j, f, e)
            store(weights, at, fma(step, spread(along, (0, f)), load(weights, at)))


# A batch


@inlined
def _sum_up(
    plain, damped, plain_ones, damped_ones, eased, j, z, weight, pushes, eases, roots, is_held
):
    """Adds a row's gradients, those that are damped, and what damps them, to those of a batch."""
    for e in range(0, plain.shape[2], LENGTH):
        push, ease, root = load(pushes, (j, e)), load(eases, (j, e)), load(roots, (e,))
        pushed, damp = weight * push, ease * push
        held = ease * larger(smaller(push, FAR_OFF * root), -FAR_OFF * root)
        at = (j, e)
        store(plain_ones, at, load(plain_ones, at) + pushed)
        store(damped_ones, at, load(damped_ones, at) + held)
        store(eased, at, load(eased, at) + ease)
        for f in range(plain.shape[1]):
            own, place = widened(spread(z, (0, f))), (j, f, e)
            store(plain, place, fma(pushed, own, load(plain, place)))
            if is_held:
                most = root * larger(abs(own), FAR_OFF)
                damp = ease * larger(smaller(push, most), -most)
            store(damped, place, fma(damp, own, load(damped, place)))


@inlined
def _move(weights, squares, k, keep, plain, damped, eased, n, weight, part, paces, parts, l1, l2):
    """One step of all learners, from a batch's gradients (k, F, W), plain and damped, summed over n rows; `part` of their eases
    (k, W) is that of penalties, too."""
    kind = weights.dtype.type
    share = 1.0 / n
    width = weights.shape[2]
    for j in range(k):
        for e in range(0, width, LENGTH):
            mean = load(eased, (j, e)) / weight if weight > 0.0 else splat(1.0)
            store(eased, (j, e), 1.0 - part * (1.0 - mean))
        for f in range(weights.shape[1]):
            found = splat(0.0)
            for e in range(0, width, LENGTH):
                shrinking = l2 * widened(load(weights, (j, f, e)))
                eased_shrinking = load(eased, (j, e)) * shrinking
                whole = abs(fma(load(plain, (j, f, e)), share, shrinking))
                whole = larger(whole, abs(fma(load(damped, (j, f, e)), share, eased_shrinking)))
                found = fma(load(parts, (e,)), whole * whole, found)
            s = squares[j, f] * keep + summed(found)
            squares[j, f] = kind(s)
            root = inverse_root(s + EPSILON)
            for e in range(0, width, LENGTH):
                at = (j, f, e)
                pace, theta = load(paces, (e,)) * root, widened(load(weights, at))
                ease = load(eased, (j, e))
                theta -= pace * fma(load(damped, at), share, l2 * ease * theta)
                if l1 > 0.0:
                    theta = optimizers.shrunk(theta, pace * l1 * ease)
                store(weights, at, theta)
                store(plain, at, 0.0)
                store(damped, at, 0.0)
        for e in range(0, width, LENGTH):
            store(eased, (j, e), 0.0)


@inlined
def _move_intercepts(intercept, squares, k, keep, plain, damped, n, paces, parts):
    """The same of the intercepts (k, W), without a penalty."""
    kind = intercept.dtype.type
    share = 1.0 / n
    width = len(parts)
    for j in range(k):
        found = splat(0.0)
        for e in range(0, width, LENGTH):
            whole = share * larger(abs(load(plain, (j, e))), abs(load(damped, (j, e))))
            found = fma(load(parts, (e,)), whole * whole, found)
        s = squares[j] * keep + summed(found)
        squares[j] = kind(s)
        root = inverse_root(s + EPSILON)
        for e in range(0, width, LENGTH):
            at = (j, e)
            step = load(paces, (e,)) * root * (share * load(damped, at))
            store(intercept, at, load(intercept, at) - narrowed(step, intercept))
            store(plain, at, 0.0)
            store(damped, at, 0.0)


@inlined
def _learn(
    lane, ends, batch_rows, rates, own_rates, intercept_rates, slow, plan, mix, model, team, watched, record, room, own_room, waiting
):  # fmt: skip
    """Learns from a lane, batch after batch, and from file to file; rates (batches,), own_rates, intercept_rates (W,) and slow (E,)."""
    stops, whole, copies = ends
    x, y, plain_y, w, offset, push_w = lane
    seen, mean, m2 = watched.seen, watched.mean, watched.m2
    output, residual, norm, gradient, units = record
    weights, squares, frozen, intercept, shares, _, frozen_losses = team
    intercept_squares, frozen_intercept = model.intercept_squares, model.frozen_intercept
    frozen_rows, mean_heat, mean_squares = (
        model.frozen_rows,
        model.mean_heat,
        model.mean_squares,
    )
    features, count, width = x.shape[1], len(slow), len(shares)
    k = len(intercept)
    z, mixture, push, own, inverse, scratch = room
    wide, along, outputs, pushes, bents, eases, steps, values, lost, idle = own_room[:10]
    row_squares, parts, roots, paces, intercept_paces, learns, powers = own_room[10:17]
    plain, damped, plain_ones, damped_ones, eased = own_room[17:]
    waiting_z, aims, numbers, shifts, waiting_weights = waiting[:5]
    least_part = LEAST_PART / count
    queued, file, stop = 0, 0, 0
    enter(model, team, k)
    for batch in range(len(rates)):
        start = stop
        stop = min(start + batch_rows, stops[file])
        n = stop - start
        scored_by, base_after, unit_after = enter_labels(plain_y, w, start, stop, plan, watched)
        if n == 1:
            enter_row(x, start, w, plan, seen, mean, m2, z, inverse, scratch)
        else:
            enter_features(x, w, start, stop, plan, seen, mean, m2, inverse, scratch)
        keep = kept(mix.half_life, n)
        is_direct = n == 1 and mix.l1 == 0.0 and mix.l2 == 0.0
        weight, weighty, heat_total = 0.0, 0.0, 0.0
        usual, variation = 0.0, 0.0
        if mix.is_mean:
            usual = heat_of(mix, mean_heat[0], mean_heat[1]) if mean_heat[1] > 0.0 else 0.0
            variation = variation_of(plan, watched)
            if variation == LARGEST and mean_heat[1] >= 0.5:
                variation = 0.0
        for e in range(0, width, LENGTH):
            store(lost, (e,), load(idle, (e,)))
            store(row_squares, (e,), 0.0)
            store(parts, (e,), fma(load(shares, (e,)), 1.0 - LEAST_PART, least_part))
            store(paces, (e,), rates[batch] * load(own_rates, (e,)))
            store(intercept_paces, (e,), rates[batch] * load(intercept_rates, (e,)))
        for e in range(count, width):
            parts[e] = 0.0
        if mix.is_held:
            for e in range(count):
                roots[e] = root_of(mean_squares, e)
        for i in range(start, stop):
            if n > 1:
                scaled_row(x, i, plan, mean, inverse, z)
            for f in range(features):
                waiting_z[queued, f] = z[0, f]
            aim, number, shift = aim_of(
                plan, y[i, 0], plain_y[i, 0], offset[i], base_after, unit_after
            )
            aims[queued], numbers[queued], shifts[queued] = aim, number, shift
            waiting_weights[queued] = push_w[i]
            queued += 1
            if queued == len(aims):
                try_copies(
                    plan, count + 1, k, frozen, frozen_intercept, queued, waiting, frozen_losses
                )
                queued = 0
            for j in range(k):
                _outputs(weights, j, wide, intercept, outputs)
                mixture[j] = _sum(shares, outputs, j)
            _points(plan, k, outputs, shift, aim, number, values, pushes, bents)
            if count < width:
                _silence(idle, values, pushes, bents)
            for e in range(0, width, LENGTH):
                store(lost, (e,), fma(push_w[i], load(values, (e,)), load(lost, (e,))))
            if plan.loss == SOFTMAX:
                softmax_residual(mixture, aim, push)
            else:
                push[0] = loss_residual(plan.loss, mixture[0] + shift, aim, number)
            if mix.is_spread:
                heat_total += push_w[i] * loss_value(plan.loss, mixture[0] + shift, aim, number)
            elif mix.is_mean:
                most = FAR_LABEL * FAR_LABEL * max(usual, variation * push_w[i])
                own_heat = push_w[i] * _pearson(plan.loss, mixture[0] + shift, push[0], number)
                heat_total += max(min(own_heat, most), LEAST_SPREAD * push_w[i])
            else:
                heat_total += push_w[i]
            write_row(
                plan, i, y[i, 0], offset[i], scored_by, mixture, z, push, own,
                output, residual, norm, gradient, units,
            )  # fmt: skip
            if mix.is_held:
                for e in range(0, width, LENGTH):
                    pushed = load(pushes, (0, e))
                    store(
                        row_squares, (e,), load(row_squares, (e,)) + push_w[i] * (pushed * pushed)
                    )
            for j in range(k):
                square = _sum_of_squares(parts, pushes, j, push_w[i])
                answer = _paces(squares, j, keep, square, wide, along)
                ones = intercept_squares[j] * keep + square
                one = inverse_root(ones + EPSILON) if plan.intercept else 0.0
                _eases(mix, j, push_w[i], answer, one, pushes, bents, paces, intercept_paces, eases)
                if is_direct:
                    _take_squares_in(squares, j, keep, square, wide)
                    intercept_squares[j] = ones
                    _move_intercepts_along(intercept, j, intercept_paces, one, eases, pushes, roots)
                    _move_along(
                        weights, j, z, along, count, paces, eases, pushes, roots, mix.is_held, steps
                    )
                else:
                    _sum_up(
                        plain, damped, plain_ones, damped_ones, eased, j, wide, push_w[i], pushes,
                        eases, roots, mix.is_held,
                    )  # fmt: skip
            weight += push_w[i]
            if push_w[i] > 0.0:
                weighty += 1.0
        if not is_direct:
            _move(
                weights, squares, k, keep, plain, damped, eased, n, weight, _spanned(n, features),
                paces, parts, mix.l1, mix.l2,
            )  # fmt: skip
            if plan.intercept:
                _move_intercepts(
                    intercept, intercept_squares, k, keep, plain_ones, damped_ones, n,
                    intercept_paces, parts,
                )  # fmt: skip
        if weighty > 0.0:
            frozen_rows[0] += weighty
            memory = kept_over(HEAT_MEMORY, weighty)
            mean_heat[0] = mean_heat[0] * memory + (1.0 - memory) * (heat_total / weighty)
            mean_heat[1] = mean_heat[1] * memory + (1.0 - memory)
            if mix.is_held:
                take_squares(mean_squares, row_squares, weight, weighty)
            heat = heat_of(mix, mean_heat[0], mean_heat[1])
            move_shares(shares, count, lost, heat, mix.share, powers)
            if frozen_rows[0] >= mix.serve_rows:
                try_copies(
                    plan, count + 1, k, frozen, frozen_intercept, queued, waiting, frozen_losses
                )
                queued = 0
                serve(mix, slow, team, frozen_intercept, frozen_rows, heat, count, k, powers)
        model.steps[0] += 1
        model.rows[0] += n
        if stop == stops[file]:
            try_copies(plan, count + 1, k, frozen, frozen_intercept, queued, waiting, frozen_losses)
            queued = 0
            leave(model, team, k)
            settle(mix, learns, model, team, k, powers)
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
        team,
        watched,
        record,
        room,
        own_room,
        waiting,
    ):
        _ = sources
        _learn(
            lane, ends, batch_rows, rates, own_rates, intercept_rates, slow, plan, mix, model, team, watched, record, room, own_room, waiting
        )  # fmt: skip

    return learn


learn = _entry(checksum(experts, passes_copies, passes_rows, passes_team))


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
        weights = state["parameters/weights"]
        team, own_room = team_of(weights, self.own_rates)
        own_rates, intercept_rates = (
            filled(own, len(team.shares)) for own in (self.own_rates, self.intercept_rates)
        )
        room = room_of(weights)._replace(z=own_room.z[:, : weights.shape[1]])
        learn(
            lane_of(self.plan, rows, pushes), ends, batch_rows, rates, own_rates, intercept_rates, self.slow, self.plan, self.mix,
            model_of(state), team, watched_of(state), record_of(results), room, own_room,
            waiting_of(len(weights), own_room.z.shape[1], weights.dtype),
        )  # fmt: skip


def experts_pass(spec: Spec, kernel: Any, rule: Experts) -> ExpertsPass:
    """The pass of a linear kernel for this rule."""
    options = rule.options
    mix = Mix(
        is_spread=rule.is_spread,
        is_mean=rule.is_mean,
        farthest=float(rule.farthest),
        is_held=rule.is_held,
        share=float(options.share),
        serve_rows=float(options.serve_rows),
        serve_share=float(options.serve_share),
        half_life=float(options.half_life),
        l1=float(kernel.l1),
        l2=float(kernel.l2),
        serve_slow=float(rule.most_slow),
    )
    return ExpertsPass(plan_of(spec, kernel.loss), mix, rule.rates, rule.intercept_rates, rule.slow)
