"""What searches have found, and people have put beside it, is borne: read or refused, alike in every way that is compared."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

import pytest

from tests.fuzz import blind, keeping
from tests.fuzz.__main__ import MISSING, main
from tests.fuzz.interpreted import COMPILED, plain_readers
from tests.fuzz.targets import Target, targets

TARGETS = targets(plain_readers(importlib.import_module))


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_kept_is_borne(name: str, tmp_path: Path) -> None:
    with TARGETS[name].checking(tmp_path) as check:
        for kept, data in keeping.kept(name).items():
            try:
                check(data)
            except Exception as error:
                raise AssertionError(f"{name}/{kept}: {data!r}") from error


def test_every_target_has_a_corpus_and_no_other_has_one() -> None:
    assert {path.name for path in keeping.CORPUS.iterdir() if path.is_dir()} == set(TARGETS)
    assert all(keeping.kept(name) for name in TARGETS)


def test_the_corpus_is_small() -> None:
    sizes = [path.stat().st_size for path in keeping.CORPUS.rglob("*") if path.is_file()]
    assert sum(sizes) <= keeping.MOST_BYTES


def test_the_plain_readers_leave_the_compiled_ones_where_they_were() -> None:
    for module in COMPILED:
        assert sys.modules[module.__name__] is module
        assert importlib.import_module(module.__name__) is module


def _fussy(data: bytes, folder: Path) -> None:
    assert b"\xff" not in data


def test_a_search_without_a_guide_gives_the_bytes_that_break_a_rule() -> None:
    found, broken = blind.search(Target("fussy", (b"seed",), _fussy), [b"seed"], 300.0, 1)
    assert found.total() > 0
    assert broken is not None
    assert b"\xff" in broken


def test_the_least_inputs_that_reach_everything_are_kept() -> None:
    reached = {b"1": {1}, b"12": {1, 2}, b"13": {1, 3}, b"123": {1, 2, 3}}
    assert set(keeping._least(reached)) == {b"12", b"13"}


def test_who_has_no_atheris_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["csv", "--seconds", "1", "--place", str(tmp_path)]) == 2
    assert capsys.readouterr().err.strip() == MISSING


def test_a_search_with_a_guide_reads_inputs_and_keeps_those_that_reach_something(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("atheris", reason="the search by coverage is an extra")
    assert main(["svmlight", "--seconds", "2", "--place", str(tmp_path)]) == 0
    assert "inputs were read" in capsys.readouterr().out
    assert len(list((tmp_path / "svmlight" / "found").iterdir())) > 10
