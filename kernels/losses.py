"""Losses of raw outputs and labels, one stanza each: domain, link, formula, gradient, source.

Rules: o is a raw output, y a label, c the loss's own number (`delta`, `tau`, ...) where it has one;
nothing is dropped from a formula, and nothing is averaged. The functions of one output work on
numbers as well as on arrays, without a branch: `loops` compiles the same functions, for numbers and
for four in a register. Of +, -, *, /, comparisons, `abs`, numpy's `maximum`, `minimum`, `sign`, `where`
and `clip`, and the `exp` and `log1p` of this module, registers are made at once; what else numba knows of
numbers is done one by one. To add a loss is to add its functions and one entry of `LOSSES`; settings,
kernels, compiled pass and tests take it from there.

No exponential overflows where the loss itself doesn't: those of a logarithmic link grow as e^o does,
and a row whose loss is no longer finite is found by the guard against divergence. Sums over classes
run in the order of the classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from kernels.contract import Array, Domain, Problem, lookup

Scale = Literal["none", "spread", "mean"]
"""How labels may be scaled: not at all; to mean 0 and sd 1, by losses of the difference o - y; or to
mean 1, by losses with a logarithmic link."""


def exp(x: Any) -> Any:
    """e^x. In passes it is compiled as `elementary` has it."""
    return np.exp(x)


def log1p(x: Any) -> Any:
    """log(1 + x) of x from 0 to 1. In passes it is compiled as `elementary` has it."""
    return np.log1p(x)


# Numbers: losses of the error e = o - y, link o


def squared_value(o: Any, y: Any, c: Any) -> Any:
    """(o - y)², without the factor ½, as in the article. Source: Gauss 1809."""
    return (o - y) * (o - y)


def squared_residual(o: Any, y: Any, c: Any) -> Any:
    """2 (o - y)."""
    return 2.0 * (o - y)


def squared_curvature(o: Any, y: Any, c: Any) -> Any:
    """2."""
    return 2.0 + 0.0 * o


def absolute_value(o: Any, y: Any, c: Any) -> Any:
    """|o - y|, least at the median. Source: Koenker & Bassett, Econometrica 46, 1978."""
    return np.abs(o - y)


def absolute_residual(o: Any, y: Any, c: Any) -> Any:
    """sign(o - y), 0 at 0."""
    return np.sign(o - y)


def huber_value(o: Any, y: Any, c: Any) -> Any:
    """e²/2 up to |e| = δ, δ |e| - δ²/2 beyond. Source: Huber, Ann. Math. Statist. 35, 1964."""
    bounded = np.minimum(np.maximum(o - y, -c), c)
    return bounded * (o - y - 0.5 * bounded)


def huber_residual(o: Any, y: Any, c: Any) -> Any:
    """e, bounded by ±δ."""
    return np.minimum(np.maximum(o - y, -c), c)


def huber_curvature(o: Any, y: Any, c: Any) -> Any:
    """1 within ±δ, else 0."""
    return 1.0 * (np.abs(o - y) <= c)


def quantile_value(o: Any, y: Any, c: Any) -> Any:
    """max(τ (y - o), (τ - 1) (y - o)), least at the τ-quantile. Source: Koenker & Bassett 1978."""
    return np.maximum(c * (y - o), (c - 1.0) * (y - o))


def quantile_residual(o: Any, y: Any, c: Any) -> Any:
    """-τ below the label, 1 - τ above it, 0 on it."""
    return (1.0 - c) * (o > y) - c * (o < y)


def epsilon_insensitive_value(o: Any, y: Any, c: Any) -> Any:
    """max(|o - y| - ε, 0). Source: Vapnik, The Nature of Statistical Learning Theory, 1995, 6.1."""
    return np.maximum(np.abs(o - y) - c, 0.0)


def epsilon_insensitive_residual(o: Any, y: Any, c: Any) -> Any:
    """sign(o - y) beyond ε, else 0."""
    return np.sign(o - y) * (np.abs(o - y) > c)


# Counts and amounts: link e^o, as rates of a row's exposure where o holds its logarithm


def poisson_value(o: Any, y: Any, c: Any) -> Any:
    """e^o - y o. Source: McCullagh & Nelder, Generalized Linear Models, 1989, 6.2; without log y!."""
    return exp(o) - y * o


def poisson_residual(o: Any, y: Any, c: Any) -> Any:
    """e^o - y."""
    return exp(o) - y


def poisson_curvature(o: Any, y: Any, c: Any) -> Any:
    """e^o."""
    return exp(o)


def poisson_floor(y: Any, c: Any) -> Any:
    """y - y log y, 0 at 0: the loss at e^o = y."""
    return y - y * np.log(np.where(y > 0, y, 1.0))


def gamma_value(o: Any, y: Any, c: Any) -> Any:
    """y e^-o + o. Source: McCullagh & Nelder 1989, 8.3; of shape 1, without what y alone adds."""
    return y * exp(-o) + o


def gamma_residual(o: Any, y: Any, c: Any) -> Any:
    """1 - y e^-o."""
    return 1.0 - y * exp(-o)


def gamma_curvature(o: Any, y: Any, c: Any) -> Any:
    """y e^-o."""
    return y * exp(-o)


def gamma_floor(y: Any, c: Any) -> Any:
    """1 + log y: the loss at e^o = y."""
    return 1.0 + np.log(y)


def tweedie_value(o: Any, y: Any, c: Any) -> Any:
    """e^((2-p)o)/(2-p) - y e^((1-p)o)/(1-p), 1 < p < 2. Source: Jørgensen, J. R. Stat. Soc. B 49, 1987.

    Where y is 0 the second power is e^0: it may overflow, and 0 · ∞ is no number.
    """
    return exp((2.0 - c) * o) / (2.0 - c) - y * exp((y > 0.0) * ((1.0 - c) * o)) / (1.0 - c)


def tweedie_residual(o: Any, y: Any, c: Any) -> Any:
    """e^((2-p)o) - y e^((1-p)o)."""
    return exp((2.0 - c) * o) - y * exp((y > 0.0) * ((1.0 - c) * o))


def tweedie_curvature(o: Any, y: Any, c: Any) -> Any:
    """(2-p) e^((2-p)o) + (p-1) y e^((1-p)o)."""
    power = exp((y > 0.0) * ((1.0 - c) * o))
    return (2.0 - c) * exp((2.0 - c) * o) + (c - 1.0) * y * power


def tweedie_floor(y: Any, c: Any) -> Any:
    """y^(2-p) (1/(2-p) - 1/(1-p)): the loss at e^o = y."""
    return y ** (2.0 - c) * (1.0 / (2.0 - c) - 1.0 / (1.0 - c))


# Two classes: y is 0 or 1, and s = 2y - 1 its sign; a positive output means class 1


def logistic_value(o: Any, y: Any, c: Any) -> Any:
    """log(1 + e^-so) in nats, as log(1 + e^-|o|) + max(-so, 0).
    Source: Hastie, Tibshirani & Friedman, Elements of Statistical Learning, 4.4.1."""
    return log1p(exp(-np.abs(o))) + np.maximum((1.0 - 2.0 * y) * o, 0.0)


def logistic_residual(o: Any, y: Any, c: Any) -> Any:
    """P(1) - y, with P(1) = 1 / (1 + e^-o) as e^min(o, 0) / (1 + e^-|o|), whose powers are 1 or alike."""
    power = exp(-np.abs(o))
    return ((o >= 0.0) + (o < 0.0) * power) / (1.0 + power) - y


def logistic_curvature(o: Any, y: Any, c: Any) -> Any:
    """P(1) (1 - P(1)), as e^-|o| / (1 + e^-|o|)²."""
    power = exp(-np.abs(o))
    return power / ((1.0 + power) * (1.0 + power))


def hinge_value(o: Any, y: Any, c: Any) -> Any:
    """max(1 - so, 0). Source: Cortes & Vapnik, Machine Learning 20, 1995."""
    return np.maximum(1.0 - (2.0 * y - 1.0) * o, 0.0)


def hinge_residual(o: Any, y: Any, c: Any) -> Any:
    """-s where so < 1, else 0."""
    return (1.0 - 2.0 * y) * ((2.0 * y - 1.0) * o < 1.0)


def squared_hinge_value(o: Any, y: Any, c: Any) -> Any:
    """max(1 - so, 0)². Source: Lee & Mangasarian, Comput. Optim. Appl. 20, 2001."""
    short = np.maximum(1.0 - (2.0 * y - 1.0) * o, 0.0)
    return short * short


def squared_hinge_residual(o: Any, y: Any, c: Any) -> Any:
    """-2 s max(1 - so, 0)."""
    return 2.0 * (1.0 - 2.0 * y) * np.maximum(1.0 - (2.0 * y - 1.0) * o, 0.0)


def squared_hinge_curvature(o: Any, y: Any, c: Any) -> Any:
    """2 where so < 1, else 0."""
    return 2.0 * ((2.0 * y - 1.0) * o < 1.0)


def modified_huber_value(o: Any, y: Any, c: Any) -> Any:
    """max(1 - so, 0)² from so = -1 on, -4 so before. Source: Zhang, ICML 2004."""
    margin = (2.0 * y - 1.0) * o
    short = np.minimum(np.maximum(1.0 - margin, 0.0), 2.0)
    return short * short + 4.0 * np.maximum(-1.0 - margin, 0.0)


def modified_huber_residual(o: Any, y: Any, c: Any) -> Any:
    """-2 s max(1 - so, 0), no longer than 4."""
    short = np.minimum(np.maximum(1.0 - (2.0 * y - 1.0) * o, 0.0), 2.0)
    return 2.0 * (1.0 - 2.0 * y) * short


def modified_huber_curvature(o: Any, y: Any, c: Any) -> Any:
    """2 where -1 < so < 1, else 0."""
    return 2.0 * (np.abs(o) < 1.0)


# Links: from raw outputs to what is predicted


def identity_link(o: Any) -> Any:
    """o itself."""
    return o


def exponential_link(o: Any) -> Any:
    """e^o."""
    return exp(o)


def logistic_link(o: Any) -> Any:
    """1 / (1 + e^-o), as e^min(o, 0) / (1 + e^-|o|): neither exponential overflows."""
    return exp(np.minimum(o, 0.0)) / (1.0 + exp(-np.abs(o)))


def clipped_link(o: Any) -> Any:
    """(o + 1)/2 within [0, 1]: what the modified Huber loss estimates (Zhang, ICML 2004)."""
    return np.minimum(np.maximum(0.5 * (o + 1.0), 0.0), 1.0)


_INF = float("inf")


class Number(NamedTuple):
    """The number that a loss brings: its key, its default, the open interval it lies in, and what there is
    instead of its ends.

    A number that is a length is in the label's units where it is given, and shrinks with the unit of
    scaled labels. Its default is in that unit itself, the standard deviation of the labels so far: what
    is a large error depends on the labels, and with a bound of 1 dollar for houses Huber's loss is all
    but the absolute one, and its gradients are too small to learn by.
    """

    key: str
    default: float
    above: float
    below: float
    is_length: bool = False
    instead: str = ""

    @property
    def words(self) -> str:
        """Where it may lie, for people."""
        if self.below == _INF:
            return f"greater than {self.above:g} and finite"
        return f"greater than {self.above:g} and less than {self.below:g}{self.instead}"


class Formula(NamedTuple):
    """One loss of one output: value, first and second derivative by the output, and what goes with it.

    Where there is no `curvature` (a loss of straight pieces) the residual's square stands in its place;
    settings don't let `newton` learn by it. `floor` is the least value for a label, where deviance is
    spoken of.
    """

    problem: Problem
    value: Callable[[Any, Any, Any], Any]
    residual: Callable[[Any, Any, Any], Any]
    curvature: Callable[[Any, Any, Any], Any] | None
    link: Callable[[Any], Any] = identity_link
    domain: Domain = Domain()
    scale: Scale = "none"
    number: Number | None = None
    floor: Callable[[Any, Any], Any] | None = None


_NOT_NEGATIVE, _POSITIVE = Domain(0.0, is_open=False), Domain(0.0)
_DELTA = Number("delta", 1.345, 0.0, _INF, is_length=True)
"""95 % efficient for normal errors of that spread (Huber, Robust Statistics, 1981, 4.2). Not 1: of two labels
both lie exactly there, and rounding would decide."""
_TAU = Number(
    "tau", 0.5, 0.0, 1.0, instead=", say 0.01 or 0.99 for nearly the least or the largest"
)
_EPSILON = Number("epsilon", 0.1, 0.0, _INF, is_length=True)
_POWER = Number(
    "power", 1.5, 1.0, 2.0, instead=': at 1 it is loss = "poisson", at 2 loss = "gamma"'
)

# fmt: off
LOSSES: dict[str, Formula] = {
    "squared": Formula("regression", squared_value, squared_residual, squared_curvature, scale="spread"),
    "absolute": Formula("regression", absolute_value, absolute_residual, None, scale="spread"),
    "huber": Formula("regression", huber_value, huber_residual, huber_curvature,
                     scale="spread", number=_DELTA),
    "quantile": Formula("regression", quantile_value, quantile_residual, None,
                        scale="spread", number=_TAU),
    "epsilon_insensitive": Formula("regression", epsilon_insensitive_value, epsilon_insensitive_residual,
                                   None, scale="spread", number=_EPSILON),
    "poisson": Formula("counts", poisson_value, poisson_residual, poisson_curvature,
                       exponential_link, _NOT_NEGATIVE, "mean", floor=poisson_floor),
    "gamma": Formula("counts", gamma_value, gamma_residual, gamma_curvature,
                     exponential_link, _POSITIVE, "mean", floor=gamma_floor),
    "tweedie": Formula("counts", tweedie_value, tweedie_residual, tweedie_curvature,
                       exponential_link, _NOT_NEGATIVE, "mean", _POWER, tweedie_floor),
    "logistic": Formula("binary", logistic_value, logistic_residual, logistic_curvature, logistic_link),
    "hinge": Formula("binary", hinge_value, hinge_residual, None, logistic_link),
    "squared_hinge": Formula("binary", squared_hinge_value, squared_hinge_residual,
                             squared_hinge_curvature, logistic_link),
    "modified_huber": Formula("binary", modified_huber_value, modified_huber_residual,
                              modified_huber_curvature, clipped_link),
}
# fmt: on


class SingleOutput:
    """A loss of one output, by its name in `LOSSES`; `number` is the loss's own, if it has one.

    `in_spreads` says that the number is a length in units of scaled labels: a loss of them as it is, and
    of labels in their own units once these are known (`of_labels`).
    """

    def __init__(self, name: str, number: float = 0.0, in_spreads: bool = False) -> None:
        self.name = name
        self.number = number
        self.in_spreads = in_spreads
        self.formula = LOSSES[name]
        self.problem: Problem = self.formula.problem
        self.domain = self.formula.domain
        self.scale: Scale = self.formula.scale
        self.is_likelihood = name == "logistic"
        self.is_bent = self.formula.curvature is not None

    def value(self, output: Array, y: Array) -> Array:
        """(n,) float64."""
        return np.asarray(self.formula.value(_single(output), y, self.number))

    def residual(self, output: Array, y: Array) -> Array:
        """(n, 1) float64."""
        return np.asarray(self.formula.residual(_single(output), y, self.number))[:, None]

    def curvature(self, output: Array, y: Array) -> Array:
        """(n,) float64, never negative: the second derivative, or the residual's square."""
        curvature = self.formula.curvature
        if curvature is None:
            return np.square(self.residual(output, y)[:, 0])
        return np.asarray(curvature(_single(output), y, self.number))

    def link(self, output: Array) -> Array:
        """(n,): numbers, or a share of (0, 1) for the positive class (a probability for `logistic`
        and `modified_huber`, a mere score for the hinges)."""
        return np.asarray(self.formula.link(_single(output)))

    def floor(self, y: Array) -> Array:
        """(n,) the least loss that a row with this label can have: 0 but for counts."""
        floor = self.formula.floor
        return np.zeros(len(y)) if floor is None else np.asarray(floor(y, self.number))

    def of_labels(self, unit: Any) -> SingleOutput:
        """The loss of labels in their own units, where `unit` (a number, or one a row) is that of scaled ones."""
        return SingleOutput(self.name, self.number * unit) if self.in_spreads else self

    def of_aims(self, unit: float) -> SingleOutput:
        """The loss of labels divided by `unit`: lengths shrink with it."""
        is_own = self.in_spreads or not self.is_length
        return self if is_own else SingleOutput(self.name, self.number / unit)

    @property
    def is_length(self) -> bool:
        """Whether its number is an error's size."""
        number = self.formula.number
        return number is not None and number.is_length


class SoftmaxLoss:
    """Log loss of k classes (nats).

    domain: y the class's index; link: p_j = e^o_j / Σ e^o; formula: log Σ e^o - o_y; gradient:
    p_j - [j = y]. All after subtracting the largest output of the row.
    Source: Bishop, Pattern Recognition and Machine Learning, 4.3.4.
    """

    name = "softmax"
    problem: Problem = "multiclass"
    domain = Domain()
    scale: Scale = "none"
    is_likelihood = True

    def value(self, output: Array, y: Array) -> Array:
        """(n,) float64."""
        shifted = _shifted(output)
        chosen = np.take_along_axis(shifted, y.astype(np.intp)[:, None], axis=1)[:, 0]
        return np.asarray(np.log(np.exp(shifted).sum(axis=1)) - chosen)

    def residual(self, output: Array, y: Array) -> Array:
        """(n, k) float64."""
        residual = self.link(output)
        residual[np.arange(len(y)), y.astype(np.intp)] -= 1.0
        return residual

    def curvature(self, output: Array, y: Array) -> Array:
        """(n, k) float64: p_j (1 - p_j), of each output by itself."""
        shares = self.link(output)
        return shares * (1.0 - shares)

    def link(self, output: Array) -> Array:
        """(n, k) the classes' probabilities."""
        powers = np.exp(_shifted(output))
        powers /= powers.sum(axis=1, keepdims=True)
        return powers


@dataclass(frozen=True, slots=True)
class LossOptions:
    """The settings of a loss, for kernels that let the user choose one: its name and its number.

    delta: Huber's bound, in the label's units; tau: the quantile; epsilon: the width that is not
    minded, in the label's units; power: Tweedie's. Without it: the loss's default, of `delta` and
    `epsilon` in spreads of the labels so far. A number that the loss has no use for is refused.
    """

    loss: str = "squared"
    delta: float | None = None
    tau: float | None = None
    epsilon: float | None = None
    power: float | None = None

    def __post_init__(self) -> None:
        if self.loss == "softmax":
            formula_number = None
        else:
            formula_number = lookup("loss", LOSSES, self.loss, also=", softmax").number
        for key in _NUMBERS:
            value = getattr(self, key)
            if formula_number is None or formula_number.key != key:
                if value is not None:
                    raise ValueError(f"{key}: must be left out: loss {self.loss} has no use for it")
            elif value is not None and not formula_number.above < value < formula_number.below:
                raise ValueError(f"{key}: must be {formula_number.words}, got {value}")

    @classmethod
    def idle(cls, given: Mapping[str, Any]) -> list[str]:
        """The numbers that the loss which is given (or is the default) has no use for."""
        formula = LOSSES.get(str(given.get("loss", cls().loss)))
        own = formula.number.key if formula and formula.number else None
        return [key for key in _NUMBERS if key != own]


_NUMBERS = ("delta", "tau", "epsilon", "power")


def chosen(options: LossOptions) -> SingleOutput | SoftmaxLoss:
    """The loss that options name."""
    if options.loss == "softmax":
        return SoftmaxLoss()
    number = LOSSES[options.loss].number
    if number is None:
        return SingleOutput(options.loss)
    given = getattr(options, number.key)
    if given is None:
        return SingleOutput(options.loss, number.default, in_spreads=number.is_length)
    return SingleOutput(options.loss, given)


def problem_of(options: LossOptions) -> Problem:
    """What the labels of the loss are."""
    return "multiclass" if options.loss == "softmax" else LOSSES[options.loss].problem


def _single(output: Array) -> Array:
    return np.asarray(output[:, 0], np.float64)


def _shifted(output: Array) -> Array:
    o = np.asarray(output, np.float64)
    return np.asarray(o - o.max(axis=1, keepdims=True))
