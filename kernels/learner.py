"""A kernel, an optimizer, a schedule and scaling, composed on a state of named arrays.

Rules: deterministic; nothing is kept between calls but what the spec says; every sum over lanes is
in lane order. Methods that change a state do it in place: whoever may have to run them again gives
them a copy. Arrays of rows are only read. The state's names, in their fixed order:

    classes/weight                 weights of the classes seen, if their steps are balanced
    optimizer/...                  what the optimizer remembers, see `rules`
    parameters/<parameter>         the model
    rows                           rows learnt, int64 (1,)
    sparse/...                     what is learnt of slots, if rows are sparse, see `sparse`
    scaling/count, m2, mean        of the features seen, if the job standardises
    steps                          optimizer steps taken, int64 (1,)
    target/count, m2, mean         of the labels seen, if they are scaled
    target/extremes                the least and the most of them
    target/reaches                 what is held against predictions that reach so far beyond these, of numbers

A row is scored with the labels' unit from before its batch, and with its features standardised by
moments that include its batch; the step aims at labels in the unit that includes the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np

from kernels import registry, scaling, schedules, sparse, strangers
from kernels.contract import (
    Array,
    CompiledPass,
    Ends,
    FilesPass,
    Layout,
    Parameters,
    Precision,
    Problem,
    Results,
    Rows,
    Sparse,
    Spec,
    State,
)
from kernels.losses import Scale
from kernels.rules import Aim, Batch
from kernels.scaling import Moments, Unit
from kernels.watching import Watching

__all__ = ["Extra", "Learner", "Rows", "build"]

Extra = Literal["", "gradient", "factors"]
"""What is recorded of a row beside its output, residual and norm: its whole gradient, or what that
is a product of."""

_SMALL = 4096  # an array that is sooner copied beside others than looked at by itself
_TILE_ROWS = 256
"""Rows are predicted in tiles of this size, the last one padded, and in float64: products of matrices of
one shape then give a row the same bits wherever it stands. OpenBLAS' float32 kernels don't: there the
last bit depends on a row's place among the others, and so would on chunks."""

_OF_OUTPUTS = ("parameters/", "sparse/weights", "target/mean")
"""So begin the arrays that outputs are made of."""


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
        kernel: Any = made(options, spec.features, spec.outputs)
        kernel.seed = spec.seed
        if ":" in spec.kernel:
            kernel = strangers.Inspected(spec.kernel, kernel, spec.outputs)
        self.kernel = kernel
        self.problem: Problem = made.problem(options)
        self.outputs = spec.outputs
        self.is_likelihood = bool(getattr(self.kernel.loss, "is_likelihood", True))
        self._scale: Scale = "none"
        if spec.scale_target:
            self._scale = getattr(self.kernel.loss, "scale", "none")
        classes = 2 if self.problem == "binary" else spec.outputs
        self.watching = Watching(spec, self._scale, classes)
        self.in_spreads = self._scale == "spread" and getattr(kernel.loss, "in_spreads", False)
        self._shapes = {name: value.shape for name, value in sorted(self._fresh().items())}
        self.rule = registry.rule(spec, self.kernel, self._shapes)
        self._schedule, self._schedule_options = schedules.configured(spec.schedule)
        self.slots = 1 << spec.bits if spec.bits else 0
        dense = sum(int(np.prod(shape)) for shape in self._shapes.values())
        self.parameter_count = dense + self.outputs * self.slots
        self._layout = self._laid_out()

    def rehearse(self) -> None:
        """Tries every function of a stranger's kernel on a few rows. Raises KernelFault."""
        if isinstance(self.kernel, strangers.Inspected):
            strangers.rehearse(self.kernel, self.spec.features, self.problem)

    # What there is

    @property
    def first_layer(self) -> int:
        """How many sums a kernel's first layer makes of the features; 0 where it has none of that kind."""
        wide = getattr(self.kernel, "wide", None)
        return 0 if wide is None else self._shapes[wide][0]

    def layout(self) -> Layout:
        """Shapes and dtypes of the state's arrays, in the order of their names."""
        return self._layout

    def _laid_out(self) -> Layout:
        found: Layout = {"steps": ((1,), "int64"), "rows": ((1,), "int64")}
        for name, shape in self._shapes.items():
            found[f"parameters/{name}"] = (shape, self.spec.dtype)
        found |= self.rule.layout() | self.watching.layout()
        if self.slots:
            rule = self.spec.optimizer["name"]
            found |= sparse.layout(rule, self.outputs, self.slots, self.spec.dtype)
        return dict(sorted(found.items()))

    def results_layout(self, rows: int, extra: Extra = "") -> Layout:
        """Shapes and dtypes of the results of `rows` rows, float64.

        `norm` (n,), `output` and `residual` (n, k); `gradient` (n, P) or `factor/<name>` (n, m) if asked
        for; `unit` (n,), that of the labels before the row's batch, if the loss depends on it. A kernel
        whose residual is all that a gradient needs beside the row has no factors.
        """
        outputs = ((rows, self.outputs), "float64")
        found: Layout = {"norm": ((rows,), "float64"), "output": outputs, "residual": outputs}
        if self.in_spreads:
            found["unit"] = ((rows,), "float64")
        if extra == "gradient":
            found["gradient"] = ((rows, self.parameter_count), "float64")
        if extra == "factors" and hasattr(self.kernel, "factors_layout"):
            factors: Layout = self.kernel.factors_layout(rows)
            found |= {f"factor/{name}": entry for name, entry in factors.items()}
        return dict(sorted(found.items()))

    def gradient_layout(self) -> Layout:
        """Shapes and dtypes of what `gradient` writes: its lane's sums, and what all rows tell."""
        found = {f"sum/{name}": entry for name, entry in self.rule.sums_layout().items()}
        whole = self.layout()
        observed = {name: whole[name] for name in self.rule.observed}
        return dict(sorted((found | observed | self.watching.layout()).items()))

    def init(self, state: State) -> None:
        """Fills `state` with a model that has seen nothing."""
        for array in state.values():
            array[...] = 0
        for name, value in self._fresh().items():
            state[f"parameters/{name}"][...] = value
        self.rule.init(state)

    # Learning

    def run(self, state: State, rows: Rows, batch_rows: int, results: Results) -> bool:
        """One lane: learns from `rows` in place, batch after batch (the last may be short).

        Returns whether the numbers of its results and of its state are finite; `guard` says who is to blame where they aren't.
        """
        self._learn(state, rows, batch_rows, results)
        return are_finite(results) and self.finite(state)

    def _learn(self, state: State, rows: Rows, batch_rows: int, results: Results) -> None:
        batches = -(-len(rows.y) // batch_rows)
        rates = self._rates(state, batches)
        compiled = self._compiled
        if compiled is not None:
            pushes = self.watching.push_weights(state, rows, batch_rows)
            compiled(state, rows, pushes, batch_rows, rates, results)
            return
        for batch in range(batches):
            part = slice(batch * batch_rows, (batch + 1) * batch_rows)
            self._learn_batch(
                state,
                rows.slice(part.start, part.stop),
                float(rates[batch]),
                {name: array[part] for name, array in results.items()},
            )
        self.rule.settle(state)

    @property
    def learns_files(self) -> bool:
        """Whether there is `learn_files`: of a compiled pass, where what a row weighs doesn't hang on the rows before it."""
        return hasattr(self._compiled, "files") and self.spec.class_weight != "balanced"

    def learn_files(
        self, state: State, rows: Rows, ends: Ends, batch_rows: int, results: Results
    ) -> Array:
        """As `run`, of files one after the other, whose rows end at `ends`. Gives the rate (files,) of the step after each, and
        doesn't look whether all is finite."""
        compiled: FilesPass = self._compiled  # type: ignore[assignment]
        steps = np.cumsum(-(-np.diff(ends.stops, prepend=0) // batch_rows))
        rates = self._rates(state, int(steps[-1]) + 1)
        pushes = self.watching.push_weights(state, rows, batch_rows)
        compiled.files(state, rows, pushes, batch_rows, rates[:-1], results, ends)
        return np.asarray(rates[steps])

    def gradient(
        self, state: State, lanes: Sequence[Rows], lane: int, out: State, results: Results
    ) -> bool:
        """Lane `lane`'s part of one exact step of the round `lanes`; `results` are that lane's.

        Every lane takes in the moments of all lanes' rows, and so comes to the same ones: that
        costs less than a second barrier. Returns what `run` returns.
        """
        now = {**state}
        for name, (shape, dtype) in {**self.watching.layout(), **self._observed()}.items():
            now[name] = out[name]
            out[name][...] = state[name].reshape(shape).astype(dtype, copy=False)
        rows = sum(len(rows.y) for rows in lanes)
        scoring = self.watching.unit(state)
        self.enter(now, lanes)
        self._observe(now, lanes)
        first = int(state["rows"][0]) + sum(len(part.y) for part in lanes[:lane])
        score = Scoring(scoring, first, rows, self.rate(state))
        sums = self._score(now, lanes[lane], score, results)
        for name, value in sums.items():
            out[f"sum/{name}"][...] = value
        return are_finite(results) and self.finite(out)

    def apply(self, state: State, outs: Sequence[State], total_rows: int) -> None:
        """The step of a round from what `gradient` wrote for each lane, in lane order; in place."""
        sums: State = {}
        for name in self.rule.sums_layout():
            total = outs[0][f"sum/{name}"].copy()
            for out in outs[1:]:
                total += out[f"sum/{name}"]
            sums[name] = total
        whole = self.watching.together(state, outs)
        for name, value in {**whole, **{key: outs[0][key] for key in self.rule.observed}}.items():
            state[name][...] = value
        self._step(state, sums, total_rows, self.rate(state))
        self.rule.settle(state)

    def end_file(self, state: State) -> None:
        """What an optimizer of whole files does when one is whole; in place."""
        self.rule.end_file(state)

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
        merged = self.watching.merged(before, lanes, lane_rows)
        total = sum(lane_rows)
        for name in self.layout():
            if name.startswith(("parameters/", "optimizer/")):
                mean = lanes[0][name] * (lane_rows[0] / total)
                for state, rows in zip(lanes[1:], lane_rows[1:], strict=True):
                    mean += state[name] * (rows / total)
                out[name][...] = mean
        out["steps"][0] = max(int(state["steps"][0]) for state in lanes)
        out["rows"][0] = int(before["rows"][0]) + total
        for name, array in merged.items():
            out[name][...] = array
        self.rule.settle(out)

    # Using what is learnt

    def predict(
        self,
        state: State,
        x: Array,
        offset: Array | None = None,
        rows: Sparse | None = None,
        precision: Precision = "float64",
    ) -> Array:
        """Outputs (n, k) float64 of raw rows x (n, f), in the label's units for regressions; learns nothing.

        `offset` (n,) is added; `rows` is what is sparse of the same rows. A row's outputs don't depend on its neighbours, to the last bit. They
        are reckoned in float64 whatever the job's dtype is; of many rows that only a metric is taken of, the job's own does, in half the time.
        """
        unit = scaling.scoring(self.watching.unit(state))
        features = self.watching.features(state)
        parameters = {
            name: array.astype(precision, copy=False)
            for name, array in self.parameters(state).items()
        }
        outputs = np.empty((len(x), self.outputs))
        tile_rows = _TILE_ROWS if self.spec.features else max(len(x), 1)
        for start in range(0, len(x), tile_rows):
            part = x[start : start + tile_rows]
            tile = np.zeros((tile_rows, self.spec.features), precision)
            self._scale_rows(features, part, tile[: len(part)])
            found, _ = self.kernel.forward(parameters, tile)
            outputs[start : start + len(part)] = found[: len(part)]
        if rows is not None:
            self._add_slots(state, rows, outputs)
        if self._scale != "none":
            outputs = unit.outputs(outputs)
        return outputs if offset is None else outputs + offset[:, None]

    def loss(self, output: Array, y: Array, unit: Array | float = 1.0) -> Array:
        """The loss (n,) of recorded or predicted outputs (n, k), where the labels' unit was `unit`."""
        return np.asarray(self.loss_of_labels(unit).value(output, y))

    def loss_of_labels(self, unit: Array | float) -> Any:
        """The loss of labels in their own units, where the unit that scales them is `unit`."""
        return self.kernel.loss.of_labels(unit) if self.in_spreads else self.kernel.loss

    def floor(self, y: Array) -> Array:
        """The least loss (n,) that rows with these labels can have."""
        floor = getattr(self.kernel.loss, "floor", None)
        return np.zeros(len(y)) if floor is None else np.asarray(floor(y))

    def prediction(self, output: Array) -> Array:
        """Numbers (n,), P(positive) (n,) or the classes' probabilities (n, k)."""
        return np.asarray(self.kernel.loss.link(output))

    def finite(self, state: State) -> bool:
        """Whether every number of the state is finite: parameters, slots and moments; and whether none of those that outputs
        are made of is so large that outputs would be beyond all bounds."""
        small = [array for array in state.values() if array.size <= _SMALL]
        large = [array for array in state.values() if array.size > _SMALL]
        together = np.concatenate(small, axis=None)
        if all(_within(array, scaling.LARGEST) for array in [together, *large]):
            return True
        return all(_within(array, _bound(name)) for name, array in state.items())

    def rate(self, state: State) -> float:
        """The learning rate of the next step."""
        return float(self._rates(state, 1)[0])

    def coefficients(self, state: State) -> tuple[Array, Array] | None:
        """Intercept (k,), weights (k, f) float64 in the features' and the label's own units.

        None where the kernel isn't linear. Clipping can't be undone: it isn't in them.
        """
        found = self.kernel.coefficients(self.parameters(state))
        if found is None:
            return None
        intercept, weights = (np.asarray(array, np.float64) for array in found)
        features = self.watching.features(state)
        if features is not None:
            weights = weights * features.inverse()
            intercept = intercept - weights @ features.mean
        base, unit, *_ = scaling.scoring(self.watching.unit(state))
        return intercept * unit + base, weights * unit

    def unscaled(self, state: State, z: Array) -> Array:
        """Scaled rows z (n, f) in the features' own units, float64."""
        features = self.watching.features(state)
        z = z.astype(np.float64)
        return z if features is None else z * features.deviation() + features.mean

    def place(self, name: str) -> slice:
        """Where a parameter stands in a whole gradient (n, P)."""
        sizes = {key: int(np.prod(shape)) for key, shape in self._shapes.items()}
        start = sum(size for key, size in sizes.items() if key < name)
        return slice(start, start + sizes[name])

    def slot_weights(self, state: State, slots: Array) -> Array:
        """The weights (k, u) float64 of slots (u,), in the label's own units."""
        scaled = self._scale != "none"
        unit = scaling.scoring(self.watching.unit(state)).unit if scaled else 1.0
        return self._weights_of(state, slots) * unit

    def _weights_of(self, state: State, slots: Array) -> Array:
        penalty = (float(self.kernel.l1), float(self.kernel.l2))
        return sparse.weights(state, slots, self.rule.options, penalty, self.rate(state))

    def _add_slots(self, state: State, rows: Sparse, outputs: Array) -> None:
        """outputs (n, k) += the slots' weights · the sparse rows; a row's sum doesn't depend on its neighbours."""
        from kernels.passes.slots import add_outputs

        slots, entries = sparse.compacted(rows, self.spec.bits)
        add_outputs(entries, self._weights_of(state, slots), outputs)

    # One batch

    def _learn_batch(self, state: State, rows: Rows, rate: float, results: Results) -> None:
        scoring = self.watching.unit(state)
        self.enter(state, [rows])
        self._observe(state, [rows])
        score = Scoring(scoring, int(state["rows"][0]), len(rows.y), rate)
        sums = self._score(state, rows, score, results)
        self._step(state, sums, len(rows.y), rate)

    def _observe(self, state: State, lanes: Sequence[Rows]) -> None:
        """Shows a whole batch to a rule that looks at rows before they are scored."""
        if self.rule.observed:
            z = np.concatenate([self.scaled(state, rows.x) for rows in lanes])
            self.rule.observe(state, z, np.concatenate([rows.w for rows in lanes]))

    def _score(self, state: State, rows: Rows, scoring: Scoring, results: Results) -> State:
        """Fills the results of one lane's rows; returns what the rule's step needs of them.

        With outputs o, a regression's recorded loss is that of o · unit + base, so its derivative by o
        carries the unit. The state's own unit includes the batch.
        """
        kernel, parameters = self.kernel, self.rule.scoring(state)
        z = self.scaled(state, rows.x)
        raw, tape = kernel.forward(parameters, z)
        raw = raw.astype(np.float64, copy=False)
        output, residual = self.scored(raw, rows, scoring.unit)
        self.watching.judge(state, scaling.scoring(scoring.unit), raw, rows)
        if self.in_spreads:
            results["unit"][...] = scaling.scoring(scoring.unit).unit
        results["output"][...] = output
        results["residual"][...] = residual
        results["norm"][...] = kernel.norms(parameters, tape, residual)
        if "gradient" in results:
            results["gradient"][...] = kernel.gradients(parameters, tape, residual)
        if any(name.startswith("factor/") for name in results):
            for name, value in kernel.factors(parameters, tape, residual).items():
                results[f"factor/{name}"][...] = value
        if getattr(kernel, "draws", False):
            numbers = np.arange(scoring.first, scoring.first + len(rows.y), dtype=np.int64)
            raw, tape = kernel.forward(parameters, z, numbers)
            raw = raw.astype(np.float64, copy=False)
        batch = Batch(parameters, z, tape, raw, self.aim(state, rows), scoring.batch_rows)
        return self.rule.sums(state, batch, scoring.rate)

    def scored(self, raw: Array, rows: Rows, unit: Unit) -> tuple[Array, Array]:
        """Outputs (n, k) in the label's unit, and the derivatives (n, k) of the rows' loss by raw ones."""
        unit = scaling.scoring(unit)
        output = unit.outputs(raw) if self._scale != "none" else raw
        output = output + rows.offset[:, None]
        return output, self.loss_of_labels(unit.unit).residual(output, rows.y) * unit.unit

    def aim(self, state: State, rows: Rows) -> Aim:
        """What the step drives the rows' raw outputs to, in the labels' unit that includes them."""
        factors = self.watching.class_factors(state, rows)
        loss, weights = self.kernel.loss, rows.w if factors is None else rows.w * factors
        unit = self.watching.unit(state)
        if self._scale == "spread":
            scaled = loss.of_aims(unit.unit) if unit.unit > 0 else loss
            y = unit.aims("spread", rows.y - rows.offset)
            return Aim(scaled, y, np.zeros(len(y)), weights)
        if self._scale == "mean":
            variation = scaling.variation(scaling.moments(state, "target"))
            return Aim(loss, unit.aims("mean", rows.y), rows.offset, weights, variation)
        return Aim(loss, rows.y, rows.offset, weights)

    def _step(self, state: State, sums: State, rows: int, rate: float) -> None:
        state["steps"][0] += 1
        state["rows"][0] += rows
        self.rule.step(state, sums, rows, rate)

    def enter(self, state: State, lanes: Sequence[Rows], with_features: bool = True) -> None:
        """Takes a batch in, lane by lane, unless the rule wants the moments to stay."""
        if self.rule.watches(state):
            self.watching.enter(state, lanes, with_features)

    def _observed(self) -> Layout:
        whole = self.layout()
        return {name: whole[name] for name in self.rule.observed}

    # Parts

    def scaled(self, state: State, x: Array) -> Array:
        """The rows x (n, f) as the kernel gets them."""
        return self.scaled_by(self.watching.features(state), x)

    def scaled_by(self, features: Moments | None, x: Array) -> Array:
        """The rows x (n, f) as the kernel gets them, by these moments."""
        z = np.empty(x.shape, self.spec.dtype)
        self._scale_rows(features, x, z)
        return z

    def _scale_rows(self, features: Moments | None, x: Array, z: Array) -> None:
        from kernels import loops

        if features is None:
            z[...] = x
        else:
            loops.scale_rows(x, *features, self.spec.clip, z)

    def _fresh(self) -> Parameters:
        found: Parameters = self.kernel.init(np.random.Generator(np.random.PCG64(self.spec.seed)))
        return found

    def parameters(self, state: State) -> Parameters:
        """The model's own parameters, as views."""
        return {name: state[f"parameters/{name}"] for name in self._shapes}

    def _rates(self, state: State, count: int) -> Array:
        base = getattr(self.rule.options, "learning_rate", 1.0)
        start = int(state["steps"][0])
        return self._schedule.rates(self._schedule_options, base, start, count)

    @cached_property
    def _compiled(self) -> CompiledPass | None:
        compiled = getattr(self.kernel, "compiled", None)  # a `CompiledKernel`
        return None if compiled is None else compiled(self.spec)


class Scoring(NamedTuple):
    """How a lane's rows are scored: labels in the unit from before the batch, the first row's number
    over the job's life, and the batch's rows and rate."""

    unit: Unit
    first: int
    batch_rows: int
    rate: float


def are_finite(results: Results) -> bool:
    """Whether all rows' gradients are finite, and no output is beyond all bounds."""
    outputs = np.abs(results["output"])
    return bool(np.isfinite(results["norm"]).all() and (outputs < scaling.LARGEST).all())


def _bound(name: str) -> float:
    """What the numbers of an array of the state stay below: squares, and what an optimizer remembers, need only be finite."""
    if name == "target/m2":
        return scaling.LARGEST**2
    return scaling.LARGEST if name.startswith(_OF_OUTPUTS) else np.inf


def _within(array: Array, bound: float) -> bool:
    """Whether all numbers lie inside ±`bound`; NaN never does."""
    return -bound < float(array.min(initial=0)) and float(array.max(initial=0)) < bound
