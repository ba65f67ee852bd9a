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

FEW = 128
"""The sums of so many rows are compiled, those of more are numpy's, which adds so few in the same order."""
_FLAGS: dict[str, Any] = {"error_model": "numpy", "nogil": True, "cache": True}
_BLOCK = 64  # bins that are looked at together, since most are empty where rows are few
_FLOAT = np.dtype(np.float64)


@nb.njit(**_FLAGS)
def _take_sums(w, loss, loss_sum, weight_sum, rows):
    """Σ w · loss and Σ w of at most `FEW` rows: eight sums side by side and a rest, as numpy adds so few."""
    n = len(w)
    total, weight, rest = 0.0, 0.0, 0
    if n >= 8:
        rest = n // 8 * 8
        v0, v1, v2, v3, v4, v5, v6, v7 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        w0, w1, w2, w3, w4, w5, w6, w7 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(0, rest, 8):
            v0 += w[i] * loss[i]
            v1 += w[i + 1] * loss[i + 1]
            v2 += w[i + 2] * loss[i + 2]
            v3 += w[i + 3] * loss[i + 3]
            v4 += w[i + 4] * loss[i + 4]
            v5 += w[i + 5] * loss[i + 5]
            v6 += w[i + 6] * loss[i + 6]
            v7 += w[i + 7] * loss[i + 7]
            w0 += w[i]
            w1 += w[i + 1]
            w2 += w[i + 2]
            w3 += w[i + 3]
            w4 += w[i + 4]
            w5 += w[i + 5]
            w6 += w[i + 6]
            w7 += w[i + 7]
        total = ((v0 + v1) + (v2 + v3)) + ((v4 + v5) + (v6 + v7))
        weight = ((w0 + w1) + (w2 + w3)) + ((w4 + w5) + (w6 + w7))
    for i in range(rest, n):
        total += w[i] * loss[i]
        weight += w[i]
    loss_sum[0] += total
    weight_sum[0] += weight
    rows[0] += n


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
    negatives, positives = 0, 0
    above, below, ordered, precision = 0.0, 0.0, 0.0, 0.0
    for block in range(BINS - _BLOCK, -1, -_BLOCK):
        some = 0
        for b in range(block, block + _BLOCK):
            some |= bins[0, b] | bins[1, b]
        if some == 0:
            continue
        for b in range(block + _BLOCK - 1, block - 1, -1):
            negative, positive = bins[0, b], bins[1, b]
            if negative + positive == 0:
                continue  # it would only add zeros
            negatives += negative
            positives += positive
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
        state["base_loss_sum"] if "base_loss_sum" in state else np.zeros(1),
        state["prediction_sum"],
        float(state["weight_sum"][0]),
    )


def take_multiclass(state: Mapping[str, Array], prediction: Array, y: Array, w: Array) -> None:
    """Rows of k classes into the state of `metrics`, in place."""
    _take_multiclass(*_alike(prediction, y, w), state["confusion"])


def take_sums(state: Mapping[str, Array], w: Array, loss: Array) -> None:
    """At most `FEW` rows, their weights and their losses, into the state of `metrics`, in place."""
    _take_sums(*_alike(w, loss), state["loss_sum"], state["weight_sum"], state["rows"])


def areas(bins: Array) -> tuple[float | None, float | None]:
    """AUC and average precision of bins (2, BINS); None where there is one class only.

    auc: the share of pairs in order, ties count half (Hanley & McNeil, Radiology 143, 1982).
    average precision: Σ precision · Δrecall over thresholds from the top, as scikit-learn has it.
    """
    has_both, auc, average_precision = _areas(bins)
    return (float(auc), float(average_precision)) if has_both else (None, None)


def _alike(*arrays: Array) -> list[Array]:
    """Float64, C-order and writeable, as they nearly always come: numba compiles once, whatever the callers' views are."""
    return [
        array
        if array.dtype == _FLOAT and array.flags.carray
        else np.array(array, _FLOAT, order="C")
        for array in arrays
    ]
