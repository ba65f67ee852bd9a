"""Optimizers against torch's, and schedules against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kernels import loops, optimizers, registry, schedules
from kernels.contract import UnknownName
from kernels.optimizers import OPTIMIZERS

THEIRS = {
    "sgd": lambda theta: torch.optim.SGD([theta], lr=0.07),
    "momentum": lambda theta: torch.optim.SGD([theta], lr=0.07, momentum=0.8),
    "nesterov": lambda theta: torch.optim.SGD([theta], lr=0.07, momentum=0.8, nesterov=True),
    "adagrad": lambda theta: torch.optim.Adagrad([theta], lr=0.07, eps=1e-8),
    "rmsprop": lambda theta: torch.optim.RMSprop([theta], lr=0.07, alpha=0.9, eps=1e-7),
    "adam": lambda theta: torch.optim.Adam([theta], lr=0.07, betas=(0.8, 0.99), eps=1e-7),
    "adamw": lambda theta: torch.optim.AdamW(
        [theta], lr=0.07, betas=(0.8, 0.99), eps=1e-7, weight_decay=0.2
    ),
}
SETTINGS = {
    "sgd": {"learning_rate": 0.07},
    "momentum": {"learning_rate": 0.07, "momentum": 0.8},
    "nesterov": {"learning_rate": 0.07, "momentum": 0.8},
    "adagrad": {"learning_rate": 0.07},
    "rmsprop": {"learning_rate": 0.07, "b2": 0.9, "epsilon": 1e-7},
    "adam": {"learning_rate": 0.07, "b1": 0.8, "b2": 0.99, "epsilon": 1e-7},
    "adamw": {"learning_rate": 0.07, "b1": 0.8, "b2": 0.99, "epsilon": 1e-7},
}
SLOW = {name: {"learning_rate": 0.5} for name in ("adagrad", "ftrl")}
"""Those whose steps shrink with the gradients seen go far too slowly at their default; all others must do at theirs."""
PENALTY = {"adamw": (0.0, 0.2)}


class Walk:
    """One parameter under an optimizer, step by step."""

    def __init__(self, name, theta, penalty=(0.0, 0.0), **given):
        self.name, self.theta, self.penalty = name, theta, penalty
        self.optimizer = OPTIMIZERS[name]
        self.options = self.optimizer.Options(**given)
        start = self.optimizer.start or (
            lambda t, _: [np.zeros_like(t) for _ in self.optimizer.slots]
        )
        self.slots = list(start(theta, self.options))
        self.steps = 0

    def step(self, gradient):
        self.steps += 1
        k = optimizers.numbers(self.optimizer, self.options, self.steps, np.array([1]))[0]
        rate = getattr(self.options, "learning_rate", 1.0)
        loops.step(self.name, self.theta, self.slots, gradient, 1.0, rate, self.penalty, k)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", THEIRS)
def test_twenty_steps_are_those_of_torch(name, dtype):
    random = np.random.default_rng(3)
    ours = random.normal(size=(3, 5)).astype(dtype)
    theirs = torch.tensor(ours.copy(), requires_grad=True)
    oracle = THEIRS[name](theirs)
    walk = Walk(name, ours, PENALTY.get(name, (0.0, 0.0)), **SETTINGS[name])
    for _ in range(20):
        gradient = random.normal(size=(3, 5)).astype(dtype)
        walk.step(gradient)
        theirs.grad = torch.from_numpy(gradient)
        oracle.step()
    np.testing.assert_allclose(
        ours, theirs.detach().numpy(), rtol=1e-12 if dtype == "float64" else 1e-5, atol=1e-6
    )


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("l1", [0.0, 0.05])
def test_a_step_is_the_same_for_numbers_for_arrays_and_compiled(name, l1):
    step = OPTIMIZERS[name].step
    random = np.random.default_rng(0)
    theta, g, a, b, c, d, e = random.uniform(0.1, 1, (7, 6))
    fixed = (0.3, l1, 0.01, (0.1, 0.01, 1.3, 1.7, 1e-8))
    whole = step(theta, g, a, b, c, d, e, *fixed)
    for i in range(6):
        one = step(theta[i], g[i], a[i], b[i], c[i], d[i], e[i], *fixed)
        assert [part[i] for part in whole] == pytest.approx(one, rel=1e-15)
    slots = [array.copy() for array in (a, b, c, d, e)][: len(OPTIMIZERS[name].slots)]
    moved = theta.copy()
    loops.step(name, moved, slots, g, 1.0, 0.3, (l1, 0.01), np.array(fixed[3]))
    np.testing.assert_allclose(moved, whole[0], rtol=1e-13)
    for ours, theirs in zip(slots, whole[1:], strict=False):
        np.testing.assert_allclose(ours, theirs, rtol=1e-13)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_finds_the_least_of_a_bowl(name):
    aim = np.array([1.0, -2.0, 0.5])
    walk = Walk(name, np.zeros(3), **SLOW.get(name, {}))
    for _ in range(4000):
        walk.step(2 * (walk.theta - aim))
    np.testing.assert_allclose(walk.theta, aim, atol=0.02)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_l1_makes_small_weights_exactly_zero_and_shrinks_large_ones_by_its_share(name):
    """Least of ½(θ - a)² + l1 |θ|: a drawn towards 0 by l1, exactly 0 where a is less."""
    aim = np.array([1.0, -2.0, 0.05])
    walk = Walk(name, np.zeros(3), (0.3, 0.0), **SLOW.get(name, {}))
    for _ in range(6000):
        walk.step(walk.theta - aim)
    assert walk.theta[2] == 0.0
    np.testing.assert_allclose(walk.theta[:2], [0.7, -1.7], atol=0.05)


def test_the_penalty_and_the_factor_are_part_of_the_gradient():
    theta = np.array([2.0, -4.0])
    loops.step("sgd", theta, [], np.array([10.0, 20.0]), 0.5, 1.0, (0.0, 0.1), np.zeros(5))
    assert theta.tolist() == [2.0 - (5.0 + 0.2), -4.0 - (10.0 - 0.4)]


def test_ftrl_starts_where_its_parameters_do():
    theta = np.array([0.3, -0.7])
    walk = Walk("ftrl", theta, learning_rate=0.1)
    walk.step(np.zeros(2))
    np.testing.assert_allclose(theta, [0.3, -0.7], rtol=1e-12)


def test_adagrad_with_a_half_life_forgets_a_gradient_of_long_ago():
    forgets, remembers = (
        Walk("adagrad", np.zeros(1), half_life=half_life) for half_life in (10.0, 0.0)
    )
    for walk in (forgets, remembers):
        walk.step(np.array([1000.0]))
        for _ in range(300):
            walk.step(np.array([0.01]))
    assert forgets.slots[0][0] < 0.01
    assert remembers.slots[0][0] > 1e6


@pytest.mark.parametrize(
    ("options", "settings", "text"),
    [
        (optimizers.SgdOptions, {"learning_rate": 0}, "learning_rate: must be greater than 0"),
        (optimizers.AdagradOptions, {"epsilon": float("inf")}, "epsilon: must be greater than 0"),
        (optimizers.AdagradOptions, {"half_life": -1.0}, "half_life: must be 0 or greater"),
        (optimizers.AdamOptions, {"b1": 1.0}, "b1: must be from 0 to less than 1, got 1.0"),
        (optimizers.MomentumOptions, {"momentum": 1.0}, "momentum: must be from 0 to less than 1"),
        (schedules.InverseScalingOptions, {"power": -1}, "power: must be 0 or greater"),
        (schedules.InverseScalingOptions, {"steps": 0}, "steps: must be greater than 0"),
        (schedules.CosineOptions, {"lowest": 2.0}, "lowest: must be from 0 to 1"),
        (schedules.ConstantOptions, {"warm_up": -1}, "warm_up: must be 0 or greater"),
        (registry.RULES["experts"].Options, {"rates": ()}, "rates: must have one above 0"),
        (registry.RULES["experts"].Options, {"rates": (0.0,)}, "rates: must have one above 0"),
        (
            registry.RULES["experts"].Options,
            {"rates": (0.1, 0.1)},
            "rates: must differ from each other",
        ),
        (
            registry.RULES["experts"].Options,
            {"rates": (0.1, -1.0)},
            "rates: must be numbers from 0",
        ),
        (registry.RULES["experts"].Options, {"rates": (np.inf,)}, "rates: must be numbers from 0"),
        (
            registry.RULES["newton"].Options,
            {"prior_variance": 0.0},
            "prior_variance: must be greater",
        ),
        (registry.RULES["lbfgs"].Options, {"memory": 0}, "memory: must be from 1"),
    ],
)
def test_options_out_of_range_say_what_is_allowed(options, settings, text):
    with pytest.raises(ValueError, match=text):
        options(**settings)


def test_an_unknown_optimizer_or_schedule_lists_what_there_is():
    with pytest.raises(UnknownName, match=r"optimizer: must be one of sgd, momentum, .*, got 'x'"):
        registry.optimizer("x")
    with pytest.raises(UnknownName, match="schedule: must be one of constant, inverse_scaling"):
        schedules.configured({"name": "x"})


@pytest.mark.parametrize("warm_up", [0, 17])
@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_rates_of_later_steps_are_those_that_one_call_would_have_given(name, warm_up):
    schedule, options = schedules.configured({"name": name, "warm_up": warm_up})
    whole = schedule.rates(options, 0.3, 0, 5000)
    parts = [schedule.rates(options, 0.3, at, 7) for at in range(0, 4998, 7)]
    assert np.concatenate(parts).tobytes() == whole[:4998].tobytes()


@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_a_warm_up_grows_in_a_straight_line_to_what_the_schedule_says(name):
    plain, warm = (schedules.configured({"name": name, "warm_up": steps}) for steps in (0, 10))
    before, after = (schedule.rates(options, 0.4, 0, 30) for schedule, options in (plain, warm))
    np.testing.assert_allclose(after[:10], before[:10] * np.arange(1, 11) / 10)
    assert after[10:].tobytes() == before[10:].tobytes()


def rates_of(count, **settings):
    schedule, options = schedules.configured(settings)
    return schedule.rates(options, 0.4, 0, count)


def test_schedules_go_as_their_formulas_say():
    falling = rates_of(101, name="inverse_scaling", power=1.0, steps=100)
    assert falling[0] == 0.4
    assert falling[100] == pytest.approx(0.2)
    root = rates_of(401, name="inverse_square_root", steps=100)
    assert root[:101].tolist() == [0.4] * 101
    assert root[400] == pytest.approx(0.2)
    swing = rates_of(2001, name="cosine", steps=1000, lowest=0.1)
    assert swing[0] == pytest.approx(0.4)
    assert swing[500] == pytest.approx(0.4 * 0.55)
    np.testing.assert_allclose(swing[1000:], 0.04)
