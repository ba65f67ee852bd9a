"""Sample files change folders: never over another file, and again after a crash with the same end."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.storage import moves
from service.storage.moves import Was


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    work, done = tmp_path / "work", tmp_path / "done"
    work.mkdir()
    done.mkdir()
    return work, done


@pytest.fixture(params=["renameat2", "link and unlink"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of moving without replacing."""
    if request.param == "link and unlink":
        monkeypatch.setattr(moves, "_renamed", lambda *names: False)
    return str(request.param)


@pytest.fixture
def descriptors(folders: tuple[Path, Path]) -> Iterator[tuple[int, int]]:
    pair = (os.open(folders[0], os.O_RDONLY), os.open(folders[1], os.O_RDONLY))
    yield pair
    for descriptor in pair:
        os.close(descriptor)


def make(path: Path, text: str = "") -> int:
    path.write_text(text)
    return path.stat().st_ino


def test_taking_moves_the_file_and_says_what_was_moved(folders, descriptors, way: str) -> None:
    inode = make(folders[0] / "a\udcff", "text")
    taken = moves.take(descriptors[0], b"a\xff", descriptors[1], "0000000001")
    assert (taken.st_ino, taken.st_size) == (inode, 4)
    assert os.listdir(folders[1]) == ["0000000001"]


def test_taking_never_replaces(folders, descriptors, way: str) -> None:
    make(folders[0] / "a", "new")
    make(folders[1] / "1", "old")
    with pytest.raises(FileExistsError):
        moves.take(descriptors[0], b"a", descriptors[1], "1")
    assert (folders[1] / "1").read_text() == "old"


def test_taking_what_is_gone_says_so(descriptors, way: str) -> None:
    with pytest.raises(FileNotFoundError):
        moves.take(descriptors[0], b"a", descriptors[1], "1")


def test_a_link_is_moved_and_not_followed(folders, descriptors, way: str) -> None:
    (folders[0] / "link").symlink_to("/etc/hostname")
    taken = moves.take(descriptors[0], b"link", descriptors[1], "1")
    assert (folders[1] / "1").is_symlink()
    assert taken.st_ino == (folders[1] / "1").lstat().st_ino


@pytest.mark.parametrize("there", [0, 1, 2, 5])
def test_names_that_meet_are_told_apart(folders, way: str, there: int) -> None:
    work, done = folders
    for name in itertools.islice(moves.told_apart(b"a.csv.gz"), there):
        make(done / os.fsdecode(name), "somebody's")
    name = moves.settle(work / "1", done, b"a.csv.gz", was=Was(make(work / "1", "ours")))
    assert name == (b"a.csv.gz" if there == 0 else b"a~%d.csv.gz" % (there + 1))
    assert (done / os.fsdecode(name)).read_text() == "ours"
    assert [path.read_text() for path in done.iterdir()].count("somebody's") == there
    assert os.listdir(work) == []


def test_settling_again_finds_the_file_under_its_inode(folders, way: str) -> None:
    work, done = folders
    make(done / "a", "somebody's")
    inode = make(work / "1", "ours")
    assert moves.settle(work / "1", done, b"a", was=Was(inode)) == b"a~2"
    assert moves.settle(work / "1", done, b"a", was=Was(inode)) == b"a~2"
    assert sorted(os.listdir(done)) == ["a", "a~2"]


def test_settling_what_somebody_took_away_says_none(folders) -> None:
    assert moves.settle(folders[0] / "1", folders[1], b"a", was=Was(1)) is None


def test_a_move_that_was_cut_between_link_and_unlink_is_finished(folders, way: str) -> None:
    work, done = folders
    inode = make(work / "1", "ours")
    os.link(work / "1", done / "a")
    assert moves.settle(work / "1", done, b"a", was=Was(inode)) == b"a"
    assert (os.listdir(work), os.listdir(done)) == ([], ["a"])


def test_a_work_file_restored_from_a_copy_has_another_inode_and_is_settled_all_the_same(
    folders,
) -> None:
    work, done = folders
    inode = make(work / "1", "ours")
    assert moves.settle(work / "1", done, b"a", was=Was(inode + 1)) == b"a"


def test_in_a_copy_of_the_root_what_was_moved_is_found_by_its_size_and_time(folders) -> None:
    work, done = folders
    make(done / "a", "somebody's")
    inode = make(work / "1", "ours")
    there = (work / "1").stat()
    was = Was(inode, there.st_size, there.st_mtime_ns)
    assert moves.settle(work / "1", done, b"a", was=was) == b"a~2"
    shutil.copy2(done / "a~2", done / "copy")
    os.replace(done / "copy", done / "a~2")
    assert (done / "a~2").stat().st_ino != inode
    assert moves.settle(work / "1", done, b"a", was=was) == b"a~2"
    os.utime(done / "a~2")
    assert moves.settle(work / "1", done, b"a", was=was) is None
    knows = replace(was, sha256=hashlib.sha256(b"ours").hexdigest())
    assert moves.settle(work / "1", done, b"a", was=knows) == b"a~2"
    (done / "a~2").unlink()
    assert moves.settle(work / "1", done, b"a", was=was) is None


@pytest.mark.parametrize("name", [b"a", b"a~7.b~2.csv", "ä".encode() * 120 + b".csv"])
def test_what_was_moved_is_found_though_others_of_its_names_were_taken_away(
    folders, name: bytes
) -> None:
    work, done = folders
    others = [*itertools.islice(moves.told_apart(name), 12)]
    for other in others:
        make(done / os.fsdecode(other), "somebody's")
    was = Was(make(work / "1", "ours"))
    settled = moves.settle(work / "1", done, name, was=was)
    make(done / "z~13", "ours")
    for other in others:
        (done / os.fsdecode(other)).unlink()
    assert moves.settle(work / "1", done, name, was=was) == settled


def test_a_number_that_went_to_another_file_is_not_the_one_that_was_moved(folders) -> None:
    inode = make(folders[1] / "a", "of another size")
    was = Was(inode, 4, 1, None)
    assert moves.settle(folders[0] / "1", folders[1], b"a", was=was) is None


def test_who_has_the_inode_goes_before_who_is_only_alike(folders) -> None:
    work, done = folders
    inode = make(work / "1", "ours")
    shutil.copy2(work / "1", done / "a")
    there = (work / "1").stat()
    was = Was(inode, there.st_size, there.st_mtime_ns)
    for _ in range(2):
        assert moves.settle(work / "1", done, b"a", was=was) == b"a~2"


def test_a_name_whose_note_is_anothers_is_left_to_it(folders) -> None:
    work, done = folders
    inode = make(work / "1")
    name = moves.settle(work / "1", done, b"a", was=Was(inode), announce=lambda name: name != b"a")
    assert name == b"a~2"


def test_discarding_twice_is_as_good_as_once(folders) -> None:
    make(folders[0] / "1")
    moves.discard(folders[0] / "1")
    moves.discard(folders[0] / "1")
    assert os.listdir(folders[0]) == []


@given(
    st.binary(min_size=1, max_size=255).filter(lambda name: b"/" not in name and b"\0" not in name),
    st.integers(0, 20),
)
def test_every_name_has_many_others_that_fit_and_differ(name: bytes, reserve: int) -> None:
    names = list(itertools.islice(moves.told_apart(name, reserve), 12))
    assert len(set(names)) == 12
    assert all(0 < len(other) <= 255 - reserve for other in names)
    if len(name) <= 255 - reserve:
        assert names[0] == name


def test_a_long_name_is_cut_between_characters_and_keeps_its_suffix() -> None:
    name = "é".encode() * 125 + b".csv"
    assert len(name) == 254
    second = list(itertools.islice(moves.told_apart(name), 2))[1]
    assert second == "é".encode() * 124 + b"~2.csv"


def test_a_dot_at_the_beginning_is_no_suffix() -> None:
    assert list(itertools.islice(moves.told_apart(b".a.csv"), 2))[1] == b".a~2.csv"
    assert list(itertools.islice(moves.told_apart(b"plain"), 2))[1] == b"plain~2"
