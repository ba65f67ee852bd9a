"""Who is to blame for a step that is no number: known by construction, in every way in which rows are learnt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kernels import columns, guard, sparse
from kernels.columns import ByColumns
from kernels.contract import Rows, Sparse, Spec
from kernels.guard import Culprit
from kernels.learner import Learner
from kernels.scaling import LARGEST

CALM = {"name": "sgd", "learning_rate": 0.01}
LINEAR = Spec("linear", 5, optimizer=CALM)
LOGISTIC = Spec("logistic", 5, optimizer=CALM)
RAW = replace(
    LINEAR, standardise=False, scale_target=False, optimizer=CALM | {"learning_rate": 1e-5}
)
MLP = Spec("mlp", 5, {"hidden": [4], "loss": "squared"}, optimizer={"name": "adam"}, dtype="float32")  # fmt: skip


def plain(spec, strangers):
    """The same kernel without a compiled pass."""
    return replace(spec, kernel=f"{strangers}:Plain{spec.kernel.title()}")


def warm(bench, made, rows, batch_rows=4):
    """A state that has learnt rows which are nothing special."""
    state = bench.state(made)
    assert made.run(state, rows, batch_rows, bench.results(made, rows, ""))
    return state


def calm(bench, n=40, classes=0, seed=0):
    return bench.rows(n, 5, classes, seed=seed)


EXTREMES = {
    "a weight beyond all bounds": (LINEAR, "w", 1e300),
    "a label beyond all bounds": (LINEAR, "y", 1e200),
    "an offset beyond all bounds": (LINEAR, "offset", 1e200),
    "a feature beyond all bounds": (RAW, "x", 1e300),
    "a feature whose square overflows": (LINEAR, "x", 1e200),
    "a label that overflows single precision": (replace(MLP, scale_target=False), "y", 1e60),
    "a weight that overflows single precision": (MLP, "w", 1e45),
    "a weight that throws a classifier": (LOGISTIC, "w", 1e300),
}


@pytest.mark.parametrize("row", [0, 17, 39])
@pytest.mark.parametrize("batch_rows", [1, 4, 40])
@pytest.mark.parametrize("name", EXTREMES)
def test_one_extreme_row_is_to_blame_wherever_it_stands(bench, name, batch_rows, row):
    spec, part, value = EXTREMES[name]
    made, classes = Learner(spec), 2 if spec is LOGISTIC else 0
    before = warm(bench, made, calm(bench, seed=1, classes=classes))
    rows = calm(bench, classes=classes)
    getattr(rows, part)[row, ...] = value
    found = guard.culprit(made, before, rows, batch_rows)
    assert found is not None
    assert (found.start, found.stop) == (row, row + 1)


@pytest.mark.parametrize("batch_rows", [1, 4, 40])
@pytest.mark.parametrize("name", ["linear", "logistic"])
def test_compiled_passes_and_numpy_blame_the_same_row(bench, strangers, name, batch_rows):
    spec = LINEAR if name == "linear" else LOGISTIC
    classes = 0 if name == "linear" else 2
    rows = calm(bench, classes=classes)
    rows.w[23] = 1e300
    found = []
    for own in (spec, plain(spec, strangers)):
        made = Learner(own)
        before = warm(bench, made, calm(bench, classes=classes, seed=1))
        found.append(guard.culprit(made, before, rows, batch_rows))
    assert found[0] is not None
    assert found[0][:2] == (23, 24)
    assert found[1] == found[0]


def test_a_row_is_told_from_one_whose_step_throws_the_model(bench):
    made = Learner(RAW)
    before, rows = warm(bench, made, calm(bench, seed=1)), calm(bench)
    rows.offset[9] = 1e200  # its own output is beyond all bounds
    assert guard.culprit(made, before, rows, 1) == Culprit(9, 10, by_step=False)
    rows.offset[9], rows.w[9] = 0.0, 1e300
    assert guard.culprit(made, before, rows, 1) == Culprit(9, 10, by_step=True)


def test_the_last_row_of_a_lane_is_to_blame_for_the_first_of_the_next(bench):
    """Its own numbers are finite, and so are the parameters after it: but no output could be."""
    made = Learner(RAW)
    before, rows = warm(bench, made, calm(bench, seed=1)), calm(bench)
    rows.w[39] = 1e160
    results = bench.results(made, rows, "")
    state = {name: array.copy() for name, array in before.items()}
    assert not made.run(state, rows, 1, results)
    assert np.isfinite(results["norm"]).all()
    assert all(np.isfinite(array).all() for array in state.values())
    assert guard.culprit(made, before, rows, 1) == Culprit(39, 40, by_step=True)


@pytest.mark.parametrize("row", [0, 17])
@pytest.mark.parametrize("batch_rows", [1, 4, 40])
def test_a_row_at_which_only_others_break_is_to_blame(bench, batch_rows, row):
    """What a weight of 1e140 leaves is finite: it is the squares of those after it that aren't, or of those beside it."""
    made = Learner(Spec("linear", 5, {"loss": "poisson"}, optimizer={"name": "experts"}))
    before = warm(bench, made, bench.rows(40, 5, loss="poisson", seed=1))
    rows = bench.rows(40, 5, loss="poisson")
    rows.w[row] = 1e140
    one = rows.slice(row, row + 1)
    state = {name: array.copy() for name, array in before.items()}
    assert made.run(state, one, 1, bench.results(made, one, ""))
    assert guard.culprit(made, before, rows, batch_rows) == Culprit(row, row + 1, by_step=True)


@pytest.mark.parametrize("batch_rows", [1, 4, 40])
def test_the_first_of_two_extreme_rows_is_to_blame(bench, batch_rows):
    made = Learner(LINEAR)
    before, rows = warm(bench, made, calm(bench, seed=1)), calm(bench)
    rows.w[[21, 22]] = 1e300
    assert guard.culprit(made, before, rows, batch_rows)[:2] == (21, 22)


def test_rows_that_throw_a_model_only_together_are_named_together(bench):
    """Forty pushes of three quarters of what fits into single precision: their mean fits, and their sum doesn't."""
    spec = replace(RAW, dtype="float32", options={"intercept": False})
    made = Learner(spec)
    before = bench.state(made)
    ones = np.ones(40)
    rows = Rows(np.ones((40, 5)), -1e38 * ones, ones, 0 * ones)
    for batch_rows in (8, 40):
        assert guard.culprit(made, before, rows, batch_rows) == Culprit(0, batch_rows, by_step=True)
    assert guard.culprit(made, before, rows.slice(0, 1), 1) is None


def test_a_lane_that_stays_whole_has_no_culprit_and_neither_has_a_model_that_was_broken(bench):
    made, rows = Learner(LINEAR), calm(bench)
    before = warm(bench, made, calm(bench, seed=1))
    assert guard.culprit(made, before, rows, 4) is None
    before["parameters/weights"][0, 2] = LARGEST
    assert guard.culprit(made, before, rows, 4) is None


def test_what_was_whole_before_stays_as_it_was(bench):
    made, rows = Learner(LINEAR), calm(bench)
    before = warm(bench, made, calm(bench, seed=1))
    rows.w[5] = 1e300
    bits = {name: array.tobytes() for name, array in before.items()}
    own = [array.tobytes() for array in rows[:4]]
    assert guard.culprit(made, before, rows, 8) is not None
    assert {name: array.tobytes() for name, array in before.items()} == bits
    assert [array.tobytes() for array in rows[:4]] == own


# --- a round of several lanes, a step cut by features, and slots: the real one breaks, and the guard says where


@pytest.mark.parametrize("row", [3, 17, 39])
@pytest.mark.parametrize(("part", "value"), [("w", 1e300), ("y", 1e200), ("x", 1e200)])
def test_exact_lanes_that_break_have_the_culprit_of_one_batch(bench, part, value, row):
    made, rows = Learner(LINEAR), calm(bench)
    before = warm(bench, made, calm(bench, seed=1))
    getattr(rows, part)[row, ...] = value
    lanes = [rows.slice(start, start + 10) for start in range(0, 40, 10)]
    outs = [bench.arrays(made.gradient_layout()) for _ in lanes]
    whole = [
        made.gradient(before, lanes, lane, out, bench.results(made, lanes[lane], ""))
        for lane, out in enumerate(outs)
    ]
    state = {name: array.copy() for name, array in before.items()}
    made.apply(state, outs, 40)
    assert not (all(whole) and made.finite(state))
    assert guard.culprit(made, before, rows, 40)[:2] == (row, row + 1)


@pytest.mark.parametrize("row", [3, 39])
@pytest.mark.parametrize(("part", "value"), [("w", 1e300), ("y", 1e200), ("x", 1e200)])
def test_a_step_cut_by_features_that_breaks_has_the_culprit_of_one_batch(bench, part, value, row):
    made, rows = Learner(replace(LINEAR, optimizer={"name": "adagrad"})), calm(bench)
    halves, ranges = ByColumns(made), columns.ranges(5, 2)
    before = warm(bench, made, calm(bench, seed=1))
    getattr(rows, part)[row, ...] = value
    outs = [bench.arrays(halves.partial_layout(40, own)) for own in ranges]
    for own, out in zip(ranges, outs, strict=True):
        halves.partial(before, rows, own, out)
    target, results = bench.arrays(made.layout()), bench.results(made, rows, "")
    whole = [
        halves.finish(before, rows, ranges, part, outs, target, results)
        for part in range(len(ranges))
    ]
    assert not (all(whole) and made.finite(target))
    assert guard.culprit(made, before, rows, 40)[:2] == (row, row + 1)


@pytest.mark.parametrize("row", [0, 17, 39])
@pytest.mark.parametrize("optimizer", ["normalised", "ftrl"])
@pytest.mark.parametrize(("kernel", "part", "value"), [
    ("linear", "y", 1e200), ("linear", "w", 1e300), ("logistic", "w", 1e300), ("linear", "offset", 1e200),
])  # fmt: skip
def test_a_sparse_row_whose_step_throws_the_slots_is_to_blame(
    bench, kernel, optimizer, part, value, row
):
    random = np.random.default_rng(4)
    made = Learner(Spec(kernel, 0, optimizer={"name": optimizer}, standardise=False, bits=6))
    starts = np.arange(0, 121, 3)
    slots = np.sort(random.permuted(np.tile(np.arange(64), (40, 1)), axis=1)[:, :3], axis=1)
    entries = Sparse(starts, slots.ravel().astype(np.uint32), np.ones(120, np.float32))
    y = random.integers(0, 2, 40).astype(np.float64)
    rows = Rows(np.zeros((40, 0)), y, np.ones(40), np.zeros(40), entries)
    before = bench.state(made)
    part_of, own = sparse.part_of(before, rows, made.layout(), 6)
    assert made.run(part_of, own, 1, bench.results(made, rows, ""))
    sparse.put(part_of, before)
    getattr(rows, part)[row] = value
    assert guard.culprit(made, before, rows, 1)[:2] == (row, row + 1)
