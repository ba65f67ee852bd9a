"""Sub-tasks over features: each part takes a range of columns, and they meet once in between.

    part: scale its columns ─▶ partial sums of the first layer        (A)
                        ── all parts' sums are there ──
    part: add them up in order ─▶ the rest of the model ─▶ its columns of the gradient, and their step   (B)

Rules: the sums go in the order of the parts. What belongs to no column (biases, other layers, counts)
every part works out, and the first part writes. Whatever B writes it writes to another state than it
reads, so that it may run again. Kernels say what their first layer is by `wide`, `rest` and `pull`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from kernels import optimizers, scaling
from kernels.contract import Array, Layout, Parameters, Results, Rows, State
from kernels.learner import Learner, are_finite
from kernels.rules import Aim, Elementwise, penalty
from kernels.scaling import Moments


def ranges(features: int, parts: int) -> list[tuple[int, int]]:
    """The columns [start, stop) of each part, as even as can be; no more parts than features."""
    parts = min(parts, features)
    ends = [features * part // parts for part in range(parts + 1)]
    return list(pairwise(ends))


class ByColumns:
    """The two halves of a step, of a learner whose optimizer treats every number alike."""

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self._kernel: Any = learner.kernel
        self._wide: str = self._kernel.wide

    def partial_layout(self, rows: int, columns: tuple[int, int]) -> Layout:
        """Shapes and dtypes of what `partial` writes of so many rows."""
        spec, own = self._learner.spec, columns[1] - columns[0]
        width = self._learner.layout()[f"parameters/{self._wide}"][0][0]
        found: Layout = {
            "squares": ((rows,), "float64"),
            "sums": ((rows, width), spec.dtype),
        }
        return found | (scaling.layout("scaling", own, spec.gaps) if spec.standardise else {})

    def partial(self, state: State, rows: Rows, columns: tuple[int, int], out: State) -> None:
        """A: the part's columns scaled, and what they add to the first layer's sums."""
        x = np.ascontiguousarray(rows.x[:, columns[0] : columns[1]])
        if self._learner.spec.standardise:
            moments = scaling.moments(out, "scaling")
            moments.assign(self._own_moments(state, columns))
            self._learner.watching.take_in(moments, [(x, rows.w)])
        z = self._scaled(out, x)
        weights = state[f"parameters/{self._wide}"][:, columns[0] : columns[1]]
        out["sums"][...] = z @ np.ascontiguousarray(weights).T
        out["squares"][...] = np.einsum("nf,nf->n", z, z, dtype=np.float64)

    def finish(
        self,
        state: State,
        rows: Rows,
        parts: Sequence[tuple[int, int]],
        part: int,
        outs: Sequence[State],
        target: State,
        results: Results,
    ) -> bool:
        """B: writes the part's columns of the next state, and the first part all else.

        Returns whether what the first part writes of the rows is finite.
        """
        learner, columns = self._learner, parts[part]
        before = learner.watching.unit(state)
        now = {name: array.copy() for name, array in state.items() if self._is_small(name)}
        now |= {name: state[name] for name in state if name not in now}
        learner.enter(now, [rows], with_features=False)
        sums, squares = outs[0]["sums"].copy(), outs[0]["squares"].copy()
        for out in outs[1:]:
            sums += out["sums"]
            squares += out["squares"]
        parameters = learner.parameters(state)
        z = self._scaled(outs[part], np.ascontiguousarray(rows.x[:, columns[0] : columns[1]]))
        scored, own = self._record(parameters, sums, squares, rows, before, results, part == 0)
        learner.watching.judge(now, scaling.scoring(before), scored, rows)
        self._record_columns(z, own, columns, results)
        raw, tape = self._rest(parameters, sums, state, rows)
        aim: Aim = learner.aim(now, rows)
        delta, others = self._kernel.pull(parameters, tape, aim.residual(raw))
        now["steps"][0] += 1
        now["rows"][0] += len(rows.y)
        self._write(state, now, target, columns, outs[part], delta.T @ z, others, part == 0)
        return part > 0 or are_finite(results)

    def _rest(
        self, parameters: Parameters, sums: Array, state: State, rows: Rows
    ) -> tuple[Array, Any]:
        numbers = None
        if getattr(self._kernel, "draws", False):
            first = int(state["rows"][0])
            numbers = np.arange(first, first + len(rows.y), dtype=np.int64)
        raw, tape = self._kernel.rest(parameters, sums, numbers)
        return raw.astype(np.float64, copy=False), tape

    def _record(
        self,
        parameters: Parameters,
        sums: Array,
        squares: Array,
        rows: Rows,
        before: scaling.Unit,
        results: Results,
        is_first: bool,
    ) -> tuple[Array, Array]:
        """What the rows leave behind but for the columns; returns raw outputs (n, k) and the first layer's deltas (n, m)."""
        raw, tape = self._kernel.rest(parameters, sums, None)
        output, residual = self._learner.scored(raw, rows, before)
        delta, _ = self._kernel.pull(parameters, tape, residual)
        if is_first:
            if self._learner.in_spreads:
                results["unit"][...] = scaling.scoring(before).unit
            results["output"][...] = output
            results["residual"][...] = residual
            results["norm"][...] = self._kernel.norms_by(parameters, tape, residual, squares)
            if "gradient" in results:
                _, others = self._kernel.pull_rows(parameters, tape, residual)
                for name, value in others.items():
                    results["gradient"][:, self._learner.place(name)] = value
        return raw.astype(np.float64, copy=False), np.asarray(delta)

    def _record_columns(
        self, z: Array, delta: Array, columns: tuple[int, int], results: Results
    ) -> None:
        if "gradient" in results:
            whole = results["gradient"][:, self._learner.place(self._wide)]
            features = self._learner.spec.features
            cells = whole.reshape(len(z), -1, features)
            cells[:, :, columns[0] : columns[1]] = delta[:, :, None] * z[:, None, :]

    def _write(
        self,
        state: State,
        now: State,
        target: State,
        columns: tuple[int, int],
        own: State,
        wide: Array,
        others: Parameters,
        is_first: bool,
    ) -> None:
        rule, start, stop = self._learner.rule, columns[0], columns[1]
        assert isinstance(rule, Elementwise)
        names = {self._wide: wide, **(others if is_first else {})}
        for name, gradient in names.items():
            cut = slice(start, stop) if name == self._wide else slice(None)
            self._step(rule, state, now, target, name, cut, gradient)
        if self._learner.spec.standardise:
            for name in self._moments_by_column():
                target[f"scaling/{name}"][start:stop] = own[f"scaling/{name}"]
        if is_first:
            for name in state:
                if self._is_small(name):
                    target[name][...] = now[name]
            if self._learner.spec.standardise and not self._learner.spec.gaps:
                target["scaling/count"][...] = own["scaling/count"]

    def _step(
        self,
        rule: Elementwise,
        state: State,
        now: State,
        target: State,
        name: str,
        cut: slice,
        gradient: Array,
    ) -> None:
        """The optimizer's step of a parameter, or of some of its columns."""
        from kernels import loops

        rows = int(now["rows"][0]) - int(state["rows"][0])
        step, rate = int(now["steps"][0]), self._learner.rate(state)
        numbers = optimizers.numbers(rule.optimizer, rule.options, step, np.array([rows]))
        held = {f"parameters/{name}": np.ascontiguousarray(state[f"parameters/{name}"][..., cut])}
        slots = [f"optimizer/{slot}/{name}" for slot in rule.optimizer.slots]
        held |= {slot: np.ascontiguousarray(state[slot][..., cut]) for slot in slots}
        held = {key: array.copy() for key, array in held.items()}
        loops.step(
            rule.name,
            held[f"parameters/{name}"],
            [held[slot] for slot in slots],
            np.ascontiguousarray(gradient.astype(self._learner.spec.dtype, copy=False)),
            1.0 / rows,
            rate,
            penalty(self._kernel, name),
            numbers[0],
        )
        for key, array in held.items():
            target[key][..., cut] = array

    def _own_moments(self, state: State, columns: tuple[int, int]) -> Moments:
        seen, mean, m2 = scaling.moments(state, "scaling")
        cut = slice(*columns)
        return Moments(seen[cut] if self._learner.spec.gaps else seen, mean[cut], m2[cut])

    def _moments_by_column(self) -> tuple[str, ...]:
        """Those of the moments that each column has of its own."""
        return ("count", "mean", "m2") if self._learner.spec.gaps else ("mean", "m2")

    def _scaled(self, own: State, x: Array) -> Array:
        moments = scaling.moments(own, "scaling") if self._learner.spec.standardise else None
        return self._learner.scaled_by(moments, x)

    @staticmethod
    def _is_small(name: str) -> bool:
        """What belongs to no column and to no parameter."""
        return name in ("steps", "rows") or name.startswith(("target/", "classes/"))
