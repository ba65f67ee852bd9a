"""The compiled pass of the linear family: a lane's batches, from raw rows to results, in one call.

Rules: those of `loops`. The formulas are those of `losses` and `optimizers`, compiled; the pass
equals the learner's own, batch by batch in numpy, to rounding.

    per batch:  take labels and features in ─▶ per row: scale ─▶ outputs ─▶ residuals ─▶ results
                                                          ╰──────────▶ gradient ◀──╯
                step, straight from the row where the batch has only one
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import numba as nb
import numpy as np

from kernels import loops, losses, optimizers
from kernels.contract import Array, CompiledPass, Problem, Results, Rows, Spec, State
from kernels.loops import (
    FLAGS,
    OPTIMIZER_CODES,
    checksum,
    constants_loop,
    dot_loop,
    frozen,
    inlined,
    inverse_deviations_loop,
    scale_loop,
    step_loop,
    take_in_loop,
)

SQUARED, LOGISTIC, SOFTMAX = range(3)
_LOSS_CODES: dict[Problem, int] = {"regression": SQUARED, "binary": LOGISTIC, "multiclass": SOFTMAX}

_squared_residual = inlined(losses.squared_residual)
_positive_probability = inlined(losses.positive_probability)


class Plan(NamedTuple):
    """What a pass does, as numbers."""

    loss: int
    optimizer: int
    standardise: bool
    clip: float
    scale_target: bool
    intercept: bool
    l2: float
    b1: float
    b2: float
    epsilon: float


class Model(NamedTuple):
    """The state that a pass changes; what a plan has no use for is empty."""

    weights: Array
    first: Array
    second: Array
    intercept: Array
    first_intercept: Array
    second_intercept: Array
    seen: Array
    mean: Array
    m2: Array
    target_seen: Array
    target_mean: Array
    target_m2: Array
    steps: Array


class Record(NamedTuple):
    """Where a pass writes results; an empty gradient isn't asked for."""

    output: Array
    residual: Array
    norm: Array
    gradient: Array


@inlined
def _target(count, mean, m2):
    """Mean and sd of the labels so far; sd is 0 where they are all alike."""
    if count[0] == 0:
        return 0.0, 0.0
    return mean[0], math.sqrt(m2[0] / count[0])


@inlined
def _outputs(weights, intercept, z, outputs):
    """outputs (k,) ← intercept + weights · z; returns |z|²."""
    for j in range(len(outputs)):
        outputs[j] = dot_loop(weights, j, z, 0) + intercept[0, j]
    return dot_loop(z, 0, z, 0)


@inlined
def _softmax(outputs, y, residual):
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
def _residuals(loss, scaled, outputs, y, before, after, own, push):
    """own (k,) ← the recorded residual, push (1, k) ← the step's; outputs into the label's units.

    `before` and `after` are the labels' mean and sd without and with the row's own batch.
    """
    if scaled:
        unit = before[1] if before[1] > 0.0 else 1.0
        target = (y - after[0]) / after[1] if after[1] > 0.0 else 0.0
        push[0, 0] = _squared_residual(outputs[0], target)
        outputs[0] = outputs[0] * unit + before[0]
        own[0] = _squared_residual(outputs[0], y) * unit
        return
    if loss == SOFTMAX:
        _softmax(outputs, y, own)
    elif loss == LOGISTIC:
        own[0] = _positive_probability(outputs[0]) - y
    else:
        own[0] = _squared_residual(outputs[0], y)
    for j in range(len(own)):
        push[0, j] = own[j]


@inlined
def _write(output, residual, norm, i, outputs, own, squares):
    """What row i leaves behind; `squares` is |(1, z)|², so that the norm is |residual| |(1, z)|."""
    total = 0.0
    for j in range(len(own)):
        output[i, j] = outputs[j]
        residual[i, j] = own[j]
        total += own[j] * own[j]
    norm[i] = math.sqrt(total * squares)


@inlined
def _write_gradient(gradient, i, own, z, intercept):
    """The gradient of row i's own loss: residual ⊗ (1, z), the intercept's part first."""
    at = 0
    if intercept:
        for j in range(len(own)):
            gradient[i, j] = own[j]
        at = len(own)
    for j in range(len(own)):
        for f in range(z.shape[1]):
            gradient[i, at] = own[j] * z[0, f]
            at += 1


@inlined
def _add(sums, push_sums, push, weight, z):
    """Adds weight · push ⊗ (1, z) to the gradient sums of a batch."""
    for j in range(len(sums)):
        factor = weight * push[0, j]
        push_sums[0, j] += factor
        factor = sums.dtype.type(factor)
        for f in range(z.shape[1]):
            sums[j, f] += factor * z[0, f]


@inlined
def _learn(x, y, w, batch_rows, rates, plan, model, record):
    """Learns from rows x (n, f), y (n, 1), w (n,), batch after batch; rates has one per batch."""
    rows, features = x.shape
    weights, first, second, intercept, first_i, second_i = model[:6]
    count, mean, m2, target_count, target_mean, target_m2, steps = model[6:]
    output, residual, norm, gradient = record
    optimizer, standardise, scaled = plan.optimizer, plan.standardise, plan.scale_target
    k = len(weights)
    kind = weights.dtype
    z, sums = np.empty((1, features), kind), np.zeros((k, features), kind)
    push, push_sums = np.empty((1, k)), np.zeros((1, k))
    scratch, label_scratch, inverse = np.empty(features), np.empty(1), np.empty(features)
    outputs, own = np.empty(k), np.empty(k)
    ones = 1.0 if plan.intercept else 0.0
    for batch in range(len(rates)):
        start = batch * batch_rows
        stop = min(start + batch_rows, rows)
        n = stop - start
        before = _target(target_count, target_mean, target_m2)
        after = before
        if scaled:
            take_in_loop(y, start, stop, target_count, target_mean, target_m2, label_scratch)
            after = _target(target_count, target_mean, target_m2)
        if standardise:
            take_in_loop(x, start, stop, count, mean, m2, scratch)
            inverse_deviations_loop(count, m2, inverse)
        steps[0] += 1
        rate = rates[batch]
        constants = constants_loop(optimizer, plan.b1, plan.b2, plan.epsilon, steps[0])
        for i in range(start, stop):
            if standardise:
                scale_loop(x, i, mean, inverse, plan.clip, z, 0)
            else:
                for f in range(features):
                    z[0, f] = x[i, f]
            squares = _outputs(weights, intercept, z, outputs)
            _residuals(plan.loss, scaled, outputs, y[i, 0], before, after, own, push)
            _write(output, residual, norm, i, outputs, own, squares + ones)
            if gradient.shape[0] > 0:
                _write_gradient(gradient, i, own, z, plan.intercept)
            if n > 1:
                _add(sums, push_sums, push, w[i], z)
        if n == 1:
            for j in range(k):
                factor = push[0, j] * w[start]
                step_loop(
                    optimizer, weights, first, second, j, z, 0, factor, plan.l2, rate, constants
                )
            share, vector = w[start], push
        else:
            share, vector = 1.0 / n, push_sums
            for j in range(k):
                step_loop(
                    optimizer, weights, first, second, j, sums, j, share, plan.l2, rate, constants
                )
        if plan.intercept:
            step_loop(
                optimizer, intercept, first_i, second_i, 0, vector, 0, share, 0.0, rate, constants
            )
        if n > 1:
            sums[:] = 0.0
            push_sums[:] = 0.0


def _entry(sources: int) -> Any:
    @nb.njit(cache=True, **FLAGS)
    def learn(x, y, w, batch_rows, rates, plan, model, record):
        _ = sources
        _learn(x, y, w, batch_rows, rates, plan, model, record)

    return learn


learn = _entry(checksum(losses, loops, optimizers))


def linear_pass(spec: Spec, l2: float, problem: Problem) -> CompiledPass:
    """The pass of a linear kernel for the optimizer of `spec`."""
    optimizer, options = optimizers.configured(spec.optimizer)
    plan = Plan(
        loss=_LOSS_CODES[problem],
        optimizer=OPTIMIZER_CODES[optimizer.name],
        standardise=spec.standardise,
        clip=float(spec.clip),
        scale_target=spec.scale_target and problem == "regression",
        intercept=bool(spec.options.get("intercept", True)),
        l2=float(l2),
        b1=float(getattr(options, "b1", 0.0)),
        b2=float(getattr(options, "b2", 0.0)),
        epsilon=float(getattr(options, "epsilon", 0.0)),
    )
    return partial(_run, plan, optimizer.slots)


def _run(
    plan: Plan,
    slots: tuple[str, ...],
    state: State,
    rows: Rows,
    batch_rows: int,
    rates: Array,
    results: Results,
) -> None:
    x, y, w = (frozen(array) for array in rows)
    record = Record(
        results["output"],
        results["residual"],
        results["norm"],
        results.get("gradient", np.empty((0, 0))),
    )
    learn(x, y.reshape(-1, 1), w, batch_rows, rates, plan, _model(state, slots), record)


def _model(state: State, slots: tuple[str, ...]) -> Model:
    """The arrays of a state that the pass changes; those that it lacks are never read."""
    weights = state["parameters/weights"]
    intercept = state.get("parameters/intercept", np.zeros(len(weights), weights.dtype))

    def held(name: str, value: Array) -> list[Array]:
        found = [state[f"optimizer/{slot}/{name}"] for slot in slots if name != "absent"]
        shape = (-1, value.shape[-1])
        return [array.reshape(shape) for array in [value, *found, value, value][:3]]

    def moments(prefix: str) -> list[Array]:
        none = np.zeros(1)
        count = state.get(f"{prefix}/count", np.zeros(1, np.int64))
        return [count, state.get(f"{prefix}/mean", none), state.get(f"{prefix}/m2", none)]

    name = "intercept" if "parameters/intercept" in state else "absent"
    arrays = held("weights", weights) + held(name, intercept)
    return Model._make([*arrays, *moments("scaling"), *moments("target"), state["steps"]])
