"""Running moments: count, mean and centred sum of squares, of features and of a regression's labels.

Rules: unweighted, float64, counts int64. Moments merge exactly as if their rows had come together
(Chan, Golub & LeVeque, Stanford STAN-CS-79-773, 1979), to rounding; who merges many does so in a
fixed order. The loops over rows stand in `loops`; here are the moments that a state holds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kernels.contract import Array, Layout, State


class Moments(NamedTuple):
    """Of one state, as views: `seen` (1,) int64 rows, `mean` (f,) and `m2` (f,) float64."""

    seen: Array
    mean: Array
    m2: Array

    def deviation(self) -> Array:
        """The standard deviation (f,), √(m2 / count); 0 where nothing is seen."""
        return np.asarray(np.sqrt(self.m2 / max(int(self.seen[0]), 1)))

    def inverse(self) -> Array:
        """1/sd (f,), 0 where sd is 0."""
        deviation = self.deviation()
        return np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)

    def copy(self) -> Moments:
        """The same moments in arrays of their own."""
        return Moments(*(array.copy() for array in self))

    def assign(self, other: Moments) -> None:
        """Becomes `other`, in place."""
        for mine, theirs in zip(self, other, strict=True):
            mine[:] = theirs


def layout(prefix: str, features: int) -> Layout:
    """The arrays of moments below `prefix`."""
    return {
        f"{prefix}/count": ((1,), "int64"),
        f"{prefix}/m2": ((features,), "float64"),
        f"{prefix}/mean": ((features,), "float64"),
    }


def moments(state: State, prefix: str) -> Moments:
    """The moments below `prefix`, as views on the state."""
    return Moments(state[f"{prefix}/count"], state[f"{prefix}/mean"], state[f"{prefix}/m2"])


def merge(into: Moments, other: Moments) -> None:
    """Takes `other` in, in place."""
    n, m = int(into.seen[0]), int(other.seen[0])
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
    n, total = int(before.seen[0]), int(after.seen[0])
    m = total - n
    if n == 0 or m == 0:
        return after.copy() if n == 0 else Moments(np.zeros(1, np.int64), *before.copy()[1:])
    apart = (after.mean - before.mean) * (total / m)
    m2 = after.m2 - before.m2 - apart * apart * (n * (m / total))
    return Moments(np.array([m]), before.mean + apart, np.maximum(m2, 0.0))


class Unit(NamedTuple):
    """A label's unit: standardised = (y - base) / unit."""

    base: float
    unit: float


def scoring_unit(target: Moments | None) -> Unit:
    """How outputs become labels: base 0 and unit 1 until labels that differ are seen."""
    if target is None or target.seen[0] == 0:
        return Unit(0.0, 1.0)
    return Unit(float(target.mean[0]), float(target.deviation()[0]) or 1.0)


def standardised_labels(target: Moments | None, y: Array) -> Array:
    """The labels (n,) that a step aims at: (y - mean) / sd, 0 where sd is 0."""
    if target is None:
        return y
    return np.asarray((y - target.mean[0]) * target.inverse()[0])
