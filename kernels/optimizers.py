"""Optimizers that treat every number alike: pairs of pure functions, the slots' start and a step.

Rules: every optimizer is the same stanza: an `Options` dataclass, and a step, a pure function of one
parameter θ, its gradient g and five slots (those that it has no use for are passed through). It
gives the new θ and slots. A step works on numbers as well as on arrays, without a branch but on the
penalties: `loops` compiles these functions, so that each formula stands here and nowhere else. To
add an optimizer is to add its stanza and one entry of `OPTIMIZERS`.

    η the learning rate    l1, l2 the penalty l1 |θ| + l2/2 θ²    k up to five numbers of its own

L2 is part of the gradient. L1 is a proximal step, so that weights become exactly zero: θ is drawn
towards 0 by l1 times the pace at which the step answers a lasting gradient (Duchi & Singer, JMLR 10,
2009). Optimizers that look at whole rows stand in modules of their own: see `rules`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np

from kernels.contract import Array
from kernels.scaling import kept

V = TypeVar("V", bound=Any)
"""A number, or an array of any shape; all of one call's are alike."""
MOST_SLOTS = 5
Numbers = tuple[Any, Any, Any, Any, Any]
"""What a step takes as `k`; unused ones are 0."""
Step = Callable[..., tuple[Any, Any, Any, Any, Any, Any]]


def shrunk(theta: V, by: V) -> V:
    """θ drawn towards 0 by so much, and no further: sign(θ) max(|θ| - by, 0)."""
    return np.sign(theta) * np.maximum(np.abs(theta) - by, 0.0)  # type: ignore[no-any-return]


class Optimizer(NamedTuple):
    """One optimizer; `slots` names what it remembers of each parameter, at most five arrays.

    `numbers(options, step, rows)` are the step's k, where `step` counts from 1 and `rows` are the
    batch's; of several steps, if these are arrays. `start(theta, options)` are the first slots, zeros
    where there is none.
    """

    Options: type
    slots: tuple[str, ...]
    step: Step
    numbers: Callable[[Any, Any, Any], Numbers]
    start: Callable[[Array, Any], tuple[Array, ...]] | None = None


def _nothing(options: Any, step: Any, rows: Any) -> Numbers:
    return 0.0, 0.0, 0.0, 0.0, 0.0


def check_positive(options: Any, *names: str) -> None:
    """Raises ValueError for the first of these options that isn't finite and greater than 0."""
    for name in names:
        value = getattr(options, name)
        if not 0 < value < float("inf"):
            raise ValueError(f"{name}: must be greater than 0 and finite, got {value}")


def check_not_negative(options: Any, *names: str) -> None:
    """Raises ValueError for the first of these options that is negative or infinite."""
    for name in names:
        value = getattr(options, name)
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name}: must be 0 or greater, and finite, got {value}")


def check_share(options: Any, *names: str) -> None:
    """Raises ValueError for the first of these options that isn't from 0 to less than 1."""
    for name in names:
        value = getattr(options, name)
        if not 0 <= value < 1:
            raise ValueError(f"{name}: must be from 0 to less than 1, got {value}")


# Gradient descent, plain and with momentum


@dataclass(frozen=True, slots=True)
class SgdOptions:
    """Plain stochastic gradient descent (Robbins & Monro, Ann. Math. Statist. 22, 1951)."""

    learning_rate: float = 0.01
    clip_gradient: float = 0.0

    def __post_init__(self) -> None:
        check_positive(self, "learning_rate")
        check_not_negative(self, "clip_gradient")


def sgd_step(
    theta: V, g: V, a: V, b: V, c: V, d: V, e: V, rate: Any, l1: Any, l2: Any, k: Any
) -> tuple[V, V, V, V, V, V]:
    """θ ← θ - η g."""
    theta = theta - rate * (g + l2 * theta)
    if l1 > 0.0:
        theta = shrunk(theta, rate * l1)
    return theta, a, b, c, d, e


@dataclass(frozen=True, slots=True)
class MomentumOptions:
    """Heavy ball: the step goes on in the direction that it had (Polyak, USSR CMMP 4, 1964)."""

    learning_rate: float = 0.01
    momentum: float = 0.9
    clip_gradient: float = 0.0

    def __post_init__(self) -> None:
        check_positive(self, "learning_rate")
        check_share(self, "momentum")
        check_not_negative(self, "clip_gradient")


def _momentum_numbers(options: Any, step: Any, rows: Any) -> Numbers:
    return options.momentum, 1.0 / (1.0 - options.momentum), 0.0, 0.0, 0.0


def momentum_step(
    theta: V, g: V, a: V, b: V, c: V, d: V, e: V, rate: Any, l1: Any, l2: Any, k: Any
) -> tuple[V, V, V, V, V, V]:
    """v ← μ v + g; θ ← θ - η v. A lasting gradient moves θ by η / (1 - μ)."""
    a = k[0] * a + (g + l2 * theta)
    theta = theta - rate * a
    if l1 > 0.0:
        theta = shrunk(theta, rate * k[1] * l1)
    return theta, a, b, c, d, e


def nesterov_step(
    theta: V, g: V, a: V, b: V, c: V, d: V, e: V, rate: Any, l1: Any, l2: Any, k: Any
) -> tuple[V, V, V, V, V, V]:
    """v ← μ v + g; θ ← θ - η (g + μ v). Source: Sutskever et al., ICML 2013, as torch has it."""
    g = g + l2 * theta
    a = k[0] * a + g
    theta = theta - rate * (g + k[0] * a)
    if l1 > 0.0:
        theta = shrunk(theta, rate * k[1] * l1)
    return theta, a, b, c, d, e


# Steps by the gradients seen


@dataclass(frozen=True, slots=True)
class AdagradOptions:
    """Steps that shrink with the gradients seen (Duchi, Hazan & Singer, JMLR 12, 2011).

    After `half_life` rows a gradient counts half, so that steps don't die in a stream that drifts;
    0 is for ever.
    """

    learning_rate: float = 0.1
    epsilon: float = 1e-8
    half_life: float = 0.0
    clip_gradient: float = 0.0

    def __post_init__(self) -> None:
        check_positive(self, "learning_rate", "epsilon")
        check_not_negative(self, "half_life", "clip_gradient")


def _adagrad_numbers(options: Any, step: Any, rows: Any) -> Numbers:
    return kept(options.half_life, rows), options.epsilon, 0.0, 0.0, 0.0


def adagrad_step(
    theta: V, g: V, a: V, b: V, c: V, d: V, e: V, rate: Any, l1: Any, l2: Any, k: Any
) -> tuple[V, V, V, V, V, V]:
    """s ← s 2^(-rows/half-life) + g²; θ ← θ - η g / (√s + ε)."""
    g = g + l2 * theta
    a = k[0] * a + g * g
    pace = rate / (np.sqrt(a) + k[1])
    theta = theta - pace * g
    if l1 > 0.0:
        theta = shrunk(theta, pace * l1)
    return theta, a, b, c, d, e


@dataclass(frozen=True, slots=True)
class RmspropOptions:
    """Steps by a running mean of squared gradients (Hinton, Coursera lecture 6e, 2012)."""

    learning_rate: float = 0.01
    b2: float = 0.99
    epsilon: float = 1e-8
    clip_gradient: float = 0.0

    def __post_init__(self) -> None:
        check_positive(self, "learning_rate", "epsilon")
        check_share(self, "b2")
        check_not_negative(self, "clip_gradient")


def _rmsprop_numbers(options: Any, step: Any, rows: Any) -> Numbers:
    return 1.0 - options.b2, options.epsilon, 0.0, 0.0, 0.0


def rmsprop_step(
    theta: V, g: V, a: V, b: V, c: V, d: V, e: V, rate: Any, l1: Any, l2: Any, k: Any
) -> tuple[V, V, V, V, V, V]:
    """v ← v + (1-b₂)(g² - v); θ ← θ - η g / (√v + ε)."""
    g = g + l2 * theta
    a = a + k[0] * (g * g - a)
    pace = rate / (np.sqrt(a) + k[1])
    theta = theta - pace * g
    if l1 > 0.0:
        theta = shrunk(theta, pace * l1)
    return theta, a, b, c, d, e


@dataclass(frozen=True, slots=True)
class AdamOptions:
    """Running means of gradients and of their squares (Kingma & Ba, ICLR 2015, algorithm 1)."""

    learning_rate: float = 0.001
    b1: float = 0.9
    b2: float = 0.999
    epsilon: float = 1e-8
    clip_gradient: float = 0.0

    def __post_init__(self) -> None:
        check_positive(self, "learning_rate", "epsilon")
        check_share(self, "b1", "b2")
        check_not_negative(self, "clip_gradient")


def _adam_numbers(options: Any, step: Any, rows: Any) -> Numbers:
    b1, b2 = options.b1, options.b2
    return 1.0 - b1, 1.0 - b2, 1.0 / (1.0 - b1**step), 1.0 / (1.0 - b2**step), options.epsilon


def adam_step(
    theta: V, g: V, a: V, b: V, c: V, d: V, e: V, rate: Any, l1: Any, l2: Any, k: Any
) -> tuple[V, V, V, V, V, V]:
    """m ← m + (1-b₁)(g-m); v ← v + (1-b₂)(g²-v); θ ← θ - η m̂ / (√v̂ + ε), m̂ = m/(1-b₁ᵗ), v̂ = v/(1-b₂ᵗ)."""
    g = g + l2 * theta
    a = a + k[0] * (g - a)
    b = b + k[1] * (g * g - b)
    pace = rate / (np.sqrt(b * k[3]) + k[4])
    theta = theta - pace * (a * k[2])
    if l1 > 0.0:
        theta = shrunk(theta, pace * l1)
    return theta, a, b, c, d, e


def adamw_step(
    theta: V, g: V, a: V, b: V, c: V, d: V, e: V, rate: Any, l1: Any, l2: Any, k: Any
) -> tuple[V, V, V, V, V, V]:
    """Adam on the bare gradient, and θ ← θ - η l2 θ beside it: the decay isn't divided by √v̂.
    Source: Loshchilov & Hutter, ICLR 2019, algorithm 2, with its λ as l2."""
    decayed = theta - rate * l2 * theta
    a = a + k[0] * (g - a)
    b = b + k[1] * (g * g - b)
    pace = rate / (np.sqrt(b * k[3]) + k[4])
    theta = decayed - pace * (a * k[2])
    if l1 > 0.0:
        theta = shrunk(theta, pace * l1)
    return theta, a, b, c, d, e


# Follow the regularised leader


@dataclass(frozen=True, slots=True)
class FtrlOptions:
    """FTRL-Proximal (McMahan et al., KDD 2013, algorithm 1); `learning_rate` is its α.

    The penalty is one of each step, as in McMahan, AISTATS 2011: it grows with the number t of steps.
    """

    learning_rate: float = 0.1
    beta: float = 1.0
    clip_gradient: float = 0.0

    def __post_init__(self) -> None:
        check_positive(self, "learning_rate")
        check_not_negative(self, "beta", "clip_gradient")


def _ftrl_numbers(options: Any, step: Any, rows: Any) -> Numbers:
    return options.beta, step, 0.0, 0.0, 0.0


def _ftrl_start(theta: Array, options: Any) -> tuple[Array, ...]:
    """No gradients, and z such that the first θ is the one that is given, but for the penalty."""
    return -theta * (options.beta / options.learning_rate), np.zeros_like(theta)


def ftrl_step(
    theta: V, g: V, a: V, b: V, c: V, d: V, e: V, rate: Any, l1: Any, l2: Any, k: Any
) -> tuple[V, V, V, V, V, V]:
    """σ = (√(n+g²) - √n)/η; z ← z + g - σ θ; n ← n + g²; θ = -shrunk(z, t l1) / ((β + √n)/η + t l2)."""
    squares = b + g * g
    a = a + g - (np.sqrt(squares) - np.sqrt(b)) / rate * theta
    theta = -shrunk(a, k[1] * l1) / np.maximum((k[0] + np.sqrt(squares)) / rate + k[1] * l2, 1e-30)
    return theta, a, squares, c, d, e


# Coin betting


@dataclass(frozen=True, slots=True)
class CoinBettingOptions:
    """COCOB-Backprop: no learning rate at all (Orabona & Tommasi, NeurIPS 2017, algorithm 2).

    An L1 penalty draws the sum of the gradients towards 0, and so θ to where it started: 0 for linear
    kernels.
    `caution` is its α: the first steps are bounded as if so many had been taken.
    """

    caution: float = 100.0
    clip_gradient: float = 0.0

    def __post_init__(self) -> None:
        check_positive(self, "caution")
        check_not_negative(self, "clip_gradient")


def _coin_numbers(options: Any, step: Any, rows: Any) -> Numbers:
    return options.caution, step, 0.0, 0.0, 0.0


def _coin_start(theta: Array, options: Any) -> tuple[Array, ...]:
    """Where θ starts, and nothing won or lost yet."""
    return theta.copy(), *(np.zeros_like(theta) for _ in range(4))


def coin_betting_step(
    theta: V, g: V, a: V, b: V, c: V, d: V, e: V, rate: Any, l1: Any, l2: Any, k: Any
) -> tuple[V, V, V, V, V, V]:
    """L ← max(L, |g|); G ← G + |g|; R ← max(R - (θ-θ₁) g, 0); s ← s - g;
    θ = θ₁ + s (L + R) / (L max(G + L, α L)). The schedule's rate, 1 at first, multiplies the bet."""
    g = g + l2 * theta
    b = np.maximum(b, np.abs(g))
    c = c + np.abs(g)
    d = np.maximum(d - (theta - a) * g, 0.0)
    e = e - g
    pace = rate * (b + d) / np.maximum(b * np.maximum(c + b, k[0] * b), 1e-30)
    return a + pace * shrunk(e, k[1] * l1), a, b, c, d, e


# fmt: off
OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": Optimizer(SgdOptions, (), sgd_step, _nothing),
    "momentum": Optimizer(MomentumOptions, ("velocity",), momentum_step, _momentum_numbers),
    "nesterov": Optimizer(MomentumOptions, ("velocity",), nesterov_step, _momentum_numbers),
    "adagrad": Optimizer(AdagradOptions, ("squares",), adagrad_step, _adagrad_numbers),
    "rmsprop": Optimizer(RmspropOptions, ("squares",), rmsprop_step, _rmsprop_numbers),
    "adam": Optimizer(AdamOptions, ("first", "second"), adam_step, _adam_numbers),
    "adamw": Optimizer(AdamOptions, ("first", "second"), adamw_step, _adam_numbers),
    "ftrl": Optimizer(FtrlOptions, ("z", "squares"), ftrl_step, _ftrl_numbers, _ftrl_start),
    "coin_betting": Optimizer(CoinBettingOptions, ("start", "largest", "total", "reward", "sum"),
                              coin_betting_step, _coin_numbers, _coin_start),
}
# fmt: on


def numbers(optimizer: Optimizer, options: Any, first: int, rows: Array) -> Array:
    """The k (steps, 5) float64 of steps `first`, first + 1, ... over batches of `rows` (steps,) rows."""
    steps = np.arange(first, first + len(rows), dtype=np.float64)
    columns = optimizer.numbers(options, steps, rows.astype(np.float64))
    found = np.empty((len(steps), len(columns)))
    for place, column in enumerate(columns):
        found[:, place] = column
    return found
