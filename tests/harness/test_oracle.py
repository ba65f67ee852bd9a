"""The oracle sees each thing that can be wrong; a harness that can't fail would prove nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from service.core.layout import Layout
from service.storage.journal import Journal
from tests.harness import oracle, scripted_run


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("expected") / "root"
    scripted_run.prepare(root)
    scripted_run.run(root)
    return root


@pytest.fixture
def found(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    scripted_run.prepare(root)
    scripted_run.run(root)
    return root


def test_two_undisturbed_lives_are_alike(expected: Path, found: Path) -> None:
    assert oracle.differences(expected, found) == []
    assert oracle.strays(found) == []


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)


def _repeat_last_record(root: Path) -> None:
    log = Layout(root).logs("archived") / "samples.jsonl"
    log.write_bytes(log.read_bytes() + log.read_bytes().splitlines(keepends=True)[-1])


def _change(root: Path, sql: str) -> None:
    journal = Journal(Layout(root).journal)
    with journal.transaction():
        journal._database.execute(sql)
    journal.close()


WRONGS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a model's bit": (lambda root: _flip(next(Layout(root).models("archived").glob("0*"))), "models/"),
    "a record twice": (_repeat_last_record, "logs/archived/samples.jsonl"),
    "a record less": (lambda root: os.truncate(Layout(root).logs("deleted") / "metrics.jsonl", 10), "logs/"),
    "an older model as current": (
        lambda root: (
            (current := Layout(root).current("archived")).unlink(),
            current.symlink_to("00000002-v14.safetensors"),
        ),
        "current",
    ),
    "a file that is nowhere": (lambda root: (Layout(root).done("archived") / "f.csv").unlink(), "not in done/"),
    "a file in two places": (
        lambda root: shutil.copy(Layout(root).done("archived") / "f.csv", Layout(root).inbox("archived")),
        "left over: inbox/archived/f.csv",
    ),
    "a temporary file": (
        lambda root: (Layout(root).models("archived") / ".headrace-0.tmp").touch(),
        "left over: models/archived/.headrace-0.tmp",
    ),
    "a spool": (lambda root: (Layout(root).spools("archived") / "0000000001.x").touch(), "left over"),
    "a decision that was forgotten": (
        lambda root: _change(root, "UPDATE files SET settled = 0 WHERE admission = 2"),
        "not settled",
    ),
    "a number that was left out": (
        lambda root: _change(root, "UPDATE files SET sequence = 7 WHERE sequence = 2"),
        "sequence numbers",
    ),
    "a state that differs": (
        lambda root: _change(root, "UPDATE files SET state = 'duplicate' WHERE state = 'refused'"),
        "duplicate",
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONGS)
def test_the_oracle_sees(expected: Path, found: Path, wrong: str) -> None:
    do, word = WRONGS[wrong]
    do(found)
    said = oracle.differences(expected, found) + oracle.strays(found)
    assert any(word in one for one in said), said
