"""The model of a disk: what was flushed is there in every state, and what was not is not in all of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.harness.disks import EVERYTHING, Disk, Style, lay_out
from tests.harness.record import Event, What

STATES = 60


def _event(what: What, one: str, two: str = "", number: int = 0, data: bytes = b"") -> Event:
    return Event(what, one.encode(), two.encode(), number, data)


def _states(
    tmp_path: Path, events: Sequence[tuple], style: Style | None = None
) -> list[dict[str, bytes]]:
    """What the disk may hold: files by name, over many seeds. Paths are below the folder that held `old` and `sub/`."""
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "old").write_bytes(b"old")
    found = []
    for seed in range(STATES):
        disk, chance = Disk(root), random.Random(seed)
        for what, *rest in events:
            paths = [
                f"{root}/{value}".rstrip("/") if isinstance(value, str) else value for value in rest
            ]
            names = [path for path in paths if isinstance(path, str)]
            number = next((value for value in paths if isinstance(value, int)), 0)
            data = next((value for value in paths if isinstance(value, bytes)), b"")
            disk.take(_event(what, names[0], names[1] if len(names) > 1 else "", number, data))
        state = tmp_path / f"state-{seed}"
        lay_out(disk, state, chance, style or Style.chosen(chance))
        files = [path for path in state.rglob("*") if path.is_file()]
        found.append({str(path.relative_to(state)): path.read_bytes() for path in files})
    return found


def test_a_file_that_was_flushed_without_its_directory_may_have_no_name(tmp_path: Path) -> None:
    events = [(What.CREATE, "new"), (What.WRITE, "new", 0, b"x" * 5000), (What.SYNC, "new")]
    contents = {state.get("new") for state in _states(tmp_path, events)}
    assert contents == {None, b"x" * 5000}


def test_a_name_that_was_flushed_without_its_file_may_hold_anything_of_it(tmp_path: Path) -> None:
    events = [(What.CREATE, "new"), (What.WRITE, "new", 0, b"x" * 5000), (What.SYNC, "")]
    contents = {state["new"] for state in _states(tmp_path, events)}
    assert {b"", b"x" * 5000, bytes(5000)} < contents
    assert any(b"x" * 512 in content and b"\0" * 512 in content for content in contents), "torn"


def test_what_was_flushed_stays(tmp_path: Path) -> None:
    events = [
        (What.CREATE, "new"), (What.WRITE, "new", 0, b"first"), (What.SYNC, "new"), (What.SYNC, ""),
        (What.WRITE, "new", 5, b"later"),
    ]  # fmt: skip
    assert all(state["new"].startswith(b"first") for state in _states(tmp_path, events))


def test_a_rename_shows_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    events = [
        (What.CREATE, ".part"), (What.WRITE, ".part", 0, b"new"), (What.SYNC, ".part"),
        (What.RENAME, ".part", "old"),
    ]  # fmt: skip
    assert {state["old"] for state in _states(tmp_path, events)} == {b"old", b"new"}


def test_a_file_between_two_directories_is_never_in_none(tmp_path: Path) -> None:
    moved = [(What.RENAME, "old", "sub/moved")]
    places = {frozenset(state) for state in _states(tmp_path, moved)}
    assert places == {frozenset({"old"}), frozenset({"sub/moved"}), frozenset({"old", "sub/moved"})}


@pytest.mark.parametrize(
    ("flushed", "expected"),
    [("sub", [{"sub/moved"}, {"old", "sub/moved"}]), ("", [{"sub/moved"}])],
)
def test_flushing_one_directory_settles_the_name_in_it(
    tmp_path: Path, flushed: str, expected: list[set[str]]
) -> None:
    events = [(What.RENAME, "old", "sub/moved"), (What.SYNC, flushed)]
    places = {frozenset(state) for state in _states(tmp_path, events)}
    assert places == {frozenset(names) for names in expected}


def test_a_flush_that_failed_loses_what_it_was_for_also_when_it_is_tried_again(
    tmp_path: Path,
) -> None:
    events = [
        (What.WRITE, "old", 0, b"new"), (What.SYNC_FAILED, "old"), (What.SYNC, "old"),
        (What.WRITE, "old", 3, b"more"), (What.SYNC, "old"),
    ]  # fmt: skip
    assert {state["old"] for state in _states(tmp_path, events, EVERYTHING)} == {b"oldmore"}
