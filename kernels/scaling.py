"""Running moments: weight, mean and centred sum of squares, of features and of labels.

Rules: rows count by their weights; float64. Moments merge exactly as if their rows had come together
(Chan, Golub & LeVeque, Stanford STAN-CS-79-773, 1979), to rounding; who merges many does so in a
fixed order. Where values may be missing (NaN) each feature counts the rows that have it. With a half-life the weight of what was seen halves after so many rows, so that means
and spreads follow a stream that drifts. The loops over rows stand in `loops`; here are the moments
that a state holds.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from kernels.contract import Array, Layout, State
from kernels.losses import Scale

LARGEST = 1e150
"""An output beyond this has a squared error that is no number any more: the model has diverged."""
LEAST_CURVATURE = 1e-290
"""A second derivative below this counts as this, where something is divided by it."""
LEAST_VARIANCE = 1e-290
"""A feature's variance below this counts as this, where features are divided by their deviation."""
FAR_LABEL = 20.0
"""A label that lies more deviations from the mean of those before it may be held, see `held`."""
UNWATCHED = np.array([-LARGEST, LARGEST]) / 2
"""The labels' extremes where nobody has watched them: nothing that matters is held."""
REACHES = (0.0, 0.3, 1.0, 30.0)
"""So many times as far as labels lie apart a prediction of numbers may lie beyond them; which of these, see `reach`."""
MOST_OF_M2 = 0.1
"""By this share one label may make the labels' sum of squares larger: their deviation by a twentieth."""


def kept(half_life: float, rows: Any) -> Any:
    """The share of its weight that something keeps over so many rows: 2^(-rows / half_life)."""
    return 2.0 ** (-rows / half_life) if half_life > 0 else 1.0


class Moments(NamedTuple):
    """Of one state, as views: `seen` the weight of the rows, `mean` (f,), `m2` (f,); float64.

    `seen` is (1,) for all features, or (f,) of each where values may be missing.
    """

    seen: Array
    mean: Array
    m2: Array

    def deviation(self) -> Array:
        """The standard deviation (f,), √(m2 / weight); 0 where nothing is seen."""
        return np.sqrt(_over(self.m2, self.seen))

    def inverse(self) -> Array:
        """1/sd (f,), 0 where sd is 0."""
        variance = _over(self.m2, self.seen)
        return np.where(variance > 0, 1.0 / np.sqrt(np.maximum(variance, LEAST_VARIANCE)), 0.0)

    def faded(self, share: float) -> Moments:
        """The same moments in arrays of their own, at `share` of their weight."""
        return Moments(self.seen * share, self.mean.copy(), self.m2 * share)

    def assign(self, other: Moments) -> None:
        """Becomes `other`, in place."""
        for mine, theirs in zip(self, other, strict=True):
            mine[:] = theirs


def layout(prefix: str, features: int, gaps: bool = False) -> Layout:
    """The arrays of moments below `prefix`; with `gaps` each feature has a count of its own."""
    return {
        f"{prefix}/count": ((features if gaps else 1,), "float64"),
        f"{prefix}/m2": ((features,), "float64"),
        f"{prefix}/mean": ((features,), "float64"),
    }


def moments(state: State, prefix: str) -> Moments:
    """The moments below `prefix`, as views on the state."""
    return Moments(state[f"{prefix}/count"], state[f"{prefix}/mean"], state[f"{prefix}/m2"])


def merge(into: Moments, other: Moments) -> None:
    """Takes `other` in, in place."""
    n, m = into.seen, other.seen
    share = _over(m, n + m)
    apart = other.mean - into.mean
    mean = into.mean + apart * share
    m2 = into.m2 + (other.m2 + apart * apart * (n * share))
    into.mean[:] = _chosen(m == 0, into.mean, _chosen(n == 0, other.mean, mean))
    into.m2[:] = _chosen(m == 0, into.m2, _chosen(n == 0, other.m2, m2))
    into.seen[:] = n + m


def increment(after: Moments, before: Moments) -> Moments:
    """What was taken in between: `merge(before, increment)` is `after`, to rounding.

    A feature that never changed keeps its mean and a spread of exactly 0.
    """
    n, total = before.seen, after.seen
    m = np.maximum(total - n, 0.0)
    apart = (after.mean - before.mean) * _over(total, m)
    m2 = np.maximum(after.m2 - before.m2 - apart * apart * (n * _over(m, total)), 0.0)
    mean = _chosen(n == 0, after.mean, before.mean + apart)
    return Moments(m, mean, _chosen(n == 0, after.m2, _chosen(m == 0, 0.0, m2)))


def _over(part: Array, whole: Array) -> Array:
    """part / whole, 0 where whole is 0."""
    shape = np.broadcast_shapes(part.shape, whole.shape)
    return np.divide(part, whole, out=np.zeros(shape), where=whole > 0)


def _chosen(where: Array, these: Array | float, others: Array) -> Array:
    return np.asarray(np.where(where, these, others))


class Unit(NamedTuple):
    """How raw outputs become labels, output = raw · unit + base; how far an output may go; and how labels become aims."""

    base: float = 0.0
    unit: float = 1.0
    lowest: float = -math.inf
    highest: float = math.inf
    least: float = -math.inf
    most: float = math.inf

    def outputs(self, raw: Array) -> Array:
        """The outputs (n, k) that raw ones stand for, without offsets: held within what the labels seen allow, see `bounds`.
        One beyond `LARGEST` stays as it is, lest a model that has diverged look well."""
        output = raw * self.unit + self.base
        held = np.clip(output, self.lowest, self.highest)
        return np.asarray(np.where(np.abs(output) <= LARGEST, held, output))

    def votes(self, raw: Array, y: Array, w: Array) -> Array:
        """What rows of raw outputs (n, 1), labels (n,) without offsets and these weights (n,) hold against each of `REACHES` (4,).

        A row whose output lies beyond the labels so far has one vote, dealt by the squared errors that the reaches
        would have had: so it is no matter how far out it lies.
        """
        output = raw[:, 0] * self.unit + self.base
        is_outside = ((output < self.least) | (output > self.most)) & (np.abs(output) <= LARGEST)
        found = np.zeros(len(REACHES))
        if not is_outside.any():
            return found
        output, y, w = output[is_outside, None], y[is_outside, None], w[is_outside]
        apart = self.most - self.least
        lows = self.least - np.array(REACHES) * apart
        highs = self.most + np.array(REACHES) * apart
        missed = (np.clip(output, lows, highs) - np.clip(y, lows[-1], highs[-1])) / apart
        squares = missed * missed
        shares = _over(squares, squares.sum(axis=1, keepdims=True))
        for own, weight in zip(shares, w.tolist(), strict=True):
            found += weight * own
        return found

    def aims(self, scale: Scale, y: Array) -> Array:
        """The labels (n,) that a step aims at: (y - mean) / sd, 0 where sd is 0; or y / mean."""
        if scale == "mean":
            return np.asarray(y / math.exp(self.base))
        return (y - self.base) / self.unit if self.unit > 0 else np.zeros(len(y))


def variation(target: Moments) -> float:
    """The variance of labels over their squared mean; `LARGEST` where there is no mean."""
    mean = float(target.mean[0])
    if mean <= 0.0:
        return LARGEST
    relative = math.sqrt(float(target.m2[0] / target.seen[0])) / mean
    return min(relative * relative, LARGEST)


def without_offset(scale: Scale, y: Array, offset: Array) -> Array:
    """The labels (n,) that rows would have at offset 0: of losses with a logarithmic link y e^-offset, 0 where
    y is 0, though the power may overflow; else y - offset."""
    if scale == "mean":
        return np.asarray(y * np.exp((y != 0.0) * -offset))
    return np.asarray(y - offset)


def held(y: Array, w: Array, moments: Moments) -> Array:
    """Labels (n,) as their moments, so far these, take them in, by the rows' weights (n,).

    The labels' spread is the unit of all that is learnt: one that is wrong by a factor of thousand would move every
    prediction by hundreds. So a label is held within FAR_LABEL deviations of the mean, or further out, where it makes the
    sum of squares larger by a share of MOST_OF_M2: many rows before it are a long lever. What is rare and true, or stays
    that far off, is believed in a few such steps.
    """
    if moments.m2[0] == 0.0:
        return y
    variance, most = moments.m2[0] / moments.seen[0], MOST_OF_M2 * moments.m2[0]
    with np.errstate(divide="ignore"):
        bound = np.sqrt(np.maximum(FAR_LABEL * FAR_LABEL * variance, most / w))
    return np.asarray(np.clip(y, moments.mean[0] - bound, moments.mean[0] + bound))


def unit(scale: Scale, target: Moments, extremes: Array, against: Array) -> Unit:
    """The unit of the labels seen, whose least and most are `extremes` (2,); `against` (4,): see `reach`. "spread": their mean and
    sd, which may be 0; "mean": log of the mean.

    It says how far an output may go, too. A linear model has no bounds of its own: one cell that is far out, or the effects
    of several of a count's features, which multiply, carry it beyond all that ever was. Counts and amounts are at most the
    most so far, numbers `reach` times as far beyond the labels as these lie apart. Labels that are all alike, or 0, tell of none.
    """
    if target.seen[0] == 0:
        return Unit()
    mean = float(target.mean[0])
    least, most = extremes.tolist()
    if scale == "mean":
        highest = math.log(most) if most > 0 else math.inf
        return Unit(math.log(mean) if mean > 0 else 0.0, 1.0, highest=highest)
    deviation, apart = float(target.deviation()[0]), most - least
    if apart == 0:
        return Unit(mean, deviation)
    far = reach(against) * apart
    return Unit(mean, deviation, least - far, most + far, least, most)


def reach(against: Array) -> float:
    """Which of `REACHES` holds predictions, by what rows beyond the labels so far have held against each (4,): see `Unit.votes`.

    The one with the least against it, and of several the farthest. Where labels are proportional to what is far out, it is
    right to go there, and where they aren't, it is the largest error that a model can make: a stream tells which it is.
    """
    return REACHES[len(REACHES) - 1 - int(np.argmin(against[::-1]))]


def scoring(unit: Unit) -> Unit:
    """The unit that rows are scored by: 1 until labels that differ are seen."""
    return unit if unit.unit > 0 else unit._replace(unit=1.0)
