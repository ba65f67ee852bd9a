"""Rounds as sub-tasks: run again they give the same bits, and lanes may come back in any order."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from kernels.contract import Spec
from kernels.learner import build
from service.core.errors import StorageDamaged
from service.runtime.arena import arrays, size_of
from service.storage import checkpoints
from service.subtasks import learn, predict

LOGISTIC = Spec("logistic", 2)
EXPERTS = Spec("logistic", 2, optimizer={"name": "experts"})
NUMBERS = Spec("linear", 2)
MLP = Spec(
    "mlp",
    2,
    {"hidden": [3], "loss": "logistic"},
    optimizer={"name": "adam"},
    dtype="float32",
    seed=4,
)


def _lanes(parts: list[Any]) -> list[list[Any]]:
    (part,) = parts
    return [[replace(part, start=start, stop=start + 25)] for start in range(0, 100, 25)]


@pytest.mark.parametrize("spec", [LOGISTIC, MLP])
def test_a_round_that_runs_again_gives_the_same_bits_and_leaves_its_source(
    bench: Any, table: bytes, spec: Spec
) -> None:
    shape, state, _ = bench.started(spec)
    before = bench.bits(shape, state)
    parts = bench.decoded(table)
    first, _ = bench.learnt(shape, state, parts, 5)
    again, _ = bench.learnt(shape, state, parts, 5)
    assert bench.bits(shape, first) == bench.bits(shape, again) != before
    assert bench.bits(shape, state) == before


@pytest.mark.parametrize("spec", [LOGISTIC, MLP])
@pytest.mark.parametrize("exact", [True, False], ids=["gradient", "average"])
def test_lanes_may_come_back_in_any_order(
    bench: Any, table: bytes, spec: Spec, exact: bool
) -> None:
    shape, state, _ = bench.started(spec)
    lanes = _lanes(bench.decoded(table))

    def round_in(order: list[int]) -> dict[str, bytes]:
        outs = [bench.reserve(max(shape.gradient_bytes, shape.state_bytes)) for _ in lanes]
        target = bench.reserve(shape.state_bytes)
        for lane in order:
            results = bench.reserve(shape.results_bytes(25, ""))
            if exact:
                learn.gradient(shape.spec, state, lanes, lane, outs[lane], results, "")
            else:
                learn.run(shape.spec, state, outs[lane], lanes[lane], 5, results, "")
        if exact:
            learn.apply(shape.spec, state, target, outs, 100)
        else:
            learn.average(shape.spec, state, target, outs, [25] * 4)
        return bench.bits(shape, target)

    assert round_in([0, 1, 2, 3]) == round_in([3, 1, 0, 2])


def test_lanes_of_one_local_step_make_the_step_of_one_batch(bench: Any, table: bytes) -> None:
    shape, state, _ = bench.started(LOGISTIC)
    parts = bench.decoded(table)
    whole, _ = bench.learnt(shape, state, parts, 100)
    lanes, outs = _lanes(parts), []
    for lane in range(4):
        outs.append(bench.reserve(shape.gradient_bytes))
        results = bench.reserve(shape.results_bytes(25, ""))
        learn.gradient(shape.spec, state, lanes, lane, outs[-1], results, "")
    target = bench.reserve(shape.state_bytes)
    learn.apply(shape.spec, state, target, outs, 100)
    one, four = (arrays(region, shape.state_layout) for region in (whole, target))
    for name in one:
        assert np.allclose(one[name], four[name], rtol=1e-12, atol=1e-15), name


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("features", [1, 8, 2000])
def test_there_is_room_for_what_a_part_of_a_step_cut_by_features_writes(
    features: int, gaps: bool
) -> None:
    spec = Spec("logistic", features, gaps=gaps).to_json()
    for columns in ((0, features), (0, 1)):
        layout = learn.by_columns(spec).partial_layout(7, columns)
        assert size_of(layout) <= learn.shape(spec).partial_bytes(7)


def test_a_state_is_restored_from_its_model_file_to_the_bit(bench: Any, table: bytes) -> None:
    shape, state, scores = bench.started(MLP)
    learnt, done = bench.learnt(shape, state, bench.decoded(table), 5)
    _, _, after, _ = bench.reported(shape, state, scores, done)
    tensors = {f"state/{n}": a for n, a in arrays(learnt, shape.state_layout).items()}
    tensors |= {f"scores/{n}": a for n, a in arrays(after, shape.scores_layout).items()}
    written = checkpoints.write(bench.home, "m", tensors, {})
    fresh, counted = bench.reserve(shape.state_bytes), bench.reserve(shape.scores_bytes)
    learn.restore(shape.spec, str(bench.home / written.name), written.sha256, fresh, counted)
    assert bench.bits(shape, fresh) == bench.bits(shape, learnt)
    for name, array in arrays(counted, shape.scores_layout).items():
        assert array.tobytes() == arrays(after, shape.scores_layout)[name].tobytes()
    with pytest.raises(StorageDamaged, match="sha256"):
        learn.restore(shape.spec, str(bench.home / written.name), "0" * 64, fresh, counted)


def test_squares_that_each_expert_had_for_itself_are_restored_as_their_mean(
    bench: Any, table: bytes
) -> None:
    shape, state, _ = bench.started(EXPERTS)
    learnt, _ = bench.learnt(shape, state, bench.decoded(table), 1)
    tensors = {f"state/{n}": a for n, a in arrays(learnt, shape.state_layout).items()}
    own = tensors.pop("state/optimizer/shared/weights")
    before = np.stack([own * share for share in (0.5, 1.0, 1.5, 1.0)])
    tensors["state/optimizer/squares/weights"] = before
    written = checkpoints.write(bench.home, "m", tensors, {})
    fresh, counted = bench.reserve(shape.state_bytes), bench.reserve(shape.scores_bytes)
    learn.restore(shape.spec, str(bench.home / written.name), written.sha256, fresh, counted)
    found = arrays(fresh, shape.state_layout)
    assert np.allclose(found["optimizer/shared/weights"], own)
    assert np.array_equal(
        found["optimizer/experts/weights"], tensors["state/optimizer/experts/weights"]
    )


def test_a_model_whose_labels_extremes_nobody_watched_is_not_held(bench: Any, table: bytes) -> None:
    shape, state, _ = bench.started(NUMBERS)
    learnt, _ = bench.learnt(shape, state, bench.decoded(table), 1)
    tensors = {f"state/{n}": a for n, a in arrays(learnt, shape.state_layout).items()}
    watched = tensors.pop("state/target/extremes")
    tensors.pop("state/target/reaches")  # which nobody counted, either
    assert watched[0] < watched[1]
    written = checkpoints.write(bench.home, "m", tensors, {"spec": asdict(NUMBERS)})
    fresh, counted = bench.reserve(shape.state_bytes), bench.reserve(shape.scores_bytes)
    learn.restore(shape.spec, str(bench.home / written.name), written.sha256, fresh, counted)
    learner = build(shape.spec)
    far = np.full((1, 2), 1e9)
    found = learner.predict(arrays(fresh, shape.state_layout), far)
    loaded = predict.load(str(bench.home / written.name), written.sha256)
    assert np.array_equal(loaded.learner.predict(loaded.state, far), found)
    assert loaded.learner.coefficients(loaded.state) is not None
    assert (
        np.abs(found).max() > np.abs(learner.predict(arrays(learnt, shape.state_layout), far)).max()
    )


def test_what_an_optimizer_remembers_begins_anew_at_the_model_where_it_has_another_shape(
    bench: Any, table: bytes
) -> None:
    long, short = ({"name": "lbfgs", "memory": memory} for memory in (5, 3))
    shape, state, _ = bench.started(replace(LOGISTIC, optimizer=long))
    for _ in range(4):
        state, _ = bench.learnt(shape, state, bench.decoded(table))
        build(shape.spec).end_file(arrays(state, shape.state_layout))
    other, target, _ = bench.started(replace(LOGISTIC, optimizer=short))
    learn.adopt(shape.spec, state, other.spec, target)
    model, found = arrays(state, shape.state_layout), arrays(target, other.state_layout)
    assert model["parameters/weights"].all()
    for name in ("weights", "intercept"):
        assert np.array_equal(found[f"parameters/{name}"], model[f"parameters/{name}"])
        assert np.array_equal(found[f"optimizer/trial/{name}"], model[f"parameters/{name}"])
    assert np.array_equal(found["scaling/m2"], model["scaling/m2"])


FOUR = (0.02, 0.1, 0.5, 2.0)


@pytest.mark.parametrize(
    ("before", "after", "keeps_following"),
    [
        (FOUR, (0.0, *FOUR, 8.0), True),
        ((0.0, *FOUR, 8.0), (0.02, 8.0, 0.0, 0.5, 2.0, 0.1), True),
        (FOUR, (0.02, 0.1, 1.0), False),
        ((0.1, 1.0), (0.2, 0.4, 0.8), True),
        (FOUR, (0.0, 0.02, 0.1, 0.5), False),
        (FOUR, (0.1, 0.5), False),
    ],
)
@pytest.mark.parametrize("kind", ["classes", "more classes", "numbers"])
def test_learners_go_on_at_their_rates_and_new_ones_as_the_mixture(
    bench: Any,
    table: bytes,
    kind: str,
    before: tuple[float, ...],
    after: tuple[float, ...],
    keeps_following: bool,
) -> None:
    spec = NUMBERS if kind == "numbers" else Spec("softmax", 2, outputs=2)
    options = {"name": "experts", "serve_rows": 30}
    shape, state, _ = bench.started(replace(spec, optimizer=options | {"rates": list(before)}))
    then, _ = bench.learnt(shape, state, bench.decoded(table), 1)
    outputs = 3 if kind == "more classes" else spec.outputs
    spec = replace(spec, outputs=outputs, optimizer=options | {"rates": list(after)})
    other, now, _ = bench.started(spec)
    learn.adopt(shape.spec, then, other.spec, now)
    was, found = arrays(then, shape.state_layout), arrays(now, other.state_layout)
    of = [before.index(rate) if rate in before else None for rate in after]
    following = {}
    for name in ("weights", "intercept"):
        learners, copies = was[f"optimizer/experts/{name}"], was[f"optimizer/frozen/{name}"]
        k = learners.shape[1]
        mixture = np.tensordot(was["optimizer/shares"], learners, axes=1)
        mixtures = np.tensordot(
            found["optimizer/shares"], found[f"optimizer/experts/{name}"], axes=1
        )
        following[name] = mixtures[:k], mixture
        for place, (one, rate) in enumerate(zip(of, after, strict=True)):
            begins = learners[one] if one is not None else mixture
            copied = copies[-1 if one is None else one]
            weightless = name == "weights" and rate == 0
            for kept, part in (("experts", begins), ("frozen", copied)):
                value = found[f"optimizer/{kept}/{name}"][place]
                np.testing.assert_allclose(value[:k], 0 * part if weightless else part, rtol=1e-12)
                assert not value[k:].any()
        assert np.array_equal(found[f"optimizer/frozen/{name}"][-1][:k], copies[-1])
        assert np.array_equal(
            found[f"optimizer/shared/{name}"][:k], was[f"optimizer/shared/{name}"]
        )
        assert np.array_equal(found[f"parameters/{name}"][:k], was[f"parameters/{name}"])
    for mixtures, mixture in following.values() if keeps_following else ():
        np.testing.assert_allclose(mixtures, mixture, rtol=1e-12)
    assert found["optimizer/shares"].sum() == pytest.approx(1)
    serving, served = found["optimizer/serving"], was["optimizer/serving"]
    assert served.all()
    for place, one in enumerate(of):
        assert serving[place] == (0 if one is None else served[one])
    assert serving.sum() == pytest.approx(1)
    assert np.array_equal(found["optimizer/mean_heat"], was["optimizer/mean_heat"])
    if kind == "numbers":
        squares = was["optimizer/mean_squares"]
        mean = was["optimizer/shares"] @ squares[:-1]
        expected = [*(mean if one is None else squares[one] for one in of), squares[-1]]
        np.testing.assert_allclose(found["optimizer/mean_squares"], expected, rtol=1e-12)


def test_a_state_whose_optimizer_options_changed_is_adopted_whole(bench: Any, table: bytes) -> None:
    shape, state, _ = bench.started(LOGISTIC)
    learnt, _ = bench.learnt(shape, state, bench.decoded(table))
    other = replace(LOGISTIC, optimizer={"name": "adagrad", "learning_rate": 0.5})
    target = bench.reserve(shape.state_bytes)
    done = learn.adopt(shape.spec, learnt, other.to_json(), target)
    assert bench.bits(shape, target) == bench.bits(shape, learnt)
    assert done.learning_rate == 0.5


def test_a_model_that_is_not_finite_is_told(bench: Any, table: bytes) -> None:
    wild = replace(LOGISTIC, standardise=False, optimizer={"name": "sgd", "learning_rate": 1e308})
    shape, state, _ = bench.started(wild)
    parts, target = bench.decoded(table), bench.reserve(shape.state_bytes)
    results = bench.reserve(shape.results_bytes(100, ""))
    with np.errstate(all="ignore"):
        assert not learn.run(shape.spec, state, target, parts, 1, results, "").finite


GROWING = [
    Spec("softmax", 2, outputs=2, optimizer={"name": "experts"}, class_weight="balanced"),
    Spec("softmax", 2, outputs=2, optimizer={"name": "ftrl"}),
    Spec("mlp", 2, {"hidden": [3]}, outputs=2, optimizer={"name": "adam"}),
]


@pytest.mark.parametrize("spec", GROWING, ids=lambda spec: f"{spec.kernel} {spec.optimizer}")
def test_a_model_that_gets_more_classes_keeps_what_it_knows_of_the_others(
    bench: Any, table: bytes, spec: Spec
) -> None:
    shape, state, _ = bench.started(spec)
    learnt, _ = bench.learnt(shape, state, bench.decoded(table), 5)
    larger, target, _ = bench.started(replace(spec, outputs=4))
    fresh = {k: a.copy() for k, a in arrays(target, larger.state_layout).items()}
    assert learn.adopt(shape.spec, learnt, larger.spec, target).finite
    old, new = arrays(learnt, shape.state_layout), arrays(target, larger.state_layout)
    for name, array in new.items():
        known = tuple(slice(length) for length in old[name].shape)
        assert np.array_equal(array[known], old[name]), name
        rest = np.ones(array.shape, bool)
        rest[known] = False
        assert np.array_equal(array[rest], fresh[name][rest]), name
    assert sum(array.shape != old[name].shape for name, array in new.items()) > 2


def test_counts_of_classes_stay_when_there_are_more(bench: Any) -> None:
    spec = replace(GROWING[0], outputs=2)
    shape, _, scores = bench.started(spec)
    larger, _, target = bench.started(replace(spec, outputs=3))
    counted = arrays(scores, shape.scores_layout)
    counted["lifetime/confusion"][...] = [[1, 2], [3, 4]]
    counted["lifetime/rows"][...] = 10
    learn.adopt_scores(shape.spec, scores, larger.spec, target)
    found = arrays(target, larger.scores_layout)
    assert found["lifetime/confusion"].tolist() == [[1, 2, 0], [3, 4, 0], [0, 0, 0]]
    assert found["lifetime/rows"].tolist() == [10]
