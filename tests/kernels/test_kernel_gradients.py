"""Every kernel's gradients with every loss, against numerical derivatives and torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_losses import TORCH

from kernels import factored, registry
from kernels.contract import Rows, Spec
from kernels.losses import LOSSES

FEATURES, ROWS = 4, 11
SINGLE = list(LOSSES)
CASES = {
    **{f"linear {loss}": ("linear", {"loss": loss}, 1) for loss in SINGLE},
    **{
        f"mlp {loss}": ("mlp", {"loss": loss, "hidden": (6,), "activation": "tanh"}, 1)
        for loss in SINGLE
    },
    **{f"fm {loss}": ("fm", {"loss": loss, "factors": 3}, 1) for loss in SINGLE},
    **{f"mf {loss}": ("mf", {"loss": loss, "factors": 3, "bits": 3}, 1) for loss in SINGLE},
    "logistic": ("logistic", {}, 1),
    "softmax": ("softmax", {}, 3),
    "softmax without intercept": ("softmax", {"intercept": False}, 3),
    "mlp softmax": ("mlp", {"hidden": (7, 5)}, 3),
    "mlp deep": ("mlp", {"hidden": (5, 4, 6), "activation": "logistic", "loss": "squared"}, 1),
    "kmeans": ("kmeans", {"clusters": 3}, 3),
}


def made(name):
    kind, settings, outputs = CASES[name]
    kernel = registry.kernel(kind)
    features = 2 if kind == "mf" else FEATURES
    return kernel(kernel.Options(**settings), features, outputs), features


def case(name):
    kernel, features = made(name)
    random = np.random.default_rng(5)
    parameters = {
        key: value + random.normal(0, 0.3, value.shape)
        for key, value in kernel.init(random).items()
    }
    x = random.normal(size=(ROWS, features))
    if CASES[name][0] == "mf":
        x = random.integers(0, 5, (ROWS, 2)).astype(np.float64)
    problem = getattr(kernel.loss, "problem", "regression")
    y = random.normal(size=ROWS)
    if problem == "counts":
        y = random.poisson(2.0, ROWS) + 0.5
    elif problem in ("binary", "multiclass"):
        y = random.integers(0, 3 if problem == "multiclass" else 2, ROWS).astype(np.float64)
    return kernel, parameters, x, y


def end_to_end(parameters):
    return np.concatenate([parameters[name].ravel() for name in sorted(parameters)])


def parted(flat, parameters):
    parts, at = {}, 0
    for name in sorted(parameters):
        size = parameters[name].size
        parts[name] = flat[at : at + size].reshape(parameters[name].shape)
        at += size
    return parts


@pytest.mark.parametrize("name", CASES)
def test_each_rows_gradient_is_the_numerical_derivative_of_its_loss(name):
    kernel, parameters, x, y = case(name)
    output, tape = kernel.forward(parameters, x)
    found = kernel.gradients(parameters, tape, kernel.loss.residual(output, y))
    flat, step = end_to_end(parameters), 1e-6
    for i in range(len(flat)):
        sides = []
        for sign in (1, -1):
            moved = flat.copy()
            moved[i] += sign * step
            sides.append(kernel.loss.value(kernel.forward(parted(moved, parameters), x)[0], y))
        np.testing.assert_allclose(
            found[:, i], (sides[0] - sides[1]) / (2 * step), rtol=1e-6, atol=1e-7
        )


@pytest.mark.parametrize("name", CASES)
def test_backward_sums_what_gradients_gives_and_norms_measures_it(name):
    kernel, parameters, x, y = case(name)
    output, tape = kernel.forward(parameters, x)
    residual = kernel.loss.residual(output, y)
    each = kernel.gradients(parameters, tape, residual)
    total = kernel.backward(parameters, tape, residual)
    np.testing.assert_allclose(end_to_end(total), each.sum(axis=0), rtol=1e-10, atol=1e-12)
    norms = kernel.norms(parameters, tape, residual)
    np.testing.assert_allclose(norms, np.linalg.norm(each, axis=1), rtol=1e-10, atol=1e-12)


def torch_output(kind, settings, weights, row):
    if kind in ("linear", "logistic", "softmax"):
        return weights["weights"] @ row + weights.get("intercept", torch.zeros(1))
    if kind == "mlp":
        active = {"tanh": torch.tanh, "logistic": torch.sigmoid}.get(
            settings.get("activation"), torch.relu
        )
        hidden, layers = row, len(settings["hidden"])
        for i in range(layers):
            hidden = active(weights[f"layer{i}/weights"] @ hidden + weights[f"layer{i}/bias"])
        return weights[f"layer{layers}/weights"] @ hidden + weights[f"layer{layers}/bias"]
    if kind == "fm":
        pairs = weights["factors"] @ weights["factors"].T * torch.outer(row, row)
        off = pairs.sum() - torch.diagonal(pairs).sum()
        return weights["bias"] + weights["weights"] @ row + 0.5 * off
    return ((row - weights["centres"]) ** 2).sum(dim=1)


def torch_loss(name, output, y):
    if name == "nearest":
        return output.min()
    return TORCH[name](output[None] if name == "softmax" else output, y[None])[0]


def is_in_torch(name):
    """Whether torch has the case's kernel and loss; numerical derivatives there are of all cases."""
    return CASES[name][0] != "mf" and made(name)[0].loss.name in (*TORCH, "nearest")


@pytest.mark.parametrize("name", [name for name in CASES if is_in_torch(name)])
def test_torch_finds_the_same_gradient_of_each_row(name):
    kernel, parameters, x, y = case(name)
    kind, settings, _ = CASES[name]
    raw, tape = kernel.forward(parameters, x)
    found = kernel.gradients(parameters, tape, kernel.loss.residual(raw, y))

    def loss_of_one(weights, row, label):
        return torch_loss(kernel.loss.name, torch_output(kind, settings, weights, row), label)

    weights = {key: torch.from_numpy(value) for key, value in parameters.items()}
    per_row = torch.func.vmap(torch.func.grad(loss_of_one), in_dims=(None, 0, 0))
    theirs = per_row(weights, torch.from_numpy(x), torch.from_numpy(y))
    expected = np.hstack([theirs[key].reshape(ROWS, -1).numpy() for key in sorted(theirs)])
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_torch_s_embeddings_are_the_tables_of_a_matrix_factorisation():
    kernel, parameters, x, y = case("mf squared")
    raw, tape = kernel.forward(parameters, x)
    found = kernel.backward(parameters, tape, kernel.loss.residual(raw, y))
    weights = {key: torch.tensor(value, requires_grad=True) for key, value in parameters.items()}
    users, items = torch.tensor(tape.users), torch.tensor(tape.items)
    embedding = torch.nn.functional.embedding
    output = weights["bias"] + weights["user/bias"][users] + weights["item/bias"][items]
    p, q = embedding(users, weights["user/factors"]), embedding(items, weights["item/factors"])
    output = output + (p * q).sum(dim=1)
    np.testing.assert_allclose(raw[:, 0], output.detach().numpy(), rtol=1e-12)
    ((output - torch.tensor(y)) ** 2).sum().backward()
    for key, value in found.items():
        np.testing.assert_allclose(value, weights[key].grad.numpy(), rtol=1e-9, atol=1e-12)


def test_float32_rows_stay_float32_through_an_mlp():
    kernel, parameters, x, y = case("mlp softmax")
    small = {name: value.astype(np.float32) for name, value in parameters.items()}
    output, tape = kernel.forward(small, x.astype(np.float32))
    gradient = kernel.backward(small, tape, kernel.loss.residual(output, y))
    assert output.dtype == np.float32
    assert {value.dtype.name for value in gradient.values()} == {"float32"}


@pytest.mark.parametrize("name", CASES)
def test_the_penalty_spares_intercepts_and_biases(name):
    kernel, parameters, _, _ = case(name)
    spared = set(parameters) - set(kernel.penalised)
    assert all(part.endswith(("intercept", "bias", "centres")) for part in spared)
    assert all(part.endswith(("weights", "factors")) for part in kernel.penalised)


def test_an_mlp_of_one_seed_is_always_the_same_and_of_another_seed_is_not():
    mlp = registry.kernel("mlp")
    kernel = mlp(mlp.Options(), FEATURES, 2)
    first, again, other = (
        end_to_end(kernel.init(np.random.Generator(np.random.PCG64(seed)))) for seed in (3, 3, 4)
    )
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


@pytest.mark.parametrize("name", [n for n in CASES if n.startswith(("mlp", "linear", "softmax"))])
def test_a_factored_gradient_is_rebuilt_to_the_whole_one(name):
    kernel, parameters, x, y = case(name)
    raw, tape = kernel.forward(parameters, x)
    residual = kernel.loss.residual(raw, y)
    whole = kernel.gradients(parameters, tape, residual)
    factors = kernel.factors(parameters, tape, residual) if hasattr(kernel, "factors") else {}
    for i in range(ROWS):
        record = {
            "residual": residual[i].tolist() if len(residual[i]) > 1 else float(residual[i, 0])
        }
        nested = {}
        for key, value in factors.items():
            layer, part = key.split("/")
            nested.setdefault(layer, {})[part] = value[i].tolist()
        if nested:
            record["factors"] = nested
        found = factored.gradient(record, x[i], intercept="intercept" in parameters)
        np.testing.assert_allclose(found, whole[i], rtol=1e-12, atol=1e-15)


def test_rows_are_scaled_by_a_model_file_also_where_a_file_brought_classes(bench):
    """By a model file's names: what is scored there is left alone, and what has other shapes."""
    old, new = (
        Spec("softmax", FEATURES, outputs=outputs, optimizer={"name": "sgd"}) for outputs in (2, 3)
    )
    first, later = bench.rows(20, FEATURES, 2, seed=1), bench.rows(9, FEATURES, 2, seed=2)
    state, _ = bench.run(old, first, 4)
    before = {f"state/{name}": array for name, array in state.items()}
    before["scores/life/rows"] = np.ones(1)
    whole = factored.scaled_rows(old, None, _joined(first, later), 1)
    for spec in (old, new):
        found = factored.scaled_rows(spec, before, later, 1)
        np.testing.assert_allclose(found, whole[20:], rtol=1e-9)


def _joined(*files):
    return Rows(*(np.concatenate(parts) for parts in zip(*map(_four, files), strict=True)))


def _four(rows):
    return rows.x, rows.y, rows.w, rows.offset


class TestDropout:
    """Which units a step leaves out."""

    def kernel(self, share=0.4, seed=9):
        mlp = registry.kernel("mlp")
        kernel = mlp(mlp.Options(hidden=(200, 100), loss="squared", dropout=share), FEATURES, 1)
        kernel.seed = seed
        return kernel, kernel.init(np.random.default_rng(0))

    def test_a_row_drops_the_same_units_whatever_rows_are_beside_it(self):
        kernel, parameters = self.kernel()
        x = np.random.default_rng(1).normal(size=(50, FEATURES))
        numbers = np.arange(1000, 1050)
        _, whole = kernel.forward(parameters, x, numbers)
        _, part = kernel.forward(parameters, x[20:23], numbers[20:23])
        for a, b in zip(whole.slopes, part.slopes, strict=True):
            assert ((a[20:23] == 0) == (b == 0)).all()

    def test_about_its_share_is_dropped_and_the_rest_makes_up_for_it(self):
        kernel, parameters = self.kernel()
        x = np.random.default_rng(1).normal(size=(400, FEATURES))
        plain, _ = kernel.forward(parameters, x)
        drawn = [kernel.forward(parameters, x, np.arange(400) + 400 * i)[1] for i in range(20)]
        _, bare = kernel.forward(parameters, x)
        kept = np.mean([(tape.inputs[1] > 0).sum() / (bare.inputs[1] > 0).sum() for tape in drawn])
        assert kept == pytest.approx(0.6, abs=0.01)
        mean = np.mean([tape.inputs[1] for tape in drawn], axis=0)
        assert mean.sum() == pytest.approx(bare.inputs[1].sum(), rel=0.01)
        assert plain.shape == (400, 1)

    def test_other_seeds_and_other_rows_drop_others(self):
        kernel, parameters = self.kernel()
        x = np.ones((2, FEATURES))
        _, tape = kernel.forward(parameters, x, np.array([5, 6]))
        assert (tape.inputs[1][0] != tape.inputs[1][1]).any()
        other, _ = self.kernel(seed=10)
        _, moved = other.forward(parameters, x, np.array([5, 6]))
        assert (tape.inputs[1] != moved.inputs[1]).any()

    def test_the_gradient_goes_through_the_units_that_stay(self):
        kernel, parameters = self.kernel()
        x, y = np.random.default_rng(2).normal(size=(3, FEATURES)), np.ones(3)
        numbers, step = np.arange(3), 1e-6
        raw, tape = kernel.forward(parameters, x, numbers)
        found = kernel.backward(parameters, tape, kernel.loss.residual(raw, y))
        for name, place in (
            ("layer0/weights", (7, 2)),
            ("layer1/weights", (3, 50)),
            ("layer1/bias", 9),
        ):
            sides = []
            for sign in (1, -1):
                moved = {key: value.copy() for key, value in parameters.items()}
                moved[name][place] += sign * step
                output, _ = kernel.forward(moved, x, numbers)
                sides.append(kernel.loss.value(output, y).sum())
            assert found[name][place] == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-5)
