"""Sample files change folders: out of the inbox, and to done/ or failed/ under their own names.

Rules. Nothing is ever replaced: a move to a name that exists fails, and settling tries the next name. A name is bytes and
is joined only to a directory's descriptor or path as one component. Where a move stands can be told afterwards from the
disk alone, so that recovery may call each function again:

    the source is there                    it has not happened
    the source is gone                     it has happened; the file is found under its inode's number, or in a copy of
                                           the root, where the numbers are others, by its size and time
    both are there, one inode              a crash between link and unlink (file systems without RENAME_NOREPLACE)
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from itertools import count, takewhile
from pathlib import Path

from service.storage.disk import fsync_directory, opened_folder, storage_border

NAME_BYTES = 255  # the longest name that Linux file systems take
_RENAME_NOREPLACE = 1
_WITHOUT_NOREPLACE = frozenset({errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.EOPNOTSUPP})
_libc = ctypes.CDLL(None, use_errno=True)


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
    inode: int,
    stamp: tuple[int, int] | None = None,
    reserve: int = 0,
    announce: Callable[[bytes], bool] = lambda candidate: True,
    is_flushed: bool = True,
) -> bytes | None:
    """Moves a work file into `directory` under its own name, told apart where names meet, durably; says which name.

    `inode`, and `stamp` (size, time of change in ns), are the work file's as the journal has them, for when the move has already happened. `announce` is called with
    the name before the file gets it and may write a note there; it says False where that name's note is another's.
    `reserve` bytes are left free in the name for the note's suffix. Not `is_flushed`, flushing both directories is the
    caller's, once for many files. None: it was moved, and somebody has taken it away.
    """
    inode = _inode(work) or _arrived(directory, told_apart(name, reserve), inode, stamp)
    for candidate in told_apart(name, reserve):
        target = directory / os.fsdecode(candidate)
        there = _inode(target)
        if there is None and not _inode(work):
            return None
        if there not in (None, inode) or not announce(candidate):
            continue
        if _inode(work) and not _moved(work, target):
            continue
        if is_flushed:
            fsync_directory(directory)
            fsync_directory(work.parent)
        return candidate
    raise AssertionError("unreachable: the names never end")


def _arrived(
    directory: Path, candidates: Iterator[bytes], inode: int, stamp: tuple[int, int] | None
) -> int:
    """The number that a file which was moved has there now: `inode`, or that of the first candidate with its size and time."""
    entries = (_lstat(directory / os.fsdecode(candidate)) for candidate in candidates)
    there = [entry for entry in takewhile(bool, entries) if entry is not None]
    if any(entry.st_ino == inode for entry in there):
        return inode
    alike = (entry.st_ino for entry in there if (entry.st_size, entry.st_mtime_ns) == stamp)
    return next(alike, inode)


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
    stem, suffix = _split(name)
    for number in count(1):
        mark = b"" if number == 1 else b"~%d" % number
        room = NAME_BYTES - reserve - len(mark)
        tail = suffix[-(room // 2) :] if len(suffix) > room // 2 else suffix
        yield _cut(stem, room - len(tail)) + mark + tail


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
    there = _lstat(path)
    return there and there.st_ino


def _lstat(path: Path) -> os.stat_result | None:
    with storage_border("look at", path):
        try:
            return path.lstat()
        except FileNotFoundError:
            return None
