"""The compiled passes against the learner's own, written batch by batch in numpy; and lives cut in pieces."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from kernels import counting, guard, learner, loops, registry, warming
from kernels.contract import Ends, Rows, Spec
from kernels.losses import LOSSES
from kernels.passes import elementwise

PLAIN = {"linear": "PlainLinear", "logistic": "PlainLogistic", "softmax": "PlainSoftmax"}
LINEAR = [name for name in registry.RULES if name not in ("counting", "lbfgs")]
PENALTIES = {"none": {}, "l1": {"l1": 0.01}, "l2": {"l2": 0.01}, "both": {"l1": 0.01, "l2": 0.02}}


def spec_of(loss, optimizer, penalty=(), **more):
    """A spec of a linear kernel with this loss, of five features."""
    options = dict(penalty)
    if loss == "softmax":
        return Spec("softmax", 5, outputs=3, options=options, optimizer={"name": optimizer}, **more)
    return Spec(
        "linear", 5, options={"loss": loss, **options}, optimizer={"name": optimizer}, **more
    )


def rows_for(bench, loss, n=60, seed=0):
    return bench.rows(n, 5, 3 if loss == "softmax" else 0, loss=loss, seed=seed)


def both(bench, strangers, spec, rows, batch_rows):
    ours, recorded = bench.run(spec, rows, batch_rows)
    plain = replace(spec, kernel=f"{strangers}:{PLAIN[spec.kernel]}")
    theirs, expected = bench.run(plain, rows, batch_rows)
    return {**ours, **recorded}, {**theirs, **expected}


def agree(ours, expected):
    for name, value in expected.items():
        scale = float(np.nanmax(np.abs(value), initial=1e-3))
        np.testing.assert_allclose(
            ours[name], value, rtol=1e-7, atol=1e-9 * scale, err_msg=name, equal_nan=True
        )


def combinations():
    for loss, optimizer in itertools.product([*LOSSES, "softmax"], LINEAR):
        if not (loss == "softmax" and optimizer == "newton"):
            yield loss, optimizer


@pytest.mark.parametrize(("loss", "optimizer"), list(combinations()))
def test_the_pass_equals_numpy_for_every_loss_optimizer_penalty_and_batch(
    bench, strangers, loss, optimizer
):
    rows = rows_for(bench, loss)
    for penalty, batch_rows in itertools.product(PENALTIES.values(), [1, 7]):
        spec = spec_of(loss, optimizer, penalty, clip=1.5)
        agree(*both(bench, strangers, spec, rows, batch_rows))


@pytest.mark.parametrize("loss", ["squared", "huber", "logistic", "poisson", "softmax"])
@pytest.mark.parametrize("optimizer", ["experts", "adagrad", "newton", "normalised"])
@pytest.mark.parametrize(
    "more",
    [
        {"standardise": False},
        {"clip": 0.0},
        {"scale_target": False},
        {"half_life": 20.0},
        {"options": {"intercept": False}},
        {"schedule": {"name": "inverse_scaling", "warm_up": 5}},
    ],
    ids=lambda more: next(iter(more)),
)
def test_the_pass_equals_numpy_for_every_switch(bench, strangers, loss, optimizer, more):
    if loss == "softmax" and optimizer == "newton":
        pytest.skip("newton learns one output")
    rows = rows_for(bench, loss)
    rows = rows._replace(x=rows.x / 20, offset=np.linspace(-0.5, 0.5, 60))
    if LOSSES.get(loss) and LOSSES[loss].problem == "regression":
        rows = rows._replace(
            y=(rows.y - 500) / 80
        )  # within Huber's bound, or gradients are all alike
    more = dict(more)
    penalty = more.pop("options", {})
    for batch_rows in (1, 7):
        agree(*both(bench, strangers, spec_of(loss, optimizer, penalty, **more), rows, batch_rows))


@pytest.mark.parametrize("loss", [*LOSSES, "softmax"])
@pytest.mark.parametrize("batch_rows", [1, 4])
def test_the_pass_equals_numpy_in_who_serves(bench, strangers, loss, batch_rows):
    rows = rows_for(bench, loss, n=120)
    rows.w[30:50] = 0.0
    for part in (0.0, 0.3, 0.9):
        spec = spec_of(loss, "experts", clip=1.5)
        spec = replace(spec, optimizer={"name": "experts", "serve_rows": 10, "serve_slow": part})
        agree(*both(bench, strangers, spec, rows, batch_rows))


@pytest.mark.parametrize("loss", ["squared", "huber"])
@pytest.mark.parametrize("batch_rows", [1, 7])
def test_the_pass_equals_numpy_where_features_and_labels_lie_far_out(
    bench, strangers, loss, batch_rows
):
    rows = rows_for(bench, loss, n=120)
    rows.x[10::25, 0] += 200.0
    rows.y[10::25] += 2000.0
    rows.y[20::25] -= 2000.0
    agree(*both(bench, strangers, spec_of(loss, "experts", clip=0.0), rows, batch_rows))


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("batch_rows", [1, 4])
@pytest.mark.parametrize("loss", ["squared", "poisson"])
def test_the_row_whose_step_threw_the_model_is_blamed_and_no_row_after_it(
    bench, strangers, loss, batch_rows, plain
):
    rows = rows_for(bench, loss)
    rows.w[7] = 1e300
    rows.y[7] += 1.0
    spec = spec_of(loss, "sgd")
    if plain:
        spec = replace(spec, kernel=f"{strangers}:PlainLinear")
    made = learner.Learner(spec)
    found = guard.culprit(made, bench.state(made), rows, batch_rows)
    assert found is not None
    assert (found.start, found.stop) == (7, 8)


@pytest.mark.parametrize("batch_rows", [1, 7])
@pytest.mark.parametrize("optimizer", ["experts", "adagrad"])
def test_no_claims_in_next_to_no_time_are_learnt(bench, strangers, optimizer, batch_rows):
    """Worked out as they are written the loss is 0 · ∞, and so is the rate, which is then left out of the mean."""
    rows = rows_for(bench, "tweedie")
    rows.y[[10, 30]] = 0.0
    rows.offset[[10, 30]] = -800.0
    ours, expected = both(
        bench, strangers, spec_of("tweedie", optimizer, {"power": 1.9}), rows, batch_rows
    )
    agree(ours, expected)
    assert all(np.isfinite(value).all() for value in ours.values())
    assert ours["target/count"] == pytest.approx(rows.w.sum())


@pytest.mark.parametrize("optimizer", ["experts", "adagrad", "normalised"])
@pytest.mark.parametrize("loss", ["logistic", "softmax"])
@pytest.mark.parametrize("weights", ["balanced", (0.5, 2.0, 1.5)])
def test_the_pass_equals_numpy_with_class_weights(bench, strangers, loss, optimizer, weights):
    if weights != "balanced" and loss == "logistic":
        weights = weights[:2]
    spec = spec_of(loss, optimizer, class_weight=weights)
    for batch_rows in (1, 7):
        agree(*both(bench, strangers, spec, rows_for(bench, loss), batch_rows))


@pytest.mark.parametrize("optimizer", ["experts", "adam", "ftrl"])
def test_a_gradient_is_clipped_alike_or_the_key_is_not_known(bench, strangers, optimizer):
    if optimizer == "experts":
        with pytest.raises(TypeError):
            registry.RULES[optimizer].Options(clip_gradient=1.0)
        return
    spec = spec_of("squared", optimizer, scale_target=False)
    spec = replace(spec, optimizer={**spec.optimizer, "clip_gradient": 5.0})
    for batch_rows in (1, 7):
        agree(*both(bench, strangers, spec, rows_for(bench, "squared"), batch_rows))


def test_a_clipped_gradient_is_no_longer_than_it_may_be(bench):
    spec = spec_of("squared", "sgd", standardise=False, scale_target=False)
    clipped = replace(spec, optimizer={"name": "sgd", "learning_rate": 1.0, "clip_gradient": 0.25})
    rows = rows_for(bench, "squared", n=1)
    for batch_rows in (1, 7):
        state, _ = bench.run(clipped, rows, batch_rows)
        step = np.append(state["parameters/weights"].ravel(), state["parameters/intercept"])
        assert np.linalg.norm(step) == pytest.approx(0.25)


@pytest.mark.parametrize(("loss", "optimizer"), list(combinations()))
def test_short_runs_one_after_the_other_are_one_long_run_bit_for_bit(bench, loss, optimizer):
    """Vowpal Wabbit has failed this one."""
    rows = rows_for(bench, loss, n=48)
    for penalty, batch_rows in itertools.product(PENALTIES.values(), [1, 4]):
        spec = spec_of(loss, optimizer, penalty, half_life=30.0)
        whole, recorded = bench.run(spec, rows, batch_rows)
        state, parts = None, []
        for start, stop in ((0, 4), (4, 24), (24, 48)):
            state, found = bench.run(spec, rows.slice(start, stop), batch_rows, state)
            parts.append(found)
        for name, value in whole.items():
            assert state[name].tobytes() == value.tobytes(), name
        for name, value in recorded.items():
            assert np.concatenate([part[name] for part in parts]).tobytes() == value.tobytes(), name


@pytest.mark.parametrize("optimizer", ["experts", "adagrad", "newton", "normalised"])
@pytest.mark.parametrize("loss", ["squared", "huber", "poisson"])
@pytest.mark.parametrize("batch_rows", [1, 7])
def test_the_pass_equals_numpy_where_labels_are_far_off_and_exposures_differ(
    bench, strangers, loss, optimizer, batch_rows
):
    if (loss, optimizer) == ("poisson", "newton"):
        pytest.skip("a count of 40,000 among fours leaves no number of the curvature")
    rows = rows_for(bench, loss)
    offset = np.random.default_rng(1).normal(size=60)
    rows.y[[20, 22, 30, 31, 32, 33, 34]] *= 1e4
    rows.w[[22, 32]] = 0.0
    spec = spec_of(loss, optimizer, clip=1.5)
    agree(*both(bench, strangers, spec, rows._replace(offset=offset), batch_rows))


@pytest.mark.parametrize("optimizer", ["adagrad", "experts"])
@pytest.mark.parametrize("loss", ["squared", "logistic", "softmax"])
@pytest.mark.parametrize("rows_of", ["float64", "float32"])
def test_the_pass_in_single_precision_is_near_numpy_s(bench, strangers, loss, optimizer, rows_of):
    spec = spec_of(loss, optimizer, dtype="float32", clip=5.0)
    rows = rows_for(bench, loss)
    rows = rows._replace(x=rows.x.astype(rows_of))
    ours, expected = both(bench, strangers, spec, rows, 4)
    assert ours["parameters/weights"].dtype == np.float32
    for name, value in expected.items():
        scale = float(np.abs(value).max())
        np.testing.assert_allclose(ours[name], value, rtol=1e-3, atol=1e-3 * scale, err_msg=name)


def test_read_only_rows_give_the_same_bits(bench):
    spec = spec_of("logistic", "adagrad")
    rows = rows_for(bench, "logistic")
    open_, _ = bench.run(spec, rows, 1)
    for array in rows[:4]:
        array.flags.writeable = False
    closed, _ = bench.run(spec, rows, 1)
    assert {k: v.tobytes() for k, v in open_.items()} == {k: v.tobytes() for k, v in closed.items()}


def test_what_is_compiled_is_cached_by_the_sources_of_its_formulas():
    assert loops.checksum(loops) != loops.checksum(loops, learner)
    assert loops.checksum(loops) == loops.checksum(loops)


@pytest.mark.parametrize("optimizer", ["adagrad", "experts"])
def test_infinite_and_huge_features_are_told_with_their_row(bench, optimizer):
    spec = spec_of("logistic", optimizer, standardise=False)
    made = learner.Learner(spec)
    rows = rows_for(bench, "logistic", n=10)
    rows.x[4, 2] = 1e300
    assert not made.run(bench.state(made), rows, 1, bench.results(made, rows))
    assert guard.culprit(made, bench.state(made), rows, 1)[:2] == (4, 5)


@pytest.mark.parametrize("optimizer", ["adagrad", "experts", "adam"])
def test_a_feature_whose_square_alone_overflows_is_told_with_its_row(bench, optimizer):
    made = learner.Learner(spec_of("logistic", optimizer, clip=5.0))
    rows = rows_for(bench, "logistic", n=10)
    rows.x[6, 1] = 1e200
    for batch_rows in (1, 4):
        assert not made.run(bench.state(made), rows, batch_rows, bench.results(made, rows))
        assert guard.culprit(made, bench.state(made), rows, batch_rows)[:2] == (6, 7)


@pytest.mark.parametrize("optimizer", ["adagrad", "experts", "newton", "normalised", "ftrl"])
def test_a_row_of_weight_2_is_scaled_and_scored_as_two_equal_rows_and_one_of_0_leaves_no_trace(
    bench, optimizer
):
    spec = spec_of("logistic", optimizer)
    rows = rows_for(bench, "logistic", n=20)
    rows = rows._replace(w=np.ones(20))
    without, _ = bench.run(spec, rows, 1)
    nothing = Rows(np.full((1, 5), 1e6), np.zeros(1), np.zeros(1), np.zeros(1))
    state, _ = bench.run(spec, rows.slice(0, 10), 1)
    state, _ = bench.run(spec, nothing, 1, state)
    state, _ = bench.run(spec, rows.slice(10, 20), 1, state)
    for name in without:
        if name not in ("steps", "rows") and "mean_heat" not in name:
            np.testing.assert_allclose(state[name], without[name], rtol=1e-12, err_msg=name)
    doubled = rows._replace(w=np.where(np.arange(20) == 3, 2.0, 1.0))
    twice = Rows(*(np.insert(array, 3, array[3], axis=0) for array in rows[:4]))
    heavy, _ = bench.run(spec, doubled, 1)
    light, _ = bench.run(spec, twice, 1)
    for name in ("scaling/count", "scaling/mean", "scaling/m2"):
        np.testing.assert_allclose(heavy[name], light[name], rtol=1e-12, err_msg=name)


def test_warming_compiles_what_the_built_in_kernels_run():
    warming.warm()
    assert elementwise.learn.signatures
    assert len(elementwise.learn.signatures) <= 4
    assert counting._count_files.signatures


def filed(bench, made, state, rows, stops, batch_rows):
    """A state after files whose rows end at `stops`, in one memory; what it was after each before, their results and rates."""
    layout, start = made.layout(), 0
    places = {}
    for name, (shape, dtype) in layout.items():
        places[name] = start
        start += -(-np.dtype(dtype).itemsize * int(np.prod(shape)) // 64) * 64
    memory = np.zeros((len(stops), start), np.uint8)  # the last is worked on
    views = [
        {name: np.ndarray(*layout[name], one, place) for name, place in places.items()}
        for one in memory
    ]
    for name, array in state.items():
        views[-1][name][...] = array
    words, results = memory.view(np.int64), bench.results(made, rows)
    ends = Ends(np.array(stops), words[-1], words[:-1])
    rates = made.learn_files(views[-1], rows, ends, batch_rows, results)
    return views, results, rates


@pytest.mark.parametrize("count", [1, 3, 4, 6, 9])
def test_what_fills_a_register_beside_the_learners_spoils_nothing(bench, strangers, count):
    """Its derivatives may overflow where theirs don't: the labels grow with what is learnt."""
    rows = rows_for(bench, "gamma", n=3000)
    rows = rows._replace(y=np.geomspace(1.0, 1e160, len(rows.y)))
    rates = [0.1, 0.5, 1.0, 2.0, 4.0, 0.2, 0.3, 0.7, 0.9][:count]
    spec = spec_of("gamma", "experts", scale_target=False)
    spec = replace(spec, optimizer={"name": "experts", "rates": rates})
    agree(*both(bench, strangers, spec, rows, 1))


@pytest.mark.parametrize("batch_rows", [1, 7])
def test_rows_may_lie_in_memory_as_they_like(bench, batch_rows):
    rows = rows_for(bench, "logistic")
    ours, recorded = bench.run(spec_of("logistic", "experts"), rows, batch_rows)
    for x in (np.asfortranarray(rows.x), np.repeat(rows.x, 2, axis=1)[:, ::2]):
        theirs, found = bench.run(spec_of("logistic", "experts"), rows._replace(x=x), batch_rows)
        assert all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)
        assert found["output"].tobytes() == recorded["output"].tobytes()


SCHEDULES = [{"name": "constant", "warm_up": 20}, {"name": "inverse_scaling", "power": 0.3}]


@pytest.mark.parametrize("loss", [*LOSSES, "softmax"])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule["name"])
def test_files_learnt_at_once_are_files_learnt_one_by_one_bit_for_bit(bench, loss, schedule):
    """And the parameters that a pass leaves are those that the rule settles."""
    rows, stops = rows_for(bench, loss, n=100), (3, 4, 40, 87, 100)
    for penalty, batch_rows, dtype in itertools.product(
        PENALTIES.values(), [1, 4], ["float64", "float32"]
    ):
        spec = spec_of(loss, "experts", penalty, half_life=30.0, schedule=schedule, dtype=dtype)
        optimizer = {"name": "experts", "serve_rows": 10, "learning_rate": 0.3}
        made = learner.Learner(replace(spec, optimizer=optimizer))
        assert made.learns_files
        state, start = bench.state(made), 0
        found = filed(bench, made, state, rows, stops, batch_rows)
        for after, rate, stop in zip(found[0], found[2], stops, strict=True):
            part = rows.slice(start, stop)
            results = bench.results(made, part)
            made.run(state, part, batch_rows, results)
            for name, value in results.items():
                assert found[1][name][start:stop].tobytes() == value.tobytes(), name
            for name, value in state.items():
                assert after[name].tobytes() == value.tobytes(), name
            assert rate == made.rate(state)
            settled = {name: value.copy() for name, value in state.items()}
            made.rule.settle(settled)
            assert all(settled[name].tobytes() == state[name].tobytes() for name in state)
            start = stop


@pytest.mark.parametrize("more", [{"class_weight": "balanced"}, {"optimizer": {"name": "adam"}}])
def test_files_go_one_by_one_where_no_pass_takes_them_at_once(more):
    """What a row weighs hangs on the classes before it where they are balanced; other rules have no such pass."""
    assert not learner.Learner(replace(spec_of("logistic", "experts"), **more)).learns_files
