"""Normalised adaptive gradient: steps that don't depend on the features' scales, for linear kernels.

    s ← max(s, |z|), w ← w · s_before/s     N ← N + |z/s|²     G ← G + g²
    w ← w - η √(t/N) g / (s (√G + ε))

Source: Ross, Mineiro & Langford, Normalized Online Learning, UAI 2013, algorithm 2 (NAG); it is what
Vowpal Wabbit does by default.

Rules: those of `rules`. The scales s are the largest |z| seen, N and t count the rows of positive
weight. Rows of a batch are observed together, and g is their mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernels.contract import Array, Kernel, Layout, State
from kernels.optimizers import check_positive, shrunk
from kernels.rules import Batch, Entry, Rule, Shapes, needs_linear, penalty

EPSILON = 1e-8
"""Keeps a gradient that is only rounding from making a whole step."""


@dataclass(frozen=True, slots=True)
class NormalisedOptions:
    """Settings of `normalised`; the learning rate is Vowpal Wabbit's own default."""

    learning_rate: float = 0.5

    def __post_init__(self) -> None:
        check_positive(self, "learning_rate")


class Normalised(Rule):
    """The rule of `normalised`; `optimizer/size` is (t, N)."""

    observed = ("optimizer/scale", "optimizer/size", "parameters/weights")

    def __init__(
        self, kernel: Kernel, shapes: Shapes, dtype: str, options: NormalisedOptions
    ) -> None:
        super().__init__(kernel, shapes, dtype, options)

    def layout(self) -> Layout:
        found: Layout = {
            "optimizer/scale": ((self.shapes["weights"][1],), "float64"),
            "optimizer/size": ((2,), "float64"),
        }
        for name, shape in self.shapes.items():
            found[f"optimizer/squares/{name}"] = (shape, self.dtype)
        return found

    def observe(self, state: State, z: Array, w: Array) -> None:
        z = z[w > 0].astype(np.float64)
        if not len(z):
            return
        scale, size = state["optimizer/scale"], state["optimizer/size"]
        grown = np.maximum(scale, np.abs(z).max(axis=0))
        share = np.divide(scale, grown, out=np.zeros_like(scale), where=grown > 0)
        state["parameters/weights"] *= share.astype(self.dtype)
        scale[...] = grown
        size[0] += len(z)
        size[1] += np.square(z * _inverse(grown)).sum() + len(z) * ("intercept" in self.shapes)

    def sums_layout(self) -> Layout:
        return {name: (shape, self.dtype) for name, shape in self.shapes.items()}

    def sums(self, state: State, batch: Batch, rate: float) -> State:
        residual = batch.aim.residual(batch.raw)
        found: State = self.kernel.backward(batch.parameters, batch.tape, residual)
        return found

    def step(self, state: State, sums: State, rows: int, rate: float) -> None:
        t, size = state["optimizer/size"]
        if size == 0:
            return
        per_row = rate * np.sqrt(t / size)
        for name in self.shapes:
            theta, squares = state[f"parameters/{name}"], state[f"optimizer/squares/{name}"]
            l1, l2 = penalty(self.kernel, name)
            g = sums[name] / rows + l2 * theta
            squares += (g * g).astype(self.dtype)
            scale = _inverse(state["optimizer/scale"]) if name == "weights" else 1.0
            pace = per_row * scale / (np.sqrt(squares) + EPSILON)
            theta -= (pace * g).astype(self.dtype)
            if l1 > 0:
                theta[...] = shrunk(theta, pace * l1)


def _inverse(values: Array) -> Array:
    """1/value, 0 for 0; float64."""
    values = values.astype(np.float64)
    return np.divide(1.0, values, out=np.zeros_like(values), where=values > 0)


NORMALISED = Entry(NormalisedOptions, Normalised, lambda kernel: needs_linear("normalised", kernel))
