"""Paths below the root, and names as people see them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.layout import Layout, shown

LAYOUT = Layout(Path("/r"))


def test_paths_are_those_of_the_interface() -> None:
    assert LAYOUT.inbox("j") == Path("/r/inbox/j")
    assert LAYOUT.work_file("j", 7) == Path("/r/work/j/0000000007")
    assert LAYOUT.current("j") == Path("/r/models/j/current.safetensors")
    assert LAYOUT.service_log == Path("/r/logs/service.jsonl")
    assert LAYOUT.status == Path("/r/state/status.json")
    assert LAYOUT.spool("j", 7, "samples.jsonl") == Path(
        "/r/state/spool/j/0000000007.samples.jsonl"
    )


def test_the_folders_of_a_job_hold_all_its_paths() -> None:
    folders = LAYOUT.folders("j")
    paths = [LAYOUT.work_file("j", 1), LAYOUT.scratch("j", 1), LAYOUT.current("j")]
    paths += [LAYOUT.spool("j", 1, "x"), LAYOUT.private("j") / "m", LAYOUT.done("j") / "x"]
    assert all(path.parent in folders for path in paths)
    assert len(set(folders)) == len(folders) == 10


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"plain name.csv", "plain name.csv"),
        ("grüße ☃ 🙂".encode(), "grüße ☃ 🙂"),
        (b"a\nb\tc\r", r"a\nb\tc\r"),
        (b"\x1b[31m", r"\u001b[31m"),
        (b"\xff\xfe", r"\xff\xfe"),
        (b"back\\slash", r"back\\slash"),
        ("\u202egnp.exe".encode(), r"\u202egnp.exe"),
        ("\u0085\u00a0".encode(), r"\u0085\u00a0"),
        ("\U000e0001".encode(), r"\U000e0001"),
    ],
)
def test_a_name_is_shown_on_one_line_with_nothing_that_acts(name: bytes, text: str) -> None:
    assert shown(name) == text


def test_a_path_or_a_text_is_shown_as_its_bytes_are() -> None:
    name = b"a\n\xff"
    assert shown(name) == shown(os.fsdecode(name)) == shown(Path(os.fsdecode(name)))


@given(st.lists(st.binary(max_size=12), min_size=2, max_size=2, unique=True))
def test_two_names_never_look_the_same(names: list[bytes]) -> None:
    one, other = map(shown, names)
    assert one != other
    assert one.isprintable()
