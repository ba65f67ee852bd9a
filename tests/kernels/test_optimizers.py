"""Optimizers against torch's, and schedules against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kernels import loops, optimizers, schedules
from kernels.contract import UnknownName

THEIRS = {
    "sgd": lambda theta: torch.optim.SGD([theta], lr=0.07),
    "adagrad": lambda theta: torch.optim.Adagrad([theta], lr=0.07, eps=1e-8),
    "adam": lambda theta: torch.optim.Adam([theta], lr=0.07, betas=(0.8, 0.99), eps=1e-7),
}
SETTINGS = {
    "sgd": {"learning_rate": 0.07},
    "adagrad": {"learning_rate": 0.07},
    "adam": {"learning_rate": 0.07, "b1": 0.8, "b2": 0.99, "epsilon": 1e-7},
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", THEIRS)
def test_twenty_steps_are_those_of_torch(name, dtype):
    random = np.random.default_rng(3)
    ours = random.normal(size=(3, 5)).astype(dtype)
    theirs = torch.tensor(ours.copy(), requires_grad=True)
    oracle = THEIRS[name](theirs)
    optimizer, options = optimizers.configured({"name": name, **SETTINGS[name]})
    slots = [held["theta"] for held in optimizer.init({"theta": ours}).values()]
    for step in range(1, 21):
        gradient = random.normal(size=(3, 5)).astype(dtype)
        constants = optimizers.constants(options, step)
        loops.step(name, ours, slots, gradient, 1.0, 0.0, options.learning_rate, constants)
        theirs.grad = torch.from_numpy(gradient)
        oracle.step()
    np.testing.assert_allclose(
        ours, theirs.detach().numpy(), rtol=1e-12 if dtype == "float64" else 1e-5, atol=1e-6
    )


@pytest.mark.parametrize("name", THEIRS)
def test_a_direction_is_the_same_for_numbers_and_for_arrays(name):
    direction = optimizers.OPTIMIZERS[name].direction
    random = np.random.default_rng(0)
    gradient, first, second = random.uniform(0.1, 1, (3, 6))
    fixed = (0.1, 0.01, 1.3, 1.7, 1e-8)
    whole = direction(gradient, first, second, *fixed)
    for i in range(6):
        one = direction(gradient[i], first[i], second[i], *fixed)
        assert [part[i] for part in whole] == pytest.approx(one, rel=1e-15)


def test_the_penalty_and_the_factor_are_part_of_the_gradient():
    theta = np.array([2.0, -4.0])
    constants = optimizers.constants(optimizers.SgdOptions(), 1)
    loops.step("sgd", theta, [], np.array([10.0, 20.0]), 0.5, 0.1, 1.0, constants)
    assert theta.tolist() == [2.0 - (5.0 + 0.2), -4.0 - (10.0 - 0.4)]


@pytest.mark.parametrize(
    ("options", "settings", "text"),
    [
        (optimizers.SgdOptions, {"learning_rate": 0}, "learning_rate: must be greater than 0"),
        (optimizers.AdagradOptions, {"epsilon": float("inf")}, "epsilon: must be greater than 0"),
        (optimizers.AdamOptions, {"b1": 1.0}, r"b1: must be in \[0, 1\), got 1.0"),
        (schedules.InverseScalingOptions, {"power": -1}, "power: must be 0 or greater"),
        (schedules.InverseScalingOptions, {"steps": 0}, "steps: must be greater than 0"),
    ],
)
def test_options_out_of_range_say_what_is_allowed(options, settings, text):
    with pytest.raises(ValueError, match=text):
        options(**settings)


def test_an_unknown_optimizer_or_schedule_lists_what_there_is():
    with pytest.raises(UnknownName, match="optimizer: must be one of sgd, adagrad, adam, got 'x'"):
        optimizers.configured({"name": "x"})
    with pytest.raises(UnknownName, match="schedule: must be one of constant, inverse_scaling"):
        schedules.configured({"name": "x"})


@pytest.mark.parametrize("settings", [{"name": "constant"}, {"name": "inverse_scaling"}])
def test_rates_of_later_steps_are_those_that_one_call_would_have_given(settings):
    schedule, options = schedules.configured(settings)
    whole = schedule.rates(options, 0.3, 0, 50)
    parts = [schedule.rates(options, 0.3, at, 10) for at in range(0, 50, 10)]
    assert np.concatenate(parts).tobytes() == whole.tobytes()


def test_inverse_scaling_has_fallen_to_half_at_its_steps_for_power_one():
    schedule, options = schedules.configured(
        {"name": "inverse_scaling", "power": 1.0, "steps": 100}
    )
    rates = schedule.rates(options, 0.4, 0, 101)
    assert rates[0] == 0.4
    assert rates[100] == pytest.approx(0.2)
