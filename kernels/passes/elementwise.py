"""The compiled pass of linear kernels with an optimizer that treats every number alike.

Rules: those of `loops` and `rows`. The pass equals the learner's own, batch by batch in numpy, to
rounding. Where a batch has one row only, the step is taken straight from the row.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import numba as nb
import numpy as np

from kernels import optimizers
from kernels.contract import Array, CompiledPass, Results, Rows, Spec, State
from kernels.loops import FLAGS, OPTIMIZER_CODES, checksum, inlined, padded, step_loop
from kernels.passes import rows
from kernels.passes.rows import (
    Plan,
    aim_of,
    enter_features,
    enter_labels,
    lane_of,
    plan_of,
    push_of,
    raw_outputs,
    record_of,
    room_of,
    scaled_row,
    watched_of,
    write_row,
)
from kernels.rules import Elementwise


class Step(NamedTuple):
    """How a step is taken; the penalty is for the weights, the intercept is spared."""

    optimizer: int
    l1: float
    l2: float
    clip_gradient: float


class Model(NamedTuple):
    """The state that a pass changes: weights (k, f), intercept (1, k), and five slots of each."""

    weights: Array
    slots: tuple[Array, ...]
    intercept: Array
    intercept_slots: tuple[Array, ...]


@inlined
def _norm(sums, push_sums, intercept):
    """The norm of a gradient (k, f) and, where there is an intercept, of its part (1, k)."""
    total = 0.0
    for j in range(len(sums)):
        for f in range(sums.shape[1]):
            total += sums[j, f] * sums[j, f]
        if intercept:
            total += push_sums[0, j] * push_sums[0, j]
    return math.sqrt(total)


@inlined
def _learn(
    lane, batch_rows, rates, numbers, plan, step, model, watched, record, room, sums, push_sums
):
    """Learns from a lane, batch after batch; rates (batches,), numbers (batches, 5).

    sums (k, f) and push_sums (1, k) are zeros, before and after.
    """
    x, y, plain, w, offset, push_w = lane
    seen, mean, m2 = watched.seen, watched.mean, watched.m2
    output, residual, norm, gradient, units = record
    weights, slots, intercept, intercept_slots = model
    s0, s1, s2, s3, s4 = slots
    i0, i1, i2, i3, i4 = intercept_slots
    total_rows, features = x.shape
    k = len(weights)
    z, outputs, push, own, inverse, scratch = room
    code, l1, l2, most = step.optimizer, step.l1, step.l2, step.clip_gradient
    for batch in range(len(rates)):
        start = batch * batch_rows
        stop = min(start + batch_rows, total_rows)
        n = stop - start
        scored_by, base_after, unit_after = enter_labels(plain, w, start, stop, plan, watched)
        enter_features(x, w, start, stop, plan, seen, mean, m2, inverse, scratch)
        rate, factor = rates[batch], 1.0 / n
        a, b, c = numbers[batch, 0], numbers[batch, 1], numbers[batch, 2]
        own_k = (a, b, c, numbers[batch, 3], numbers[batch, 4])
        for i in range(start, stop):
            scaled_row(x, i, plan, mean, inverse, z)
            raw_outputs(weights, intercept, z, outputs)
            aim, number, shift = aim_of(
                plan, y[i, 0], plain[i, 0], offset[i], base_after, unit_after
            )
            push_of(plan, outputs, aim, number, shift, push)
            write_row(
                plan, i, y[i, 0], offset[i], scored_by, outputs, z, push, own,
                output, residual, norm, gradient, units,
            )  # fmt: skip
            for j in range(k):
                push_sums[0, j] += push_w[i] * push[j]
            if n > 1 or most > 0.0:
                for j in range(k):
                    part = weights.dtype.type(push_w[i] * push[j])
                    for f in range(features):
                        sums[j, f] += part * z[0, f]
        if most > 0.0:
            size = factor * _norm(sums, push_sums, plan.intercept)
            factor *= most / size if size > most else 1.0
        for j in range(k):
            if n > 1:
                step_loop(
                    code, weights, s0, s1, s2, s3, s4, j, sums, j, factor, rate, l1, l2, own_k
                )
            else:
                step_loop(
                    code, weights, s0, s1, s2, s3, s4, j, z, 0, factor * push_sums[0, j],
                    rate, l1, l2, own_k,
                )  # fmt: skip
        if plan.intercept:
            step_loop(
                code, intercept, i0, i1, i2, i3, i4, 0, push_sums, 0, factor,
                rate, 0.0, 0.0, own_k,
            )  # fmt: skip
        for j in range(k):
            push_sums[0, j] = 0.0
            if n > 1 or most > 0.0:
                for f in range(features):
                    sums[j, f] = 0.0


def _entry(sources: int) -> Any:
    @nb.njit(cache=True, **FLAGS)
    def learn(
        lane, batch_rows, rates, numbers, plan, step, model, watched, record, room, sums, push_sums
    ):
        _ = sources
        _learn(
            lane, batch_rows, rates, numbers, plan, step, model, watched, record, room, sums,
            push_sums,
        )  # fmt: skip

    return learn


learn = _entry(checksum(rows))


def elementwise_pass(spec: Spec, kernel: Any, rule: Elementwise) -> CompiledPass:
    """The pass of a linear kernel for this rule."""
    step = Step(
        OPTIMIZER_CODES[rule.name],
        float(kernel.l1),
        float(kernel.l2),
        float(rule.options.clip_gradient),
    )
    return partial(_run, plan_of(spec, kernel.loss), step, rule)


def _run(
    plan: Plan,
    step: Step,
    rule: Elementwise,
    state: State,
    rows: Rows,
    pushes: Array,
    batch_rows: int,
    rates: Array,
    results: Results,
) -> None:
    optimizer = optimizers.OPTIMIZERS[rule.name]
    sizes = batch_sizes(len(rows.y), batch_rows)
    numbers = optimizers.numbers(optimizer, rule.options, int(state["steps"][0]) + 1, sizes)
    lane, watched, record = lane_of(plan, rows, pushes), watched_of(state), record_of(results)
    model = _model(state, optimizer.slots)
    sums, push_sums = np.zeros_like(model.weights), np.zeros((1, len(model.weights)))
    learn(
        lane, batch_rows, rates, numbers, plan, step, model, watched, record,
        room_of(model.weights), sums, push_sums,
    )  # fmt: skip
    state["steps"][0] += len(rates)
    state["rows"][0] += len(rows.y)


def batch_sizes(total_rows: int, batch_rows: int) -> Array:
    """The rows of each batch (batches,): the last may have fewer."""
    starts = np.arange(0, total_rows, batch_rows)
    return np.minimum(total_rows - starts, batch_rows)


def _model(state: State, slots: tuple[str, ...]) -> Model:
    """The arrays of a state that the pass changes; those that it lacks are never read."""
    weights = state["parameters/weights"]
    found = [state[f"optimizer/{slot}/weights"] for slot in slots]
    if "parameters/intercept" not in state:
        none = np.zeros((1, len(weights)), weights.dtype)
        return Model(weights, padded(found, weights), none, padded([], none))
    intercept = state["parameters/intercept"].reshape(1, -1)
    beside = [state[f"optimizer/{slot}/intercept"].reshape(1, -1) for slot in slots]
    return Model(weights, padded(found, weights), intercept, padded(beside, intercept))
