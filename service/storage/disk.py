"""Files that last: every write, rename and flush that must survive a power cut goes through here.

Rules. A new file is written beside its place under a dot-name, flushed, renamed, and its directory is flushed: the name
shows the old bytes or the new ones, never a part. A sample file is moved without ever replacing another. What the
operating system reports is translated here and nowhere else:

    ENOSPC, EDQUOT, EFBIG of a write     DiskFull      roll back, pause, go on when there is room
    EMFILE, ENFILE of an open            TooManyFiles  the same, when there are descriptors again
    any error of an fsync                StorageError  fatal, never retried, ENOSPC too: the kernel has already dropped the
                                                       page and marked it clean, so a second fsync would say yes to a loss
    every other OSError                  StorageError  fatal
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from service.core.errors import DiskFull, Scarcity, StorageError, TooManyFiles
from service.core.layout import shown

TEMPORARY_PREFIX = ".headrace-"
TEMPORARY_SUFFIX = ".tmp"
_SCARCITIES: dict[int, type[Scarcity]] = {
    errno.ENOSPC: DiskFull,
    errno.EDQUOT: DiskFull,
    errno.EFBIG: DiskFull,
    errno.EMFILE: TooManyFiles,
    errno.ENFILE: TooManyFiles,
}


def scarcity(error: OSError) -> type[Scarcity] | None:
    """Which thing is used up that comes back, if that is what the error says."""
    return None if error.errno is None else _SCARCITIES.get(error.errno)


class _Border:
    """Translates the OSErrors that leave its block. No generator: a small file crosses some ten of them."""

    __slots__ = ("_other", "_path", "_what")

    def __init__(self, what: str, path: Path | str, other: type[StorageError] | None) -> None:
        self._what = what
        self._path = path
        self._other = other

    def __enter__(self) -> None:
        """Nothing is to be done before."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, OSError):
            ours = scarcity(error) or self._other
            if ours is not None:
                raise _translated(ours, self._what, self._path, error) from error


def storage_border(what: str, path: Path | str) -> AbstractContextManager[None]:
    """Translates an OSError inside into a Scarcity or StorageError: `path: what failed, got the system's text`."""
    return _Border(what, path, StorageError)


def scarcity_border(what: str, path: Path | str) -> AbstractContextManager[None]:
    """Translates an OSError inside that is a Scarcity; every other is the caller's to judge."""
    return _Border(what, path, None)


def _translated(
    kind: type[StorageError], what: str, path: Path | str, error: OSError
) -> StorageError:
    return kind(f"{shown(path)}: cannot {what}, got {error.strerror or error}")


def temporary(directory: Path) -> Path:
    """A new dot-name in `directory` that no intake takes and that recovery deletes."""
    return directory / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"


def is_temporary(name: str) -> bool:
    return name.startswith(TEMPORARY_PREFIX) and name.endswith(TEMPORARY_SUFFIX)


def replace_file(path: Path, data: bytes | Callable[[BinaryIO], object]) -> None:
    """Puts `data` at `path`, whole and durable; a callable is given the open file to write to.

    When it raises, `path` is as it was and the temporary file is gone.
    """
    part = temporary(path.parent)
    with storage_border("write", path), _removed_on_error(part):
        with open(part, "xb") as file:
            if isinstance(data, bytes):
                file.write(data)  # a buffered file loops on short writes
            else:
                data(file)
            file.flush()
            fsync(file.fileno(), path)
        os.rename(part, path)
    fsync_directory(path.parent)


def replace_link(path: Path, target: str) -> None:
    """Makes `path` a link to `target` at once, whatever it was. Not flushed: a link can be made again."""
    part = temporary(path.parent)
    with storage_border("link", path), _removed_on_error(part):
        os.symlink(target, part)
        os.rename(part, path)


@contextmanager
def _removed_on_error(part: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


@contextmanager
def opened_folder(path: Path, flags: int = 0) -> Iterator[int]:
    """A descriptor of a folder, to move files by their names there. Raises OSError as it is."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def fsync_directory(path: Path) -> None:
    """New, moved and deleted names in the directory reach the disk."""
    with storage_border("open", path), opened_folder(path) as descriptor:
        fsync(descriptor, path)


def names(directory: Path) -> list[str]:
    """The names in a directory, sorted; none where there is no directory."""
    with storage_border("list", directory):
        try:
            return sorted(os.listdir(directory))
        except FileNotFoundError:
            return []


def fsync(descriptor: int, path: Path) -> None:
    """What was written to the open file reaches the disk; `path` is for the error's text."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Not DiskFull, whatever the number says: see the rules above.
        raise StorageError(f"{shown(path)}: cannot flush, got {error.strerror}") from error


def write_at(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """Writes all of `data` at `offset`: a short write is continued, so a full disk shows itself as its OSError."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
