"""`headrace train`: named files, passes over all of them, and what an interruption leaves."""

from __future__ import annotations

import hashlib
import signal
from pathlib import Path

import pytest
import sample_tables
from daemon_root import Life, Outcome, Root, eventually, job, root_in, rounds

TABLES = {"one.csv": sample_tables.rows(1500, 1), "two.csv": sample_tables.rows(700, 2)}


def _files(root: Root) -> list[str]:
    for name, table in TABLES.items():
        (root.home / name).write_bytes(sample_tables.csv(table))
    return [str(root.home / name) for name in TABLES]


def _configure(root: Root, epochs: int = 3) -> None:
    root.configure(job(training=rounds(16) | {"epochs": epochs}))


def _train(root: Root, files: list[str], expected: int = 0) -> Life:
    life = root.spawn("train", *files, ready=False)
    assert life.exit() == expected, life.said
    return life


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Root:
    """The root after an undisturbed training."""
    with root_in(tmp_path_factory.mktemp("whole")) as root:
        _configure(root)
        _train(root, _files(root))
        return root


def test_epochs_are_passes_over_all_files_in_their_order(whole: Root) -> None:
    records = [r for r in whole.records() if r["kind"] in ("file", "epoch")]
    assert [(r["kind"], r.get("epoch"), r["file"]) for r in records] == [
        ("file", None, "one.csv"),
        ("file", None, "two.csv"),
        *(("epoch", epoch, name) for epoch in (2, 3) for name in TABLES),
    ]
    assert [r["version"] for r in records] == sorted({r["version"] for r in records})
    assert (
        records[-1]["sha256"] == hashlib.sha256((whole.home / "two.csv").read_bytes()).hexdigest()
    )


def test_later_passes_have_no_sample_and_no_progress_records(whole: Root) -> None:
    assert len(whole.samples()) == sum(map(len, TABLES.values()))
    assert {r["sequence"] for r in whole.records(kind="progress")} == {1, 2}
    assert whole.accepted()[-1]["lifetime"]["rows"] == len(whole.samples())


def test_the_files_stay_where_they_are(whole: Root) -> None:
    assert all((whole.home / name).exists() for name in TABLES)
    assert whole.names("done") == []
    assert whole.leftovers() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("epoch", [1, 2])
def test_an_interrupted_training_goes_on_where_it_was_and_gives_the_same_bits(
    whole: Root, root: Root, number: signal.Signals, epoch: int
) -> None:
    _configure(root)
    files = _files(root)
    life = root.spawn("train", *files, ready=False)
    eventually(lambda: len(_whole_files(root)) >= 2 * (epoch - 1), "the passes before", life)
    seen = len(life.events("progress"))
    eventually(lambda: len(life.events("progress")) > seen, "a resume point", life)
    life.signal(number)
    life.process.wait()
    assert len(_whole_files(root)) < 6, "it was to be interrupted"
    _train(root, files)
    assert root.outcome() == whole.outcome()


def _whole_files(root: Root) -> list[Outcome]:
    return [record for record in root.records() if record["kind"] in ("file", "epoch")]


def test_many_passes_that_were_interrupted_are_all_made(root: Root) -> None:
    """More passes than are admitted at a time."""
    _configure(root, epochs=70)
    file = root.home / "few.csv"
    file.write_bytes(sample_tables.csv(sample_tables.rows(40, 3)))
    life = root.spawn("train", str(file), ready=False)
    eventually(lambda: len(_whole_files(root)) >= 2, "the first passes", life)
    life.signal(signal.SIGTERM)
    assert life.exit() == 0, life.said
    assert len(_whole_files(root)) < 70, "it was to be interrupted"
    _train(root, [str(file)])
    assert len(_whole_files(root)) == 70


def test_a_refused_file_is_told_and_stays(root: Root) -> None:
    _configure(root, epochs=1)
    bad = root.home / "bad.csv"
    bad.write_bytes(b"a,b,c,y\n1,2,x,0\n")
    life = _train(root, [str(bad)], expected=1)
    assert "bad.csv" in life.said
    assert bad.exists()
    assert root.names("failed") == []


def test_a_file_that_is_not_there_is_status_2(root: Root, tmp_path: Path) -> None:
    _configure(root)
    life = _train(root, [str(tmp_path / "nothing.csv")], expected=2)
    assert life.said.count("\n") == 1
