"""Metrics against scikit-learn's, and the algebra of their states."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from kernels import counting, metrics
from kernels.losses import SingleOutput, SoftmaxLoss

LOSSES = {
    "binary": SingleOutput("logistic"),
    "multiclass": SoftmaxLoss(),
    "regression": SingleOutput("squared"),
    "counts": SingleOutput("poisson"),
}
OUTPUTS = {"binary": 1, "multiclass": 4, "regression": 1, "counts": 1}


def fresh(problem):
    layout = metrics.layout(problem, OUTPUTS[problem])
    return {name: np.zeros(shape, dtype) for name, (shape, dtype) in layout.items()}


def rows(problem, n=1000, seed=0):
    random = np.random.default_rng(seed)
    k = OUTPUTS[problem]
    output = random.normal(0, 1.5, (n, k))
    if problem == "binary":
        y = (random.random(n) < 1 / (1 + np.exp(-output[:, 0]))).astype(np.float64)
    elif problem == "multiclass":
        y = random.integers(0, k, n).astype(np.float64)
    elif problem == "counts":
        y = random.poisson(np.exp(output[:, 0])).astype(np.float64)
    else:
        output += 1e6
        y = output[:, 0] + random.normal(size=n)
    return output, y, random.uniform(0.5, 2.0, n)


def take(state, problem, output, y, w):
    loss = LOSSES[problem]
    floor = np.zeros(len(y)) if problem == "multiclass" else loss.floor(y)
    metrics.update(state, output, loss.link(output), y, w, loss.value(output, y), floor)


def taken(problem, *parts):
    state = fresh(problem)
    for part in parts:
        take(state, problem, *part)
    return state


def test_binary_metrics_are_those_of_scikit_learn():
    output, y, w = rows("binary")
    found = metrics.summary(taken("binary", (output, y, w)))
    p = SingleOutput("logistic").link(output)
    yes = p > 0.5
    assert found["log_loss"] == pytest.approx(oracle.log_loss(y, p, sample_weight=w))
    assert found["accuracy"] == pytest.approx(oracle.accuracy_score(y, yes, sample_weight=w))
    assert found["precision"] == pytest.approx(oracle.precision_score(y, yes, sample_weight=w))
    assert found["recall"] == pytest.approx(oracle.recall_score(y, yes, sample_weight=w))
    assert found["f1"] == pytest.approx(oracle.f1_score(y, yes, sample_weight=w))
    assert found["auc"] == pytest.approx(oracle.roc_auc_score(y, p), abs=2e-4)
    assert found["average_precision"] == pytest.approx(
        oracle.average_precision_score(y, p), abs=2e-3
    )
    assert found["base_rate"] == pytest.approx(np.average(y, weights=w))
    assert found["mean_prediction"] == pytest.approx(np.average(p, weights=w))


def test_the_deviance_of_counts_is_that_of_scikit_learn():
    output, y, w = rows("counts")
    found = metrics.summary(taken("counts", (output, y, w)))
    expected = oracle.mean_poisson_deviance(y, np.exp(output[:, 0]), sample_weight=w)
    assert found["deviance"] == pytest.approx(expected)
    assert set(found) == {"rmse", "mae", "r2", "bias", "deviance"}


def test_a_loss_that_is_no_likelihood_has_no_log_loss_and_no_skill():
    layout = metrics.layout("binary", 1, is_likelihood=False)
    state = {name: np.zeros(shape, dtype) for name, (shape, dtype) in layout.items()}
    output, y, w = rows("binary")
    loss = SingleOutput("hinge")
    value, link = loss.value(output, y), loss.link(output)
    metrics.update(state, output, link, y, w, value, loss.floor(y))
    found = metrics.summary(state)
    assert found["log_loss"] is None
    assert found["skill"] is None
    assert found["accuracy"] == pytest.approx(np.average((output[:, 0] > 0) == y, weights=w))
    assert metrics.mean_loss(state) == pytest.approx(
        oracle.hinge_loss(y, output[:, 0], sample_weight=w)
    )


def test_the_sums_of_few_rows_are_numpys_to_the_bit():
    random = np.random.default_rng(3)
    for n in range(1, counting.FEW + 2):
        w, loss = random.uniform(0.1, 9.0, n), random.normal(0, 1e3, n)
        state, nothing = fresh("regression"), np.zeros(n)
        metrics.update(state, nothing[:, None], nothing, nothing, w, loss, nothing)
        assert state["loss_sum"][0] == (w * loss).sum()
        assert state["weight_sum"][0] == w.sum()
        assert state["rows"][0] == n


def test_clusters_have_their_inertia_alone():
    state = {k: np.zeros(*v) for k, v in metrics.layout("clustering", 3).items()}
    nothing, ones = np.zeros(4), np.ones(4)
    metrics.update(state, np.zeros((4, 3)), nothing, nothing, ones, np.arange(4.0), nothing)
    assert metrics.summary(state) == {"inertia": 1.5}


def test_skill_compares_with_the_share_of_positives_before_each_row():
    output, y, w = rows("binary", n=50)
    found = metrics.summary(
        taken("binary", (output[:20], y[:20], w[:20]), (output[20:], y[20:], w[20:]))
    )
    base, seen, positive = 0.0, 0.0, 0.0
    for label, weight in zip(y, w, strict=True):
        share = (positive + 0.5) / (seen + 1)
        base -= weight * np.log(share if label else 1 - share)
        seen, positive = seen + weight, positive + weight * label
    loss = (w * SingleOutput("logistic").value(output, y)).sum()
    assert found["skill"] == pytest.approx(1 - loss / base)


def test_areas_count_ties_as_scikit_learn_does():
    output = np.array([[0.0], [0.0], [0.0], [2.0], [2.0], [-1.0], [-1.0]])
    y = np.array([1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0])
    found = metrics.summary(taken("binary", (output, y, np.ones(7))))
    assert found["auc"] == pytest.approx(oracle.roc_auc_score(y, output[:, 0]))
    assert found["average_precision"] == pytest.approx(
        oracle.average_precision_score(y, output[:, 0])
    )


def test_outputs_of_any_size_find_a_bin():
    output = np.array([[-1e308], [-1e9], [0.0], [1e9], [1e308]])
    y = np.array([0.0, 0.0, 1.0, 1.0, 1.0])
    state = taken("binary", (output, y, np.ones(5)))
    assert state["bins"].sum() == 5
    assert metrics.summary(state)["auc"] == 1.0


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_areas_of_a_single_class_are_not_known(label):
    output, _, w = rows("binary", n=5)
    found = metrics.summary(taken("binary", (output, np.full(5, label), w)))
    assert found["auc"] is None
    assert found["average_precision"] is None


def test_multiclass_metrics_are_those_of_scikit_learn():
    output, y, w = rows("multiclass")
    found = metrics.summary(taken("multiclass", (output, y, w)))
    p = SoftmaxLoss().link(output)
    chosen = p.argmax(axis=1)
    assert found["log_loss"] == pytest.approx(oracle.log_loss(y, p, sample_weight=w))
    assert found["accuracy"] == pytest.approx(oracle.accuracy_score(y, chosen, sample_weight=w))
    expected = oracle.f1_score(y, chosen, average="macro", sample_weight=w)
    assert found["macro_f1"] == pytest.approx(expected)


def test_regression_metrics_are_those_of_scikit_learn():
    output, y, w = rows("regression")
    p = output[:, 0]
    found = metrics.summary(
        taken("regression", *[(output[i::7], y[i::7], w[i::7]) for i in range(7)])
    )
    assert found["rmse"] == pytest.approx(oracle.root_mean_squared_error(y, p, sample_weight=w))
    assert found["mae"] == pytest.approx(oracle.mean_absolute_error(y, p, sample_weight=w))
    assert found["r2"] == pytest.approx(oracle.r2_score(y, p, sample_weight=w), rel=1e-8)
    assert found["bias"] == pytest.approx(np.average(p - y, weights=w))


@given(value=st.floats(-1e9, 1e9), sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_r2_of_labels_that_are_all_alike_is_not_known(value, sizes):
    parts = [(np.zeros((n, 1)), np.full(n, value), np.full(n, 0.3)) for n in sizes]
    assert metrics.summary(taken("regression", *parts))["r2"] is None


@pytest.mark.parametrize("problem", OUTPUTS)
def test_nothing_can_be_said_of_no_rows(problem):
    state = fresh(problem)
    take(state, problem, *(part[:0] for part in rows(problem)))
    assert metrics.rows(state) == 0
    assert metrics.mean_loss(state) is None
    assert set(metrics.summary(state).values()) == {None}


@pytest.mark.parametrize("problem", OUTPUTS)
def test_merged_states_are_the_state_of_all_rows(problem):
    output, y, w = rows(problem)
    left = taken(problem, (output[:300], y[:300], w[:300]))
    right = taken(problem, (output[300:], y[300:], w[300:]))
    metrics.merge(left, right)
    whole = taken(problem, (output, y, w))
    assert metrics.rows(left) == 1000
    assert metrics.weight_sum(left) == pytest.approx(w.sum())
    for name, value in whole.items():
        if name != "base_loss_sum":  # either state's running base rate starts from nothing
            np.testing.assert_allclose(left[name], value, rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("problem", OUTPUTS)
def test_merging_nothing_or_into_nothing_changes_no_bit(problem):
    state = taken(problem, rows(problem, n=40))
    empty = fresh(problem)
    metrics.merge(empty, state)
    metrics.merge(state, fresh(problem))
    for name, value in state.items():
        assert empty[name].tobytes() == value.tobytes()


def test_weights_of_zero_count_as_rows_and_as_nothing_else():
    output, y, w = rows("regression", n=10)
    state = taken("regression", (output, y, np.zeros(10)))
    assert metrics.rows(state) == 10
    assert metrics.mean_loss(state) is None
    take(state, "regression", output, y, w)
    alone = taken("regression", (output, y, w))
    assert metrics.summary(state) == metrics.summary(alone)
