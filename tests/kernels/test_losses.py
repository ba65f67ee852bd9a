"""Every loss of the table keeps its promises: derivatives, domain, floor, known values, stability."""

from __future__ import annotations

import decimal

import numba as nb
import numpy as np
import pytest
import torch
from sklearn import metrics as theirs
from torch_losses import TORCH

from kernels import loops, losses
from kernels.losses import LOSSES, LossOptions, SingleOutput, SoftmaxLoss


def made(name):
    return losses.chosen(LossOptions(name))


def cases(name, n=200, spread=2.0):
    random = np.random.default_rng(1)
    output = random.normal(0, spread, (n, 4 if name == "softmax" else 1))
    problem = made(name).problem
    if problem == "regression":
        y = random.normal(size=n)
    elif problem == "counts":
        y = random.poisson(2.0, n) + (0.5 if made(name).domain.is_open else 0.0)
    else:
        y = random.integers(0, output.shape[1] if name == "softmax" else 2, n)
    return made(name), output, y.astype(np.float64)


def test_torch_has_formulas_for_these_thirteen():
    assert set(TORCH) == {
        *("squared", "absolute", "huber", "quantile", "epsilon_insensitive"),
        *("poisson", "gamma", "tweedie"),
        *("logistic", "hinge", "squared_hinge", "modified_huber", "softmax"),
    }


@pytest.mark.parametrize("name", TORCH)
def test_value_and_residual_are_those_of_torch(name):
    loss, output, y = cases(name)
    o = torch.tensor(output if name == "softmax" else output[:, 0], requires_grad=True)
    value = TORCH[name](o, torch.tensor(y))
    np.testing.assert_allclose(loss.value(output, y), value.detach().numpy(), rtol=1e-9, atol=1e-12)
    value.sum().backward()
    residual = loss.residual(output, y).reshape(o.shape)
    np.testing.assert_allclose(residual, o.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", [*LOSSES, "softmax"])
def test_residual_is_the_numerical_derivative_of_the_value(name):
    """A step that is off by its square, 1e-12, and by rounding, 1e-16 / 1e-6."""
    loss, output, y = cases(name)
    step = 1e-6
    for j in range(output.shape[1]):
        up, down = output.copy(), output.copy()
        up[:, j] += step
        down[:, j] -= step
        slope = (loss.value(up, y) - loss.value(down, y)) / (2 * step)
        np.testing.assert_allclose(loss.residual(output, y)[:, j], slope, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", [name for name in LOSSES if LOSSES[name].curvature])
def test_curvature_is_the_numerical_derivative_of_the_residual(name):
    loss, output, y = cases(name)
    step = 1e-6
    slope = (loss.residual(output + step, y) - loss.residual(output - step, y))[:, 0] / (2 * step)
    np.testing.assert_allclose(loss.curvature(output, y), slope, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", [name for name in LOSSES if not LOSSES[name].curvature])
def test_a_loss_of_straight_pieces_has_its_residuals_square_as_curvature(name):
    loss, output, y = cases(name)
    assert loss.curvature(output, y).tolist() == np.square(loss.residual(output, y)[:, 0]).tolist()


def test_the_curvature_of_softmax_is_that_of_each_output_by_itself():
    loss, output, y = cases("softmax")
    step = 1e-6
    for j in range(output.shape[1]):
        moved = output.copy()
        moved[:, j] += step
        slope = (loss.residual(moved, y) - loss.residual(output, y))[:, j] / step
        np.testing.assert_allclose(loss.curvature(output, y)[:, j], slope, atol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_formulas_work_on_numbers_as_on_arrays_and_compiled(name):
    formula, (loss, output, y) = LOSSES[name], cases(name, n=20)
    parts = [formula.value, formula.residual]
    parts += [formula.curvature] if formula.curvature else []
    for part in parts:
        whole = part(output[:, 0], y, loss.number)
        compiled = nb.njit(part)
        for i in range(20):
            one = part(output[i, 0], y[i], loss.number)
            assert float(one) == pytest.approx(whole[i], rel=1e-14)
            assert compiled(output[i, 0], y[i], loss.number) == pytest.approx(whole[i], rel=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_no_loss_is_below_its_floor_and_the_link_of_the_label_reaches_it(name):
    loss, output, y = cases(name)
    assert (loss.value(output, y) >= loss.floor(y) - 1e-12).all()
    if loss.problem == "counts":
        positive = y[y > 0]
        best = np.log(positive)[:, None]
        np.testing.assert_allclose(loss.value(best, positive), loss.floor(positive), rtol=1e-12)
        np.testing.assert_allclose(loss.residual(best, positive), 0.0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "deviance"),
    [
        ("poisson", theirs.mean_poisson_deviance),
        ("gamma", theirs.mean_gamma_deviance),
        ("tweedie", lambda y, p: theirs.mean_tweedie_deviance(y, p, power=1.5)),
    ],
)
def test_twice_the_distance_from_the_floor_is_scikit_learns_deviance(name, deviance):
    loss, output, y = cases(name)
    found = 2 * (loss.value(output, y) - loss.floor(y)).mean()
    assert found == pytest.approx(deviance(y, loss.link(output)), rel=1e-9)


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [("poisson", [0.0, 3.0], [-1.0]), ("gamma", [0.5], [0.0, -1.0]), ("tweedie", [0.0], [-0.1])],
)
def test_counts_and_amounts_have_a_domain(name, inside, outside):
    domain = made(name).domain
    assert domain.holds(np.array(inside)).all()
    assert not domain.holds(np.array(outside)).any()


@pytest.mark.parametrize("name", ["logistic", "softmax"])
@pytest.mark.parametrize("size", [0.0, 1e-300, 36.0, 710.0, 1e8, 1e300])
def test_log_losses_stay_finite_and_exact_at_the_edges(name, size):
    loss, output, _ = cases(name, n=2)
    output[:] = 0.0
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
    value = made("logistic").value(np.array([[40.0], [-40.0]]), np.array([1.0, 0.0]))
    np.testing.assert_allclose(value, np.log1p(np.exp(-40.0)), rtol=1e-12)


@pytest.mark.parametrize("name", ["logistic", "softmax"])
def test_log_losses_are_those_of_scikit_learn(name):
    loss, output, y = cases(name)
    expected = theirs.log_loss(y, loss.link(output), labels=np.unique(y))
    assert loss.value(output, y).mean() == pytest.approx(expected, rel=1e-9)


def test_probabilities_of_classes_sum_to_one():
    loss, output, _ = cases("softmax")
    np.testing.assert_allclose(loss.link(output).sum(axis=1), 1.0, rtol=1e-14)


def test_squared_error_has_no_half_and_is_zero_at_the_label():
    loss = made("squared")
    assert loss.value(np.array([[3.0], [5.0]]), np.array([5.0, 5.0])).tolist() == [4.0, 0.0]
    assert loss.residual(np.array([[3.0], [5.0]]), np.array([5.0, 5.0])).tolist() == [[-4.0], [0.0]]


def _exactly(power, y, o):
    """The Tweedie family's value, residual and curvature at (y, o), in decimals without bounds; 1 and 2 are its ends."""
    with decimal.localcontext(prec=40, Emax=10**9, Emin=-(10**9)):
        p, y, o = map(decimal.Decimal, (power, y, o))
        up, down = ((2 - p) * o).exp(), y * ((1 - p) * o).exp()
        value = (o if p == 2 else up / (2 - p)) - (y * o if p == 1 else down / (1 - p))
        return [float(found) for found in (value, up - down, (2 - p) * up + (p - 1) * down)]


@pytest.mark.parametrize("o", [-1e5, -1e3, -800.0, 800.0, 1e3, 1e5])
@pytest.mark.parametrize(
    ("name", "number"),
    [("poisson", 1.0), ("gamma", 2.0), *(("tweedie", p) for p in (1.125, 1.5, 1.9))],
)
def test_losses_of_counts_are_right_at_outputs_far_out(name, number, o):
    formula = LOSSES[name]
    parts = [formula.value, formula.residual, formula.curvature]
    labels = np.array([0.0, 1e-3, 1.0, 1e3])
    for y in labels[formula.domain.holds(labels)]:
        expected = _exactly(number, y, o)
        with np.errstate(over="ignore"):
            found = [part(np.array([o]), np.array([y]), number)[0] for part in parts]
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        compiled = [nb.njit(part)(o, y, number) for part in parts]
        np.testing.assert_allclose(compiled, expected, rtol=1e-12)


@pytest.mark.parametrize("o", [-1e5, -1e3, 1e3, 1e5])
@pytest.mark.parametrize("name", LOSSES)
def test_no_part_of_any_loss_is_nan_at_outputs_far_out(name, o):
    formula, (loss, _, y) = LOSSES[name], cases(name, n=20)
    output = np.full((20, 1), o)
    with np.errstate(over="ignore"):
        parts = [loss.value(output, y), loss.residual(output, y)[:, 0], loss.curvature(output, y)]
    for part, found in zip(
        (formula.value, formula.residual, formula.curvature), parts, strict=True
    ):
        assert not np.isnan(found).any()
        assert loss.problem == "counts" or np.isfinite(found).all()
        if part is not None:
            compiled = nb.njit(part)
            ours = [compiled(o, one, loss.number) for one in y]
            np.testing.assert_allclose(ours, found, rtol=1e-12)


@pytest.mark.parametrize("name", [*LOSSES, "softmax"])
def test_a_row_has_the_same_bits_whatever_its_neighbours_are(name):
    loss, output, y = cases(name, n=67)
    for start, stop in ((0, 1), (3, 20), (60, 67)):
        for part in (loss.value, loss.residual):
            assert part(output, y)[start:stop].tobytes() == (
                part(output[start:stop], y[start:stop]).tobytes()
            )
        assert loss.link(output)[start:stop].tobytes() == loss.link(output[start:stop]).tobytes()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"loss": "huber", "delta": 0.0}, "delta: must be greater than 0 and finite, got 0.0"),
        (
            {"loss": "quantile", "tau": 1.0},
            "tau: must be greater than 0 and less than 1, say 0.01 or 0.99 for nearly the least or the "
            "largest, got 1.0",
        ),
        (
            {"loss": "tweedie", "power": 1.0},
            'power: must be greater than 1 and less than 2: at 1 it is loss = "poisson", at 2 loss = '
            '"gamma", got 1.0',
        ),
        ({"loss": "squared", "delta": 1.0}, "delta: must be left out: loss squared has no use"),
        ({"loss": "cubed"}, "loss: must be one of squared, .* softmax, got 'cubed'"),
    ],
)
def test_numbers_that_do_not_fit_a_loss_are_refused(given, text):
    with pytest.raises(ValueError, match=text):
        LossOptions(**given)


def test_a_loss_takes_its_number_from_its_options_or_its_default():
    assert losses.chosen(LossOptions("huber", delta=3.0)).number == 3.0
    assert losses.chosen(LossOptions("huber")).number == 1.345
    assert isinstance(losses.chosen(LossOptions("softmax")), SoftmaxLoss)


def test_a_length_shrinks_with_the_labels_unit_and_a_share_does_not():
    assert SingleOutput("huber", 6.0).of_aims(2.0).number == 3.0
    assert SingleOutput("quantile", 0.9).of_aims(2.0).number == 0.9


@pytest.mark.parametrize(("loss", "default"), [("huber", 1.345), ("epsilon_insensitive", 0.1)])
def test_a_length_that_is_not_given_is_in_spreads_of_the_labels(loss, default):
    own = losses.chosen(LossOptions(loss))
    assert own.of_aims(2.0).number == default
    assert own.of_labels(2.0).number == 2 * default
    key = own.formula.number.key
    given = losses.chosen(LossOptions(loss, **{key: 6.0}))
    assert given.of_aims(2.0).number == 3.0
    assert given.of_labels(2.0).number == 6.0


@nb.njit(**loops.FLAGS)
def _powers(x, found):
    for i in range(len(x)):
        found[i] = losses.exp(x[i])


@nb.njit(**loops.FLAGS)
def _logarithms(x, found):
    for i in range(len(x)):
        found[i] = losses.log1p(x[i])


def _apart(compiled, x, expected):
    """How far compiled results are from numpy's at most, in units in the last place."""
    found = np.empty_like(x)
    compiled(x, found)
    return np.max(np.abs(found - expected) / np.spacing(expected))


def test_passes_compile_an_exponential_and_a_logarithm_that_are_right_to_two_last_places():
    random = np.random.default_rng(3)
    x = np.concatenate(
        [random.uniform(-708, 709, 100_000), random.normal(0, 1, 100_000), [0.0, -0.0, 1e-300]]
    )
    assert _apart(_powers, x, np.exp(x)) <= 2
    x = np.concatenate(
        [random.random(100_000), np.exp(-random.exponential(50, 100_000)), [1.0, np.sqrt(2) - 1]]
    )
    assert _apart(_logarithms, x, np.log1p(x)) <= 2


def test_a_compiled_exponential_ends_in_0_in_infinity_and_in_no_number():
    x = np.array([-745.0, -1e308, -np.inf, 709.5, 1e308, np.inf, np.nan])
    found = np.empty_like(x)
    _powers(x, found)
    np.testing.assert_array_equal(found, [0.0, 0.0, 0.0, np.inf, np.inf, np.inf, np.nan])
    zero = np.zeros(1)
    _logarithms(np.zeros(1), zero)
    assert zero[0] == 0.0
