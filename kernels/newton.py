"""Newton steps online, for linear kernels of one output: steps by the curvature of all rows so far.

    A ← A + Σ h v vᵀ        θ ← θ - η A⁻¹ Σ r v        v = (1, z), r and h the loss's derivatives

Rules: those of `rules`. What is kept is the covariance P = A⁻¹, one row at a time by the formula of
Sherman and Morrison. It starts as `prior_variance` times the identity. For squared error this is
recursive least squares, and for the others one extended Kalman filter step a row (Anderson & Moore,
Optimal Filtering, 1979, 8). Losses of straight pieces have no curvature, and settings
refuse them (`_fits`), though a step would go on with the residual's square in its place, as the online
Newton step does (Hazan, Agarwal & Kale, Machine Learning 69, 2007). Work and memory grow with the square
of the features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels.contract import Kernel, Layout, State
from kernels.losses import LOSSES
from kernels.optimizers import check_positive, shrunk
from kernels.rules import Batch, Entry, Rule, Shapes, penalty


@dataclass(frozen=True, slots=True)
class NewtonOptions:
    """Settings of `newton`; a learning rate below 1 takes that share of the whole step."""

    learning_rate: float = 1.0
    prior_variance: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self, "learning_rate", "prior_variance")


class Newton(Rule):
    """The rule of `newton`. Its gradients are of (intercept, weights), end to end: (m,)."""

    def __init__(self, kernel: Kernel, shapes: Shapes, dtype: str, options: NewtonOptions) -> None:
        super().__init__(kernel, shapes, dtype, options)
        self._ones = int("intercept" in shapes)
        self._size = shapes["weights"][1] + self._ones

    def layout(self) -> Layout:
        return {"optimizer/covariance": ((self._size, self._size), "float64")}

    def init(self, state: State) -> None:
        np.fill_diagonal(state["optimizer/covariance"], self.options.prior_variance)

    def sums_layout(self) -> Layout:
        size = self._size
        return {"gradient": ((size,), "float64"), "curvature": ((size, size), "float64")}

    def sums(self, state: State, batch: Batch, rate: float) -> State:
        v = np.hstack([np.ones((len(batch.z), self._ones)), batch.z.astype(np.float64)])
        bent = batch.aim.curvature(batch.raw)[:, 0]
        gradient = batch.aim.residual(batch.raw)[:, 0] @ v
        return {"gradient": gradient, "curvature": v.T @ (bent[:, None] * v)}

    def step(self, state: State, sums: State, rows: int, rate: float) -> None:
        covariance = state["optimizer/covariance"]
        inner = np.eye(self._size) + sums["curvature"] @ covariance
        covariance[...] = np.linalg.solve(inner.T, covariance).T
        covariance[...] = 0.5 * (covariance + covariance.T)
        weights = state["parameters/weights"][0]
        l1, l2 = penalty(self.kernel, "weights")
        gradient = sums["gradient"].copy()
        gradient[self._ones :] += rows * l2 * weights
        move = rate * (covariance @ gradient)
        weights -= move[self._ones :].astype(weights.dtype)
        if l1 > 0:
            own = np.diagonal(covariance)[self._ones :]
            weights[...] = shrunk(weights, rate * rows * l1 * own)
        if self._ones:
            state["parameters/intercept"][0] -= move[0]


def _fits(kernel: Any) -> str | None:
    if getattr(kernel, "outputs", 1) != 1 or not getattr(kernel, "is_linear", False):
        return "newton goes with the kernels linear and logistic only, which have one output"
    if not getattr(kernel.loss, "is_bent", True):
        bent = ", ".join(name for name, one in LOSSES.items() if one.curvature is not None)
        return (
            f"newton steps by a loss's second derivative, which {kernel.loss.name} hasn't: "
            f"take another optimizer, or one of the losses {bent}"
        )
    return None


NEWTON = Entry(NewtonOptions, Newton, _fits)
