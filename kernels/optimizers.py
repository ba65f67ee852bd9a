"""Optimizers: pairs of pure functions, `init` of the slots and the direction of a step.

Rules: every optimizer is the same stanza: an `Options` dataclass, and a direction, a pure function
of one parameter's gradient and of its two slots. A direction works on numbers as well as on
arrays: `compiled` compiles these functions for its loops, so that each formula stands here and
nowhere else. A step is then

    parameter ← parameter - rate · direction(gradient)

The five constants after the slots are the same for all, whether they are used or not: the share of
the new value in either slot, the factors that undo the slots' start at zero, and epsilon.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np

from kernels.contract import Parameters, lookup

V = TypeVar("V", bound=Any)
"""A number, or an array of any shape; all of one call's are alike."""
Slots = dict[str, Parameters]
"""What an optimizer remembers: per slot one array for each parameter."""
Direction = Callable[..., tuple[Any, Any, Any]]


class Constants(NamedTuple):
    """The numbers that a direction takes after its slots, for one step."""

    first_share: float
    second_share: float
    first_factor: float
    second_factor: float
    epsilon: float


class Optimizer(NamedTuple):
    """One optimizer; `slots` names what it remembers of each parameter, at most two arrays."""

    name: str
    Options: type
    slots: tuple[str, ...]
    direction: Direction

    def init(self, parameters: Parameters) -> Slots:
        """Slots that have seen nothing: zeros, shaped and typed as the parameters."""
        return {
            slot: {name: np.zeros_like(value) for name, value in parameters.items()}
            for slot in self.slots
        }


def configured(settings: Mapping[str, Any]) -> tuple[Optimizer, Any]:
    """The optimizer that settings name, and its options made from the rest of them."""
    optimizer = lookup("optimizer", OPTIMIZERS, settings["name"])
    options = {key: value for key, value in settings.items() if key != "name"}
    return optimizer, optimizer.Options(**options)


def constants(options: Any, step: int) -> Constants:
    """The constants of step number `step`, counted from 1."""
    b1 = getattr(options, "b1", 0.0)
    b2 = getattr(options, "b2", 0.0)
    epsilon = getattr(options, "epsilon", 0.0)
    return Constants(1 - b1, 1 - b2, 1 / (1 - b1**step), 1 / (1 - b2**step), epsilon)


def _positive(options: Any, *names: str) -> None:
    for name in names:
        value = getattr(options, name)
        if not 0 < value < float("inf"):
            raise ValueError(f"{name}: must be greater than 0 and finite, got {value}")


@dataclass(frozen=True, slots=True)
class SgdOptions:
    """Plain stochastic gradient descent (Robbins & Monro, 1951)."""

    learning_rate: float = 0.01

    def __post_init__(self) -> None:
        _positive(self, "learning_rate")


def sgd_direction(
    gradient: V, first: V, second: V, _a: Any, _b: Any, _c: Any, _d: Any, _epsilon: Any
) -> tuple[V, V, V]:
    """d = g."""
    return gradient, first, second


@dataclass(frozen=True, slots=True)
class AdagradOptions:
    """Steps that shrink with the gradients seen (Duchi, Hazan & Singer, JMLR 12, 2011)."""

    learning_rate: float = 0.1
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        _positive(self, "learning_rate", "epsilon")


def adagrad_direction(
    gradient: V, squares: V, second: V, _a: Any, _b: Any, _c: Any, _d: Any, epsilon: Any
) -> tuple[V, V, V]:
    """s ← s + g²; d = g / (√s + ε)."""
    squares = squares + gradient * gradient
    return gradient / (np.sqrt(squares) + epsilon), squares, second


@dataclass(frozen=True, slots=True)
class AdamOptions:
    """Running means of gradients and of their squares (Kingma & Ba, ICLR 2015, algorithm 1)."""

    learning_rate: float = 0.001
    b1: float = 0.9
    b2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        _positive(self, "learning_rate", "epsilon")
        for name in ("b1", "b2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: must be in [0, 1), got {getattr(self, name)}")


def adam_direction(
    gradient: V,
    first: V,
    second: V,
    first_share: Any,
    second_share: Any,
    first_factor: Any,
    second_factor: Any,
    epsilon: Any,
) -> tuple[V, V, V]:
    """m ← m + (1-b₁)(g-m); v ← v + (1-b₂)(g²-v); d = m̂ / (√v̂ + ε), m̂ = m/(1-b₁ᵗ), v̂ = v/(1-b₂ᵗ)."""
    first = first + first_share * (gradient - first)
    second = second + second_share * (gradient * gradient - second)
    return first * first_factor / (np.sqrt(second * second_factor) + epsilon), first, second


OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": Optimizer("sgd", SgdOptions, (), sgd_direction),
    "adagrad": Optimizer("adagrad", AdagradOptions, ("squares",), adagrad_direction),
    "adam": Optimizer("adam", AdamOptions, ("first", "second"), adam_direction),
}
