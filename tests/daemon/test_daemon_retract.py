"""`headrace retract` and `headrace retry`: the model is the one that never saw a file, with a daemon or without, and whoever dies."""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sample_tables
from daemon_root import Root, eventually, job, root_in, rounds
from live_records import live

from service.lines.life import still_to_admit
from service.storage.tables import Entry

JOB = job(training=rounds(16))
LONG = ("0", "2", "4")
TABLES = {name: sample_tables.rows(1500 if name in LONG else 150, int(name)) for name in "01234"}
FILES = {f"{name}.csv": sample_tables.csv(table) for name, table in TABLES.items()}


def _configure(root: Root, keep: int = 10) -> None:
    root.configure(
        JOB, commit={"keep": keep}, service={"chunk_bytes": 8000}, logs={"every_rows": 250}
    )


def _learn(root: Root, names: Sequence[str], keep: int = 10) -> None:
    _configure(root, keep)
    for name in names:
        root.drop(name, FILES[name])
    root.once()


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Asked for the roots in which some files were never dropped; each is made once."""
    made: dict[tuple[str, ...], Root] = {}

    def asked(*missing: str) -> Root:
        if missing not in made:
            with root_in(tmp_path_factory.mktemp("without")) as root:
                _learn(root, [name for name in FILES if name not in missing])
                made[missing] = root
        return made[missing]

    return asked


def assert_as_if_never_dropped(root: Root, other: Root) -> None:
    assert root.model_sha256() == other.model_sha256()
    assert live(root) == live(other)
    assert root.leftovers() == []


def _retract(root: Root, *names: str, expected: int = 0) -> str:
    done = root.ask("retract", "--root", str(root.path), "--job", "j", *names)
    assert done.returncode == expected, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("taken", "keep"),
    [
        (("3.csv",), 10),
        (("0.csv",), 10),
        (("4.csv",), 10),
        (("2.csv",), 1),
        (("1.csv", "3.csv"), 2),
    ],
    ids=["middle", "first", "last", "no-checkpoint", "two"],
)
def test_a_retracted_file_was_never_there(
    root: Root, without: Any, taken: tuple[str, ...], keep: int
) -> None:
    _learn(root, list(FILES), keep)
    before = {name: root.log(name) for name in ("metrics.jsonl", "samples.jsonl")}
    said = _retract(root, *taken)
    again = 4 if keep < 10 else 4 - int(taken[0][0])
    again -= len(taken) - 1
    assert ("nothing is to be learnt again" if not again else "at the next `headrace run`") in said
    assert root.names("failed") == sorted(n for name in taken for n in (name, f"{name}.error.json"))
    assert "taken back by `headrace retract`" in root.note(taken[0])["rule"]
    root.once()
    assert_as_if_never_dropped(root, without(*taken))
    assert root.names("done") == [name for name in FILES if name not in taken]
    records = root.records(kind="retracted")
    assert [record["file"] for record in records] == list(taken)
    assert [record["sequence"] for record in records] == [int(name[0]) + 1 for name in taken]
    assert [record["sha256"] for record in records] == [
        hashlib.sha256(FILES[name]).hexdigest() for name in taken
    ]
    for name, was in before.items():
        assert root.log(name).startswith(was)


def test_a_running_daemon_takes_back_what_is_done_and_learns_the_rest_again(
    root: Root, without: Any
) -> None:
    _configure(root)
    life = root.start()
    for name in FILES:
        root.drop(name, FILES[name])
    life.done(files=3)  # the others wait, or are in progress
    assert "learnt again now" in _retract(root, str(root.folder("done") / "1.csv"))
    eventually(lambda: len(live_names(root)) == 4, "the files learnt again", life)
    eventually(lambda: root.names("work") == [], "the end", life)
    life.stop()
    assert_as_if_never_dropped(root, without("1.csv"))


def live_names(root: Root) -> list[str]:
    """The files that are in the model, by the journal."""
    return [row["name"].decode() for row in root.files(state="accepted")]


def test_kills_during_the_replay_change_nothing(root: Root, without: Any) -> None:
    chance = random.Random(7)
    _learn(root, list(FILES))
    life = root.start()
    _retract(root, "1.csv")
    for _ in range(4):
        time.sleep(chance.uniform(0.05, 0.6))
        life.kill()
        life = root.start()
    life.stop()
    root.once()
    assert_as_if_never_dropped(root, without("1.csv"))


def test_what_is_to_be_learnt_again_can_be_taken_back_too(root: Root, without: Any) -> None:
    _learn(root, list(FILES))
    _retract(root, "1.csv")
    said = _retract(root, "3.csv")
    assert "nothing is to be learnt again" in said
    root.once()
    assert_as_if_never_dropped(root, without("1.csv", "3.csv"))
    assert [row["revision"] for row in root.files(state="accepted")] == [0, 1, 1]


def test_nothing_changes_where_a_file_that_came_after_is_missing_or_another(root: Root) -> None:
    _learn(root, list(FILES))
    before, files = root.outcome(), root.files()
    path = root.folder("done") / "2.csv"
    data = path.read_bytes()
    path.unlink()
    assert "2.csv: no such file or directory" in _retract(root, "1.csv", expected=1)
    path.write_bytes(data.replace(b"1", b"2"))
    assert "2.csv: must have the sha256" in _retract(root, "1.csv", expected=1)
    path.write_bytes(data)
    path.with_name("another").hardlink_to(path)
    life = root.start()
    assert "2.csv: must have no second name" in _retract(root, "1.csv", expected=1)
    life.stop()
    assert (root.outcome(), root.files()) == (before, files)


@pytest.mark.parametrize("runs", [True, False], ids=["daemon", "alone"])
def test_wrong_names_are_told(root: Root, runs: bool) -> None:
    _learn(root, ["1.csv"])
    life = root.start() if runs else None
    said = _retract(root, "5.csv", "1.csv", "6.csv", expected=2)
    assert (
        "FILE: must name one file that j has learnt each, got 5.csv (no such file); 6.csv (no such file)"
        in said
    )
    done = root.ask("retract", "--root", str(root.path), "--job", "k", "1.csv")
    assert done.returncode == 2
    assert "--job: must be one of j, got 'k'" in done.stderr
    if life:
        life.stop()
    assert root.names("failed") == []


def test_trained_files_are_taken_back_with_all_their_passes(root: Root, tmp_path: Path) -> None:
    one = job(training=rounds(16) | {"epochs": 3})
    outcomes = []
    for names in (("0.csv", "1.csv", "3.csv"), ("0.csv", "3.csv")):
        with root_in(tmp_path / "-".join(names)) as made:
            made.configure(one, commit={"keep": 2})
            for name in names:
                (made.home / name).write_bytes(FILES[name])
            life = made.spawn("train", *(str(made.home / name) for name in names), ready=False)
            assert life.exit() == 0, life.said
            if len(names) == 3:
                done = made.ask(
                    "retract", "--root", str(made.path), "--job", "j", str(made.home / "1.csv")
                )
                assert done.returncode == 0, done.stderr
                made.once()
                assert (made.home / "1.csv").exists()
                assert [r.get("epoch", 1) for r in made.records(kind="retracted")] == [1, 2, 3]
            assert made.leftovers() == []
            outcomes.append((made.model_sha256(), live(made)))
    assert outcomes[0] == outcomes[1]


def test_the_first_files_schema_goes_with_it(root: Root, without: Any) -> None:
    """The first file has fewer columns than the others: what it taught the job is forgotten."""
    _configure(root)
    root.drop("0-.csv", b"b,y\n" + b"".join(b"%d,%d\n" % (i, i % 2) for i in range(40)))
    for name in ("1.csv", "3.csv"):
        root.drop(name, FILES[name])
    root.once()
    assert root.header()["features"] == ["b"]
    _retract(root, "0-.csv")
    assert not root.current().exists()
    root.once()
    assert root.header()["features"] == ["a", "b", "c"]
    assert_as_if_never_dropped(root, without("0.csv", "2.csv", "4.csv"))


def test_what_was_judged_once_is_not_judged_again(root: Root) -> None:
    """Settings of today would call the files that are learnt again too large, and repeated by their name."""
    _configure(root)
    for name in ("1.csv", "3.csv", "0.csv"):
        root.drop("same.csv", FILES[name])
        root.once()
    root.configure(
        JOB, intake={"identity": "name", "max_file_bytes": 100}, logs={"every_rows": 250}
    )
    _retract(root, "same.csv")
    root.once()
    assert [(row["state"], row["revision"]) for row in root.files()] == [
        ("retracted", 0),
        ("accepted", 1),
        ("accepted", 1),
    ]


def test_a_file_that_is_not_what_was_learnt_is_refused_when_it_is_learnt_again(root: Root) -> None:
    _learn(root, ["1.csv", "3.csv"])
    _retract(root, "1.csv")
    work = root.folder("work") / "0000000002"
    seen = work.stat()
    work.write_bytes(FILES["3.csv"].replace(b"1", b"2"))
    os.utime(work, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    root.once()
    assert root.note("3.csv")["rule"] == (
        "a file that is learnt again has the content that was learnt before"
    )
    assert not root.current().exists()


@pytest.mark.parametrize("runs", [True, False], ids=["daemon", "alone"])
def test_refused_and_retracted_files_are_tried_again(root: Root, runs: bool) -> None:
    _learn(root, ["1.csv", "3.csv"])
    root.drop("bad.csv", FILES["1.csv"].replace(b"\n", b"\nx", 1))
    root.once()
    _retract(root, "1.csv")
    assert root.names("failed") == ["1.csv", "1.csv.error.json", "bad.csv", "bad.csv.error.json"]
    bad = root.folder("failed") / "bad.csv"
    bad.write_bytes(bad.read_bytes().replace(b"x", b"7"))  # mended where it lies
    life = root.start() if runs else None
    ask = ("retry", "--root", str(root.path), "--job", "j")
    done = root.ask(*ask, "1.csv", "none.csv")
    assert (done.returncode, root.names("failed")[0]) == (2, "1.csv")
    assert "FILE: must name one file in failed/ each, got none.csv (no such file)" in done.stderr
    done = root.ask(*ask, "1.csv", str(bad))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "j: 1.csv is in the inbox again\nj: bad.csv is in the inbox again\n"
    if life:
        eventually(lambda: len(root.names("done")) == 3, "both learnt", life)
        eventually(lambda: life.status()["jobs"]["j"]["failed"] == 0, "status says so", life)
        life.stop()
    else:
        root.once()
    assert root.names("failed") == []
    assert live_names(root) == ["3.csv", "1.csv", "bad.csv"]
    assert root.leftovers() == []


def test_a_training_is_not_taken_for_an_interrupted_one_while_its_files_are_learnt_again() -> None:
    entry = Entry(b"a.csv", 1, 1, 1, path=b"/a.csv")
    for revision, left in ((0, ()), (1, (entry,))):
        unfinished = [SimpleNamespace(path=b"/a.csv", revision=revision)]
        line: Any = SimpleNamespace(unfinished=unfinished)
        assert tuple(still_to_admit(line, (entry,))) == left
