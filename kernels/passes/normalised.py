"""The compiled pass of linear kernels with normalised adaptive steps.

Rules: those of `loops` and `rows`; it equals `kernels.normalised` to rounding.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import numba as nb
import numpy as np

from kernels import normalised, optimizers
from kernels.contract import Array, CompiledPass, Results, Rows, Spec, State
from kernels.loops import FLAGS, checksum, inlined
from kernels.normalised import EPSILON, Normalised
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


class Model(NamedTuple):
    """The state that the pass changes, weights (k, f) and intercept (1, k) with their squares."""

    weights: Array
    squares: Array
    intercept: Array
    intercept_squares: Array
    scale: Array
    size: Array


@inlined
def observe(z, weights, scale, size, intercept):
    """Takes a row's sizes in: largest |z|, and the weights that go with them."""
    for f in range(len(scale)):
        bound = abs(z[0, f])
        if bound > scale[f]:
            share = weights.dtype.type(scale[f] / bound)
            for j in range(len(weights)):
                weights[j, f] *= share
            scale[f] = bound


@inlined
def size_of(z, scale):
    """|z/s|², over the features that were ever other than 0."""
    total = 0.0
    for f in range(len(scale)):
        if scale[f] > 0.0:
            share = z[0, f] / scale[f]
            total += share * share
    return total


@inlined
def step(theta, squares, j, sums, factor, per_row, scale, l1, l2):
    """One step of row j of θ; `scale` is empty for the intercept."""
    kind = theta.dtype.type
    for f in range(theta.shape[1]):
        g = factor * sums[j, f] + l2 * theta[j, f]
        squares[j, f] += kind(g * g)
        s = scale[f] if len(scale) > 0 else 1.0
        if s > 0.0:
            pace = per_row / (s * (math.sqrt(squares[j, f]) + EPSILON))
            theta[j, f] -= kind(pace * g)
            if l1 > 0.0:
                theta[j, f] = kind(optimizers.shrunk(theta[j, f], pace * l1))


@inlined
def _learn(lane, batch_rows, rates, plan, l1, l2, model, watched, record, room, own_room):
    """Learns from a lane, batch after batch.

    Room of its own: sums (k, f) and push_sums (1, k), zeros before and after, and an empty array.
    """
    x, y, plain, w, offset, push_w = lane
    seen, mean, m2 = watched.seen, watched.mean, watched.m2
    output, residual, norm, gradient, units = record
    weights, squares, intercept, intercept_squares, scale, size = model
    total_rows, features = x.shape
    k = len(weights)
    z, outputs, push, own, inverse, scratch = room
    sums, push_sums, none = own_room
    ones = 1.0 if plan.intercept else 0.0
    for batch in range(len(rates)):
        start = batch * batch_rows
        stop = min(start + batch_rows, total_rows)
        scored_by, base_after, unit_after = enter_labels(plain, w, start, stop, plan, watched)
        enter_features(x, w, start, stop, plan, seen, mean, m2, inverse, scratch)
        for i in range(start, stop):
            if w[i] > 0.0:
                scaled_row(x, i, plan, mean, inverse, z)
                observe(z, weights, scale, size, intercept)
        for i in range(start, stop):
            scaled_row(x, i, plan, mean, inverse, z)
            if w[i] > 0.0:
                size[0] += 1.0
                size[1] += size_of(z, scale) + ones
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
                part = weights.dtype.type(push_w[i] * push[j])
                for f in range(features):
                    sums[j, f] += part * z[0, f]
        factor = 1.0 / (stop - start)
        if size[1] > 0.0:
            per_row = rates[batch] * math.sqrt(size[0] / size[1])
            for j in range(k):
                step(weights, squares, j, sums, factor, per_row, scale, l1, l2)
            if plan.intercept:
                step(intercept, intercept_squares, 0, push_sums, factor, per_row, none, 0.0, 0.0)
        for j in range(k):
            push_sums[0, j] = 0.0
            for f in range(features):
                sums[j, f] = 0.0


def _entry(sources: int) -> Any:
    @nb.njit(cache=True, **FLAGS)
    def learn(lane, batch_rows, rates, plan, l1, l2, model, watched, record, room, own_room):
        _ = sources
        _learn(lane, batch_rows, rates, plan, l1, l2, model, watched, record, room, own_room)

    return learn


learn = _entry(checksum(normalised, passes_rows))


def normalised_pass(spec: Spec, kernel: Any, rule: Normalised) -> CompiledPass:
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
    none = np.zeros(len(weights), weights.dtype)
    model = Model(
        weights,
        state["optimizer/squares/weights"],
        state.get("parameters/intercept", none).reshape(1, -1),
        state.get("optimizer/squares/intercept", none).reshape(1, -1),
        state["optimizer/scale"],
        state["optimizer/size"],
    )
    lane, watched, record = lane_of(plan, rows, pushes), watched_of(state), record_of(results)
    room, own_room = (
        room_of(weights),
        (np.zeros_like(weights), np.zeros((1, len(weights))), np.empty(0)),
    )
    learn(lane, batch_rows, rates, plan, l1, l2, model, watched, record, room, own_room)
    state["steps"][0] += len(rates)
    state["rows"][0] += len(rows.y)
