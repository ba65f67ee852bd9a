"""A resolved job leaves nothing open, and its Spec says everything that its Learner is built from."""

from __future__ import annotations

import pytest

from kernels.contract import Spec
from kernels.experts import Experts
from kernels.learner import Learner
from kernels.losses import LOSSES
from service.core.errors import FileRefused
from service.core.job_settings import Job
from service.core.resolution import follows_labels, resolve, spec
from service.core.settings import parse


def job(kernel: str, tables: str = "") -> Job:
    text = f'[[jobs]]\nname = "a"\nlabel = "y"\n[jobs.model]\nkernel = "{kernel}"\n{tables}'
    return parse(text, "c").jobs[0]


@pytest.mark.parametrize("kernel", ["linear", "logistic", "softmax", "mlp"])
def test_a_resolved_job_leaves_nothing_to_the_kernel(kernel: str) -> None:
    given = job(kernel)
    whole, defaults = resolve(given), given.model.defaults
    training = whole.training
    assert (training.batch_rows, training.lanes, training.local_steps, training.dtype) == (
        defaults.batch_rows,
        defaults.lanes,
        defaults.local_steps,
        defaults.dtype,
    )
    assert whole.optimizer.name == defaults.optimizer
    assert resolve(whole) == whole


def test_the_rate_of_auto_is_the_kernels_unless_it_is_given() -> None:
    assert resolve(job("mlp")).optimizer.options["learning_rate"] == 0.02
    given = resolve(job("mlp", "[jobs.optimizer]\nlearning_rate = 0.5"))
    assert given.optimizer.options["learning_rate"] == 0.5


def test_a_round_keeps_about_its_rows_when_the_batches_are_larger() -> None:
    training = resolve(job("linear", "[jobs.training]\nbatch_rows = 256")).training
    assert (training.batch_rows, training.local_steps) == (256, 64)


def test_what_is_given_stays() -> None:
    tables = "[jobs.optimizer]\nname = 'adagrad'\nepsilon = 0.5\n[jobs.training]\nlanes = 7\ndtype = 'float32'"
    whole = resolve(job("logistic", tables))
    assert whole.optimizer.options == {
        "learning_rate": 0.1,
        "epsilon": 0.5,
        "half_life": 0.0,
        "clip_gradient": 0.0,
    }
    assert (whole.training.lanes, whole.training.dtype) == (7, "float32")


def test_only_labels_that_are_numbers_are_scaled() -> None:
    assert resolve(job("linear")).scaling.target == "auto"
    assert resolve(job("linear", "[jobs.scaling]\ntarget = 'none'")).scaling.target == "none"
    assert resolve(job("logistic")).scaling.target == "none"


def test_what_is_not_standardised_is_not_clipped() -> None:
    assert resolve(job("linear", "[jobs.scaling]\nstandardise = false")).scaling.clip == 0


@pytest.mark.parametrize(
    ("kernel", "tables", "clip"),
    [
        ("linear", "", 0),
        ("linear", "loss = 'huber'\n[jobs.optimizer]\nname = 'experts'", 0),
        ("linear", "[jobs.optimizer]\nname = 'sgd'", 5),
        ("linear", "[jobs.training]\npartition = 'features'", 5),
        ("linear", "loss = 'poisson'", 5),
        ("linear", "[jobs.scaling]\nclip = 20", 20),
        ("logistic", "", 5),
        ("mlp", "loss = 'squared'", 5),
    ],
)
def test_a_tail_is_cut_off_but_where_numbers_may_be_proportional_to_it(
    kernel: str, tables: str, clip: float
) -> None:
    whole = resolve(job(kernel, tables))
    assert whole.scaling.clip == clip
    assert resolve(whole) == whole


def test_a_spec_holds_what_the_learner_needs() -> None:
    tables = (
        "[jobs.optimizer]\nname = 'sgd'\n[jobs.schedule]\nname = 'inverse_scaling'\npower = 1\n"
        "[jobs.training]\nseed = 5\nclass_weight = {yes = 3}\n[jobs.scaling]\nhalf_life = 100"
    )
    assert spec(job("logistic", tables), 3, ("no", "yes")) == Spec(
        kernel="logistic",
        options={"intercept": True, "l1": 0.0, "l2": 0.0},
        features=3,
        outputs=1,
        optimizer={"name": "sgd", "learning_rate": 0.01, "clip_gradient": 0.0},
        schedule={"name": "inverse_scaling", "power": 1.0, "steps": 1.0, "warm_up": 0},
        standardise=True,
        clip=5.0,
        half_life=100.0,
        scale_target=False,
        class_weight=(1.0, 3.0),
        seed=5,
        dtype="float64",
    )


def test_a_class_weight_of_no_class_refuses_the_file() -> None:
    weighted = job("logistic", "[jobs.training]\nclass_weight = {maybe = 3}")
    with pytest.raises(FileRefused) as refused:
        spec(weighted, 3, ("no", "yes"))
    assert "classes that the job has: no, yes" in refused.value.refusal.rule
    assert refused.value.refusal.value == "maybe"


def test_equal_specs_have_equal_text() -> None:
    texts = {
        spec(job("mlp", tables), 4, tuple(range(10))).to_json() for tables in ("", "hidden = [128]")
    }
    assert len(texts) == 1


@pytest.mark.parametrize(("kernel", "classes"), [("logistic", 2), ("softmax", 64)])
def test_a_job_of_sparse_rows_resolves_to_one_lane_with_slots(kernel: str, classes: int) -> None:
    given = job(kernel, '[jobs.hashing]\ncategorical = "auto"')
    whole = resolve(given)
    assert (whole.optimizer.name, whole.training.dtype) == ("normalised", "float32")
    assert (whole.training.batch_rows, whole.training.lanes) == (1, 1)
    made = spec(given, 3, tuple(map(float, range(classes))))
    assert (made.features, made.bits, made.optimizer["name"]) == (3, 18, "normalised")
    assert resolve(whole) == whole


def test_classes_and_slots_must_not_make_too_many_weights() -> None:
    given = job("softmax", '[jobs.hashing]\ncategorical = "auto"')
    with pytest.raises(FileRefused, match="at most 16777216 weights") as caught:
        spec(given, 3, tuple(map(float, range(65))))
    assert caught.value.refusal.remedy.startswith("lower hashing.bits to 17")
    fitting = job("softmax", '[jobs.hashing]\ncategorical = "auto"\nbits = 17')
    assert spec(fitting, 3, tuple(map(float, range(65)))).bits == 17


@pytest.mark.parametrize(
    ("loss", "target", "key", "number"),
    [
        ("quantile", "auto", "tau", 0.5),
        ("tweedie", "auto", "power", 1.5),
        ("huber", "auto", "delta", None),
        ("huber", "none", "delta", 1.345),
        ("epsilon_insensitive", "auto", "epsilon", None),
        ("epsilon_insensitive", "none", "epsilon", 0.1),
    ],
)
def test_the_number_of_a_loss_is_written_out_unless_it_follows_the_labels(
    loss: str, target: str, key: str, number: float | None
) -> None:
    given = job("linear", f"loss = '{loss}'\n[jobs.scaling]\ntarget = '{target}'")
    whole = resolve(given)
    assert whole.model.options[key] == number
    rule = follows_labels(whole)
    assert (None if rule is None else rule.key) == (key if number is None else None)
    assert resolve(whole) == whole


@pytest.mark.parametrize(
    ("kernel", "loss"),
    [
        *(("linear", name) for name in LOSSES),
        ("logistic", ""),
        ("softmax", ""),
    ],
)
def test_the_share_of_slow_experts_is_written_out_as_they_take_it(kernel: str, loss: str) -> None:
    given = job(kernel, f"loss = '{loss}'" if loss else "")
    written = resolve(given).optimizer.options["serve_slow"]
    taken = Learner(spec(given, 3, ("a", "b", "c") if kernel == "softmax" else None)).rule
    assert isinstance(taken, Experts)
    assert written == taken.most_slow


def test_what_is_given_of_a_loss_and_of_experts_stays() -> None:
    tables = "loss = 'huber'\ndelta = 2.0\n[jobs.optimizer]\nserve_slow = 0.25"
    whole = resolve(job("linear", tables))
    assert whole.model.options["delta"] == 2.0
    assert whole.optimizer.options["serve_slow"] == 0.25


def test_terms_that_leave_an_option_open_make_the_learner_that_they_made() -> None:
    given = job("linear", "loss = 'quantile'")
    made = spec(given, 3, None)
    assert (made.options["tau"], made.optimizer["serve_slow"]) == (None, None)
