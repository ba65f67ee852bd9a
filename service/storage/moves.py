"""Sample files change folders: out of the inbox, and to done/ or failed/ under their own names.

Rules. Nothing is ever replaced: a move to a name that exists fails, and settling tries the next name. A name is bytes and
is joined only to a directory's descriptor or path as one component. Where a move stands can be told afterwards from the
disk alone, so that recovery may call each function again:

    the source is there                    it has not happened
    the source is gone                     it has happened; the file is found by its inode's number, or in a copy of the
                                           root, where the numbers are others, by its size, and its time or its content
    both are there, one inode              a crash between link and unlink (file systems without RENAME_NOREPLACE)
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from service.storage.disk import fsync_directory, opened_folder, storage_border

NAME_BYTES = 255  # the longest name that Linux file systems take
_KEPT = 64  # so many bytes of a stem are never cut
_MARK = re.compile(rb"~([0-9]{1,9})")
_RENAME_NOREPLACE = 1
_WITHOUT_NOREPLACE = frozenset({errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.EOPNOTSUPP})
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Was:
    """What is known of a file before it was moved: the number of its inode, and perhaps its size, time and SHA-256 (hex)."""

    inode: int
    size: int | None = None
    mtime_ns: int | None = None
    sha256: str | None = None

    def has_inode(self, entry: os.DirEntry[str]) -> bool:
        """Surely the same: a number may go to another file when one is deleted, but hardly to one of the same size."""
        return entry.inode() == self.inode and self.size in (None, self._size(entry))

    def is_alike(self, entry: os.DirEntry[str]) -> bool:
        """The same in a copy of the root, where numbers are others; where times are, too, the content tells."""
        if self._size(entry) != self.size:
            return False
        if entry.stat(follow_symlinks=False).st_mtime_ns == self.mtime_ns:
            return True
        if self.sha256 is None or not entry.is_file(follow_symlinks=False):
            return False
        with open(entry.path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256

    @staticmethod
    def _size(entry: os.DirEntry[str]) -> int:
        return entry.stat(follow_symlinks=False).st_size


NOTHING = Was(0)


def take(inbox_fd: int, name: bytes, work_fd: int, work_name: str) -> os.stat_result:
    """Moves a file out of the inbox and says what was moved (links not followed), for the caller to compare.

    Raises FileNotFoundError where it is gone, FileExistsError where `work_name` is another file; DiskFull and
    StorageError else. Flushing both directories is the caller's, once for many files.
    """
    target = os.fsencode(work_name)
    _move(inbox_fd, name, work_fd, target)
    return os.stat(target, dir_fd=work_fd, follow_symlinks=False)


def put_back(work_fd: int, work_name: str, inbox_fd: int, name: bytes) -> bool:
    """Moves a file back under its name in the inbox, or says False where that name is in use again."""
    try:
        _move(work_fd, os.fsencode(work_name), inbox_fd, name)
    except FileExistsError:
        return False
    return True


def settle(
    work: Path,
    directory: Path,
    name: bytes,
    *,
    was: Was = NOTHING,
    reserve: int = 0,
    announce: Callable[[bytes], bool] = lambda candidate: True,
    is_flushed: bool = True,
) -> bytes | None:
    """Moves a work file into `directory` under its own name, told apart where names meet, durably; says which name.

    `was` is what the journal knows of the work file, for when the move has already happened. `announce` is called with the
    name before the file gets it and may write a note there; it says False where that name's note is another's.
    `reserve` bytes are left free in the name for the note's suffix. Not `is_flushed`, flushing both directories is the
    caller's, once for many files. None: it was moved, and somebody has taken it away.
    """
    here = _inode(work)
    if here is None:
        arrived = _arrived(directory, name, reserve, was)
        if arrived is not None:
            announce(arrived)
            _flush(directory, work, is_flushed)
        return arrived
    for candidate in told_apart(name, reserve):
        target = directory / os.fsdecode(candidate)
        if _inode(target) not in (None, here) or not announce(candidate):
            continue
        if _moved(work, target):
            _flush(directory, work, is_flushed)
            return candidate
    raise AssertionError("unreachable: the names never end")


def _flush(directory: Path, work: Path, is_flushed: bool) -> None:
    if is_flushed:
        fsync_directory(directory)
        fsync_directory(work.parent)


def _arrived(directory: Path, name: bytes, reserve: int, was: Was) -> bytes | None:
    """The name that a file which was moved has there. All that the directory holds is looked at, since others of its
    names may have been taken away; who has its inode goes before who is only alike."""
    with storage_border("look through", directory), os.scandir(directory) as entries:
        there = {os.fsencode(entry.name): entry for entry in entries}
        own = sorted((number, one) for one in there if (number := _number(one, name, reserve)))
        for is_it in (was.has_inode, was.is_alike):
            for _, one in own:
                if is_it(there[one]):
                    return one
    return None


def settle_plainly(work_fd: int, work_name: str, directory_fd: int, name: bytes) -> bytes | None:
    """Moves a work file into a directory under its own name; None, and nothing has happened, where the name is taken or the
    file is gone: `settle` knows what to do then. Flushing both directories is the caller's, once for many files."""
    candidate = next(told_apart(name))
    try:
        _move(work_fd, os.fsencode(work_name), directory_fd, candidate)
    except (FileExistsError, FileNotFoundError):
        return None
    return candidate


def discard(work: Path) -> None:
    """Deletes a work file durably (`after = "delete"`); one that is gone is left gone."""
    with storage_border("delete", work):
        work.unlink(missing_ok=True)
    fsync_directory(work.parent)


def told_apart(name: bytes, reserve: int = 0) -> Iterator[bytes]:
    """`a.csv.gz`, `a~2.csv.gz`, `a~3.csv.gz`, ... each at most 255 - reserve bytes, cut between characters."""
    return (_told_apart(name, reserve, number) for number in count(1))


def _told_apart(name: bytes, reserve: int, number: int) -> bytes:
    stem, suffix = _split(name)
    mark = b"" if number == 1 else b"~%d" % number
    room = NAME_BYTES - reserve - len(mark)
    tail = suffix[-(room // 2) :] if len(suffix) > room // 2 else suffix
    return _cut(stem, room - len(tail)) + mark + tail


def _number(candidate: bytes, name: bytes, reserve: int) -> int:
    """Which of the names told apart it is, from 1; 0 where it is none."""
    stem, _ = _split(name)
    if not candidate.startswith(stem[:_KEPT]):
        return 0
    numbers = [1, *map(int, _MARK.findall(candidate))]
    return next((n for n in numbers if _told_apart(name, reserve, n) == candidate), 0)


def _split(name: bytes) -> tuple[bytes, bytes]:
    """The part before the first suffix, and the suffixes."""
    dot = name.find(b".", 1)
    return (name, b"") if dot < 0 else (name[:dot], name[dot:])


def _cut(stem: bytes, room: int) -> bytes:
    """The first `room` bytes, less those of a UTF-8 character that the cut would halve."""
    if len(stem) <= room:
        return stem
    end = room
    while (
        end > room - 3 and 0x80 <= stem[end] <= 0xBF
    ):  # a continuation byte may not begin what is left out
        end -= 1
    return stem[:end]


def _moved(work: Path, target: Path) -> bool:
    """Moves the work file; False where somebody else has just taken the name."""
    with (
        storage_border("move", work),
        opened_folder(work.parent) as source_fd,
        opened_folder(target.parent) as target_fd,
    ):
        try:
            _move(source_fd, os.fsencode(work.name), target_fd, os.fsencode(target.name))
        except FileExistsError:
            return False
    return True


def _move(source_fd: int, source: bytes, target_fd: int, target: bytes) -> None:
    """rename(2) that never replaces; FileExistsError and FileNotFoundError pass, other errors are translated."""
    try:
        if not _renamed(source_fd, source, target_fd, target):
            _link_and_unlink(source_fd, source, target_fd, target)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError as error:
        with storage_border("move", os.fsdecode(source)):
            raise error


def _renamed(source_fd: int, source: bytes, target_fd: int, target: bytes) -> bool:
    """renameat2(RENAME_NOREPLACE); False where the C library or the file system lacks it."""
    try:
        call = _libc.renameat2
    except AttributeError:
        return False
    if call(source_fd, source, target_fd, target, _RENAME_NOREPLACE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _WITHOUT_NOREPLACE:
        return False
    if number == errno.EEXIST and _same(source_fd, source, target_fd, target):
        os.unlink(source, dir_fd=source_fd)
        return True
    raise OSError(number, os.strerror(number), os.fsdecode(source))


def _link_and_unlink(source_fd: int, source: bytes, target_fd: int, target: bytes) -> None:
    try:
        os.link(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd, follow_symlinks=False)
    except FileExistsError:
        if not _same(source_fd, source, target_fd, target):
            raise
    os.unlink(source, dir_fd=source_fd)


def _same(source_fd: int, source: bytes, target_fd: int, target: bytes) -> bool:
    """Are both names one file? Then a move was cut short between link and unlink."""
    one = os.stat(source, dir_fd=source_fd, follow_symlinks=False)
    other = os.stat(target, dir_fd=target_fd, follow_symlinks=False)
    return os.path.samestat(one, other)


def _inode(path: Path) -> int | None:
    with storage_border("look at", path):
        try:
            return path.lstat().st_ino
        except FileNotFoundError:
            return None
