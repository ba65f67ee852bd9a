"""Files that last: all of the old bytes or all of the new ones, and errors told apart."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from service.core.errors import DiskFull, StorageError
from service.storage import disk

# What happens to the file and which error it is, printed by a process that a fault is injected into.
REPLACE = """
from pathlib import Path
from service.storage import disk
from service.core.errors import DiskFull, StorageError
path = Path("target")
path.write_bytes(b"old")
{before}
try:
    disk.replace_file(path, b"n" * 5000)
except StorageError as error:
    print(type(error).__name__, error, "|", path.read_bytes()[:3], sorted(p.name for p in Path().iterdir()))
"""


def test_a_replaced_file_has_the_new_bytes_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "target"
    disk.replace_file(path, b"old")
    disk.replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["target"]


def test_a_callable_writes_the_new_file(tmp_path: Path) -> None:
    disk.replace_file(tmp_path / "target", lambda file: [file.write(b"a"), file.write(b"b")])
    assert (tmp_path / "target").read_bytes() == b"ab"


def test_a_callable_that_raises_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "target"
    path.write_bytes(b"old")

    def fail(file: object) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        disk.replace_file(path, fail)
    assert os.listdir(tmp_path) == ["target"]
    assert path.read_bytes() == b"old"


def test_a_file_size_limit_is_a_full_disk_and_leaves_the_old_file(program) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"
    said = program(REPLACE.format(before=limit))
    assert said == "DiskFull target: cannot write, got File too large | b'old' ['target']"


@pytest.mark.parametrize(("number", "kind"), [("ENOSPC", "DiskFull"), ("EDQUOT", "DiskFull")])
def test_no_room_is_a_full_disk_and_leaves_the_old_file(program, number: str, kind: str) -> None:
    said = program(REPLACE.format(before=""), inject=f"rename:error={number}")
    assert said.startswith(f"{kind} target: cannot write")
    assert said.endswith("| b'old' ['target']")


@pytest.mark.parametrize("number", ["EIO", "ENOSPC"])
def test_a_failed_fsync_is_fatal_whatever_its_number(program, number: str) -> None:
    said = program(REPLACE.format(before=""), inject=f"fsync:error={number}:when=1")
    assert said.startswith("StorageError target: cannot flush, got ")
    assert said.endswith("| b'old' ['target']")


def test_a_failed_fsync_of_the_directory_is_fatal(program) -> None:
    said = program(REPLACE.format(before=""), inject="fsync:error=EIO:when=2")
    assert said.startswith("StorageError .: cannot flush")


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: whole(fd, bytes(data)[:3], at))
    with open(tmp_path / "f", "wb") as file:
        disk.write_at(file.fileno(), b"0123456789", 2)
    assert (tmp_path / "f").read_bytes() == b"\0\x000123456789"


def test_a_link_is_replaced_at_once(tmp_path: Path) -> None:
    disk.replace_link(tmp_path / "link", "one")
    disk.replace_link(tmp_path / "link", "two")
    assert os.readlink(tmp_path / "link") == "two"
    assert os.listdir(tmp_path) == ["link"]


def test_the_border_names_path_and_cause_and_keeps_the_systems_error() -> None:
    failing = OSError(errno.EIO, "Input/output error")
    with (
        pytest.raises(StorageError, match=r"a\\nb: cannot do, got Input/output error") as caught,
        disk.storage_border("do", Path("a\nb")),
    ):
        raise failing
    assert not isinstance(caught.value, DiskFull)
    assert isinstance(caught.value.__cause__, OSError)


def test_temporary_names_are_dot_names_that_recovery_knows(tmp_path: Path) -> None:
    name = disk.temporary(tmp_path).name
    assert name.startswith(".")
    assert disk.is_temporary(name)
    assert not disk.is_temporary("somebody.tmp")


def test_a_folder_that_is_not_there_has_no_names(tmp_path: Path) -> None:
    assert disk.names(tmp_path / "none") == []
