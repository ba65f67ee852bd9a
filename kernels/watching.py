"""What is watched of the rows: moments of features and labels, weights of classes.

Rules: those of `learner`, whose state holds all of it by these names; every sum is in lane order.

    classes/weight              weights of the classes seen, if their steps are balanced
    scaling/count, m2, mean     of the features seen, if the job standardises
    target/count, m2, mean      of the labels seen, if they are scaled
    target/extremes             the least and the most of them
    target/reaches              what is held against predictions that reach so far beyond these, of numbers
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kernels import scaling
from kernels.contract import Array, Layout, Rows, Spec, State
from kernels.losses import Scale
from kernels.scaling import Moments, Unit


class Watching:
    """How a spec's rows are watched: labels by this scale, of so many `classes`."""

    def __init__(self, spec: Spec, scale: Scale, classes: int) -> None:
        self.spec = spec
        self.scale = scale
        self.classes = classes

    def layout(self) -> Layout:
        """Shapes and dtypes of what is watched, by the state's names."""
        found: Layout = {}
        if self.spec.class_weight == "balanced":
            found["classes/weight"] = ((self.classes,), "float64")
        if self.spec.standardise:
            found |= scaling.layout("scaling", self.spec.features, self.spec.gaps)
        if self.scale != "none":
            found |= scaling.layout("target", 1) | {"target/extremes": ((2,), "float64")}
        if self.scale == "spread":
            found["target/reaches"] = ((len(scaling.REACHES),), "float64")
        return found

    def features(self, state: State) -> Moments | None:
        """Those of the features, as views; None where they are not standardised."""
        return scaling.moments(state, "scaling") if self.spec.standardise else None

    def _target(self, state: State) -> Moments | None:
        return scaling.moments(state, "target") if self.scale != "none" else None

    def unit(self, state: State) -> Unit:
        """The unit of the labels seen."""
        target = self._target(state)
        if target is None:
            return Unit()
        # of counts there are none, nor in a model file of a version before 0.6.0
        against = state.get("target/reaches", _NONE)
        return scaling.unit(self.scale, target, state["target/extremes"], against)

    def enter(self, state: State, lanes: Sequence[Rows], with_features: bool = True) -> None:
        """Takes a batch in, lane by lane: moments of features and labels, weights of classes."""
        features = self.features(state) if with_features else None
        if features is not None:
            self.take_in(features, [(rows.x, rows.w) for rows in lanes])
        target = self._target(state)
        if target is not None:
            before = target.faded(1.0)
            self._take_extremes_in(state["target/extremes"], before, lanes)
            self.take_in(target, [(self._labels(rows, before), rows.w) for rows in lanes])
        if self.spec.class_weight == "balanced":
            for rows in lanes:
                classes = rows.y.astype(np.intp)
                state["classes/weight"][...] += np.bincount(classes, rows.w, self.classes)

    def judge(self, state: State, unit: Unit, raw: Array, rows: Rows) -> None:
        """Takes in what rows that were scored by `unit`, with raw outputs (n, k), say of how far predictions may reach."""
        if self.scale == "spread":
            plain = scaling.without_offset(self.scale, rows.y, rows.offset)
            state["target/reaches"] += unit.votes(raw, plain, rows.w)

    def together(self, before: State, lanes: Sequence[State]) -> dict[str, Array]:
        """What all lanes of one exact step watched: they took in the same rows, and each judged its own."""
        found = {name: lanes[0][name] for name in self.layout()}
        return found | self._reaches(before, lanes)

    def _reaches(self, before: State, lanes: Sequence[State]) -> dict[str, Array]:
        if self.scale != "spread":
            return {}
        found = before["target/reaches"].copy()
        for state in lanes:
            found += state["target/reaches"] - before["target/reaches"]
        return {"target/reaches": found}

    def take_in(self, moments: Moments, lanes: Sequence[tuple[Array, Array]]) -> None:
        """Takes a batch into moments, in place: values (n, f) and weights (n,), lane by lane."""
        from kernels import loops

        share = scaling.kept(self.spec.half_life, sum(len(w) for _, w in lanes))
        for x, w in lanes:
            loops.take_in_rows(x, w, share, *moments)
            share = 1.0

    def _labels(self, rows: Rows, before: Moments) -> Array:
        """The labels (n, 1) as their moments take them in."""
        plain = scaling.without_offset(self.scale, rows.y, rows.offset)
        return scaling.held(plain, rows.w, before)[:, None]

    def _take_extremes_in(self, extremes: Array, before: Moments, lanes: Sequence[Rows]) -> None:
        """The least and the most label with those of a batch; of rows without a weight nothing is seen."""
        plain = [
            scaling.without_offset(self.scale, rows.y, rows.offset)[rows.w > 0] for rows in lanes
        ]
        seen = np.concatenate([*plain, extremes if before.seen[0] > 0 else []])
        if len(seen):
            extremes[...] = seen.min(), seen.max()

    def class_factors(self, state: State, rows: Rows) -> Array | None:
        """The factors (n,) of the rows' steps by their classes; None where all are 1."""
        given = self.spec.class_weight
        if given is None:
            return None
        if given == "balanced":
            factors = _balanced(state["classes/weight"])
        else:
            factors = np.asarray(given, np.float64)
        return np.asarray(factors[rows.y.astype(np.intp)])

    def push_weights(self, state: State, rows: Rows, batch_rows: int) -> Array:
        """The weights (n,) of the rows' steps; takes the classes in, batch by batch."""
        if self.spec.class_weight is None:
            return rows.w
        if self.spec.class_weight != "balanced":
            factors = self.class_factors(state, rows)
            return np.asarray(rows.w * factors)
        classes = rows.y.astype(np.intp)
        taken = np.zeros((len(classes), self.classes))
        taken[np.arange(len(classes)), classes] = rows.w
        taken[0] += state["classes/weight"]
        totals = np.cumsum(taken, axis=0)
        ends = (
            np.minimum((np.arange(len(classes)) // batch_rows + 1) * batch_rows, len(classes)) - 1
        )
        state["classes/weight"][...] = totals[-1]
        factors = _balanced(totals[ends])
        return np.asarray(rows.w * np.take_along_axis(factors, classes[:, None], axis=1)[:, 0])

    def merged(
        self, before: State, lanes: Sequence[State], lane_rows: Sequence[int]
    ) -> dict[str, Array]:
        """What all lanes watched, from what each left: increments merged in lane order."""
        found: dict[str, Array] = {}
        if self.spec.class_weight == "balanced":
            weights = before["classes/weight"].copy()
            for state in lanes:
                weights += state["classes/weight"] - before["classes/weight"]
            found["classes/weight"] = weights
        for prefix in ("scaling", "target"):
            if f"{prefix}/mean" not in self.layout():
                continue
            start = scaling.moments(before, prefix)
            into = start.faded(scaling.kept(self.spec.half_life, sum(lane_rows)))
            for state, rows in zip(lanes, lane_rows, strict=True):
                faded = start.faded(scaling.kept(self.spec.half_life, rows))
                after = scaling.moments(state, prefix)
                scaling.merge(into, scaling.increment(after, faded))
            found |= {f"{prefix}/{name}": a for name, a in zip(_MOMENTS, into, strict=True)}
        if "target/extremes" in self.layout():
            seen = [lane["target/extremes"] for lane in lanes if lane["target/count"][0] > 0]
            least, most = np.array(seen or [before["target/extremes"]]).T
            found["target/extremes"] = np.array([least.min(), most.max()])
        return found | self._reaches(before, lanes)


_MOMENTS = ("count", "mean", "m2")
_NONE = np.zeros(len(scaling.REACHES))


def _balanced(weights: Array) -> Array:
    """Factors (..., k) by the classes' weights (..., k): total / (k · weight), 1 on the mean; as
    scikit-learn's "balanced" has it. A class that wasn't seen needs none."""
    total = weights.sum(axis=-1, keepdims=True)
    wanted = weights.shape[-1] * weights
    return np.asarray(np.divide(total, wanted, out=np.ones_like(weights), where=wanted > 0))
