"""Every loss keeps its promises: derivative, stability, zero at the optimum, known values."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss

from kernels.losses import LogisticLoss, SoftmaxLoss, Squared

LOSSES = {"squared": (Squared(), 1), "logistic": (LogisticLoss(), 1), "softmax": (SoftmaxLoss(), 4)}


def cases(name, n=200, spread=4.0):
    loss, k = LOSSES[name]
    random = np.random.default_rng(1)
    output = random.normal(0, spread, (n, k))
    y = random.normal(size=n) if name == "squared" else random.integers(0, max(k, 2), n)
    return loss, output, y.astype(np.float64)


@pytest.mark.parametrize("name", LOSSES)
def test_residual_is_the_numerical_derivative_of_the_value(name):
    loss, output, y = cases(name)
    step = 1e-6
    for j in range(output.shape[1]):
        up, down = output.copy(), output.copy()
        up[:, j] += step
        down[:, j] -= step
        slope = (loss.value(up, y) - loss.value(down, y)) / (2 * step)
        np.testing.assert_allclose(loss.residual(output, y)[:, j], slope, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["logistic", "softmax"])
@pytest.mark.parametrize("size", [0.0, 1e-300, 36.0, 710.0, 1e8, 1e300])
def test_log_losses_stay_finite_and_exact_at_the_edges(name, size):
    loss, k = LOSSES[name]
    output = np.zeros((2, k))
    output[:, -1] = size, -size
    y = np.array([0.0, 0.0])
    value, residual, link = loss.value(output, y), loss.residual(output, y), loss.link(output)
    assert np.isfinite(value).all()
    assert np.isfinite(residual).all()
    assert np.isfinite(link).all()
    assert (value >= 0).all()
    if size >= 710:
        np.testing.assert_allclose(value[0], size)


def test_the_loss_of_a_sure_and_right_logistic_output_is_tiny_and_not_zero():
    value = LogisticLoss().value(np.array([[40.0], [-40.0]]), np.array([1.0, 0.0]))
    np.testing.assert_allclose(value, np.exp(-40.0), rtol=1e-12)


@pytest.mark.parametrize("name", ["logistic", "softmax"])
def test_log_losses_are_those_of_scikit_learn(name):
    loss, output, y = cases(name, spread=2.0)
    probability = loss.link(output)
    expected = log_loss(y, probability, labels=np.unique(y))
    assert loss.value(output, y).mean() == pytest.approx(expected, rel=1e-9)


def test_probabilities_of_classes_sum_to_one():
    loss, output, _ = cases("softmax")
    np.testing.assert_allclose(loss.link(output).sum(axis=1), 1.0, rtol=1e-14)


def test_squared_error_has_no_half_and_is_zero_at_the_label():
    loss = Squared()
    assert loss.value(np.array([[3.0], [5.0]]), np.array([5.0, 5.0])).tolist() == [4.0, 0.0]
    assert loss.residual(np.array([[3.0], [5.0]]), np.array([5.0, 5.0])).tolist() == [[-4.0], [0.0]]


@pytest.mark.parametrize("name", LOSSES)
def test_a_row_has_the_same_bits_whatever_its_neighbours_are(name):
    loss, output, y = cases(name, n=67)
    for start, stop in ((0, 1), (3, 20), (60, 67)):
        for part in (loss.value, loss.residual):
            assert part(output, y)[start:stop].tobytes() == (
                part(output[start:stop], y[start:stop]).tobytes()
            )
        assert loss.link(output)[start:stop].tobytes() == loss.link(output[start:stop]).tobytes()
