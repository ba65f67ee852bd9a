"""Learners as wholes: what a row is scored with, what a step is, and how lanes come together."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, SGDClassifier, SGDRegressor

from kernels import columns, scaling
from kernels.columns import ByColumns
from kernels.contract import Rows, Spec
from kernels.learner import Learner, build

SPECS = {
    "linear": Spec("linear", 3, clip=5.0),
    "logistic": Spec("logistic", 3, clip=5.0),
    "softmax": Spec("softmax", 3, outputs=4, clip=5.0, optimizer={"name": "adam"}),
    "mlp": Spec("mlp", 3, {"hidden": [6, 5]}, 4, clip=5.0, dtype="float32"),
    "mlp regression": Spec("mlp", 3, {"hidden": [6], "loss": "squared"}, clip=5.0),
    "dropout": Spec("mlp", 3, {"hidden": [20], "dropout": 0.3}, 4, clip=5.0),
    "poisson": Spec("linear", 3, {"loss": "poisson"}, clip=5.0),
    "huber": Spec("linear", 3, {"loss": "huber"}, clip=5.0),
    "experts": Spec("logistic", 3, optimizer={"name": "experts"}, clip=5.0),
    "experts of numbers": Spec("linear", 3, optimizer={"name": "experts"}, clip=5.0),
    "experts of classes": Spec("softmax", 3, outputs=4, optimizer={"name": "experts"}, clip=5.0),
    "newton": Spec("linear", 3, optimizer={"name": "newton"}, clip=5.0),
    "normalised": Spec("logistic", 3, optimizer={"name": "normalised"}, clip=5.0),
    "fm": Spec("fm", 3, {"factors": 2}, clip=5.0),
    "kmeans": Spec("kmeans", 3, {"clusters": 3}, 3, optimizer={"name": "counting"}, clip=5.0),
    "balanced": Spec("softmax", 3, outputs=4, class_weight="balanced", clip=5.0),
    "half-life": Spec("linear", 3, half_life=20.0, clip=5.0),
    "lbfgs": Spec("logistic", 3, optimizer={"name": "lbfgs"}, clip=5.0),
}
CLASSES = {
    name: 4 if spec.outputs == 4 else 2 if spec.kernel == "logistic" else 0
    for name, spec in SPECS.items()
}
PLAIN = (
    "linear",
    "logistic",
    "softmax",
    "mlp",
    "mlp regression",
    "poisson",
    "huber",
    "balanced",
    "half-life",
)
"""Those that score rows by their parameters, and learn by any optimizer."""


def same(left, right):
    return {name: array.tobytes() for name, array in left.items()} == {
        name: array.tobytes() for name, array in right.items()
    }


def cut(rows, *places):
    edges = [0, *places, len(rows.y)]
    return [rows.slice(a, b) for a, b in pairwise(edges)]


def copied(state):
    return {name: array.copy() for name, array in state.items()}


def near(found, expected):
    """To rounding: a sum that is 0 but for rounding, divided by its own size, is off by 1e-7."""
    scale = float(np.abs(expected).max(initial=1e-3))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * scale)


def exact_round(bench, learner, state, lanes, extra="gradient"):
    """One exact step in place; the lanes' results."""
    outs = [bench.arrays(learner.gradient_layout()) for _ in lanes]
    results = [bench.results(learner, rows, extra) for rows in lanes]
    for lane in range(len(lanes)):
        learner.gradient(state, lanes, lane, outs[lane], results[lane])
    learner.apply(state, outs, sum(len(rows.y) for rows in lanes))
    return results


# A step


@pytest.mark.parametrize("kernel", ["linear", "logistic"])
@pytest.mark.parametrize("intercept", [True, False])
def test_plain_steps_are_those_of_scikit_learn(bench, kernel, intercept):
    rows = bench.rows(200, 3, classes=0 if kernel == "linear" else 2)
    x = rows.x / 10
    y = rows.y / 100 if kernel == "linear" else rows.y
    rows = Rows(x, y, rows.w, rows.offset)
    spec = Spec(
        kernel,
        3,
        {"l2": 0.01, "intercept": intercept},
        optimizer={"name": "sgd", "learning_rate": 0.002},
        standardise=False,
        scale_target=False,
    )
    state, _ = bench.run(spec, rows, 1)
    settings = {"penalty": "l2", "shuffle": False, "max_iter": 1, "tol": None}
    settings |= {"learning_rate": "constant", "fit_intercept": intercept}
    if kernel == "linear":  # theirs is half of (o - y)², so twice the rate and half the penalty
        oracle = SGDRegressor(alpha=0.005, eta0=0.004, **settings)
    else:
        oracle = SGDClassifier(loss="log_loss", alpha=0.01, eta0=0.002, **settings)
    oracle.fit(x, y, sample_weight=rows.w)
    # They shrink weights by (1 - rate · l2) before the step and not within it: a difference of
    # second order in the rate.
    np.testing.assert_allclose(state["parameters/weights"].ravel(), oracle.coef_.ravel(), rtol=1e-3)
    if intercept:
        np.testing.assert_allclose(state["parameters/intercept"], oracle.intercept_, rtol=1e-3)


@pytest.mark.parametrize("name", PLAIN)
def test_weights_multiply_a_rows_gradient_and_touch_nothing_recorded(bench, name):
    spec = replace(SPECS[name], optimizer={"name": "sgd", "learning_rate": 0.01}, dtype="float64")
    rows = bench.rows(1, 3, CLASSES[name], weighted=False)
    moves, recorded = [], []
    for weight in (1.0, 2.0):
        learner = Learner(replace(spec, options={**spec.options, "l2": 0.0}, standardise=False))
        before = bench.state(learner)
        state = copied(before)
        results = bench.results(learner, rows)
        learner.run(state, rows._replace(w=np.array([weight])), 1, results)
        recorded.append(results)
        moves.append(
            np.concatenate([(state[k] - before[k]).ravel() for k in state if "parameters" in k])
        )
    np.testing.assert_allclose(moves[1], 2 * moves[0], rtol=1e-9)
    assert same(*recorded)


@pytest.mark.parametrize("name", [*PLAIN, "newton", "fm"])
def test_the_recorded_gradient_is_the_numerical_derivative_of_the_recorded_loss(bench, name):
    spec = replace(SPECS[name], dtype="float64")
    learner = Learner(spec)
    state = bench.state(learner)
    seen = bench.rows(40, 3, CLASSES[name], seed=1)
    learner.run(state, seen, 8, bench.results(learner, seen))
    rows = bench.rows(6, 3, CLASSES[name], seed=2)

    def recorded(moved):
        results = bench.results(learner, rows)
        learner.run(moved, rows, 6, results)
        return results

    results = recorded(copied(state))
    names = [name for name in state if name.startswith("parameters/")]
    at, step = 0, 1e-6
    for parameter in names:
        for i in range(state[parameter].size):
            losses = []
            for sign in (1, -1):
                moved = copied(state)
                moved[parameter].flat[i] += sign * step
                found = recorded(moved)
                losses.append(learner.loss(found["output"], rows.y, found.get("unit", 1.0)))
            slope = (losses[0] - losses[1]) / (2 * step)
            scale = max(1.0, float(np.abs(slope).max()))
            np.testing.assert_allclose(
                results["gradient"][:, at], slope, rtol=2e-6, atol=1e-7 * scale
            )
            at += 1
    assert at == learner.parameter_count
    np.testing.assert_allclose(
        results["norm"], np.linalg.norm(results["gradient"], axis=1), rtol=1e-9
    )


def test_a_row_is_scored_by_the_labels_before_its_batch_and_steps_by_those_with_it(bench):
    learner = Learner(Spec("linear", 1, optimizer={"name": "sgd", "learning_rate": 0.1}))
    state = bench.state(learner)
    rows = Rows(np.array([[1.0], [2.0], [3.0]]), np.array([1e5, 3e5, 5e5]), np.ones(3), np.zeros(3))
    results = bench.results(learner, rows)
    learner.run(state, rows, 1, results)
    assert results["output"][0, 0] == 0.0
    assert results["output"][1, 0] == 1e5
    assert results["residual"][0, 0] == -2e5
    assert np.abs(state["parameters/weights"]).max() < 1


@pytest.mark.parametrize("loss", ["squared", "absolute", "huber", "epsilon_insensitive"])
@pytest.mark.parametrize("optimizer", ["adagrad", "sgd", "experts"])
def test_raw_dollars_and_millimetres_are_learnt_alike(bench, loss, optimizer):
    rows = bench.rows(400, 3)
    y = rows.x @ [3.0, -1.0, 0.5] + 7
    found = []
    for unit in (1e-6, 1.0, 1e9):
        spec = Spec("linear", 3, {"loss": loss}, optimizer={"name": optimizer})
        _, results = bench.run(spec, rows._replace(y=y * unit), 1)
        found.append(results["output"][1:, 0] / unit)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)
    np.testing.assert_allclose(found[2], found[1], rtol=1e-6)
    spread = ((y[200:] - y[200:].mean()) ** 2).sum()
    assert ((found[1][199:] - y[200:]) ** 2).sum() < 0.3 * spread


# Batches and lanes


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("batch_rows", [1, 5])
def test_two_calls_that_meet_at_a_batch_are_one_call_to_the_last_bit(bench, name, batch_rows):
    rows = bench.rows(43, 3, CLASSES[name])
    whole, recorded = bench.run(SPECS[name], rows, batch_rows)
    state, halves = None, []
    for part in cut(rows, 20):
        state, results = bench.run(SPECS[name], part, batch_rows, state)
        halves.append(results)
    assert same(whole, state)
    joined = {key: np.concatenate([half[key] for half in halves]) for key in recorded}
    assert same(recorded, joined)


@pytest.mark.parametrize("name", SPECS)
def test_a_run_is_the_same_to_the_last_bit_each_time(bench, name):
    rows = bench.rows(30, 3, CLASSES[name])
    assert same(bench.run(SPECS[name], rows, 4)[0], bench.run(SPECS[name], rows, 4)[0])


def moved(arrays, random):
    """The same arrays at other places in memory, aligned to their elements and no better."""
    found = {}
    for name, array in arrays.items():
        if array is None:  # rows without slots
            continue
        room = np.empty(array.nbytes + 256, np.uint8)
        at = -room.ctypes.data % 64 + 8 * int(random.integers(0, 16))
        found[name] = room[at : at + array.nbytes].view(array.dtype).reshape(array.shape)
        found[name][...] = array
    return found


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "adam"])
@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("batch_rows", [1, 6])
def test_where_arrays_lie_in_memory_makes_no_difference_to_the_last_bit(
    bench, name, optimizer, batch_rows
):
    learner = Learner(replace(SPECS[name], optimizer={"name": optimizer}))
    rows = bench.rows(20, 3, CLASSES[name])
    random, found, held = np.random.default_rng(0), set(), []
    for _ in range(20):
        held.append(np.empty(int(random.integers(1, 40))))  # scratch comes to lie elsewhere, too
        state = moved(bench.state(learner), random)
        results = moved(bench.results(learner, rows), random)
        there = Rows(*moved(rows._asdict(), random).values())
        learner.run(state, there, batch_rows, results)
        found.add(b"".join(array.tobytes() for array in [*state.values(), *results.values()]))
    assert len(found) == 1


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("places", [(), (4,), (3, 6, 9)])
def test_exact_lanes_are_one_batch_of_all_their_rows(bench, name, places):
    spec = replace(SPECS[name], dtype="float64")
    learner = Learner(spec)
    rounds = [bench.rows(12, 3, CLASSES[name], seed=seed) for seed in range(4)]
    if learner.watching.scale == "spread":
        rounds[0].y[[2, 7]] += [1e4, -1e6]
    one, many = bench.state(learner), bench.state(learner)
    for rows in rounds:
        whole = bench.results(learner, rows)
        learner.run(one, rows, 12, whole)
        lanes = exact_round(bench, learner, many, cut(rows, *places))
        for key, value in whole.items():
            joined = np.concatenate([results[key] for results in lanes])
            near(joined, value)
    for key, value in one.items():
        near(many[key], value)


def test_every_lane_comes_to_the_same_moments(bench):
    learner = Learner(SPECS["linear"])
    state = bench.state(learner)
    lanes = cut(bench.rows(20, 3), 5, 9)
    outs = [bench.arrays(learner.gradient_layout()) for _ in lanes]
    for lane, out in enumerate(outs):
        learner.gradient(state, lanes, lane, out, bench.results(learner, lanes[lane]))
    moments = [{key: out[key] for key in out if not key.startswith("sum/")} for out in outs]
    assert same(moments[0], moments[1])
    assert same(moments[0], moments[2])


def test_a_gradient_leaves_the_state_as_it_was(bench):
    learner = Learner(SPECS["linear"])
    state = bench.state(learner)
    before = copied(state)
    lanes = [bench.rows(5, 3)]
    out = bench.arrays(learner.gradient_layout())
    learner.gradient(state, lanes, 0, out, bench.results(learner, lanes[0]))
    assert same(state, before)


@pytest.mark.parametrize("name", SPECS)
def test_local_lanes_are_averaged_by_rows_and_their_moments_are_of_all_rows(bench, name):
    learner = Learner(SPECS[name])
    before = bench.state(learner)
    learner.run(
        before,
        *(bench.rows(9, 3, CLASSES[name], seed=9), 3),
        bench.results(learner, bench.rows(9, 3)),
    )
    rows = bench.rows(30, 3, CLASSES[name])
    lanes = cut(rows, 12, 24)
    states = []
    for part in lanes:
        states.append(copied(before))
        learner.run(states[-1], part, 4, bench.results(learner, part))
    out = copied(before)
    learner.average(out, before, states, [len(part.y) for part in lanes])
    assert out["steps"][0] == before["steps"][0] + 3
    for key in out:
        mixed = name.startswith("experts") and key.startswith("parameters/")
        if key.startswith(("parameters/", "optimizer/")) and not mixed:
            expected = sum(s[key] * share for s, share in zip(states, (0.4, 0.4, 0.2), strict=True))
            np.testing.assert_allclose(out[key], expected, rtol=1e-5, atol=1e-7)
    whole = copied(before)
    learner.run(whole, rows, 30, bench.results(learner, rows))
    if SPECS[name].half_life == 0:  # else lanes forget side by side, not one after the other
        for key in [key for key in out if key.startswith(("scaling/", "target/", "classes/"))]:
            if key != "target/reaches":  # of which each lane judged by what it had learnt itself
                np.testing.assert_allclose(out[key], whole[key], rtol=1e-12)
    if "target/reaches" in out:
        judged = sum(state["target/reaches"] - before["target/reaches"] for state in states)
        np.testing.assert_allclose(out["target/reaches"], before["target/reaches"] + judged)


def test_what_follows_serves_until_there_are_copies_and_half_of_it_until_they_were_watched(bench):
    """As docs/learning.md tells how a model begins."""
    learner = Learner(SPECS["experts of numbers"])
    state = bench.state(learner)
    parts = cut(bench.rows(600, 3), 299, 300, 599)
    served, follows = [], []
    for part in parts:
        learner.run(state, part, 1, bench.results(learner, part))
        served.append(state["parameters/weights"].copy())
        follows.append(learner.rule.scoring(state)["weights"].copy())
        if len(served) == 2:
            shares = state["optimizer/shares"].copy()
        if len(served) == 3:
            experts = state["optimizer/experts/weights"].copy()
            began = state["optimizer/serving"].copy()
    np.testing.assert_allclose(served[0], follows[0], rtol=1e-12)
    half = np.tensordot(shares, experts, axes=1) / 2 + follows[2] / 2
    np.testing.assert_allclose(served[2], half, rtol=1e-12)
    assert (state["optimizer/serving"] != began).all()
    assert state["optimizer/serving"].min() >= 0.7 * 0.05 / 5  # the slow may have 0.3 of it


@pytest.mark.parametrize("name", ["experts", "experts of numbers", "experts of classes"])
def test_the_model_of_experts_is_the_mixture_that_serves(bench, name):
    learner = Learner(SPECS[name])
    rows = bench.rows(700, 3, CLASSES[name])
    state = bench.state(learner)
    for part in cut(rows, 200, 640):
        learner.run(state, part, 1, bench.results(learner, part))
    serving, shares = state["optimizer/serving"], state["optimizer/shares"]
    assert serving.sum() == pytest.approx(1.0)
    assert shares.sum() == pytest.approx(1.0)
    own = serving[:-1] + serving[-1] * shares
    for key in ("weights", "intercept"):
        mixed = np.tensordot(own, state[f"optimizer/experts/{key}"], axes=1)
        np.testing.assert_allclose(state[f"parameters/{key}"], mixed, rtol=1e-12)


@pytest.mark.parametrize(
    ("rates", "slow"),
    [
        ((0.02, 0.1, 0.5, 2.0), [0.5, 0.5, 0, 0]),
        ((2.0, 0.02, 0.5), [0, 1, 0]),
        ((0.5, 0.0, 2.0, 0.02), [0, 0, 0, 1]),
        (None, [0, 1 / 3, 1 / 3, 1 / 3, 0, 0, 0, 0]),
        ((1.0,), [1]),
    ],
)
def test_the_slower_half_are_those_of_the_lower_rates_that_learn_weights(rates, slow):
    options = {"name": "experts", "rates": rates and list(rates)}
    learner = Learner(replace(SPECS["experts"], optimizer=options))
    assert learner.rule.slow.tolist() == slow


def looked(bench, spec, rows, parts):
    """What all copies lost on the look that ends with the last row, and who serves after it, by what it may move to the slow."""
    learner = Learner(spec)
    state = bench.state(learner)
    last = len(rows.y) - 1
    learner.run(state, rows.slice(0, last), 1, bench.results(learner, rows.slice(0, last)))
    assert state["optimizer/frozen/rows"] == 299
    lost, serving = state["optimizer/frozen/losses"].copy(), []
    row = rows.slice(last, last + 1)
    for part in parts:
        made = Learner(replace(spec, optimizer={"name": "experts", "serve_slow": part}))
        after = {name: array.copy() for name, array in state.items()}
        made.run(after, row, 1, bench.results(made, row))
        assert after["optimizer/frozen/rows"] == 0
        serving.append(after["optimizer/serving"])
    return lost, serving


@pytest.mark.parametrize(
    ("name", "noise", "is_full"),
    [
        ("experts", 1.0, True),
        ("experts", 0.0, False),
        ("experts of numbers", 1.0, True),
        ("experts of numbers", 0.0, False),
    ],
)
def test_the_slower_half_serves_as_far_as_that_costs_little(bench, name, noise, is_full):
    """A look moves 0.3 to them, or as much of it as adds a tenth to what was lost: where all can be known they have much to lose."""
    random = np.random.default_rng(2)
    x = random.normal(size=(6000, 3))
    y = x @ [2.0, -1.0, 0.5] + noise * random.logistic(size=6000)
    y = y if name == "experts of numbers" else (y > 0).astype(np.float64)
    rows = Rows(x, y, np.ones(6000), np.zeros(6000))
    lost, (own, served) = looked(bench, SPECS[name], rows, [0.0, 0.3])
    slow = np.append(Learner(SPECS[name]).rule.slow, 0.0)
    if is_full:
        np.testing.assert_allclose(served, 0.7 * own + 0.3 * slow, rtol=1e-12)
        return
    part = 1 - served[-1] / own[-1]
    assert 0 < part < 0.3
    np.testing.assert_allclose(served, (1 - part) * own + part * slow, rtol=1e-9)
    assert served @ lost == pytest.approx((1 - part) * (own @ lost) + part * (slow @ lost))
    assert part * (slow @ lost - own @ lost) == pytest.approx(0.1 * (own @ lost), rel=1e-2)


def test_a_copy_that_lost_beyond_all_bounds_leaves_shares_that_are_numbers():
    rule = Learner(SPECS["experts of numbers"]).rule
    for lost in ([1, 1, 1, np.inf, 1], [np.inf, 1, 1, 1, 1], [1, 1, 1, 1, np.inf]):
        assert 0 <= rule._slow_part(np.full(5, 0.2), np.array(lost, np.float64), 1.0) <= 0.3


@pytest.mark.parametrize("name", ["experts", "experts of numbers"])
def test_lanes_of_which_one_has_had_no_look_yet_serve_what_they_learnt(bench, name):
    learner = Learner(SPECS[name])
    random = np.random.default_rng(14)
    x = random.normal(size=(600, 3))
    y = x @ [1.0, -0.5, 0.3]
    y = y if name == "experts of numbers" else (y > 0).astype(np.float64)
    rows = Rows(x, y, np.ones(600), np.zeros(600))
    before, lanes = bench.state(learner), []
    for part in (rows.slice(0, 305), rows.slice(305, 600)):
        state = {key: array.copy() for key, array in before.items()}
        learner.run(state, part, 1, bench.results(learner, part))
        lanes.append(state)
    assert [lane["optimizer/serving"].any() for lane in lanes] == [True, False]
    out = {key: array.copy() for key, array in before.items()}
    learner.average(out, before, lanes, [305, 295])
    assert out["optimizer/serving"].sum() == pytest.approx(1.0)
    lengths = [np.abs(state["parameters/weights"]).sum() for state in (out, *lanes)]
    assert lengths[0] > 0.7 * min(lengths[1:])


@pytest.mark.parametrize("batch_rows", [1, 2])
def test_a_label_that_is_far_off_moves_a_learner_as_one_at_the_edge_of_the_ordinary_does(
    bench, batch_rows
):
    learner = Learner(SPECS["experts of numbers"])
    seen = bench.rows(200, 3, seed=1)
    before, _ = bench.run(learner.spec, seen, batch_rows)

    def moves(label):
        rows = Rows(seen.x[:1], np.array([label]), np.ones(1), np.zeros(1))
        after, _ = bench.run(learner.spec, rows, batch_rows, copied(before))
        moved = after["optimizer/experts/weights"] - before["optimizer/experts/weights"]
        return np.linalg.norm(moved, axis=(1, 2))

    edge, off = moves(500.0 + 3 * 80), moves(500.0 + 100 * 80)
    assert (off < 1.5 * edge).all()


@pytest.mark.parametrize(
    ("loss", "optimizer"),
    [
        ("squared", "experts"),
        ("squared", "adagrad"),
        ("poisson", "experts"),
        *product(["huber", "absolute"], ["experts", "adagrad", "normalised", "newton"]),
    ],
)
@pytest.mark.parametrize("batch_rows", [1, 7])
def test_one_wrong_label_does_not_spoil_the_next_rows(bench, loss, optimizer, batch_rows):
    random = np.random.default_rng(4)
    x = random.normal(size=(1500, 4))
    output = x @ [0.8, -0.5, 0.3, 0.0]
    y = output + random.normal(0, 0.5, 1500)
    if loss == "poisson":
        y, output = random.poisson(np.exp(output)).astype(np.float64), np.exp(output)
    wrong = y.copy()
    wrong[1000] = 1e6
    spec = Spec("linear", 4, {"loss": loss}, optimizer={"name": optimizer})

    def error(labels):
        """How far the predictions of the rows behind the wrong one are from the truth."""
        rows = Rows(x, labels, np.ones(1500), np.zeros(1500))
        _, results = bench.run(spec, rows, batch_rows)
        found = Learner(spec).prediction(results["output"])
        return np.sqrt(np.mean((found - output)[1014:] ** 2))

    assert error(wrong) < 0.5 * output.std()


@pytest.mark.parametrize("optimizer", ["experts", "adagrad", "newton", "normalised"])
@pytest.mark.parametrize("batch_rows", [1, 7])
@pytest.mark.parametrize("labels_follow", [True, False])
def test_a_stream_tells_how_far_beyond_its_labels_predictions_may_lie(
    bench, labels_follow, batch_rows, optimizer
):
    """Features of long tails, which labels follow or don't."""
    random = np.random.default_rng(7)
    x = random.standard_t(1.5, size=(1500, 2))
    y = (x if labels_follow else np.tanh(x)) @ [1.0, -0.5] + random.normal(0, 0.05, 1500)
    rows = Rows(x, y + 0.5, np.ones(1500), np.full(1500, 0.5))
    learner = Learner(Spec("linear", 2, optimizer={"name": optimizer}))
    state, _ = bench.run(learner.spec, rows, batch_rows)
    reach = scaling.reach(state["target/reaches"])
    far = learner.predict(state, np.array([[1e6, -1e6]]), np.zeros(1))[0, 0]
    assert reach == (scaling.REACHES[-1] if labels_follow else 0.0)
    assert far == pytest.approx(y.max() + reach * np.ptp(y))


def test_a_row_beyond_the_labels_has_one_vote_dealt_by_squared_errors():
    unit = scaling.Unit(base=1.0, unit=2.0, least=0.0, most=10.0)
    raw = np.array([[1.0], [6.0], [-5.0], [1e200], [7.0]])  # outputs 3, 13, -9, 2e200, 15
    y, w = np.array([5.0, 10.0, -9.0, 0.0, 15.0]), np.array([1.0, 2.0, 3.0, 1.0, 0.0])
    above = np.array([0.0, 3.0, 3.0, 3.0])  # held at 10, 13, 13, 13, for 10
    below = np.array([9.0, 6.0, 0.0, 0.0])  # held at 0, -3, -9, -9, for -9
    expected = 2 * above**2 / (above**2).sum() + 3 * below**2 / (below**2).sum()
    np.testing.assert_allclose(unit.votes(raw, y, w), expected)
    assert scaling.reach(unit.votes(raw, y, w)) == 30.0
    assert scaling.reach(unit.votes(raw[:2], y[:2], w[:2])) == 0.0
    assert scaling.reach(np.zeros(4)) == 30.0  # nobody knows


@pytest.mark.parametrize("kernel", ["linear", "mlp"])
@pytest.mark.parametrize("batch_rows", [1, 7])
@pytest.mark.parametrize(("loss", "reach"), [("squared", scaling.REACHES[-1]), ("poisson", 0.0)])
def test_no_cell_carries_a_prediction_beyond_what_labels_allow(
    bench, loss, reach, batch_rows, kernel
):
    random = np.random.default_rng(6)
    x, offset = random.normal(size=(400, 3)), random.normal(0, 0.3, 400)
    y = x @ [0.4, -0.3, 0.2] + random.normal(0, 0.5, 400)
    x[99::100] *= 1e9
    if loss == "poisson":
        y = random.poisson(np.exp(np.clip(y, -2, 2))).astype(np.float64)
    w = np.where(np.arange(400) % 10 == 3, 0.0, 1.0)
    y[w == 0] = 1e5  # of which nothing is known
    options = {"loss": loss} | ({"hidden": [4], "activation": "relu"} if kernel == "mlp" else {})
    learner = Learner(Spec(kernel, 3, options, optimizer={"name": "adagrad"}))
    rows = Rows(x, y, w, offset)
    state, results = bench.run(learner.spec, rows, batch_rows)
    plain = y * np.exp(-offset) if loss == "poisson" else y - offset
    bounds = []
    for row in range(401):
        seen = plain[: row // batch_rows * batch_rows if row < 400 else 400]
        seen = seen[w[: len(seen)] > 0]
        least, most = min(seen, default=0.0), max(seen, default=0.0)
        far = reach * (most - least)
        known = most > 0 if loss == "poisson" else far > 0
        top = np.log(most) if loss == "poisson" and known else most + far
        low = -np.inf if loss == "poisson" else least - far
        bounds.append((low, top) if known else (-np.inf, np.inf))
    if loss == "squared":
        learnt = scaling.reach(state["target/reaches"])
        assert learnt < reach  # by now it is known that labels don't follow what is far out
        bounds[-1] = (least - learnt * (most - least), most + learnt * (most - least))
    lowest, highest = np.array(bounds).T
    found = results["output"][:, 0] - offset
    assert (found >= lowest[:-1] - 1e-9).all()
    assert (found <= highest[:-1] + 1e-9).all()
    if (loss, kernel) == (
        "poisson",
        "linear",
    ):  # a cell is scaled by a deviation that it is part of
        assert np.isclose(found, highest[:-1]).any()
    held = learner.predict(state, np.sign(x) * 1e12)[:, 0]
    assert np.isclose(held, highest[-1]).any()
    assert held.max() <= highest[-1] + 1e-9
    assert held.min() >= lowest[-1] - 1e-9


@pytest.mark.parametrize("exposure", [1e-6, 1e-3, 1e3, 1e6])
@pytest.mark.parametrize("optimizer", ["experts", "adagrad"])
def test_one_wrong_exposure_does_not_spoil_the_next_rows(bench, optimizer, exposure):
    random = np.random.default_rng(5)
    x = random.normal(size=(6000, 3))
    rate = np.exp(x @ [0.4, -0.3, 0.2])
    offset = np.zeros(6000)
    offset[2000] = np.log(exposure)
    y = np.maximum(random.poisson(rate), offset != 0).astype(np.float64)
    spec = Spec("linear", 3, {"loss": "poisson"}, optimizer={"name": optimizer}, clip=5.0)
    _, results = bench.run(spec, Rows(x, y, np.ones(6000), offset), 1)
    found = Learner(spec).prediction(results["output"])
    assert np.sqrt(np.mean((found - rate)[2500:] ** 2)) < 0.75 * rate.std()


@pytest.mark.parametrize("loss", ["logistic", "poisson", "softmax", "squared"])
def test_what_a_unit_of_weight_is_makes_no_difference_to_experts(bench, loss):
    rows = bench.rows(900, 3, 3 if loss == "softmax" else 0, loss=loss)
    spec = Spec("linear", 3, {"loss": loss}, optimizer={"name": "experts"}, clip=5.0)
    if loss == "softmax":
        spec = Spec("softmax", 3, outputs=3, optimizer={"name": "experts"}, clip=5.0)
    outputs = [
        bench.run(spec, rows._replace(w=rows.w * c), 1)[1]["output"] for c in (1.0, 30.0, 1e3)
    ]
    near(outputs[1], outputs[0])
    near(outputs[2], outputs[0])


def amounts(random, kind, n):
    """Labels (n,) of a family, and what one unit of their loss, of labels with mean 1, is of their log-likelihood."""
    mean = 400.0 * np.exp(random.normal(0, 0.1, n))
    if kind == "poisson":
        return random.poisson(mean).astype(np.float64), 1 / 400
    if kind == "overdispersed":  # negative binomial of size 40: the variance is mean + mean²/40
        return random.poisson(mean * random.gamma(40, 1 / 40, n)).astype(np.float64), 11 / 400
    return mean * random.gamma(5, 1 / 5, n), 1 / 5


@pytest.mark.parametrize("batch_rows", [1, 7])
@pytest.mark.parametrize(
    ("loss", "kind"), [("poisson", "poisson"), ("poisson", "overdispersed"), ("gamma", "gamma")]
)
def test_experts_measure_losses_of_counts_by_how_counts_are_spread(bench, loss, kind, batch_rows):
    random = np.random.default_rng(11)
    y, unit = amounts(random, kind, 12_000)
    x = random.normal(size=(12_000, 3))
    spec = Spec("linear", 3, {"loss": loss}, optimizer={"name": "experts"}, clip=5.0)
    state, _ = bench.run(spec, Rows(x, y, np.ones(len(y)), np.zeros(len(y))), batch_rows)
    total, count = state["optimizer/mean_heat"]
    spread = np.exp(0.1**2) - 1  # what labels have of their own beside their family's
    assert total / count == pytest.approx(unit + spread, rel=0.15)


@pytest.mark.parametrize("scale_target", [True, False])
@pytest.mark.parametrize("batch_rows", [1, 7])
def test_one_wrong_count_says_little_of_how_counts_are_spread(bench, scale_target, batch_rows):
    random = np.random.default_rng(13)
    x = random.normal(size=(4000, 3))
    y = random.poisson(np.exp(x @ [0.3, -0.2, 0.1] + 1.4)).astype(np.float64)
    wrong = y.copy()
    wrong[2000] = 4e4
    spec = Spec(
        "linear", 3, {"loss": "poisson"}, optimizer={"name": "experts"}, scale_target=scale_target
    )
    heats = []
    for labels in (y, wrong):
        rows = Rows(x, labels, np.ones(4000), np.zeros(4000)).slice(0, 2800)
        total, count = bench.run(spec, rows, batch_rows)[0]["optimizer/mean_heat"]
        heats.append(total / count)
    assert heats[1] < 1.5 * heats[0]


def test_experts_know_which_of_them_is_right_where_counts_are_large(bench):
    random = np.random.default_rng(12)
    x = random.normal(size=(16_000, 6))
    rate = np.exp(x @ random.normal(0, 0.1, 6) + 7.0)
    y = random.poisson(rate).astype(np.float64)
    learner = Learner(
        Spec("linear", 6, {"loss": "poisson"}, optimizer={"name": "experts"}, clip=5.0)
    )
    state = bench.state(learner)
    rows = Rows(x, y, np.ones(len(y)), np.zeros(len(y)))
    early, late = rows.slice(0, 12_000), rows.slice(12_000, 16_000)
    learner.run(state, early, 1, bench.results(learner, early))
    assert state["optimizer/shares"].max() > 0.9
    lost = learner.loss(learner.predict(state, late.x), late.y)
    least = learner.loss(np.log(rate[12_000:])[:, None], late.y)
    assert (lost - least).mean() < 0.02  # nats, of the half that a row's chance costs


@pytest.mark.parametrize(("loss", "farthest"), [("logistic", 4.0), ("poisson", 1.0)])
def test_one_row_moves_its_own_output_no_farther_than_experts_let_it(bench, loss, farthest):
    """Sure and right for a thousand rows, then wrong at one that has a dozen features nobody has had."""
    x = np.zeros((1001, 14))
    x[:, 0], x[:, 1] = 1.0, np.linspace(-1, 1, 1001)
    x[1000, 2:] = 1.0
    y = (x[:, 1] > -0.9).astype(np.float64) if loss == "logistic" else np.ones(1001)
    y[1000] = 0.0 if loss == "logistic" else 300.0
    learner = Learner(Spec("linear", 14, {"loss": loss}, optimizer={"name": "experts"}))
    state = bench.state(learner)
    rows = Rows(x, y, np.ones(1001), np.zeros(1001))
    learner.run(state, rows.slice(0, 1000), 1, bench.results(learner, rows.slice(0, 1000)))
    before = {name: array.copy() for name, array in state.items()}
    learner.run(state, rows.slice(1000, 1001), 1, bench.results(learner, rows.slice(1000, 1001)))
    z = learner.scaled(state, rows.x[1000:])[0]
    for expert in range(len(learner.rule.rates)):
        moved = [
            now["optimizer/experts/weights"][expert, 0] @ z
            + now["optimizer/experts/intercept"][expert, 0]
            for now in (before, state)
        ]
        assert abs(moved[1] - moved[0]) <= farthest * (1 + 1e-9)
    assert abs(moved[1] - moved[0]) == pytest.approx(farthest)  # of the fastest


def test_a_learner_at_rate_0_learns_the_intercept_alone(bench):
    learner = Learner(replace(SPECS["experts"], optimizer={"name": "experts", "rates": [0.5, 0.0]}))
    random = np.random.default_rng(3)
    x = random.normal(size=(2000, 3))
    y = (random.random(2000) < 0.2).astype(np.float64)
    for batch_rows in (1, 7):
        state, _ = bench.run(learner.spec, Rows(x, y, np.ones(2000), np.zeros(2000)), batch_rows)
        assert state["optimizer/experts/weights"][0].all()
        assert not state["optimizer/experts/weights"][1].any()
        odds = state["optimizer/experts/intercept"][1, 0]
        assert 1 / (1 + np.exp(-odds)) == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("batch_rows", [1, 7])
@pytest.mark.parametrize("name", ["experts", "experts of classes"])
def test_a_slow_learner_of_classes_knows_soon_how_rare_they_are(bench, name, batch_rows):
    random = np.random.default_rng(3)
    x = random.normal(size=(2000, 3))
    y = (random.random(2000) < 0.02).astype(np.float64)
    spec = replace(SPECS[name], optimizer={"name": "experts", "rates": [0.02]})
    state, _ = bench.run(spec, Rows(x, y, np.ones(2000), np.zeros(2000)), batch_rows)
    learner = Learner(spec)
    chances = learner.prediction(learner.predict(state, np.zeros((1, 3))))
    rare = chances[0, 1] if name == "experts of classes" else chances[0]
    assert rare == pytest.approx(y.mean(), abs=0.01)


@pytest.mark.parametrize(("loss", "least"), [("logistic", 0.5), ("squared", 0.0)])
def test_a_step_is_divided_by_how_far_weights_and_intercept_would_carry_it(bench, loss, least):
    """The first step of one learner, by hand: a gradient alone in G gives every weight a step of its rate."""
    x = np.array([[2.0, -0.5, 1.0]])
    scaling = {"standardise": False, "scale_target": False}
    for rate in (0.1, 2.0):
        options = {"name": "experts", "rates": [rate]}
        spec = Spec("linear", 3, {"loss": loss}, optimizer=options, **scaling)
        state, _ = bench.run(spec, Rows(x, np.ones(1), np.ones(1), np.zeros(1)), 1)
        push, bent = (0.5, 0.25) if loss == "logistic" else (2.0, 2.0)
        intercept_rate = max(rate, least)
        ease = 1 / (1 + bent * (rate * np.abs(x).sum() + intercept_rate) / push)
        np.testing.assert_allclose(
            state["optimizer/experts/weights"][0, 0], rate * ease * np.sign(x[0]), rtol=1e-12
        )
        assert state["optimizer/experts/intercept"][0, 0] == pytest.approx(
            intercept_rate * ease, rel=1e-12
        )


@pytest.mark.parametrize("name", ["experts", "experts of classes"])
def test_where_chance_looks_like_sense_classes_are_predicted_by_how_frequent_they_are(bench, name):
    """Few rows, many features, and none of them tells anything: beside the frequencies so far (Krichevsky & Trofimov 1981)."""
    random = np.random.default_rng(8)
    x = (random.random((150, 40)) < 0.2).astype(np.float64)
    y = (random.random(150) < 0.15).astype(np.float64)
    rows = Rows(x, y, np.ones(150), np.zeros(150))
    counts, least = np.full(CLASSES[name], 0.5), 0.0
    for label in y.astype(int):
        least -= np.log(counts[label] / counts.sum()) / 150
        counts[label] += 1
    lost = []
    for rates in (None, [0.5, 2.0]):
        spec = replace(SPECS[name], features=40, optimizer={"name": "experts", "rates": rates})
        _, results = bench.run(spec, rows, 1)
        lost.append(Learner(spec).loss(results["output"], y).mean())
    assert lost[0] < 1.1 * least < lost[1]


def test_a_rare_feature_s_weight_takes_what_its_few_rows_tell_of_it(bench):
    random = np.random.default_rng(0)
    x = np.hstack([random.normal(size=(600, 2)), np.zeros((600, 1))])
    x[50::100, 2] = 1.0
    y = x @ np.array([1.0, -1.0, 10.0]) + random.normal(0, 0.1, 600)
    learner = Learner(Spec("linear", 3, optimizer={"name": "experts"}))
    state = bench.state(learner)
    rows = Rows(x, y, np.ones(600), np.zeros(600))
    learner.run(state, rows, 1, bench.results(learner, rows))
    _, weights = learner.coefficients(state)
    assert weights[0, 2] == pytest.approx(10.0, rel=0.1)


@pytest.mark.parametrize(("penalty", "within"), [("l1", 0.3), ("l2", 0.13)])
def test_experts_with_a_penalty_come_near_to_the_least_that_scikit_learn_finds(
    bench, penalty, within
):
    """Eighty steps don't come all the way: a penalty that isn't damped leaves 0.4 of them, and 0.8."""
    random = np.random.default_rng(0)
    x = random.normal(size=(4000, 6))
    y = (x[:, 0] - x[:, 1] + random.logistic(size=4000) > 0).astype(np.float64)
    rows = Rows(x, y, np.ones(4000), np.zeros(4000))
    spec = Spec("logistic", 6, {penalty: 0.1}, optimizer={"name": "experts"})
    state, _ = bench.run(spec, rows, 50)  # row by row the noise of one is more than the penalty
    weights = state["parameters/weights"][0]
    l1_ratio = 1.0 if penalty == "l1" else 0.0
    model = LogisticRegression(l1_ratio=l1_ratio, C=1 / 400, solver="saga", tol=1e-6, max_iter=1000)
    least = model.fit((x - x.mean(axis=0)) / x.std(axis=0), y).coef_[0]
    np.testing.assert_allclose(weights[:2], least[:2], rtol=within)
    if penalty == "l1":
        assert weights[2:].tolist() == least[2:].tolist() == [0.0] * 4


@pytest.mark.parametrize("batch_rows", [1, 2])
def test_a_learner_of_the_intercept_alone_has_no_say_in_which_weights_are_zero(bench, batch_rows):
    random = np.random.default_rng(4)
    x = random.normal(size=(200, 30))
    y = (x[:, 0] + 3 * random.logistic(size=200) > 0).astype(np.float64)
    rows = Rows(x, y, np.ones(200), np.zeros(200))
    spec = Spec("logistic", 30, {"l1": 0.001}, optimizer={"name": "experts"})
    state, _ = bench.run(spec, rows, batch_rows)
    assert state["optimizer/shares"][0] > 0.5
    assert np.count_nonzero(state["parameters/weights"]) > 15


def test_newton_steps_on_squared_error_are_recursive_least_squares(bench):
    rows = bench.rows(50, 3, weighted=False)
    x = np.hstack([np.ones((50, 1)), rows.x / 10])
    spec = Spec("linear", 3, optimizer={"name": "newton"}, standardise=False, scale_target=False)
    state, _ = bench.run(spec, rows._replace(x=rows.x / 10), 1)
    ridge = np.linalg.solve(2 * x.T @ x + np.eye(4), 2 * x.T @ rows.y)
    found = np.append(state["parameters/intercept"], state["parameters/weights"])
    np.testing.assert_allclose(found, ridge, rtol=1e-8)


def test_lbfgs_comes_to_the_least_that_scikit_learn_finds(bench):
    random = np.random.default_rng(1)
    x = random.normal(size=(500, 4))
    y = (x @ [1.0, -2.0, 0.5, 0.0] + random.logistic(size=500) > 0).astype(np.float64)
    rows = Rows(x, y, np.ones(500), np.zeros(500))
    spec = Spec("logistic", 4, {"l2": 0.01}, optimizer={"name": "lbfgs"}, standardise=False)
    learner = Learner(spec)
    state = bench.state(learner)
    for _ in range(25):
        learner.run(state, rows, 100, bench.results(learner, rows))
        learner.end_file(state)
    oracle = LogisticRegression(C=1 / (0.01 * 500), tol=1e-10, max_iter=1000).fit(x, y)
    np.testing.assert_allclose(state["parameters/weights"], oracle.coef_, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        state["parameters/intercept"], oracle.intercept_, rtol=1e-4, atol=1e-5
    )


def test_kmeans_finds_clusters_that_lie_apart_as_well_as_scikit_learn(bench):
    from sklearn.cluster import MiniBatchKMeans

    random = np.random.default_rng(4)
    middles = random.normal(0, 10, (5, 3))
    x = middles[random.integers(0, 5, 6000)] + random.normal(size=(6000, 3))
    spec = Spec("kmeans", 3, {"clusters": 5}, 5, {"name": "counting"}, standardise=False)
    rows = Rows(x, np.zeros(6000), np.ones(6000), np.zeros(6000))
    state, _ = bench.run(spec, rows, 256)
    ours = np.square(x[:, None] - state["parameters/centres"]).sum(axis=2).min(axis=1).mean()
    theirs = MiniBatchKMeans(5, n_init=3, batch_size=256, random_state=0).fit(x).inertia_ / 6000
    assert ours < 1.05 * theirs


@pytest.mark.parametrize("kernel", ["linear", "logistic", "softmax", "mlp"])
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_steps_cut_by_features_are_those_cut_by_samples(bench, kernel, parts):
    spec = replace(SPECS[kernel], dtype="float64", optimizer={"name": "adagrad"})
    learner = Learner(spec)
    halves = ByColumns(learner)
    whole, apart = bench.state(learner), bench.state(learner)
    ranges = columns.ranges(3, parts)
    for seed in range(3):
        rows = bench.rows(12, 3, CLASSES[kernel], seed=seed)
        expected, found = bench.results(learner, rows), bench.results(learner, rows)
        learner.run(whole, rows, 12, expected)
        outs = [bench.arrays(halves.partial_layout(12, own)) for own in ranges]
        for own, out in zip(ranges, outs, strict=True):
            halves.partial(apart, rows, own, out)
        target = bench.arrays(learner.layout())
        for part in reversed(range(len(ranges))):
            halves.finish(apart, rows, ranges, part, outs, target, found)
        apart = target
        for key, value in expected.items():
            near(found[key], value)
    for key, value in whole.items():
        near(apart[key], value)


def test_one_local_lane_is_that_lane_to_the_last_bit_even_in_place(bench):
    learner = Learner(SPECS["logistic"])
    before, rows = bench.state(learner), bench.rows(10, 3, 2)
    lane = copied(before)
    learner.run(lane, rows, 1, bench.results(learner, rows))
    learner.average(before, before, [lane], [10])
    assert same(before, lane)


def test_averaging_into_the_state_from_before_is_averaging_beside_it(bench):
    learner = Learner(SPECS["linear"])
    before, states = bench.state(learner), []
    for part in cut(bench.rows(20, 3), 10):
        states.append(copied(before))
        learner.run(states[-1], part, 2, bench.results(learner, part))
    beside = copied(before)
    learner.average(beside, before, states, [10, 10])
    learner.average(before, before, states, [10, 10])
    assert same(before, beside)


# What is learnt


WIDE = {"wide mlp": Spec("mlp", 90, {"hidden": [128, 33]}, 4, dtype="float32")}


@pytest.mark.parametrize("name", SPECS | WIDE)
def test_a_predicted_row_has_the_same_bits_whatever_its_neighbours_are(bench, name):
    learner = Learner((SPECS | WIDE)[name])
    rows = bench.rows(700, learner.spec.features, CLASSES.get(name, 4))
    state = bench.state(learner)
    learner.run(state, rows, 8, bench.results(learner, rows))
    whole = learner.predict(state, rows.x)
    for start, stop in ((0, 1), (1, 300), (255, 257), (511, 700)):
        assert learner.predict(state, rows.x[start:stop]).tobytes() == whole[start:stop].tobytes()


@pytest.mark.parametrize("name", ["linear", "logistic", "softmax"])
def test_coefficients_in_own_units_give_the_predicted_outputs(bench, name):
    learner = Learner(replace(SPECS[name], clip=0.0))
    rows = bench.rows(100, 3, CLASSES[name])
    rows.x[:, 1] = 4.0
    state = bench.state(learner)
    learner.run(state, rows, 1, bench.results(learner, rows))
    intercept, weights = learner.coefficients(state)
    assert weights.shape == (learner.outputs, 3)
    np.testing.assert_allclose(
        rows.x @ weights.T + intercept, learner.predict(state, rows.x), rtol=1e-9, atol=1e-9
    )


def test_an_mlp_has_no_coefficients(bench):
    learner = Learner(SPECS["mlp"])
    assert learner.coefficients(bench.state(learner)) is None


def test_a_fresh_regression_predicts_zero_and_a_fresh_classifier_a_half(bench):
    x = np.ones((2, 3))
    linear, logistic = Learner(SPECS["linear"]), Learner(SPECS["logistic"])
    assert linear.predict(bench.state(linear), x).tolist() == [[0.0], [0.0]]
    output = logistic.predict(bench.state(logistic), x)
    assert logistic.prediction(output).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["parameters/weights", "optimizer/squares/weights", "scaling/m2"])
def test_a_state_with_a_number_that_is_not_finite_is_told(bench, name, value):
    learner = Learner(SPECS["linear"])
    state = bench.state(learner)
    assert learner.finite(state)
    state[name].flat[1] = value
    assert not learner.finite(state)


@pytest.mark.parametrize("value", [1e151, -1e151])
def test_so_is_one_whose_outputs_would_be_beyond_all_bounds_and_none_that_remembers_squares(
    bench, value
):
    learner = Learner(SPECS["linear"])
    for name in ("parameters/weights", "parameters/intercept", "target/mean"):
        state = bench.state(learner)
        state[name].flat[0] = value
        assert not learner.finite(state), name
    state = bench.state(learner)
    state["optimizer/squares/weights"].flat[0] = value
    state["scaling/m2"].flat[0] = value
    assert learner.finite(state)


def test_the_rate_is_that_of_the_next_step(bench):
    schedule = {"name": "inverse_scaling", "power": 1.0, "steps": 10}
    learner = Learner(replace(SPECS["logistic"], schedule=schedule))
    state, rows = bench.state(learner), bench.rows(10, 3, 2)
    assert learner.rate(state) == pytest.approx(0.1)
    learner.run(state, rows, 1, bench.results(learner, rows))
    assert learner.rate(state) == pytest.approx(0.05)


def test_layouts_are_in_the_order_of_their_names_and_hold_only_what_is_used():
    whole = build(SPECS["linear"].to_json())
    assert list(whole.layout()) == sorted(whole.layout())
    assert whole.layout()["optimizer/squares/weights"] == ((1, 3), "float64")
    bare = replace(
        SPECS["linear"],
        options={"intercept": False},
        optimizer={"name": "sgd"},
        standardise=False,
        scale_target=False,
    )
    assert Learner(bare).layout() == {
        "parameters/weights": ((1, 3), "float64"),
        "rows": ((1,), "int64"),
        "steps": ((1,), "int64"),
    }
    assert "gradient" not in whole.results_layout(5)
    assert whole.results_layout(5, "gradient")["gradient"] == ((5, 4), "float64")


def test_the_article_s_gradient_of_index_i_is_minus_two_i_squared_in_four_exact_lanes(bench):
    spec = Spec(
        "linear",
        1,
        {"intercept": False},
        optimizer={"name": "sgd"},
        standardise=False,
        scale_target=False,
    )
    learner = Learner(spec)
    index = np.arange(1000.0)
    rows = Rows(index[:, None].copy(), index, np.ones(1000), np.zeros(1000))
    state = bench.state(learner)
    results = exact_round(bench, learner, state, cut(rows, 250, 500, 750))
    gradient = np.concatenate([part["gradient"][:, 0] for part in results])
    output = np.concatenate([part["output"] for part in results])
    assert gradient.tolist() == (-2 * index**2).tolist()
    assert learner.loss(output, index).tolist() == (index**2).tolist()
