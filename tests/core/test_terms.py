"""A file's terms hold what can change its model or its records, nothing else, and come back as they were."""

from __future__ import annotations

import hashlib
import json

import pytest

from service.core import terms
from service.core.errors import ConfigurationError
from service.core.resolution import resolve
from service.core.settings import Settings, parse


def settings(top: str = "", keys: str = "", kernel: str = "logistic", **tables: str) -> Settings:
    model = f'kernel = "{kernel}"\n' + tables.pop("model", "")
    parts = [f"[jobs.{name}]\n{text}\n" for name, text in {"model": model, **tables}.items()]
    return parse(
        f'{top}\n[[jobs]]\nname = "a"\nlabel = "y"\n{keys}\n' + "".join(parts), "config.toml"
    )


def digest(given: Settings) -> str:
    return terms.digest(given, given.jobs[0])[0]


def body(given: Settings) -> str:
    return terms.digest(given, given.jobs[0])[1]


def test_the_digest_is_that_of_the_body() -> None:
    given = settings()
    hexadecimal, text = terms.digest(given, given.jobs[0])
    assert hexadecimal == hashlib.sha256(text.encode()).hexdigest()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


@pytest.mark.parametrize(
    "given",
    [
        settings(),
        settings(keys='features = ["x", "ä"]\nid = "i"', model='classes = ["no", "yes"]'),
        settings(kernel="mlp", model="hidden = [3, 2]\nclasses = 10"),
        settings(kernel="linear", scaling="standardise = false"),
        settings("[rows]\non_bad_row = 'skip'\n[logs]\nsteps = true\nevery_rows = 7"),
    ],
)
def test_terms_come_back_from_the_journal_as_they_were(given: Settings) -> None:
    back = terms.parse_body(body(given))
    assert back.job == resolve(given.jobs[0])
    assert back.rows == given.rows
    assert (back.every_rows, back.steps) == (given.logs.every_rows, given.logs.steps)


def test_a_default_that_is_written_out_changes_nothing() -> None:
    written = settings(
        optimizer="name = 'experts'\nlearning_rate = 1\nserve_slow = 0.3",
        training="batch_rows = 1\nlanes = 1",
        model="l2 = 0",
        scaling="clip = 5",
    )
    assert digest(written) == digest(settings())


@pytest.mark.parametrize(
    "top",
    [
        "[service]\nworkers = 3\nchunk_bytes = 300\ndeadline_seconds = 1\nroot = 'r'",
        "[intake]\nsettle_seconds = 0\nidentity = 'name'\nafter = 'delete'",
        "[commit]\ninterval_seconds = 1\nkeep = 9",
        "[logs]\nrotate_bytes = 9\nkeep = 1",
    ],
)
def test_how_it_runs_is_no_part_of_the_terms(top: str) -> None:
    assert digest(settings(top)) == digest(settings())


@pytest.mark.parametrize(
    "other",
    [
        settings("[rows]\non_bad_row = 'skip'"),
        settings("[rows]\nmax_bad_rows = 0.5"),
        settings("[logs]\nevery_rows = 7"),
        settings("[logs]\nsteps = true"),
        settings(keys='id = "i"'),
        settings(keys='features = ["x"]'),
        settings(model="l2 = 1"),
        settings(model="positive = 0"),
        settings(optimizer="learning_rate = 2"),
        settings(schedule="name = 'inverse_scaling'"),
        settings(training="batch_rows = 2"),
        settings(training="seed = 1"),
        settings(scaling="clip = 4"),
        settings(output="samples = 'off'"),
        parse('[[jobs]]\nname = "b"\nlabel = "y"\nmodel.kernel = "logistic"', "c"),
    ],
)
def test_whatever_changes_a_model_or_a_record_changes_the_digest(other: Settings) -> None:
    assert digest(other) != digest(settings())


def test_terms_that_are_unknown_by_now_are_refused_in_one_line() -> None:
    text = body(settings()).replace('"l2"', '"l9"')
    with pytest.raises(ConfigurationError, match=r"^settings in the journal: job\.model\.l9: "):
        terms.parse_body(text)


@pytest.mark.parametrize(
    ("new", "key"),
    [
        (settings(kernel="linear"), "model.kernel"),
        (settings(keys='features = ["x"]'), "features"),
        (settings(keys='exclude = ["x"]'), "exclude"),
        (settings(keys='weight = "w"'), "weight"),
        (settings(model="classes = [0, 1]"), "model.classes"),
        (settings(model="positive = 0"), "model.positive"),
        (settings(model="intercept = false"), "model.intercept"),
        (settings(optimizer="name = 'adam'"), "optimizer.name"),
        (settings(training="dtype = 'float32'"), "training.dtype"),
        (settings(scaling="standardise = false"), "scaling.standardise"),
        (parse('[[jobs]]\nname="a"\nlabel="z"\nmodel.kernel="logistic"', "c"), "label"),
    ],
)
def test_what_gives_a_models_numbers_their_meaning_must_stay(new: Settings, key: str) -> None:
    answer = terms.incompatible(body(settings()), new.jobs[0])
    assert answer is not None
    assert answer.startswith(f"jobs.a.{key}: must stay ")
    assert answer.endswith("; to start again: headrace reset --job a")


def test_the_layers_of_an_mlp_must_stay() -> None:
    old, new = (settings(kernel="mlp", model=f"hidden = {widths}") for widths in ([3], [3, 2]))
    assert terms.incompatible(body(old), new.jobs[0]) == (
        "jobs.a.model.hidden: must stay [3] while the job has a model, got [3, 2]; "
        "to start again: headrace reset --job a"
    )


@pytest.mark.parametrize(
    "new",
    [
        settings(),
        settings(model="l2 = 1"),
        settings(optimizer="learning_rate = 2"),
        settings(schedule="name = 'inverse_scaling'"),
        settings(training="batch_rows = 9\nlanes = 2\nlocal_steps = 3\nseed = 1"),
        settings(scaling="clip = 1"),
        settings(output="samples = 'off'"),
        settings("[logs]\nsteps = true"),
    ],
)
def test_how_the_next_step_is_made_may_change_under_a_model(new: Settings) -> None:
    assert terms.incompatible(body(settings()), new.jobs[0]) is None


@pytest.mark.parametrize(
    ("said", "tau"), [("", None), ("\ntau = 0.5", None), ("\ntau = 0.9", "tau")]
)
def test_terms_from_before_a_default_was_written_out_mean_the_same(
    said: str, tau: str | None
) -> None:
    table = json.loads(body(settings(kernel="linear", model="loss = 'quantile'")))
    del table["job"]["model"]["tau"], table["job"]["optimizer"]["serve_slow"]
    new = settings(kernel="linear", model=f"loss = 'quantile'{said}").jobs[0]
    answer = terms.incompatible(json.dumps(table), new)
    if tau is None:
        assert answer is None
    else:
        assert answer is not None
        assert answer.startswith("jobs.a.model.tau: must stay 0.5 while the job has a model")


def test_an_exposure_changes_what_is_learnt_whatever_the_features_are() -> None:
    old, new = (
        settings(kernel="linear", model='loss = "poisson"', keys=f'features = ["x"]\n{key}')
        for key in ("", 'exposure = "t"')
    )
    answer = terms.incompatible(body(old), new.jobs[0])
    assert answer is not None
    assert answer.startswith(
        'jobs.a.exposure: must stay left out while the job has a model, got "t"'
    )


def test_what_was_left_open_may_be_said_while_files_only_wait() -> None:
    """A file was refused for want of `positive`: its own remedy must be open, whatever waits behind it."""
    new = settings(model='positive = "yes"').jobs[0]
    assert terms.incompatible(body(settings()), new, has_model=False) is None
    told = settings(model='positive = "no"')
    answer = terms.incompatible(body(told), new, has_model=False)
    assert answer is not None
    assert 'must stay "no" while files wait that were admitted with it, got "yes"' in answer


def test_a_column_beside_chosen_features_may_change_under_a_model() -> None:
    old, new = (settings(keys=f'features = ["x"]\n{key}') for key in ("", 'id = "i"'))
    assert terms.incompatible(body(old), new.jobs[0]) is None
