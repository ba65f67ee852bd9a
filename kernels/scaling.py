"""Running moments: weight, mean and centred sum of squares, of features and of labels.

Rules: rows count by their weights; float64. Moments merge exactly as if their rows had come together
(Chan, Golub & LeVeque, Stanford STAN-CS-79-773, 1979), to rounding; who merges many does so in a
fixed order. With a half-life the weight of what was seen halves after so many rows, so that means
and spreads follow a stream that drifts. The loops over rows stand in `loops`; here are the moments
that a state holds.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from kernels.contract import Array, Layout, State
from kernels.losses import Scale


def kept(half_life: float, rows: Any) -> Any:
    """The share of its weight that something keeps over so many rows: 2^(-rows / half_life)."""
    return 2.0 ** (-rows / half_life) if half_life > 0 else 1.0


class Moments(NamedTuple):
    """Of one state, as views: `seen` (1,) the weight of the rows, `mean` (f,), `m2` (f,); float64."""

    seen: Array
    mean: Array
    m2: Array

    def deviation(self) -> Array:
        """The standard deviation (f,), √(m2 / weight); 0 where nothing is seen."""
        weight = float(self.seen[0])
        return np.sqrt(self.m2 / weight) if weight > 0 else np.zeros_like(self.m2)

    def inverse(self) -> Array:
        """1/sd (f,), 0 where sd is 0."""
        deviation = self.deviation()
        return np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)

    def faded(self, share: float) -> Moments:
        """The same moments in arrays of their own, at `share` of their weight."""
        return Moments(self.seen * share, self.mean.copy(), self.m2 * share)

    def assign(self, other: Moments) -> None:
        """Becomes `other`, in place."""
        for mine, theirs in zip(self, other, strict=True):
            mine[:] = theirs


def layout(prefix: str, features: int) -> Layout:
    """The arrays of moments below `prefix`."""
    return {
        f"{prefix}/count": ((1,), "float64"),
        f"{prefix}/m2": ((features,), "float64"),
        f"{prefix}/mean": ((features,), "float64"),
    }


def moments(state: State, prefix: str) -> Moments:
    """The moments below `prefix`, as views on the state."""
    return Moments(state[f"{prefix}/count"], state[f"{prefix}/mean"], state[f"{prefix}/m2"])


def merge(into: Moments, other: Moments) -> None:
    """Takes `other` in, in place."""
    n, m = float(into.seen[0]), float(other.seen[0])
    if m == 0:
        return
    if n == 0:
        into.assign(other)
        return
    apart = other.mean - into.mean
    into.mean[:] += apart * (m / (n + m))
    into.m2[:] += other.m2 + apart * apart * (n * (m / (n + m)))
    into.seen[0] = n + m


def increment(after: Moments, before: Moments) -> Moments:
    """What was taken in between: `merge(before, increment)` is `after`, to rounding.

    A feature that never changed keeps its mean and a spread of exactly 0.
    """
    n, total = float(before.seen[0]), float(after.seen[0])
    m = total - n
    if n == 0 or m <= 0:
        return after.faded(1.0) if n == 0 else before.faded(0.0)
    apart = (after.mean - before.mean) * (total / m)
    m2 = after.m2 - before.m2 - apart * apart * (n * (m / total))
    return Moments(np.array([m]), before.mean + apart, np.maximum(m2, 0.0))


class Unit(NamedTuple):
    """How raw outputs become labels, output = raw · unit + base; and how labels become aims."""

    base: float = 0.0
    unit: float = 1.0

    def aims(self, scale: Scale, y: Array) -> Array:
        """The labels (n,) that a step aims at: (y - mean) / sd, 0 where sd is 0; or y / mean."""
        if scale == "mean":
            return np.asarray(y / math.exp(self.base))
        return (y - self.base) / self.unit if self.unit > 0 else np.zeros(len(y))


def unit(scale: Scale, target: Moments | None) -> Unit:
    """The unit of the labels seen. "spread": their mean and sd, which may be 0; "mean": log of the mean."""
    if target is None or target.seen[0] == 0:
        return Unit()
    mean = float(target.mean[0])
    if scale == "mean":
        return Unit(math.log(mean) if mean > 0 else 0.0)
    return Unit(mean, float(target.deviation()[0]))


def scoring(unit: Unit) -> Unit:
    """The unit that rows are scored by: 1 until labels that differ are seen."""
    return unit if unit.unit > 0 else unit._replace(unit=1.0)
