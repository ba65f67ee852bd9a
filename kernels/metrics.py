"""Metrics as mergeable states: dicts of arrays that start as zeros, take rows in, and add up.

Rules: a state knows its problem by its arrays' names. Everything in it is a sum, so states merge by
adding; given the same calls the bits are the same. Counts are integers and stay exact for ever.
Means are weighted by the rows' weights; AUC and average precision count rows, unweighted. What
can't be said of the rows seen (no rows, one class, no variance) is None.

    layout ─▶ zeros ─▶ update, update, ... ─▶ merge ─▶ summary
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from kernels.contract import Array, Layout, Problem

MetricState = dict[str, Array]
Summary = dict[str, float | None]

BINS = 4096
"""Of the raw output of two classes: see `counting`, which is compiled, and imported where rows are taken in."""

_NUMBER = ((1,), "float64")


Judgement = tuple[Array, Array, Array]
"""Outputs (n, k), predictions and losses (n,) of n rows."""


class Standing(NamedTuple):
    """What a state says."""

    rows: int
    weight_sum: float
    loss: float | None
    metrics: Summary


class Counted(NamedTuple):
    """The numbers of a state of two classes that a summary is made of."""

    rows: int
    weight_sum: float
    loss_sum: float
    base_loss_sum: float
    prediction_sum: float
    true_no: float
    false_yes: float
    false_no: float
    true_yes: float
    auc: float | None
    average_precision: float | None

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Counted:
        """From the fields in their order, as floats; areas that can't be said are NaN."""
        rows, *sums, auc, average_precision = numbers
        areas = (None, None) if math.isnan(auc) else (auc, average_precision)
        return cls(int(rows), *sums, *areas)

    def standing(self, is_likelihood: bool) -> Standing:
        """As `metrics.standing` of the state."""
        loss = _ratio(self.loss_sum, self.weight_sum)
        return Standing(self.rows, self.weight_sum, loss, _binary(self, is_likelihood))


def layout(problem: Problem, outputs: int, is_likelihood: bool = True) -> Layout:
    """Shapes and dtypes of a state's arrays; zeros are the state that has seen nothing.

    Only of a loss that is a likelihood's logarithm can it be said how much better it is than that of
    the base rate.
    """
    numbers: Layout = {
        "absolute_sum": _NUMBER,
        "error_sum": _NUMBER,
        "label_m2": _NUMBER,
        "label_mean": _NUMBER,
        "square_sum": _NUMBER,
    }
    own: dict[Problem, Layout] = {
        "binary": {
            "bins": ((2, BINS), "int64"),
            "confusion": ((2, 2), "float64"),
            "prediction_sum": _NUMBER,
            **({"base_loss_sum": _NUMBER} if is_likelihood else {}),
        },
        "multiclass": {"confusion": ((outputs, outputs), "float64")},
        "regression": numbers,
        "counts": {"floor_sum": _NUMBER, **numbers},
        "clustering": {},
    }
    shared: Layout = {"loss_sum": _NUMBER, "rows": ((1,), "int64"), "weight_sum": _NUMBER}
    return dict(sorted((own[problem] | shared).items()))


def update(
    state: Mapping[str, Array],
    output: Array,
    prediction: Array,
    y: Array,
    w: Array,
    loss: Array,
    floor: Array,
) -> None:
    """Takes n rows in: outputs (n, k), predictions as a loss's link gives them, y, w, and their losses
    and the least ones that they could have (n,)."""
    from kernels import counting

    if len(y) == 0:
        return
    if "bins" in state:
        counting.take_binary(state, output, prediction, y, w)
    elif "confusion" in state:
        counting.take_multiclass(state, prediction, y, w)
    elif "label_m2" in state:
        _take_numbers(state, prediction, y, w)
    if "floor_sum" in state:
        state["floor_sum"][0] += (w * floor).sum()
    if len(y) <= counting.FEW:
        counting.take_sums(state, w, loss)
        return
    state["loss_sum"][0] += (w * loss).sum()
    state["weight_sum"][0] += w.sum()
    state["rows"][0] += len(y)


def count_files(
    lifetime: Mapping[str, Array],
    stops: Array,
    y: Array,
    w: Array,
    met: Judgement,
    before: Judgement,
    whole: Array,
    copies: Array,
) -> list[list[Standing]] | None:
    """Takes files in, one after the other, whose rows end at `stops` (files,) int64; says what the states come to after each: that
    of its rows as they were `met`, that of those as the model `before` it has them, and that of the job's `lifetime`.

    `whole` (words,) int64 is the memory of the last, which is changed in place, and `copies` (files, words) becomes what it holds
    after each file. It is what `update`, `merge` and `standing` come to, in the same order, without Python in between; None where
    there is no such way: of files that are too long, or not of two classes.
    """
    from kernels import counting

    if "bins" not in lifetime or np.diff(stops, prepend=0).max() > counting.FEW:
        return None
    counted = counting.count_files(stops, y, w, met, before, lifetime, whole, copies)
    is_likelihood = "base_loss_sum" in lifetime
    return [[one.standing(is_likelihood) for one in states] for states in counted]


def merge(into: Mapping[str, Array], other: Mapping[str, Array]) -> None:
    """Adds `other` to `into`, in place."""
    if "label_m2" in into:
        _merge_labels(into, other["weight_sum"][0], other["label_mean"][0], other["label_m2"][0])
    for name, array in into.items():
        if name not in ("label_mean", "label_m2"):
            array += other[name]


def rows(state: Mapping[str, Array]) -> int:
    """How many rows were taken in."""
    return int(state["rows"][0])


def weight_sum(state: Mapping[str, Array]) -> float:
    """The sum of their weights."""
    return float(state["weight_sum"][0])


def mean_loss(state: Mapping[str, Array]) -> float | None:
    """Their mean loss by weight."""
    return _ratio(state["loss_sum"].item(), state["weight_sum"].item())


def standing(state: Mapping[str, Array]) -> Standing:
    """What a state says, at once."""
    return Standing(rows(state), weight_sum(state), mean_loss(state), summary(state))


def summary(state: Mapping[str, Array]) -> Summary:
    """The problem's metrics by name."""
    if "bins" in state:
        return _binary(_counted(state), "base_loss_sum" in state)
    if "confusion" in state:
        return _multiclass(state)
    return _regression(state) if "label_m2" in state else {"inertia": mean_loss(state)}


# Two classes


def _counted(state: Mapping[str, Array]) -> Counted:
    from kernels import counting

    (true_no, false_yes), (false_no, true_yes) = state["confusion"].tolist()
    return Counted(
        rows(state),
        weight_sum(state),
        state["loss_sum"].item(),
        state["base_loss_sum"].item() if "base_loss_sum" in state else 0.0,
        state["prediction_sum"].item(),
        true_no,
        false_yes,
        false_no,
        true_yes,
        *counting.areas(state["bins"]),
    )


def _binary(counted: Counted, is_likelihood: bool) -> Summary:
    _, weight, loss, base_loss, predicted, true_no, false_yes, false_no, true_yes = counted[:9]
    base = _ratio(loss, base_loss) if is_likelihood else None
    return {
        "log_loss": _ratio(loss, weight) if is_likelihood else None,
        "accuracy": _ratio(true_no + true_yes, weight),
        "auc": counted.auc,
        "average_precision": counted.average_precision,
        "precision": _ratio(true_yes, true_yes + false_yes),
        "recall": _ratio(true_yes, true_yes + false_no),
        "f1": _ratio(2 * true_yes, 2 * true_yes + false_yes + false_no),
        "base_rate": _ratio(true_yes + false_no, weight),
        "mean_prediction": _ratio(predicted, weight),
        "skill": None if base is None else 1.0 - base,
    }


# Many classes


def _multiclass(state: Mapping[str, Array]) -> Summary:
    """macro_f1: the plain mean of f1 over the classes that were seen or chosen."""
    confusion = state["confusion"]
    right = np.diagonal(confusion)
    either = confusion.sum(axis=0) + confusion.sum(axis=1)
    f1 = 2 * right[either > 0] / either[either > 0]
    return {
        "log_loss": mean_loss(state),
        "accuracy": _ratio(right.sum(), state["weight_sum"][0]),
        "macro_f1": float(f1.mean()) if len(f1) else None,
    }


# Numbers


def _take_numbers(state: Mapping[str, Array], prediction: Array, y: Array, w: Array) -> None:
    error = prediction - y
    state["error_sum"][0] += (w * error).sum()
    state["absolute_sum"][0] += (w * np.abs(error)).sum()
    state["square_sum"][0] += (w * error * error).sum()
    weight = float(w.sum())
    if weight > 0:
        mean = (
            y[0] + float((w * (y - y[0])).sum()) / weight
        )  # labels that are all alike have no spread
        centred = y - mean
        _merge_labels(state, weight, mean, float((w * centred * centred).sum()))


def _merge_labels(state: Mapping[str, Array], weight: float, mean: float, m2: float) -> None:
    """Chan, Golub & LeVeque's merge, with weights as counts."""
    before = state["weight_sum"][0]
    if weight <= 0:
        return
    total = before + weight
    apart = mean - state["label_mean"][0] if before > 0 else 0.0
    state["label_mean"][0] = (
        mean if before <= 0 else state["label_mean"][0] + apart * weight / total
    )
    state["label_m2"][0] += m2 + apart * apart * before * weight / total


def _regression(state: Mapping[str, Array]) -> Summary:
    weight, squares = state["weight_sum"][0], state["square_sum"][0]
    mean_square = _ratio(squares, weight)
    unexplained = _ratio(squares, state["label_m2"][0])
    found: Summary = {
        "rmse": None if mean_square is None else float(np.sqrt(mean_square)),
        "mae": _ratio(state["absolute_sum"][0], weight),
        "r2": None if unexplained is None else 1.0 - unexplained,
        "bias": _ratio(state["error_sum"][0], weight),
    }
    if "floor_sum" in state:
        found["deviance"] = _ratio(2.0 * (state["loss_sum"][0] - state["floor_sum"][0]), weight)
    return found


def _ratio(above: float, below: float) -> float | None:
    return float(above / below) if below > 0 else None
