"""How predictions are judged: one figure a set, lower is better."""

from __future__ import annotations

import numpy as np

from benchmarks.quality.sets import Floats, Set

WORST = 1e9
"""What a prediction that is no number counts as."""

UNITS = {
    "binary": "log loss",
    "multiclass": "log loss",
    "regression": "RMSE / sd",
    "counts": "deviance",
}


def score(data: Set, predictions: Floats, rows: slice = slice(None)) -> float:
    """Log loss (probabilities no nearer to 0 or 1 than 1e-15), RMSE over the labels' standard
    deviation, or mean Poisson deviance (of rates no less than 1e-3)."""
    y, p = data.y[rows], np.nan_to_num(predictions[rows], nan=WORST, posinf=WORST, neginf=-WORST)
    if data.problem == "binary":
        p = np.clip(p, 1e-15, 1 - 1e-15)
        return float(-np.where(y > 0, np.log(p), np.log1p(-p)).mean())
    if data.problem == "multiclass":
        chosen = p[np.arange(len(y)), y.astype(int)]
        return float(-np.log(np.clip(chosen, 1e-15, 1.0)).mean())
    if data.problem == "regression":
        error = np.clip(p - y, -WORST, WORST)
        return float(np.sqrt(np.square(error).mean()) / data.y.std())
    p = np.clip(p, 1e-3, WORST)
    return float(2 * (np.where(y > 0, y * np.log(np.where(y > 0, y, 1) / p), 0) - y + p).mean())
