"""Schedules: the learning rates of steps as pure functions of the step number.

Rules: a schedule gives an array of rates at once, for the steps start, start+1, ... counted from 0;
it depends on nothing else, so a job that resumes has the rates that it would have had.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from kernels.contract import Array, lookup


class Schedule(NamedTuple):
    """One schedule; `rates(options, base, start, count)` gives the rates (count,) float64."""

    name: str
    Options: type
    rates: Callable[[Any, float, int, int], Array]


@dataclass(frozen=True, slots=True)
class ConstantOptions:
    """The optimizer's learning rate, always."""


def constant_rates(options: ConstantOptions, base: float, start: int, count: int) -> Array:
    """rate(t) = base."""
    return np.full(count, base, np.float64)


@dataclass(frozen=True, slots=True)
class InverseScalingOptions:
    """A rate that falls as a power of the step; at `steps` it has come to base / 2^power."""

    power: float = 0.5
    steps: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.power < float("inf"):
            raise ValueError(f"power: must be 0 or greater, and finite, got {self.power}")
        if not 0 < self.steps < float("inf"):
            raise ValueError(f"steps: must be greater than 0 and finite, got {self.steps}")


def inverse_scaling_rates(
    options: InverseScalingOptions, base: float, start: int, count: int
) -> Array:
    """rate(t) = base / (1 + t/steps)^power; with steps = 1 scikit-learn's `invscaling`."""
    steps = np.arange(start, start + count, dtype=np.float64)
    return base / (1 + steps / options.steps) ** options.power


SCHEDULES: dict[str, Schedule] = {
    "constant": Schedule("constant", ConstantOptions, constant_rates),
    "inverse_scaling": Schedule("inverse_scaling", InverseScalingOptions, inverse_scaling_rates),
}


def configured(settings: Mapping[str, Any]) -> tuple[Schedule, Any]:
    """The schedule that settings name, and its options made from the rest of them."""
    schedule = lookup("schedule", SCHEDULES, settings["name"])
    options = {key: value for key, value in settings.items() if key != "name"}
    return schedule, schedule.Options(**options)
