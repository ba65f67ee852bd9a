"""Losses of raw outputs and labels, one stanza each: domain, link, formula, gradient, source.

Rules: o (n, k) raw outputs, y (n,) labels; nothing is dropped from a formula, and nothing is
averaged. Everything is stable for any finite o: no exponential of a positive number is taken. The
residuals of one output work on numbers as well as on arrays: `compiled` compiles the same
functions. Sums over classes run in the order of the classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.contract import Array


def squared_residual(output: Any, y: Any) -> Any:
    """2 (o - y)."""
    return 2.0 * (output - y)


def logistic_residual(output: Any, y: Any) -> Any:
    """P(1) - y, with P(1) = 1 / (1 + e^-o)."""
    return positive_probability(output) - y


def positive_probability(output: Any) -> Any:
    """1 / (1 + e^-o), as e^min(o, 0) / (1 + e^-|o|): neither exponential overflows."""
    return np.exp(np.minimum(output, 0.0)) / (1.0 + np.exp(-np.abs(output)))


class Squared:
    """Squared error, without the factor ½.

    domain: y any number; link: identity; formula: (o - y)²; gradient: 2 (o - y).
    Source: as in the article; Gauss 1809.
    """

    def value(self, output: Array, y: Array) -> Array:
        """(n,) float64, in the label's units squared."""
        error = _single(output) - y
        return np.asarray(error * error)

    def residual(self, output: Array, y: Array) -> Array:
        """(n, 1) float64."""
        return np.asarray(squared_residual(_single(output), y)[:, None])

    def link(self, output: Array) -> Array:
        """(n,) numbers."""
        return _single(output)


class LogisticLoss:
    """Log loss of two classes (nats).

    domain: y = 0 or 1; link: P(1) = 1 / (1 + e^-o); formula: log(1 + e^o) - y o, as
    log(1 + e^-|o|) + max(o, 0) - y o; gradient: P(1) - y.
    Source: Hastie, Tibshirani & Friedman, Elements of Statistical Learning, 4.4.1.
    """

    def value(self, output: Array, y: Array) -> Array:
        """(n,) float64; max(o, 0) - y o is taken as one number, so that nothing cancels."""
        o = _single(output)
        return np.log1p(np.exp(-np.abs(o))) + np.where(o > 0, (1 - y) * o, -y * o)

    def residual(self, output: Array, y: Array) -> Array:
        """(n, 1) float64."""
        return np.asarray(logistic_residual(_single(output), y)[:, None])

    def link(self, output: Array) -> Array:
        """(n,) P(positive)."""
        return np.asarray(positive_probability(_single(output)))


class SoftmaxLoss:
    """Log loss of k classes (nats).

    domain: y the class's index; link: p_j = e^o_j / Σ e^o; formula: log Σ e^o - o_y; gradient:
    p_j - [j = y]. All after subtracting the largest output of the row.
    Source: Bishop, Pattern Recognition and Machine Learning, 4.3.4.
    """

    def value(self, output: Array, y: Array) -> Array:
        """(n,) float64."""
        shifted = _shifted(output)
        chosen = np.take_along_axis(shifted, y.astype(np.intp)[:, None], axis=1)[:, 0]
        return np.asarray(np.log(np.exp(shifted).sum(axis=1)) - chosen)

    def residual(self, output: Array, y: Array) -> Array:
        """(n, k) float64."""
        residual = self.link(output)
        residual[np.arange(len(y)), y.astype(np.intp)] -= 1.0
        return residual

    def link(self, output: Array) -> Array:
        """(n, k) the classes' probabilities."""
        powers = np.exp(_shifted(output))
        powers /= powers.sum(axis=1, keepdims=True)
        return powers


def _single(output: Array) -> Array:
    return np.asarray(output[:, 0], np.float64)


def _shifted(output: Array) -> Array:
    o = np.asarray(output, np.float64)
    return np.asarray(o - o.max(axis=1, keepdims=True))
