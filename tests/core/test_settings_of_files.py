"""Settings that say how files are written: other words for what they mean, and what is told where they mean nothing."""

from __future__ import annotations

import pytest

from service.core.errors import ConfigurationError
from service.core.job_settings import Job
from service.core.settings import parse


def _job(keys: str) -> Job:
    text = f'[[jobs]]\nname = "a"\nlabel = "y"\nmodel.kernel = "linear"\n{keys}\n'
    return parse(text, "c").jobs[0]


def _complaint(keys: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        _job(keys)
    return str(caught.value).removeprefix("c: job a: ")


@pytest.mark.parametrize(
    ("given", "encoding"),
    [
        ("latin1", "latin-1"),
        ("iso-8859-1", "latin-1"),
        ("ISO_8859-1", "latin-1"),
        ("cp1252", "windows-1252"),
        ("UTF8", "utf-8"),
        ("utf_16_le", "utf-16-le"),
        ("sjis", "shift-jis"),
        ("auto", "auto"),
    ],
)
def test_an_encoding_may_be_called_as_others_call_it(given: str, encoding: str) -> None:
    assert _job(f'csv.encoding = "{given}"').csv.encoding == encoding


@pytest.mark.parametrize("given", ['"utf-7"', '"rot13"', '"utf-16"', '"a\\u0000"', '"hex"', "8"])
def test_other_encodings_are_refused_with_those_that_are_read(given: str) -> None:
    told = _complaint(f"csv.encoding = {given}")
    assert told.startswith('csv.encoding: must be "auto", "utf-8"')


def test_a_part_that_times_have_not_is_shown() -> None:
    told = _complaint('times = {at = ["hour", "hours"]}')
    assert told.startswith("times.at: must be a list of some of year, month, day, weekday")
    assert told.endswith('got ["hour", "hours"]')
    assert _complaint("times = {at = []}").endswith("got []")
    assert _complaint('times = "at"') == 'times: must be a table, got "at"'
