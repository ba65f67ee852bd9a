"""The compiled passes of linear kernels over sparse rows: normalised adaptive steps, and FTRL.

Rules: those of `loops` and `rows`; a batch is one row. A row's cost is that of its features and of its
non-zeros. The features are learnt as in the passes of dense rows, standardised; the slots are never
centred, for then nothing would be 0. With `normalised` a slot is scaled by the largest |value| that it has
had; with `ftrl` its values are taken as they are. A row is two runs of terms, its features and its slots,
and every function below treats both alike.
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
from kernels.loops import FLAGS, OPTIMIZER_CODES, checksum, dot_loop, inlined, step_loop
from kernels.normalised import EPSILON
from kernels.optimizers import OPTIMIZERS
from kernels.passes import normalised as dense_pass
from kernels.passes import rows as passes_rows
from kernels.passes import slots
from kernels.passes.normalised import observe, size_of, step
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
    write_outputs,
)
from kernels.passes.slots import add_slots, entries_of, square_of

FTRL = OPTIMIZER_CODES["ftrl"]
_ftrl_step = inlined(OPTIMIZERS["ftrl"].step)


class Normalised(NamedTuple):
    """The state that the pass of `normalised` changes: that of features, of the intercept, and of slots."""

    weights: Array
    squares: Array
    scale: Array
    size: Array
    intercept: Array
    intercept_squares: Array
    slot_weights: Array
    slot_squares: Array
    slot_scale: Array


class Ftrl(NamedTuple):
    """The same for `ftrl`; `slot_weights` is scratch, for they are a function of z, squares and the steps."""

    weights: Array
    z: Array
    squares: Array
    intercept: Array
    intercept_z: Array
    intercept_squares: Array
    slot_weights: Array
    slot_z: Array
    slot_squares: Array


class Penalty(NamedTuple):
    """The penalty of the weights; the intercept is spared."""

    l1: float
    l2: float


# --- normalised


@inlined
def _observe_slots(starts, places, values, i, weights, scale):
    """Takes a row's sizes in, as `observe` does; its |z/s|²."""
    total = 0.0
    for e in range(starts[i], starts[i + 1]):
        place, bound = places[e], abs(values[e])
        if bound > scale[place]:
            share = weights.dtype.type(scale[place] / bound)
            for j in range(len(weights)):
                weights[j, place] *= share
            scale[place] = bound
        if bound == scale[place]:
            total += 1.0 if bound > 0.0 else 0.0  # what most rows of ones and zeros have
        elif scale[place] > 0.0:
            share = np.float64(values[e]) / scale[place]
            total += share * share
    return total


@inlined
def _step_slots(starts, places, values, i, push, per_row, weights, squares, scale):
    """One step of the slots of row i, without a penalty."""
    kind = weights.dtype.type
    for j in range(len(push)):
        if push[j] == 0.0:
            continue
        for e in range(starts[i], starts[i + 1]):
            place = places[e]
            g = push[j] * values[e]
            squares[j, place] += kind(g * g)
            if scale[place] > 0.0:
                pace = per_row / (scale[place] * (math.sqrt(squares[j, place]) + EPSILON))
                weights[j, place] -= kind(pace * g)


@inlined
def _learn_normalised(lane, entries, rates, plan, model, watched, record, room, own_room):
    """Learns from a lane, row after row. Room of its own: sums (k, f), push_sums (1, k), an empty array."""
    x, y, plain, w, offset, push_w = lane
    starts, places, values = entries
    seen, mean, m2 = watched.seen, watched.mean, watched.m2
    output, residual, norm, _, units = record
    (weights, squares, scale, size, intercept, intercept_squares,
     slot_weights, slot_squares, slot_scale) = model  # fmt: skip
    z, outputs, push, own, inverse, scratch = room
    sums, push_sums, none = own_room
    ones = 1.0 if plan.intercept else 0.0
    for i in range(len(x)):
        scored_by, base_after, unit_after = enter_labels(plain, w, i, i + 1, plan, watched)
        enter_features(x, w, i, i + 1, plan, seen, mean, m2, inverse, scratch)
        scaled_row(x, i, plan, mean, inverse, z)
        square = dot_loop(z, 0, z, 0) + square_of(starts, values, i)
        if w[i] > 0.0:
            observe(z, weights, scale, size, intercept)
            size[0] += 1.0
            size[1] += size_of(z, scale) + ones
            size[1] += _observe_slots(starts, places, values, i, slot_weights, slot_scale)
        raw_outputs(weights, intercept, z, outputs)
        add_slots(starts, places, values, i, slot_weights, outputs)
        aim, number, shift = aim_of(plan, y[i, 0], plain[i, 0], offset[i], base_after, unit_after)
        push_of(plan, outputs, aim, number, shift, push)
        write_outputs(
            plan, i, y[i, 0], offset[i], scored_by, outputs, square, push, own, output, residual,
            norm, units,
        )  # fmt: skip
        if size[1] == 0.0:
            continue
        per_row = rates[i] * math.sqrt(size[0] / size[1])
        for j in range(len(push)):
            push[j] *= push_w[i]
            push_sums[0, j] = push[j]
            for f in range(x.shape[1]):
                sums[j, f] = weights.dtype.type(push[j]) * z[0, f]
            step(weights, squares, j, sums, 1.0, per_row, scale, 0.0, 0.0)
        _step_slots(
            starts, places, values, i, push, per_row, slot_weights, slot_squares, slot_scale
        )
        if plan.intercept:
            step(intercept, intercept_squares, 0, push_sums, 1.0, per_row, none, 0.0, 0.0)


# --- ftrl


@inlined
def _weigh_slots(starts, places, i, rate, l1, l2, k, weights, z, squares):
    """The weights of row i's slots after k[1] steps: those of the dense optimizer, whose steps without a
    gradient change nothing but the penalty, which grows with the steps."""
    for j in range(len(weights)):
        for e in range(starts[i], starts[i + 1]):
            p = places[e]
            found = _ftrl_step(
                weights[j, p] * 0.0, 0.0, np.float64(z[j, p]), np.float64(squares[j, p]), 0.0, 0.0, 0.0,
                rate, l1, l2, k,
            )  # fmt: skip
            weights[j, p] = found[0]


@inlined
def _step_slots_ftrl(
    starts, places, values, i, push, rate, l1, l2, k, weights, z, squares
):  # fmt: skip
    kind = z.dtype.type
    for j in range(len(push)):
        for e in range(starts[i], starts[i + 1]):
            p = places[e]
            found = _ftrl_step(
                weights[j, p], push[j] * values[e], np.float64(z[j, p]), np.float64(squares[j, p]), 0.0, 0.0,
                0.0, rate, l1, l2, k,
            )  # fmt: skip
            z[j, p], squares[j, p] = kind(found[1]), kind(found[2])


@inlined
def _learn_ftrl(
    lane, entries, rates, numbers, plan, penalty, model, watched, record, room, push_sums
):
    """As `_learn_normalised`; numbers (rows + 1, 5) are those of the step before the first, and of each."""
    x, y, plain, w, offset, push_w = lane
    starts, places, values = entries
    seen, mean, m2 = watched.seen, watched.mean, watched.m2
    output, residual, norm, _, units = record
    (weights, dense_z, squares, intercept, intercept_z, intercept_squares,
     slot_weights, slot_z, slot_squares) = model  # fmt: skip
    z, outputs, push, own, inverse, scratch = room
    l1, l2 = penalty.l1, penalty.l2
    before = (numbers[0, 0], numbers[0, 1], 0.0, 0.0, 0.0)
    for i in range(len(x)):
        scored_by, base_after, unit_after = enter_labels(plain, w, i, i + 1, plan, watched)
        enter_features(x, w, i, i + 1, plan, seen, mean, m2, inverse, scratch)
        scaled_row(x, i, plan, mean, inverse, z)
        square = dot_loop(z, 0, z, 0) + square_of(starts, values, i)
        _weigh_slots(
            starts, places, i, rates[i], l1, l2, before, slot_weights, slot_z, slot_squares
        )
        raw_outputs(weights, intercept, z, outputs)
        add_slots(starts, places, values, i, slot_weights, outputs)
        aim, number, shift = aim_of(plan, y[i, 0], plain[i, 0], offset[i], base_after, unit_after)
        push_of(plan, outputs, aim, number, shift, push)
        write_outputs(
            plan, i, y[i, 0], offset[i], scored_by, outputs, square, push, own, output, residual,
            norm, units,
        )  # fmt: skip
        k = (numbers[i + 1, 0], numbers[i + 1, 1], 0.0, 0.0, 0.0)
        for j in range(len(push)):
            push[j] *= push_w[i]
            push_sums[0, j] = push[j]
            step_loop(
                FTRL, weights, dense_z, squares, weights, weights, weights, j, z, 0, push[j],
                rates[i], l1, l2, k,
            )  # fmt: skip
        _step_slots_ftrl(
            starts, places, values, i, push, rates[i], l1, l2, k, slot_weights, slot_z, slot_squares
        )
        if plan.intercept:
            step_loop(
                FTRL, intercept, intercept_z, intercept_squares, intercept, intercept, intercept, 0,
                push_sums, 0, 1.0, rates[i], 0.0, 0.0, k,
            )  # fmt: skip
        before = k


def _entries(sources: int) -> tuple[Any, Any]:
    @nb.njit(cache=True, **FLAGS)
    def normalised(lane, entries, rates, plan, model, watched, record, room, own_room):
        _ = sources
        _learn_normalised(lane, entries, rates, plan, model, watched, record, room, own_room)

    @nb.njit(cache=True, **FLAGS)
    def ftrl(lane, entries, rates, numbers, plan, penalty, model, watched, record, room, push_sums):
        _ = sources
        _learn_ftrl(
            lane, entries, rates, numbers, plan, penalty, model, watched, record, room, push_sums
        )

    return normalised, ftrl


learn_normalised, learn_ftrl = _entries(checksum(normalised, passes_rows, dense_pass, slots))


def sparse_pass(spec: Spec, kernel: Any, rule: Any) -> CompiledPass:
    """The pass of a linear kernel over sparse rows, for a rule that has one."""
    plan = plan_of(spec, kernel.loss)
    if spec.optimizer["name"] == "normalised":
        return partial(_run_normalised, plan)
    return partial(_run_ftrl, plan, Penalty(float(kernel.l1), float(kernel.l2)), rule.options)


def _run_normalised(
    plan: Plan,
    state: State,
    rows: Rows,
    pushes: Array,
    batch_rows: int,
    rates: Array,
    results: Results,
) -> None:
    weights = state["parameters/weights"]
    none = np.zeros(len(weights), weights.dtype)
    model = Normalised(
        weights,
        state["optimizer/squares/weights"],
        state["optimizer/scale"],
        state["optimizer/size"],
        state.get("parameters/intercept", none).reshape(1, -1),
        state.get("optimizer/squares/intercept", none).reshape(1, -1),
        state["sparse/weights"],
        state["sparse/squares"],
        state["sparse/scale"],
    )
    assert rows.sparse is not None
    own_room = (np.zeros_like(weights), np.zeros((1, len(weights))), np.empty(0))
    learn_normalised(
        lane_of(plan, rows, pushes), entries_of(rows.sparse), rates, plan, model,
        watched_of(state), record_of(results), room_of(weights), own_room,
    )  # fmt: skip
    _count(state, rows)


def _run_ftrl(
    plan: Plan,
    penalty: Penalty,
    options: Any,
    state: State,
    rows: Rows,
    pushes: Array,
    batch_rows: int,
    rates: Array,
    results: Results,
) -> None:
    weights, steps = state["parameters/weights"], int(state["steps"][0])
    none = [np.zeros(len(weights), weights.dtype) for _ in range(3)]
    names = ("parameters/intercept", "optimizer/z/intercept", "optimizer/squares/intercept")
    found = (state.get(name, array) for name, array in zip(names, none, strict=True))
    intercept, intercept_z, intercept_squares = (array.reshape(1, -1) for array in found)
    z = state["sparse/z"]
    model = Ftrl(
        weights,
        state["optimizer/z/weights"],
        state["optimizer/squares/weights"],
        intercept,
        intercept_z,
        intercept_squares,
        np.zeros(z.shape),
        z,
        state["sparse/squares"],
    )
    ones = np.ones(len(rows.y) + 1)
    numbers = optimizers.numbers(OPTIMIZERS["ftrl"], options, steps, ones)
    assert rows.sparse is not None
    learn_ftrl(
        lane_of(plan, rows, pushes), entries_of(rows.sparse), rates, numbers, plan, penalty, model,
        watched_of(state), record_of(results), room_of(weights), np.zeros((1, len(weights))),
    )  # fmt: skip
    _count(state, rows)


def _count(state: State, rows: Rows) -> None:
    state["steps"][0] += len(rows.y)
    state["rows"][0] += len(rows.y)
