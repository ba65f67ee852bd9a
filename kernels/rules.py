"""Rules: how the rows of a batch become a step. Most are an optimizer that treats all numbers alike.

    observe ─▶ (rows are scored) ─▶ sums, lane by lane ─▶ step

Rules for rules: what a rule remembers stands in the state, below `optimizer/`. `observe` looks at a
batch's scaled rows before they are scored, and changes nothing but what `observed` names: lanes of
one round all observe all rows. `sums` only reads, and what it gives adds up over lanes. `step` moves
the state on, in place. Rules that know more of the kernel than its gradient (`experts`,
`normalised`, `newton`, ...) stand in modules of their own; `registry` has them all.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from kernels import optimizers
from kernels.contract import Array, Kernel, Layout, Parameters, State
from kernels.scaling import LARGEST, LEAST_CURVATURE

Shapes = dict[str, tuple[int, ...]]
"""The parameters' shapes, in the order of their names."""


class Aim(NamedTuple):
    """What a batch's raw outputs (n, k) aim at: a loss, labels, offsets, and the rows' weights (n,); see `scaling.variation`."""

    loss: Any
    y: Array
    offset: Array
    w: Array
    variation: float = LARGEST

    def values(self, raw: Array) -> Array:
        """The rows' losses (n,), weighted."""
        return np.asarray(self.loss.value(raw + self.offset[:, None], self.y) * self.w)

    def residual(self, raw: Array, most: Array | float = math.inf) -> Array:
        """Their derivatives by the raw outputs (n, k), none beyond ±`most`, weighted.

        With `most` (n, f) there is a column for each feature, of a single output.
        """
        residual = self.loss.residual(raw + self.offset[:, None], self.y)
        return np.asarray(np.clip(residual, -most, most) * self.w[:, None])

    def squares(self, raw: Array) -> Array:
        """The squares of those of a single output (n,), weighted once."""
        return np.asarray(
            np.square(self.loss.residual(raw + self.offset[:, None], self.y)[:, 0]) * self.w
        )

    def curvature(self, raw: Array) -> Array:
        """Their second derivatives, each output's own (n, k), weighted."""
        bent = self.loss.curvature(raw + self.offset[:, None], self.y)
        return np.asarray(bent.reshape(len(self.y), -1) * self.w[:, None])

    def pearson(self, raw: Array) -> Array:
        """The squared derivatives of a single output over the second ones of labels that are what is predicted (n,), unweighted:
        (y - μ)² over the variance that a family has at μ."""
        output = raw + self.offset[:, None]
        push = self.loss.residual(output, self.y)[:, 0]
        usual = np.maximum(self.loss.curvature(output, self.loss.link(output)), LEAST_CURVATURE)
        return np.asarray(push * (push / usual))


class Batch(NamedTuple):
    """A lane's part of a batch of so many `rows`: scaled, their tape and raw outputs, and their aim."""

    parameters: Parameters
    z: Array
    tape: Any
    raw: Array
    aim: Aim
    rows: int


class Rule(ABC):
    """How sums over rows become a step. Made as `Rule(kernel, shapes, dtype, options)`.

    `observed` names what `observe` changes in a state; `ends_files` says whether `end_file` does
    anything. `options` are those of the optimizer.
    """

    observed: ClassVar[tuple[str, ...]] = ()
    ends_files: ClassVar[bool] = False

    def __init__(self, kernel: Any, shapes: Shapes, dtype: str, options: Any) -> None:
        self.kernel = kernel
        self.shapes = shapes
        self.dtype = dtype
        self.options = options

    @abstractmethod
    def layout(self) -> Layout:
        """What it remembers: names below `optimizer/`."""

    def init(self, state: State) -> None:  # noqa: B027
        """Starts from a state whose parameters are fresh, or another rule's, and where what it remembers is 0."""

    def continues(self, before: Rule) -> bool:
        """Whether what `before`, of the same name, remembers is this one's, too, where the arrays have the same shapes."""
        return True

    def go_on(self, before: Rule, old: State, state: State) -> None:  # noqa: B027
        """Takes over, after `init`, what it can use of the state `old` that a rule left whom it doesn't continue."""

    def watches(self, state: State) -> bool:
        """Whether the moments of features and labels take the next rows in."""
        return True

    def observe(self, state: State, z: Array, w: Array) -> None:  # noqa: B027
        """Takes in a batch's scaled rows z (n, f) and weights w (n,) before they are scored."""

    def scoring(self, state: State) -> Parameters:
        """The parameters that rows are scored by before they are learnt: by default the model's."""
        return {name: state[f"parameters/{name}"] for name in self.shapes}

    @abstractmethod
    def sums_layout(self) -> Layout:
        """Shapes and dtypes of what `sums` gives."""

    @abstractmethod
    def sums(self, state: State, batch: Batch, rate: float) -> State:
        """What the step, at this learning rate, needs of these rows; adds up over lanes."""

    @abstractmethod
    def step(self, state: State, sums: State, rows: int, rate: float) -> None:
        """One step, in place, from the sums over `rows` rows; `steps` counts it already."""

    def settle(self, state: State) -> None:  # noqa: B027
        """Ends a lane's steps, or the averaging of several: the parameters become those to be used."""

    def end_file(self, state: State) -> None:  # noqa: B027
        """What is left to do when a file is whole."""


class Elementwise(Rule):
    """An optimizer of `optimizers`, on every parameter by itself."""

    def __init__(self, name: str, kernel: Any, shapes: Shapes, dtype: str, options: Any) -> None:
        super().__init__(kernel, shapes, dtype, options)
        self.name = name
        self.optimizer = optimizers.OPTIMIZERS[name]

    def layout(self) -> Layout:
        slots, shapes = self.optimizer.slots, self.shapes.items()
        return {
            f"optimizer/{slot}/{name}": (shape, self.dtype)
            for slot in slots
            for name, shape in shapes
        }

    def init(self, state: State) -> None:
        start = self.optimizer.start
        if start is None:
            return
        for name in self.shapes:
            slots = start(state[f"parameters/{name}"], self.options)
            for slot, value in zip(self.optimizer.slots, slots, strict=True):
                state[f"optimizer/{slot}/{name}"][...] = value

    def sums_layout(self) -> Layout:
        return {name: (shape, self.dtype) for name, shape in self.shapes.items()}

    def sums(self, state: State, batch: Batch, rate: float) -> State:
        residual = batch.aim.residual(batch.raw)
        found: State = self.kernel.backward(batch.parameters, batch.tape, residual)
        return found

    def step(self, state: State, sums: State, rows: int, rate: float) -> None:
        from kernels import loops

        numbers = optimizers.numbers(
            self.optimizer, self.options, int(state["steps"][0]), np.array([rows])
        )
        factor = clipped(1.0 / rows, self.options.clip_gradient, sums)
        for name in self.shapes:
            loops.step(
                self.name,
                state[f"parameters/{name}"],
                [state[f"optimizer/{slot}/{name}"] for slot in self.optimizer.slots],
                sums[name],
                factor,
                rate,
                penalty(self.kernel, name),
                numbers[0],
            )


def penalty(kernel: Kernel, name: str) -> tuple[float, float]:
    """(l1, l2) of a parameter; a kernel may have no l1."""
    if name not in kernel.penalised:
        return 0.0, 0.0
    return float(getattr(kernel, "l1", 0.0)), float(kernel.l2)


def clipped(factor: float, most: float, gradient: Mapping[str, Array]) -> float:
    """The factor of a gradient, smaller where factor · |gradient| would be above `most`; 0 is no bound.

    Source: Pascanu, Mikolov & Bengio, ICML 2013: the norm of all parameters together.
    """
    if most <= 0:
        return factor
    squares = sum(float(np.square(g, dtype=np.float64).sum()) for g in gradient.values())
    norm = factor * math.sqrt(squares)
    return factor * most / norm if norm > most else factor


class Entry(NamedTuple):
    """What settings may name as an optimizer: its options, how its rule is made, and for whom.

    `misfit(kernel)` says why the rule can't be a kernel's, or None.
    """

    Options: type
    make: Callable[[Any, Shapes, str, Any], Rule]
    misfit: Callable[[Any], str | None] = lambda kernel: None


def needs_linear(name: str, kernel: Any) -> str | None:
    """Why a rule that reads weights and intercept can't be this kernel's; None where it can."""
    if getattr(kernel, "is_linear", False):
        return None
    return f"{name} goes with the kernels linear, logistic and softmax only"


def elementwise(name: str) -> Entry:
    """The entry of an optimizer of `optimizers`."""

    def make(kernel: Kernel, shapes: Shapes, dtype: str, options: Any) -> Rule:
        return Elementwise(name, kernel, shapes, dtype, options)

    return Entry(optimizers.OPTIMIZERS[name].Options, make)
