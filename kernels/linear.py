"""The linear family: outputs = intercept + weights · x, with any loss.

Rules: one family, whose members differ in their loss alone. Parameters, all zero at first:
`intercept` (k,) unless it is switched off, and `weights` (k, f). The penalty spares the intercept.
These kernels have a compiled pass for every optimizer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kernels import losses
from kernels.contract import (
    CLIP,
    Array,
    CompiledPass,
    Defaults,
    Parameters,
    Problem,
    Spec,
)
from kernels.losses import LossOptions
from kernels.optimizers import check_not_negative


@dataclass(frozen=True, slots=True)
class MemberOptions:
    """Settings of a member whose loss is its name; the penalty is l1 · |weights|₁ + l2/2 · |weights|²."""

    intercept: bool = True
    l1: float = 0.0
    l2: float = 0.0

    def __post_init__(self) -> None:
        check_not_negative(self, "l1", "l2")


@dataclass(frozen=True, slots=True)
class LinearOptions(LossOptions):
    """Settings of `linear`: its loss and the loss's number, and those of all members."""

    intercept: bool = True
    l1: float = 0.0
    l2: float = 0.0

    def __post_init__(self) -> None:
        LossOptions.__post_init__(self)
        if self.loss == "softmax":
            raise ValueError("loss: softmax has an output for each class: use kernel softmax")
        check_not_negative(self, "l1", "l2")


class Linear:
    """One output, and the loss that its options name: squared error, unless they say otherwise."""

    Options: ClassVar[type] = LinearOptions
    penalised: tuple[str, ...] = ("weights",)
    is_linear = True
    wide = "weights"

    def __init__(self, options: LinearOptions, features: int, outputs: int) -> None:
        self.loss = losses.chosen(self._loss(options))
        self.outputs = outputs
        self.l1 = options.l1
        self.l2 = options.l2
        self._shapes: dict[str, tuple[int, ...]] = {"weights": (outputs, features)}
        if options.intercept:
            self._shapes["intercept"] = (outputs,)

    @classmethod
    def _loss(cls, options: LinearOptions) -> LossOptions:
        return options

    @classmethod
    def problem(cls, options: LinearOptions) -> Problem:
        """By the loss."""
        return losses.problem_of(cls._loss(options))

    @classmethod
    def defaults(cls, options: LinearOptions) -> Defaults:
        """Row by row: small steps learn most from a stream, and the pass is compiled.

        A round is long enough to outweigh a trip through the pool, and short enough to be lost. Numbers are
        often proportional to a feature with a long tail (a price to an area): cut off, it would explain
        half of them. Experts' steps are implicit and bear it; where the link is logarithmic or
        logistic, what lies far out says little more than that.
        """
        clip = 0.0 if cls.problem(options) == "regression" else CLIP
        return Defaults(1, 1, 16384, "float64", "experts", clip=clip)

    def init(self, generator: np.random.Generator) -> Parameters:
        """Zeros: the losses are convex, there is no symmetry to break."""
        return {name: np.zeros(shape) for name, shape in self._shapes.items()}

    def forward(self, parameters: Parameters, x: Array) -> tuple[Array, Array]:
        """intercept + weights · x; the tape is x."""
        output = x @ parameters["weights"].T
        if "intercept" in parameters:
            output += parameters["intercept"]
        return output, x

    def backward(self, parameters: Parameters, tape: Array, residual: Array) -> Parameters:
        """weights: residualᵀ x; intercept: Σ residual."""
        residual = residual.astype(tape.dtype, copy=False)
        gradient = {"weights": residual.T @ tape}
        if "intercept" in parameters:
            gradient["intercept"] = residual.sum(axis=0)
        return gradient

    def norms(self, parameters: Parameters, tape: Array, residual: Array) -> Array:
        """|residual| · |(1, x)|: the gradient is their outer product."""
        return self.norms_by(parameters, tape, residual, np.einsum("nf,nf->n", tape, tape))

    def norms_by(
        self, parameters: Parameters, tape: Array, residual: Array, squares: Array
    ) -> Array:
        """As `norms`, where |x|² (n,) is known."""
        squares = squares + ("intercept" in parameters)
        return np.asarray(np.sqrt(np.einsum("nk,nk->n", residual, residual) * squares))

    def gradients(self, parameters: Parameters, tape: Array, residual: Array) -> Array:
        """residual, then residual ⊗ x (intercept before weights)."""
        outer = (residual[:, :, None] * tape[:, None, :]).reshape(len(tape), -1)
        return np.hstack([residual, outer]) if "intercept" in parameters else outer

    def rest(
        self, parameters: Parameters, sums: Array, numbers: Array | None
    ) -> tuple[Array, Array]:
        """The outputs from weights · x, summed up by columns elsewhere; the tape is nothing."""
        return sums + parameters.get("intercept", 0.0), sums

    def pull(
        self, parameters: Parameters, tape: Array, residual: Array
    ) -> tuple[Array, Parameters]:
        """The derivative by those sums (n, k), and the gradient of all that is not `weights`."""
        residual = residual.astype(tape.dtype, copy=False)
        delta, rows = self.pull_rows(parameters, tape, residual)
        return delta, {name: value.sum(axis=0) for name, value in rows.items()}

    def pull_rows(
        self, parameters: Parameters, tape: Array, residual: Array
    ) -> tuple[Array, Parameters]:
        """As `pull`, but row by row: (n, size) of each parameter."""
        return residual, {"intercept": residual} if "intercept" in parameters else {}

    def coefficients(self, parameters: Parameters) -> tuple[Array, Array]:
        """The parameters themselves."""
        weights = parameters["weights"]
        return parameters.get("intercept", np.zeros(len(weights))), weights

    def compiled(self, spec: Spec) -> CompiledPass | None:
        """The compiled pass; numba is imported here, where somebody learns, and not to read settings."""
        from kernels.passes.choice import linear_pass

        return linear_pass(spec, self)


class Logistic(Linear):
    """Two classes, one output: the log odds of the positive one."""

    Options: ClassVar[type] = MemberOptions

    @classmethod
    def _loss(cls, options: MemberOptions) -> LossOptions:  # type: ignore[override]
        return LossOptions("logistic")


class Softmax(Linear):
    """k classes, one output each."""

    Options: ClassVar[type] = MemberOptions

    @classmethod
    def _loss(cls, options: MemberOptions) -> LossOptions:  # type: ignore[override]
        return LossOptions("softmax")
