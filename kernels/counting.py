"""The loops of the metrics, compiled by numba: rows into sums and counts, bins into areas.

Rules: those of `loops`. A row of two classes falls into one of `BINS` bins of o / (1 + |o|), which
lies in (-1, 1): narrow where a model is unsure (0.0005 of log odds around 0, 0.02 around ±6), and
no output is out of range. Rows of one bin count as tied, so AUC and average precision are those of
the binned outputs; the counts are integers, add up in any order, and stay exact for ever.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numba as nb
import numpy as np

from kernels.contract import Array
from kernels.metrics import BINS

_FLAGS: dict[str, Any] = {"error_model": "numpy", "nogil": True, "cache": True}


@nb.njit(**_FLAGS)
def _take_binary(output, prediction, y, w, bins, confusion, base_loss_sum, prediction_sum, seen):
    """Rows into bins (2, BINS), confusion (2, 2) by weight, and sums; `seen` is the weight before.

    The base loss is the log loss of the share of the row's class, by weight, among the rows before
    it, with half a row of either class added.
    """
    positive = confusion[1, 0] + confusion[1, 1]
    base, predicted = 0.0, 0.0
    for i in range(len(y)):
        label = int(y[i])
        share = positive if label == 1 else seen - positive
        base -= w[i] * math.log((share + 0.5) / (seen + 1.0))
        seen += w[i]
        positive += w[i] * y[i]
        predicted += w[i] * prediction[i]
        confusion[label, 1 if prediction[i] > 0.5 else 0] += w[i]
        o = output[i, 0]
        place = (o / (1.0 + abs(o)) + 1.0) * (BINS / 2)
        bins[label, min(int(place), BINS - 1) if place >= 0.0 else 0] += 1
    base_loss_sum[0] += base
    prediction_sum[0] += predicted


@nb.njit(**_FLAGS)
def _take_multiclass(prediction, y, w, confusion):
    """Weights into confusion (k, k): rows are labels, columns the classes of highest probability."""
    for i in range(len(y)):
        best = 0
        for j in range(1, prediction.shape[1]):
            if prediction[i, j] > prediction[i, best]:
                best = j
        confusion[int(y[i]), best] += w[i]


@nb.njit(**_FLAGS)
def _areas(bins):
    negatives, positives = bins[0].sum(), bins[1].sum()
    above, below, ordered, precision = 0.0, 0.0, 0.0, 0.0
    for b in range(BINS - 1, -1, -1):
        negative, positive = bins[0, b], bins[1, b]
        if negative + positive == 0:
            continue  # most bins are empty where rows are few, and would only add zeros
        above += positive
        below += negative
        ordered += negative * (above - 0.5 * positive)
        if positive > 0:
            precision += positive * (above / (above + below))
    has_both = negatives > 0 and positives > 0
    return has_both, ordered / (float(negatives) * float(positives)), precision / positives


def take_binary(
    state: Mapping[str, Array], output: Array, prediction: Array, y: Array, w: Array
) -> None:
    """Rows of two classes into the state of `metrics`, in place; before their weights are added."""
    _take_binary(
        *_alike(output, prediction, y, w),
        state["bins"],
        state["confusion"],
        state.get("base_loss_sum", np.zeros(1)),
        state["prediction_sum"],
        float(state["weight_sum"][0]),
    )


def take_multiclass(state: Mapping[str, Array], prediction: Array, y: Array, w: Array) -> None:
    """Rows of k classes into the state of `metrics`, in place."""
    _take_multiclass(*_alike(prediction, y, w), state["confusion"])


def areas(bins: Array) -> tuple[float | None, float | None]:
    """AUC and average precision of bins (2, BINS); None where there is one class only.

    auc: the share of pairs in order, ties count half (Hanley & McNeil, Radiology 143, 1982).
    average precision: Σ precision · Δrecall over thresholds from the top, as scikit-learn has it.
    """
    has_both, auc, average_precision = _areas(bins)
    return (float(auc), float(average_precision)) if has_both else (None, None)


def _alike(*arrays: Array) -> list[Array]:
    """Read-only, float64 and C-order: numba compiles once, whatever the callers' views are."""
    views = [np.ascontiguousarray(array, np.float64).view() for array in arrays]
    for view in views:
        view.flags.writeable = False
    return views
