"""A kernel, an optimizer, a schedule and scaling, composed on a state of named arrays.

Rules: deterministic; nothing is kept between calls but what the spec says; every sum over lanes is
in lane order. Methods that change a state do it in place: whoever may have to run them again gives
them a copy. Arrays of rows are only read. The state's names, in their fixed order:

    optimizer/<slot>/<parameter>   what the optimizer remembers
    parameters/<parameter>         the model
    scaling/count, m2, mean        of the features seen, if the job standardises
    steps                          optimizer steps taken, int64 (1,)
    target/count, m2, mean         of the labels seen, if a regression's target is scaled

A row is scored with the labels' unit from before its batch, and with its features standardised by
moments that include its batch; the step aims at labels in the unit that includes the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from kernels import optimizers, registry, scaling, schedules
from kernels.contract import (
    Array,
    CompiledKernel,
    CompiledPass,
    Layout,
    Parameters,
    Problem,
    Results,
    Rows,
    Spec,
    State,
)
from kernels.scaling import Moments, Unit

__all__ = ["Learner", "Rows", "build"]

_TILE_ROWS = 256
"""Rows are predicted in tiles of this size, the last one padded, and in float64: products of matrices of
one shape then give a row the same bits wherever it stands. OpenBLAS' float32 kernels don't: there the
last bit depends on a row's place among the others, and so would on chunks."""


@lru_cache(maxsize=64)
def build(spec_json: str) -> Learner:
    """The learner of a spec written by `Spec.to_json`; made once per process."""
    return Learner(Spec.from_json(spec_json))


class Learner:
    """What the service calls; one per spec, without state of its own."""

    def __init__(self, spec: Spec) -> None:
        made = registry.kernel(spec.kernel)
        options = made.Options(**spec.options)
        self.spec = spec
        self.kernel = made(options, spec.features, spec.outputs)
        self.problem: Problem = made.problem(options)
        self.outputs = spec.outputs
        self._optimizer, self._optimizer_options = optimizers.configured(spec.optimizer)
        self._schedule, self._schedule_options = schedules.configured(spec.schedule)
        self._scales_target = spec.scale_target and self.problem == "regression"
        self._shapes = {name: value.shape for name, value in sorted(self._fresh().items())}
        self.parameter_count = sum(int(np.prod(shape)) for shape in self._shapes.values())

    # What there is

    def layout(self) -> Layout:
        """Shapes and dtypes of the state's arrays, in the order of their names."""
        found: Layout = {"steps": ((1,), "int64")}
        for name, shape in self._shapes.items():
            found[f"parameters/{name}"] = (shape, self.spec.dtype)
            for slot in self._optimizer.slots:
                found[f"optimizer/{slot}/{name}"] = (shape, self.spec.dtype)
        found |= self._moments_layout()
        return dict(sorted(found.items()))

    def results_layout(self, rows: int, full: bool = False) -> Layout:
        """Shapes and dtypes of the results of `rows` rows; with every gradient if `full`."""
        outputs = ((rows, self.outputs), "float64")
        found: Layout = {"norm": ((rows,), "float64"), "output": outputs, "residual": outputs}
        if full:
            found["gradient"] = ((rows, self.parameter_count), "float64")
        return dict(sorted(found.items()))

    def gradient_layout(self) -> Layout:
        """Shapes and dtypes of what `gradient` writes: its lane's gradient, and all moments."""
        found: Layout = {
            f"gradient/{name}": (shape, self.spec.dtype) for name, shape in self._shapes.items()
        }
        return found | self._moments_layout()

    def init(self, state: State) -> None:
        """Fills `state` with a model that has seen nothing."""
        for array in state.values():
            array[...] = 0
        for name, value in self._fresh().items():
            state[f"parameters/{name}"][...] = value

    # Learning

    def run(self, state: State, rows: Rows, batch_rows: int, results: Results) -> None:
        """One lane: learns from `rows` in place, batch after batch (the last may be short)."""
        batches = -(-len(rows.y) // batch_rows)
        rates = self._rates(state, batches)
        compiled = self._compiled()
        if compiled is not None:
            compiled(state, rows, batch_rows, rates, results)
            return
        for batch in range(batches):
            part = slice(batch * batch_rows, (batch + 1) * batch_rows)
            self._learn_batch(
                state,
                Rows(*(array[part] for array in rows)),
                float(rates[batch]),
                {name: array[part] for name, array in results.items()},
            )

    def gradient(
        self, state: State, lanes: Sequence[Rows], lane: int, out: State, results: Results
    ) -> None:
        """Lane `lane`'s part of one exact step of the round `lanes`; `results` are that lane's.

        Every lane takes in the moments of all lanes' rows, and so comes to the same ones: that
        costs less than a second barrier.
        """
        features, target = self._moments(out)
        for now, before in zip((features, target), self._moments(state), strict=True):
            if now is not None and before is not None:
                now.assign(before)
        for rows in lanes:
            _take_in(features, target, rows)
        unit = scaling.scoring_unit(self._moments(state)[1])
        gradient = self._score(state, features, unit, target, lanes[lane], results)
        for name, value in gradient.items():
            out[f"gradient/{name}"][...] = value

    def apply(self, state: State, outs: Sequence[State], total_rows: int) -> None:
        """The step of a round from what `gradient` wrote for each lane, in lane order; in place."""
        gradient: Parameters = {}
        for name in self._shapes:
            total = outs[0][f"gradient/{name}"].copy()
            for out in outs[1:]:
                total += out[f"gradient/{name}"]
            gradient[name] = total
        for now, after in zip(self._moments(state), self._moments(outs[0]), strict=True):
            if now is not None and after is not None:
                now.assign(after)
        self._step(state, gradient, total_rows, self.rate(state))

    def average(
        self, out: State, before: State, lanes: Sequence[State], lane_rows: Sequence[int]
    ) -> None:
        """Local SGD: `out` becomes the row-weighted mean of the lanes that `run` left.

        Every lane began as a copy of `before`, and learnt from `lane_rows` rows. What the lanes
        took in is merged in lane order; the steps are those of the lane that took the most. `out`
        may be `before`. A single lane is taken as it is.
        """
        if len(lanes) == 1:
            for name, array in out.items():
                array[...] = lanes[0][name]
            return
        merged = self._merged(before, lanes)
        total = sum(lane_rows)
        for name in self.layout():
            if name.startswith(("parameters/", "optimizer/")):
                mean = lanes[0][name] * (lane_rows[0] / total)
                for state, rows in zip(lanes[1:], lane_rows[1:], strict=True):
                    mean += state[name] * (rows / total)
                out[name][...] = mean
        out["steps"][0] = max(int(state["steps"][0]) for state in lanes)
        for now, after in zip(self._moments(out), merged, strict=True):
            if now is not None and after is not None:
                now.assign(after)

    # Using what is learnt

    def predict(self, state: State, x: Array) -> Array:
        """Outputs (n, k) of raw rows x (n, f), in the label's units for regressions; learns nothing.

        A row's outputs don't depend on its neighbours, to the last bit. They are reckoned in float64
        whatever the job's dtype is.
        """
        features, target = self._moments(state)
        base, unit = scaling.scoring_unit(target)
        parameters = {
            name: array.astype(np.float64, copy=False)
            for name, array in self._parameters(state).items()
        }
        outputs = np.empty((len(x), self.outputs))
        for start in range(0, len(x), _TILE_ROWS):
            part = x[start : start + _TILE_ROWS]
            tile = np.zeros((_TILE_ROWS, self.spec.features))
            self._scale(features, part, tile[: len(part)])
            found, _ = self.kernel.forward(parameters, tile)
            outputs[start : start + len(part)] = found[: len(part)]
        return outputs * unit + base if self._scales_target else outputs

    def loss(self, output: Array, y: Array) -> Array:
        """The loss (n,) of recorded or predicted outputs (n, k)."""
        return self.kernel.loss.value(output, y)

    def prediction(self, output: Array) -> Array:
        """Numbers (n,), P(positive) (n,) or the classes' probabilities (n, k)."""
        return self.kernel.loss.link(output)

    def finite(self, state: State) -> bool:
        """Whether every number of the state is finite: parameters, slots and moments."""
        return all(bool(np.isfinite(array).all()) for array in state.values())

    def rate(self, state: State) -> float:
        """The learning rate of the next step."""
        return float(self._rates(state, 1)[0])

    def coefficients(self, state: State) -> tuple[Array, Array] | None:
        """Intercept (k,), weights (k, f) float64 in the features' and the label's own units.

        None where the kernel isn't linear. Clipping can't be undone: it isn't in them.
        """
        found = self.kernel.coefficients(self._parameters(state))
        if found is None:
            return None
        intercept, weights = (np.asarray(array, np.float64) for array in found)
        features, target = self._moments(state)
        if features is not None:
            weights = weights * features.inverse()
            intercept = intercept - weights @ features.mean
        base, unit = scaling.scoring_unit(target)
        return intercept * unit + base, weights * unit

    # Parts

    def _learn_batch(self, state: State, rows: Rows, rate: float, results: Results) -> None:
        features, target = self._moments(state)
        unit = scaling.scoring_unit(target)
        _take_in(features, target, rows)
        gradient = self._score(state, features, unit, target, rows, results)
        self._step(state, gradient, len(rows.y), rate)

    def _score(
        self,
        state: State,
        features: Moments | None,
        unit: Unit,
        target: Moments | None,
        rows: Rows,
        results: Results,
    ) -> Parameters:
        """Fills the results of one batch; returns its weighted gradient sum.

        With outputs o, a regression's recorded loss is (o · unit + base - y)², so its derivative
        by o carries the unit once more.
        """
        kernel, parameters = self.kernel, self._parameters(state)
        z = np.empty(rows.x.shape, self.spec.dtype)
        self._scale(features, rows.x, z)
        raw, tape = kernel.forward(parameters, z)
        raw = raw.astype(np.float64, copy=False)
        output = raw * unit.unit + unit.base if self._scales_target else raw
        residual = kernel.loss.residual(output, rows.y) * unit.unit
        results["output"][...] = output
        results["residual"][...] = residual
        results["norm"][...] = kernel.norms(parameters, tape, residual)
        if "gradient" in results:
            results["gradient"][...] = kernel.gradients(parameters, tape, residual)
        if self._scales_target:
            residual = kernel.loss.residual(raw, scaling.standardised_labels(target, rows.y))
        return kernel.backward(parameters, tape, residual * rows.w[:, None])

    def _step(self, state: State, gradient: Parameters, rows: int, rate: float) -> None:
        from kernels import loops

        state["steps"][0] += 1
        constants = optimizers.constants(self._optimizer_options, int(state["steps"][0]))
        for name in self._shapes:
            loops.step(
                self._optimizer.name,
                state[f"parameters/{name}"],
                [state[f"optimizer/{slot}/{name}"] for slot in self._optimizer.slots],
                gradient[name],
                1.0 / rows,
                self.kernel.l2 if name in self.kernel.penalised else 0.0,
                rate,
                constants,
            )

    def _scale(self, features: Moments | None, x: Array, z: Array) -> None:
        from kernels import loops

        if features is None:
            z[...] = x
        else:
            loops.scale_rows(x, *features, self.spec.clip, z)

    def _merged(
        self, before: State, lanes: Sequence[State]
    ) -> tuple[Moments | None, Moments | None]:
        merged = tuple(m and m.copy() for m in self._moments(before))
        for state in lanes:
            pairs = zip(self._moments(state), self._moments(before), merged, strict=True)
            for after, start, into in pairs:
                if after is not None and start is not None and into is not None:
                    scaling.merge(into, scaling.increment(after, start))
        return merged  # type: ignore[return-value]

    def _moments(self, state: State) -> tuple[Moments | None, Moments | None]:
        return (
            scaling.moments(state, "scaling") if self.spec.standardise else None,
            scaling.moments(state, "target") if self._scales_target else None,
        )

    def _moments_layout(self) -> Layout:
        found: Layout = {}
        if self.spec.standardise:
            found |= scaling.layout("scaling", self.spec.features)
        if self._scales_target:
            found |= scaling.layout("target", 1)
        return found

    def _fresh(self) -> Parameters:
        return self.kernel.init(np.random.Generator(np.random.PCG64(self.spec.seed)))

    def _parameters(self, state: State) -> Parameters:
        return {name: state[f"parameters/{name}"] for name in self._shapes}

    def _rates(self, state: State, count: int) -> Array:
        base = self._optimizer_options.learning_rate
        start = int(state["steps"][0])
        return self._schedule.rates(self._schedule_options, base, start, count)

    def _compiled(self) -> CompiledPass | None:
        kernel: Any = self.kernel
        return kernel.compiled(self.spec) if isinstance(kernel, CompiledKernel) else None


def _take_in(features: Moments | None, target: Moments | None, rows: Rows) -> None:
    from kernels import loops

    if features is not None:
        loops.take_in_rows(rows.x, *features)
    if target is not None:
        loops.take_in_rows(rows.y[:, None], *target)
