"""The limit: what the same linear model comes to that has seen the whole stream before."""

from __future__ import annotations

import warnings

import numpy as np

from benchmarks.quality.scores import score
from benchmarks.quality.sets import Set


def offline(data: Set) -> float:
    """The score, on the stream itself, of the model fitted to all of it (scikit-learn, no penalty to
    speak of): no linear model that stays the same does better."""
    from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor
    from sklearn.preprocessing import StandardScaler

    x = StandardScaler().fit_transform(data.x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if data.problem == "regression":
            found = LinearRegression().fit(x, data.y).predict(x)
        elif data.problem == "counts":
            found = PoissonRegressor(alpha=1e-6, max_iter=1000).fit(x, data.y).predict(x)
        else:
            model = LogisticRegression(C=1e4, max_iter=500).fit(x, data.y)
            found = model.predict_proba(x)
            found = found[:, 1] if data.problem == "binary" else found
    return score(data, np.asarray(found))
