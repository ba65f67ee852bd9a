"""A configuration is valid from birth, or it is refused in one line that says where, what is allowed, and what it got."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.errors import ConfigurationError
from service.core.settings import Settings, parse

JOB = '[[jobs]]\nname = "churn"\nlabel = "y"\nmodel.kernel = "logistic"\n'


def complaint(text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        parse(text, "config.toml")
    return str(caught.value)


def test_a_job_needs_no_more_than_a_name_a_label_and_a_kernel() -> None:
    job = parse(JOB, "config.toml").job("churn")
    assert (job.label, job.model.kernel, job.output.samples) == ("y", "logistic", "norms")
    assert (job.optimizer.name, job.training.batch_rows, job.scaling.standardise) == (
        "auto",
        "auto",
        "auto",
    )


def test_settings_are_frozen_and_travel_by_pickle() -> None:
    settings = parse(JOB, "config.toml")
    with pytest.raises(ValueError, match="frozen"):
        settings.service.workers = 3  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_another_root_goes_before_the_configured_one() -> None:
    settings = parse('service.root = "/a"\n' + JOB, "config.toml")
    assert settings.service.root == Path("/a")
    assert settings.at(None) is settings
    assert settings.at(Path("/b")).service.root == Path("/b")


def test_a_job_that_is_not_there_is_refused_with_those_that_are() -> None:
    settings = parse(JOB, "config.toml")
    with pytest.raises(ConfigurationError, match=r"^job: must be one of churn, got chrun$"):
        settings.job("chrun")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "jobs: must be given"),
        ("jobs = 3", "jobs: must be a list, got 3"),
        ("jobs = []", "jobs: must be at least one [[jobs]], got []"),
        ("jobs = [3]", "jobs[0]: must be a table, got 3"),
        (JOB + JOB, 'jobs[1].name: must be another name than any other job\'s, got "churn"'),
        (
            JOB + '[[jobs]]\nname = "b"\nmodel.kernel = "linear"\nlabel = 3.5',
            "job b: label: must be a column's name, or its number counted from 0, got 3.5",
        ),
        ("service = 3\n" + JOB, "service: must be a table, got 3"),
        (
            "[service]\nworkers = -1\n" + JOB,
            "service.workers: must be a whole number from 0 to 1024, got -1",
        ),
        (
            '[service]\nworkers = "3"\n' + JOB,
            'service.workers: must be a whole number from 0 to 1024, got "3"',
        ),
        (
            "[service]\nworkers = true\n" + JOB,
            "service.workers: must be a whole number from 0 to 1024, got true",
        ),
        ("[service]\nroot = 3\n" + JOB, "service.root: must be a path, got 3"),
        (
            "[service]\nroot = ''\n" + JOB,
            'service.root: must be a path, got ""',
        ),
        (
            "[service]\ndeadline_seconds = nan\n" + JOB,
            "service.deadline_seconds: must be a number of seconds greater than 0, got NaN",
        ),
        (
            "[commit]\ninterval_seconds = 0\n" + JOB,
            "commit.interval_seconds: must be a number of seconds greater than 0, got 0",
        ),
        ('[intake]\nignore = "a"\n' + JOB, 'intake.ignore: must be a list of strings, got "a"'),
        (
            '[intake]\nidentity = "inode"\n' + JOB,
            'intake.identity: must be "content" or "name", got "inode"',
        ),
        (
            "[rows]\nmax_bad_rows = 2\n" + JOB,
            "rows.max_bad_rows: must be a share from 0 to 1, got 2",
        ),
        (
            "[logs]\nevery_rows = 1.5\n" + JOB,
            "logs.every_rows: must be a whole number from 1, got 1.5",
        ),
        ("[logs]\nsteps = 1\n" + JOB, "logs.steps: must be true or false, got 1"),
    ],
)
def test_a_wrong_setting_is_one_line_with_its_place_its_rule_and_its_value(
    text: str, expected: str
) -> None:
    assert complaint(text) == f"config.toml: {expected}"


def test_an_unknown_key_is_refused_with_the_nearest_one_and_all_that_are_allowed() -> None:
    assert complaint("[service]\nworker = 3\n" + JOB) == (
        "config.toml: service.worker: unknown key, the nearest is workers, "
        "allowed are chunk_bytes, deadline_seconds, root, workers"
    )
    assert complaint("[a.b]\nc = 1\n" + JOB) == (
        "config.toml: a: unknown key, allowed are commit, intake, jobs, logs, rows, service"
    )


def test_keys_that_nothing_obeys_yet_are_unknown() -> None:
    assert "unknown key" in complaint(JOB + '[jobs.training]\nshuffle = "file"')
    assert '"jsonl" or "text"' in complaint(JOB + '[jobs.output]\nsamples_format = "parquet"')


def test_further_errors_are_counted() -> None:
    text = "[service]\nworkers = -1\nchunk_bytes = 0\n[logs]\nkeep = 0\n" + JOB
    assert complaint(text).endswith("got -1 (and 2 more)")


def test_broken_toml_is_refused_with_its_line() -> None:
    assert complaint("[service]\nroot = \n") == (
        "config.toml: must be TOML, invalid value (at line 2, column 8)"
    )


def test_toml_nested_without_end_is_refused() -> None:
    assert complaint("a = " + "[" * 100_000).startswith("config.toml: must be")


def test_a_value_is_shown_short_and_without_control_characters() -> None:
    text = complaint(f'[intake]\nidentity = "\\u001b[31m{"x" * 10_000}"\n' + JOB)
    assert len(text) < 200
    assert text.isprintable()


KEYS = st.sampled_from(["service", "jobs", "rows", "name", "label", "model", "kernel", "workers"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=8), inner),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, VALUES))
def test_whatever_stands_in_a_configuration_the_answer_is_settings_or_one_printable_line(
    tables: dict[str, object],
) -> None:
    answer: Settings | str
    try:
        answer = parse(_toml(tables), "config.toml")
    except ConfigurationError as error:
        answer = str(error)
    assert isinstance(answer, Settings) or re.match(r"config\.toml: .", answer)
    assert isinstance(answer, Settings) or answer.isprintable()


def _toml(tables: dict[str, object]) -> str:
    return "\n".join(f"{key} = {_value(value)}" for key, value in tables.items())


def _value(value: object) -> str:
    match value:
        case None:
            return '"none"'
        case bool():
            return str(value).lower()
        case str():
            return _quoted(value)
        case list():
            return f"[{', '.join(map(_value, value))}]"
        case dict():
            return f"{{{', '.join(f'{_quoted(k)} = {_value(v)}' for k, v in value.items())}}}"
        case _:
            return repr(value)


def _quoted(text: str) -> str:
    return '"' + "".join(f"\\U{ord(c):08x}" for c in text if not 0xD800 <= ord(c) < 0xE000) + '"'
