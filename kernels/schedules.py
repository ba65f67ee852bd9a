"""Schedules: the learning rates of steps as pure functions of the step number.

Rules: a schedule gives an array of rates at once, for the steps start, start+1, ... counted from 0;
it depends on nothing else, so a job that resumes has the rates that it would have had. Each can
start with a warm-up: over its first `warm_up` steps the rate grows in a straight line to what the
schedule says (Goyal et al., arXiv 1706.02677). To add a schedule is to add its stanza and one entry
of `SCHEDULES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from kernels.contract import Array, lookup


class Schedule(NamedTuple):
    """One schedule; `share(options, t)` is the share of the learning rate at steps t (count,) float64."""

    Options: type
    share: Callable[[Any, Array], Array]

    def rates(self, options: Any, base: float, start: int, count: int) -> Array:
        """The rates (count,) float64 of steps start, start+1, ... where the learning rate is `base`."""
        t = np.arange(start, start + count, dtype=np.float64)
        rates = base * self.share(options, t)
        if options.warm_up:
            rates *= np.minimum((t + 1.0) / options.warm_up, 1.0)
        return np.asarray(rates)


def _check_warm_up(options: Any) -> None:
    if options.warm_up < 0:
        raise ValueError(f"warm_up: must be 0 or greater, got {options.warm_up}")


def _check_steps(options: Any) -> None:
    if not 0 < options.steps < float("inf"):
        raise ValueError(f"steps: must be greater than 0 and finite, got {options.steps}")


@dataclass(frozen=True, slots=True)
class ConstantOptions:
    """The optimizer's learning rate, always."""

    warm_up: int = 0

    def __post_init__(self) -> None:
        _check_warm_up(self)


def constant_share(options: ConstantOptions, t: Array) -> Array:
    """1."""
    return np.ones_like(t)


@dataclass(frozen=True, slots=True)
class InverseScalingOptions:
    """A rate that falls as a power of the step; at `steps` it has come to base / 2^power."""

    power: float = 0.5
    steps: float = 1.0
    warm_up: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.power < float("inf"):
            raise ValueError(f"power: must be 0 or greater, and finite, got {self.power}")
        _check_steps(self)
        _check_warm_up(self)


def inverse_scaling_share(options: InverseScalingOptions, t: Array) -> Array:
    """1 / (1 + t/steps)^power; with steps = 1 scikit-learn's `invscaling`."""
    return np.asarray(1.0 / (1.0 + t / options.steps) ** options.power)


@dataclass(frozen=True, slots=True)
class InverseSquareRootOptions:
    """A rate that stays for `steps` steps and then falls with the root of the step."""

    steps: float = 1000.0
    warm_up: int = 0

    def __post_init__(self) -> None:
        _check_steps(self)
        _check_warm_up(self)


def inverse_square_root_share(options: InverseSquareRootOptions, t: Array) -> Array:
    """√(steps / max(t, steps)). Source: Vaswani et al., NeurIPS 2017, 5.3, with warm_up = steps."""
    return np.sqrt(options.steps / np.maximum(t, options.steps))


@dataclass(frozen=True, slots=True)
class CosineOptions:
    """A rate that swings down once, to `lowest` of itself after `steps` steps, and stays there."""

    steps: float = 100_000.0
    lowest: float = 0.01
    warm_up: int = 0

    def __post_init__(self) -> None:
        _check_steps(self)
        if not 0 <= self.lowest <= 1:
            raise ValueError(f"lowest: must be from 0 to 1, got {self.lowest}")
        _check_warm_up(self)


def cosine_share(options: CosineOptions, t: Array) -> Array:
    """lowest + (1 - lowest)(1 + cos(π min(t/steps, 1)))/2. Source: Loshchilov & Hutter, ICLR 2017."""
    swing = 0.5 * (1.0 + np.cos(np.pi * np.minimum(t / options.steps, 1.0)))
    return np.asarray(options.lowest + (1.0 - options.lowest) * swing)


SCHEDULES: dict[str, Schedule] = {
    "constant": Schedule(ConstantOptions, constant_share),
    "inverse_scaling": Schedule(InverseScalingOptions, inverse_scaling_share),
    "inverse_square_root": Schedule(InverseSquareRootOptions, inverse_square_root_share),
    "cosine": Schedule(CosineOptions, cosine_share),
}


def configured(settings: Mapping[str, Any]) -> tuple[Schedule, Any]:
    """The schedule that settings name, and its options made from the rest of them."""
    schedule = lookup("schedule", SCHEDULES, settings["name"])
    options = {key: value for key, value in settings.items() if key != "name"}
    return schedule, schedule.Options(**options)
