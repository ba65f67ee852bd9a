"""Rows with gaps: a missing feature is taken in by nobody, and says nothing to any kernel, pass or lane."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kernels import columns
from kernels.columns import ByColumns
from kernels.contract import Spec
from kernels.learner import Learner

PLAIN = {"linear": "PlainLinear", "logistic": "PlainLogistic", "softmax": "PlainSoftmax"}
SPECS = {
    "linear": Spec("linear", 4, gaps=True, clip=5.0),
    "half-life": Spec("linear", 4, gaps=True, half_life=20.0),
    "softmax": Spec("softmax", 4, outputs=3, gaps=True, optimizer={"name": "adam"}),
    "mlp": Spec("mlp", 4, {"hidden": [6, 5]}, 3, gaps=True, clip=5.0, dtype="float32"),
    "fm": Spec("fm", 4, {"factors": 2}, gaps=True),
    "kmeans": Spec("kmeans", 4, {"clusters": 3}, 3, gaps=True, optimizer={"name": "counting"}),
    "lbfgs": Spec("logistic", 4, gaps=True, optimizer={"name": "lbfgs"}),
} | {
    name: Spec("logistic", 4, gaps=True, optimizer={"name": name})
    for name in ("adagrad", "experts", "newton", "normalised")
}


def rows_of(bench, spec, n=60, seed=0):
    """Rows with gaps; the last feature is absent from the first half."""
    classes = {"softmax": 3, "mlp": 3, "logistic": 2}.get(spec.kernel, 0)
    rows = bench.rows(n, 4, classes, seed=seed)
    rows.x[np.random.default_rng(seed).random(rows.x.shape) < 0.3] = np.nan
    rows.x[: n // 2, 3] = np.nan
    return rows


@pytest.mark.parametrize("batch_rows", [1, 7])
@pytest.mark.parametrize("name", SPECS)
def test_every_number_stays_finite_and_the_moments_are_of_what_is_there(bench, name, batch_rows):
    spec = SPECS[name]
    rows = rows_of(bench, spec)
    state, results = bench.run(spec, rows, batch_rows)
    assert Learner(spec).finite(state)
    assert all(np.isfinite(array).all() for array in results.values())
    if not spec.half_life:
        present = ~np.isnan(rows.x)
        expected = [np.average(rows.x[p, f], weights=rows.w[p]) for f, p in enumerate(present.T)]
        np.testing.assert_allclose(state["scaling/mean"], expected, rtol=1e-12)
        np.testing.assert_allclose(state["scaling/count"], rows.w @ present, rtol=1e-12)


@pytest.mark.parametrize("name", SPECS)
def test_a_missing_value_is_predicted_as_the_mean_is(bench, name):
    spec = SPECS[name]
    state, _ = bench.run(spec, rows_of(bench, spec), 5)
    x = rows_of(bench, spec, seed=1).x
    filled = np.where(np.isnan(x), state["scaling/mean"], x)
    learner = Learner(spec)
    assert learner.predict(state, x).tobytes() == learner.predict(state, filled).tobytes()


@pytest.mark.parametrize("batch_rows", [1, 7])
@pytest.mark.parametrize("name", SPECS)
def test_where_nothing_is_missing_no_bit_of_the_model_changes(bench, name, batch_rows):
    spec = SPECS[name]
    rows = rows_of(bench, spec)
    rows = rows._replace(x=np.nan_to_num(rows.x, nan=1.5))
    (gaps, found), (whole, expected) = (
        bench.run(replace(spec, gaps=known), rows, batch_rows) for known in (True, False)
    )
    assert {name: array.tobytes() for name, array in found.items()} == {
        name: array.tobytes() for name, array in expected.items()
    }
    for key, array in whole.items():
        expected = np.broadcast_to(array, gaps[key].shape) if key == "scaling/count" else array
        assert gaps[key].tobytes() == expected.tobytes(), key


@pytest.mark.parametrize("batch_rows", [1, 7])
@pytest.mark.parametrize("name", ["linear", "half-life", "adagrad", "experts", "newton"])
def test_the_compiled_pass_is_what_numpy_says(bench, strangers, name, batch_rows):
    spec = SPECS[name]
    rows = rows_of(bench, spec)
    state, results = bench.run(spec, rows, batch_rows)
    plain = replace(spec, kernel=f"{strangers}:{PLAIN[spec.kernel]}")
    expected_state, expected = bench.run(plain, rows, batch_rows)
    for key, value in {**expected_state, **expected}.items():
        found = {**state, **results}[key]
        np.testing.assert_allclose(found, value, rtol=1e-7, atol=1e-9, err_msg=key)


@pytest.mark.parametrize("name", ["linear", "softmax", "mlp", "adagrad"])
def test_exact_lanes_are_one_batch_of_all_their_rows(bench, name):
    spec = SPECS[name]
    learner, rows = Learner(spec), rows_of(bench, spec)
    lanes = [rows.slice(0, 11), rows.slice(11, 40), rows.slice(40, 60)]
    state = bench.state(learner)
    outs = [bench.arrays(learner.gradient_layout()) for _ in lanes]
    for lane, out in enumerate(outs):
        learner.gradient(state, lanes, lane, out, bench.results(learner, lanes[lane]))
        assert out["scaling/mean"].tobytes() == outs[0]["scaling/mean"].tobytes()
    learner.apply(state, outs, 60)
    whole, _ = bench.run(spec, rows, 60)
    for key, value in whole.items():
        np.testing.assert_allclose(state[key], value, rtol=1e-5, atol=1e-6, err_msg=key)


@pytest.mark.parametrize("name", ["linear", "softmax", "experts", "mlp"])
def test_averaged_lanes_know_each_feature_by_all_rows_that_have_it(bench, name):
    spec = SPECS[name]
    learner, rows = Learner(spec), rows_of(bench, spec)
    before, _ = bench.run(spec, rows.slice(0, 20), 5)
    parts, states = [rows.slice(20, 33), rows.slice(33, 60)], []
    for part in parts:
        state = {key: array.copy() for key, array in before.items()}
        learner.run(state, part, 5, bench.results(learner, part))
        states.append(state)
    out = {key: array.copy() for key, array in before.items()}
    learner.average(out, before, states, [13, 27])
    present = ~np.isnan(rows.x)
    expected = [np.average(rows.x[p, f], weights=rows.w[p]) for f, p in enumerate(present.T)]
    np.testing.assert_allclose(out["scaling/mean"], expected, rtol=1e-12)
    np.testing.assert_allclose(out["scaling/count"], rows.w @ present, rtol=1e-12)


@pytest.mark.parametrize("parts", [1, 2, 4])
@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_steps_cut_by_features_are_those_cut_by_samples(bench, name, parts):
    spec = SPECS[name]
    learner, rows = Learner(spec), rows_of(bench, spec, 12)
    halves, ranges = ByColumns(learner), columns.ranges(4, parts)
    whole, apart = bench.state(learner), bench.state(learner)
    expected, found = bench.results(learner, rows), bench.results(learner, rows)
    learner.run(whole, rows, 12, expected)
    outs = [bench.arrays(halves.partial_layout(12, own)) for own in ranges]
    for own, out in zip(ranges, outs, strict=True):
        halves.partial(apart, rows, own, out)
    target = bench.arrays(learner.layout())
    for part in range(len(ranges)):
        halves.finish(apart, rows, ranges, part, outs, target, found)
    for key, value in {**whole, **expected}.items():
        np.testing.assert_allclose(
            {**target, **found}[key], value, rtol=1e-5, atol=1e-5, err_msg=key
        )
