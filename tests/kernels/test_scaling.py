"""Running moments against scikit-learn's, and the algebra of merging them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from kernels import loops, scaling
from kernels.scaling import Moments


def nothing(features, gaps=False):
    return Moments(np.zeros(features if gaps else 1), np.zeros(features), np.zeros(features))


def taken(x, *cuts, gaps=False):
    moments = nothing(x.shape[1], gaps)
    for part in np.split(x, cuts):
        if len(part):
            loops.take_in_rows(part, np.ones(len(part)), 1.0, *moments)
    return moments


def scaled(x, moments, clip=0.0, dtype="float64"):
    z = np.empty(x.shape, dtype)
    loops.scale_rows(x, *moments, clip, z)
    return z


@pytest.mark.parametrize("cuts", [(), (1, 2, 3), (10,), (1, 40, 41, 99)])
def test_moments_are_those_of_scikit_learn_however_the_rows_come(cuts):
    x = np.random.default_rng(0).normal(1e6, 3.0, (100, 4))
    oracle = StandardScaler()
    for part in np.split(x, cuts):
        oracle.partial_fit(part)
    moments = taken(x, *cuts)
    assert moments.seen[0] == 100
    np.testing.assert_allclose(moments.mean, oracle.mean_, rtol=1e-14)
    np.testing.assert_allclose(moments.deviation() ** 2, oracle.var_, rtol=1e-8)
    np.testing.assert_allclose(scaled(x, moments), oracle.transform(x), rtol=1e-7, atol=1e-7)


@given(
    value=st.floats(-1e12, 1e12, allow_nan=False),
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=6),
)
def test_a_feature_that_never_changes_has_no_spread_and_is_scaled_to_zero(value, sizes):
    x = np.full((sum(sizes), 1), value)
    moments = taken(x, *np.cumsum(sizes)[:-1])
    assert moments.mean[0] == value
    assert moments.m2[0] == 0.0
    assert not scaled(x, moments).any()


def test_clipping_bounds_both_sides_and_zero_is_no_bound():
    x = np.concatenate([np.zeros(98), [50.0, -50.0]])[:, None]
    moments = taken(x)
    assert np.abs(scaled(x, moments)).max() > 5
    assert scaled(x, moments, 2.0).max() == 2.0
    assert scaled(x, moments, 2.0).min() == -2.0


def test_rows_of_either_precision_are_scaled_into_either():
    x = np.random.default_rng(0).normal(5, 2, (20, 3)).astype(np.float32)
    moments = taken(x.astype(np.float64))
    np.testing.assert_allclose(
        scaled(x, moments, 0.0, "float32"),
        scaled(x.astype(np.float64), moments),
        rtol=1e-5,
        atol=1e-6,
    )


def test_read_only_rows_are_taken_in_as_others_are():
    x = np.random.default_rng(0).normal(size=(6, 2))
    frozen = x.copy()
    frozen.flags.writeable = False
    assert taken(frozen).mean.tobytes() == taken(x).mean.tobytes()


@pytest.mark.parametrize("first", [0, 1, 30, 100])
def test_merging_two_parts_is_taking_all_rows_in(first):
    x = np.random.default_rng(4).normal(10, 2, (100, 3))
    left, right = taken(x[:first]), taken(x[first:])
    scaling.merge(left, right)
    whole = taken(x)
    assert left.seen[0] == 100
    np.testing.assert_allclose(left.mean, whole.mean, rtol=1e-14)
    np.testing.assert_allclose(left.m2, whole.m2, rtol=1e-12)


@pytest.mark.parametrize("first", [0, 1, 50, 100])
def test_an_increment_merged_into_what_was_before_gives_what_is_after(first):
    x = np.random.default_rng(4).normal(10, 2, (100, 3))
    x[:, 1] = 0.1
    before, after = taken(x[:first]), taken(x)
    merged = before.faded(1.0)
    scaling.merge(merged, scaling.increment(after, before))
    assert merged.seen[0] == after.seen[0]
    np.testing.assert_allclose(merged.mean, after.mean, rtol=1e-14)
    np.testing.assert_allclose(merged.m2, after.m2, rtol=1e-11)
    assert merged.m2[1] == 0.0


def test_labels_that_are_all_alike_are_scored_in_their_own_unit():
    for scale in ("spread", "mean"):
        assert scaling.unit(scale, nothing(1), np.zeros(2), np.zeros(4)) == scaling.Unit()
    alike = scaling.unit("spread", taken(np.full((5, 1), 7.0)), np.array([7.0, 7.0]), np.zeros(4))
    assert scaling.scoring(alike) == scaling.Unit(7.0, 1.0)
    assert alike.aims("spread", np.array([7.0])).tolist() == [0.0]


def test_counts_are_aimed_at_in_units_of_their_mean():
    unit = scaling.unit("mean", taken(np.array([[2.0], [6.0]])), np.array([2.0, 6.0]), np.zeros(4))
    assert unit == (pytest.approx(np.log(4.0)), 1.0, -np.inf, np.log(6.0), -np.inf, np.inf)
    np.testing.assert_allclose(unit.aims("mean", np.array([2.0, 8.0])), [0.5, 2.0])
    assert scaling.unit("mean", taken(np.zeros((3, 1))), np.zeros(2), np.zeros(4)) == scaling.Unit()


def test_outputs_are_held_within_what_labels_allow_unless_the_model_has_diverged():
    raw = np.array([-1e3, -14.0, 0.0, 1.5, 1e3, 1e155, np.inf, np.nan])
    numbers = scaling.unit(
        "spread", taken(np.array([[2.0], [4.0]])), np.array([2.0, 4.0]), np.zeros(4)
    )
    np.testing.assert_array_equal(
        numbers.outputs(raw), [-58.0, -11.0, 3.0, 4.5, 64.0, 1e155, np.inf, np.nan]
    )
    counts = scaling.unit(
        "mean", taken(np.array([[1.0], [0.0]])), np.array([0.0, 1.0]), np.zeros(4)
    )
    np.testing.assert_array_equal(
        counts.outputs(raw - counts.base), [-1e3, -14.0, 0.0, 0.0, 0.0, 1e155, np.inf, np.nan]
    )


def test_rows_count_by_their_weights():
    x, w = np.array([[1.0], [5.0], [9.0]]), np.array([1.0, 3.0, 0.0])
    weighted, repeated = nothing(1), taken(np.array([[1.0], [5.0], [5.0], [5.0]]))
    loops.take_in_rows(x, w, 1.0, *weighted)
    for one, other in zip(weighted, repeated, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-14)


def labels_taken(y, w=None, batch=1):
    """Moments of labels that came in batches."""
    y, w = np.asarray(y, np.float64), np.ones(len(y)) if w is None else w
    moments = nothing(1)
    for i in range(0, len(y), batch):
        part = slice(i, i + batch)
        held = scaling.held(y[part], w[part], moments)
        loops.take_in_rows(held[:, None], w[part], 1.0, *moments)
    return moments


def near(found, expected, rtol):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol)


@pytest.mark.parametrize("batch", [1, 3])
def test_labels_are_taken_in_as_features_are_to_the_last_bit(batch):
    y = np.random.default_rng(0).lognormal(0, 1, 300)
    plain = taken(y[:, None], *range(batch, 300, batch))
    assert [a.tolist() for a in labels_taken(y, batch=batch)] == [a.tolist() for a in plain]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("wrong", [1e3, -1e6, 1e300])
def test_a_label_that_is_far_off_counts_as_one_at_twenty_deviations(wrong, batch):
    y = np.random.default_rng(1).normal(5.0, 2.0, 900)
    before = labels_taken(y, batch=batch)
    edge = before.mean[0] + np.sign(wrong) * 20.0 * before.deviation()[0]
    near(labels_taken([*y, wrong], batch=batch), labels_taken([*y, edge], batch=batch), 1e-12)


@pytest.mark.parametrize("weight", [1e-3, 1.0, 1e3])
def test_behind_many_rows_a_label_far_off_moves_their_squares_by_a_tenth(weight):
    y, w = np.random.default_rng(1).normal(5.0, 2.0, 20_001), np.full(20_001, weight)
    y[-1] = 1e9
    before, after = labels_taken(y[:-1], w, 100), labels_taken(y, w, 100)
    assert after.m2[0] / before.m2[0] == pytest.approx(1.1, rel=1e-3)
    y[-1] = before.mean[0] + 25.0 * before.deviation()[0]
    plain = nothing(1)
    loops.take_in_rows(y[:, None], w, 1.0, *plain)
    near(labels_taken(y, w, 100), plain, 1e-9)


@pytest.mark.parametrize("batch", [1, 3])
def test_labels_that_stay_far_off_are_believed_within_some_rows(batch):
    y = np.random.default_rng(2).normal(5.0, 2.0, 900)
    there = y[:90] + 2000.0
    plain = taken(np.append(y, there)[:, None])
    assert labels_taken([*y, *there], batch=batch).deviation()[0] == pytest.approx(
        plain.deviation()[0], rel=0.2
    )


@pytest.mark.parametrize("share", [0.01, 0.001])
def test_what_is_rare_and_true_is_believed(share):
    y = (np.random.default_rng(3).random(100_000) < share).astype(np.float64)
    held = labels_taken(y, batch=7)  # of the first two dozen some are held
    assert held.mean[0] == pytest.approx(y.mean(), rel=0.12)
    assert held.deviation()[0] == pytest.approx(y.std(), rel=0.12)


def test_a_label_without_weight_leaves_no_trace():
    y, w = np.random.default_rng(3).normal(5.0, 2.0, 901), np.ones(901)
    y[-1], w[-1] = 1e9, 0.0
    for batch in (1, 7):
        near(labels_taken(y, w, batch), labels_taken(y[:-1], batch=batch), 1e-12)


def test_what_was_seen_long_ago_counts_less():
    moments, one = nothing(1), np.ones(1)
    for value in [0.0] * 100 + [10.0] * 100:
        loops.take_in_rows(np.array([[value]]), one, scaling.kept(10.0, 1), *moments)
    assert moments.mean[0] == pytest.approx(10.0, abs=0.02)
    assert moments.seen[0] == pytest.approx(1 / (1 - 2**-0.1), rel=1e-4)


def gappy():
    """Rows (100, 4) with gaps, the last feature absent from the first half."""
    random = np.random.default_rng(5)
    x = random.normal(10, 2, (100, 4))
    x[random.random(x.shape) < 0.3] = np.nan
    x[:50, 3] = np.nan
    return x


@pytest.mark.parametrize("cuts", [(), tuple(range(1, 100)), (10,), (1, 40, 41, 99)])
def test_each_feature_is_known_by_the_rows_that_have_it(cuts):
    x = gappy()
    moments = taken(x, *cuts, gaps=True)
    assert moments.seen.tolist() == (~np.isnan(x)).sum(axis=0).tolist()
    np.testing.assert_allclose(moments.mean, np.nanmean(x, axis=0), rtol=1e-13)
    np.testing.assert_allclose(moments.deviation(), np.nanstd(x, axis=0), rtol=1e-12)
    z = scaled(x, moments)
    assert (z[np.isnan(x)] == 0.0).all()
    present = (x - moments.mean) * moments.inverse()
    np.testing.assert_allclose(z[~np.isnan(x)], present[~np.isnan(x)], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("cuts", [(), tuple(range(1, 100)), (1, 40, 41, 99)])
def test_without_gaps_a_count_of_each_feature_changes_no_bit(cuts):
    x = np.random.default_rng(6).normal(1e3, 3.0, (100, 4))
    shared, each = taken(x, *cuts), taken(x, *cuts, gaps=True)
    assert each.seen.tolist() == [100.0] * 4
    assert (each.mean.tobytes(), each.m2.tobytes()) == (shared.mean.tobytes(), shared.m2.tobytes())
    assert scaled(x, each).tobytes() == scaled(x, shared).tobytes()


@pytest.mark.parametrize("first", [0, 1, 30, 50, 100])
def test_moments_of_rows_with_gaps_merge_and_part(first):
    x = gappy()
    left, right, whole = (taken(part, gaps=True) for part in (x[:first], x[first:], x))
    merged = left.faded(1.0)
    scaling.merge(merged, scaling.increment(whole, left))
    scaling.merge(left, right)
    for found in (left, merged):
        np.testing.assert_array_equal(found.seen, whole.seen)
        np.testing.assert_allclose(found.mean, whole.mean, rtol=1e-13)
        np.testing.assert_allclose(found.m2, whole.m2, rtol=1e-11)
