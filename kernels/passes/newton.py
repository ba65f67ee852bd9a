"""The compiled pass of linear kernels with Newton steps.

Rules: those of `loops` and `rows`; it equals `kernels.newton` to rounding.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
from __future__ import annotations

from functools import partial
from typing import Any

import numba as nb
import numpy as np

from kernels import optimizers
from kernels.contract import Array, CompiledPass, Results, Rows, Spec, State
from kernels.loops import FLAGS, checksum, inlined, loss_curvature
from kernels.newton import Newton
from kernels.passes import rows as passes_rows
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


@inlined
def _take_row(covariance, v, bent, u):
    """P ← P - h P v vᵀ P / (1 + h vᵀ P v); u (m,) is scratch."""
    m = len(v)
    along = 0.0
    for a in range(m):
        total = 0.0
        for b in range(m):
            total += covariance[a, b] * v[b]
        u[a] = total
    for a in range(m):
        along += v[a] * u[a]
    share = bent / (1.0 + bent * along)
    for a in range(m):
        part = share * u[a]
        for b in range(m):
            covariance[a, b] -= part * u[b]


@inlined
def _learn(lane, batch_rows, rates, plan, l1, l2, model, watched, record, room, vectors):
    """Learns from a lane, batch after batch; weights (1, f), intercept (1, 1), covariance (m, m).

    The vectors (m,) are a row of ones, scratch, and sums that are zeros before and after.
    """
    x, y, plain, w, offset, push_w = lane
    seen, mean, m2 = watched.seen, watched.mean, watched.m2
    output, residual, norm, gradient, units = record
    weights, intercept, covariance = model
    total_rows, features = x.shape
    ones = 1 if plan.intercept else 0
    size = features + ones
    z, outputs, push, own, inverse, scratch = room
    v, u, sums = vectors
    for batch in range(len(rates)):
        start = batch * batch_rows
        stop = min(start + batch_rows, total_rows)
        scored_by, base_after, unit_after = enter_labels(plain, w, start, stop, plan, watched)
        enter_features(x, w, start, stop, plan, seen, mean, m2, inverse, scratch)
        for i in range(start, stop):
            scaled_row(x, i, plan, mean, inverse, z)
            raw_outputs(weights, intercept, z, outputs)
            aim, number, shift = aim_of(
                plan, y[i, 0], plain[i, 0], offset[i], base_after, unit_after
            )
            push_of(plan, outputs, aim, number, shift, push)
            bent = loss_curvature(plan.loss, outputs[0] + shift, aim, number) * push_w[i]
            write_row(
                plan, i, y[i, 0], offset[i], scored_by, outputs, z, push, own,
                output, residual, norm, gradient, units,
            )  # fmt: skip
            for f in range(features):
                v[ones + f] = z[0, f]
            part = push_w[i] * push[0]
            for a in range(size):
                sums[a] += part * v[a]
            _take_row(covariance, v, bent, u)
        n, rate = stop - start, rates[batch]
        for f in range(features):
            sums[ones + f] += n * l2 * weights[0, f]
        for a in range(size):
            move = 0.0
            for b in range(size):
                move += covariance[a, b] * sums[b]
            if a < ones:
                intercept[0, 0] -= rate * move
            else:
                theta = weights[0, a - ones] - rate * move
                if l1 > 0.0:
                    theta = optimizers.shrunk(theta, rate * n * l1 * covariance[a, a])
                weights[0, a - ones] = theta
        for a in range(size):
            sums[a] = 0.0


def _entry(sources: int) -> Any:
    @nb.njit(cache=True, **FLAGS)
    def learn(lane, batch_rows, rates, plan, l1, l2, model, watched, record, room, vectors):
        _ = sources
        _learn(lane, batch_rows, rates, plan, l1, l2, model, watched, record, room, vectors)

    return learn


learn = _entry(checksum(passes_rows))


def newton_pass(spec: Spec, kernel: Any, rule: Newton) -> CompiledPass:
    """The pass of a linear kernel for this rule."""
    return partial(_run, plan_of(spec, kernel.loss), float(kernel.l1), float(kernel.l2))


def _run(
    plan: Plan,
    l1: float,
    l2: float,
    state: State,
    rows: Rows,
    pushes: Array,
    batch_rows: int,
    rates: Array,
    results: Results,
) -> None:
    weights = state["parameters/weights"]
    intercept = state.get("parameters/intercept", np.zeros(1, weights.dtype)).reshape(1, 1)
    lane, watched, record = lane_of(plan, rows, pushes), watched_of(state), record_of(results)
    model = weights, intercept, state["optimizer/covariance"]
    size = len(model[2])
    vectors = np.ones(size), np.empty(size), np.zeros(size)
    room = room_of(weights)
    learn(lane, batch_rows, rates, plan, l1, l2, model, watched, record, room, vectors)
    state["steps"][0] += len(rates)
    state["rows"][0] += len(rows.y)
