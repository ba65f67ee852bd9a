"""Every kernel's gradients, sums and norms, against numerical derivatives and torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kernels import registry

CASES = {
    "linear": ("linear", {}, 1),
    "logistic": ("logistic", {}, 1),
    "softmax": ("softmax", {}, 3),
    "no intercept": ("softmax", {"intercept": False}, 3),
    "relu": ("mlp", {"hidden": (7, 5), "output": "softmax"}, 3),
    "tanh": ("mlp", {"hidden": (6,), "activation": "tanh", "output": "logistic"}, 1),
    "deep": ("mlp", {"hidden": (5, 4, 6), "activation": "tanh", "output": "squared"}, 1),
}
FEATURES = 4


def case(name):
    kind, settings, outputs = CASES[name]
    made = registry.kernel(kind)
    kernel = made(made.Options(**settings), FEATURES, outputs)
    random = np.random.default_rng(5)
    parameters = {
        key: value + random.normal(0, 0.3, value.shape)
        for key, value in kernel.init(random).items()
    }
    x = random.normal(size=(11, FEATURES))
    y = random.integers(0, max(2, outputs), 11).astype(np.float64)
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
    np.testing.assert_allclose(end_to_end(total), each.sum(axis=0), rtol=1e-12, atol=1e-12)
    norms = kernel.norms(parameters, tape, residual)
    np.testing.assert_allclose(norms, np.linalg.norm(each, axis=1), rtol=1e-12)


def torch_loss(kind, output, y):
    if kind == "softmax":
        return torch.nn.functional.cross_entropy(output[None], y.long()[None])
    if kind == "logistic":
        return torch.nn.functional.binary_cross_entropy_with_logits(output[0], y)
    return (output[0] - y) ** 2


@pytest.mark.parametrize(
    ("activation", "output", "outputs"),
    [("relu", "softmax", 3), ("tanh", "logistic", 1), ("relu", "squared", 1)],
)
def test_torch_finds_the_same_gradient_of_each_row_of_an_mlp(activation, output, outputs):
    made = registry.kernel("mlp")
    options = made.Options(hidden=(8, 5), activation=activation, output=output)
    kernel = made(options, FEATURES, outputs)
    random = np.random.default_rng(2)
    parameters = kernel.init(random)
    x = random.normal(size=(9, FEATURES))
    y = random.integers(0, max(2, outputs), 9).astype(np.float64)
    raw, tape = kernel.forward(parameters, x)
    found = kernel.gradients(parameters, tape, kernel.loss.residual(raw, y))

    def loss_of_one(weights, row, label):
        hidden = row
        for layer in ("layer0", "layer1"):
            hidden = hidden @ weights[f"{layer}/weights"].T + weights[f"{layer}/bias"]
            hidden = torch.tanh(hidden) if activation == "tanh" else torch.relu(hidden)
        last = hidden @ weights["layer2/weights"].T + weights["layer2/bias"]
        return torch_loss(output, last, label)

    weights = {name: torch.from_numpy(value) for name, value in parameters.items()}
    per_row = torch.func.vmap(torch.func.grad(loss_of_one), in_dims=(None, 0, 0))
    theirs = per_row(weights, torch.from_numpy(x), torch.from_numpy(y))
    expected = np.hstack([theirs[name].reshape(9, -1).numpy() for name in sorted(theirs)])
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_float32_rows_stay_float32_through_an_mlp():
    kernel, parameters, x, y = case("relu")
    small = {name: value.astype(np.float32) for name, value in parameters.items()}
    output, tape = kernel.forward(small, x.astype(np.float32))
    gradient = kernel.backward(small, tape, kernel.loss.residual(output, y))
    assert output.dtype == np.float32
    assert {value.dtype.name for value in gradient.values()} == {"float32"}


@pytest.mark.parametrize("name", CASES)
def test_the_penalty_spares_intercepts_and_biases(name):
    kernel, parameters, _, _ = case(name)
    spared = set(parameters) - set(kernel.penalised)
    assert all(part.endswith(("intercept", "bias")) for part in spared)
    assert all(part.endswith("weights") for part in kernel.penalised)


def test_an_mlp_of_one_seed_is_always_the_same_and_of_another_seed_is_not():
    made = registry.kernel("mlp")
    kernel = made(made.Options(), FEATURES, 2)
    first, again, other = (
        end_to_end(kernel.init(np.random.Generator(np.random.PCG64(seed)))) for seed in (3, 3, 4)
    )
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()
