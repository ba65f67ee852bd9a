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
from kernels.metrics import BINS, Counted, Judgement

FEW = 128
"""The sums of so many rows are compiled, those of more are numpy's, which adds so few in the same order."""
_FLAGS: dict[str, Any] = {"error_model": "numpy", "nogil": True, "cache": True}
_BLOCK = 64  # bins that are looked at together, since most are empty where rows are few
_FLOAT = np.dtype(np.float64)
_BINARY = (
    "loss_sum", "weight_sum", "rows", "bins", "confusion", "base_loss_sum", "prediction_sum",
)  # fmt: skip


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


@nb.njit(**_FLAGS)
def _tell(at, loss_sum, weight_sum, rows, bins, confusion, base_loss_sum, prediction_sum):
    """The numbers of a state, in the order of `Counted`; areas that can't be said are NaN."""
    has_both, auc, average_precision = _areas(bins)
    at[0], at[1], at[2], at[3] = rows[0], weight_sum[0], loss_sum[0], base_loss_sum[0]
    at[4] = prediction_sum[0]
    at[5], at[6], at[7], at[8] = confusion[0, 0], confusion[0, 1], confusion[1, 0], confusion[1, 1]
    at[9], at[10] = (auc, average_precision) if has_both else (np.nan, np.nan)


@nb.njit(**_FLAGS)
def _add(into, other):
    """`metrics.merge`, of states of two classes."""
    loss_sum, weight_sum, rows, bins, confusion, base_loss_sum, prediction_sum = into
    loss_sum[0] += other[0][0]
    weight_sum[0] += other[1][0]
    rows[0] += other[2][0]
    base_loss_sum[0] += other[5][0]
    prediction_sum[0] += other[6][0]
    for label in range(2):
        for b in range(BINS):
            bins[label, b] += other[3][label, b]
        for chosen in range(2):
            confusion[label, chosen] += other[4][label, chosen]


@nb.njit(**_FLAGS)
def _clear(state):
    loss_sum, weight_sum, rows, bins, confusion, base_loss_sum, prediction_sum = state
    loss_sum[0], weight_sum[0], base_loss_sum[0], prediction_sum[0] = 0.0, 0.0, 0.0, 0.0
    rows[0] = 0
    for label in range(2):
        for b in range(BINS):
            bins[label, b] = 0
        for chosen in range(2):
            confusion[label, chosen] = 0.0


@nb.njit(**_FLAGS)
def _count_files(stops, y, w, met, before, own, lifetime, whole, copies, told):
    """Each file's rows as they were met, into `lifetime`, and as the model before it has them; of both told (files, 3, 11)."""
    loss_sum, weight_sum, rows, bins, confusion, base_loss_sum, prediction_sum = own
    start = 0
    for file in range(len(stops)):
        stop = stops[file]
        its_y, its_w = y[start:stop], w[start:stop]
        for scope in range(1, -1, -1):
            output, prediction, loss = before if scope == 1 else met
            _take_binary(
                output[start:stop], prediction[start:stop], its_y, its_w, bins, confusion,
                base_loss_sum, prediction_sum, weight_sum[0],
            )  # fmt: skip
            _take_sums(its_w, loss[start:stop], loss_sum, weight_sum, rows)
            _tell(
                told[file, scope], loss_sum, weight_sum, rows, bins, confusion, base_loss_sum,
                prediction_sum,
            )  # fmt: skip
            if scope == 0:
                _add(lifetime, own)
            _clear(own)
        _tell(told[file, 2], *lifetime)
        for i in range(len(whole)):
            copies[file, i] = whole[i]
        start = stop


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


def count_files(
    stops: Array,
    y: Array,
    w: Array,
    met: Judgement,
    before: Judgement,
    lifetime: Mapping[str, Array],
    whole: Array,
    copies: Array,
) -> list[list[Counted]]:
    """`metrics.count_files`, of at most `FEW` rows of two classes in each file."""
    own = {name: np.zeros_like(array) for name, array in lifetime.items()}
    told = np.empty((len(stops), 3, len(Counted._fields)))
    y, w, *judged = _alike(y, w, *met, *before)
    _count_files(
        stops, y, w, tuple(judged[:3]), tuple(judged[3:]), _binary(own), _binary(lifetime), whole, copies, told
    )  # fmt: skip
    return [[Counted.of(numbers) for numbers in scopes] for scopes in told.tolist()]


def _binary(state: Mapping[str, Array]) -> tuple[Array, ...]:
    return tuple(state[name] if name in state else np.zeros(1) for name in _BINARY)


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
