"""The root, before anything runs in it: its folders, the proof that moves work there, and its lock.

Rules. One daemon holds a root, by flock on state/lock: the kernel frees it with the process, whatever its end. The
folders below the root are real directories on one file system, since a move between two is a copy and can be halved.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from service.core.errors import ConfigurationError, RootBusy
from service.core.layout import Layout, shown
from service.storage.disk import fsync_directory, scarcity, storage_border, temporary

# Every move that a sample file may make; a bind mount shows itself only in the attempt.
_MOVES = (("inbox", "work"), ("work", "inbox"), ("work", "done"), ("work", "failed"))


class RootLock:
    """The lock on a root, with the holder's pid in it for people; `with`, or `acquire` and `release`."""

    def __init__(self, state: Path) -> None:
        self._path = state / "lock"
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Takes the lock or raises RootBusy, which names the holder."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        with storage_border("lock", self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, flags, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RootBusy(self._busy(descriptor)) from None
            except BaseException:
                os.close(descriptor)
                raise
        self._descriptor = descriptor
        self._sign(descriptor)

    def release(self) -> None:
        """Frees the lock; the file stays, since deleting it would let two hold "the" lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _busy(self, descriptor: int) -> str:
        try:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        finally:
            os.close(descriptor)
        root = shown(self._path.parent.parent)
        return f"{root}: one daemon may hold a root, got pid {holder or 'unknown'} holding it; if it is only starting, try again soon"

    @staticmethod
    def _sign(descriptor: int) -> None:
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        except OSError as error:
            if scarcity(error) is None:
                raise  # a full disk must not keep the daemon from starting: the pid is only for people

    def __enter__(self) -> RootLock:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def prepare_root(layout: Layout, jobs: Iterable[str]) -> None:
    """Makes every folder that the jobs need, durably, and proves that files can be moved between them.

    Raises ConfigurationError where a folder is a link, not a directory, not writable or on another file system.
    """
    for job in jobs:
        for folder in layout.folders(job):
            _make(layout.root, folder)
        for source, target in _MOVES:
            _probe(layout.root / source / job, layout.root / target / job)


def _make(root: Path, folder: Path) -> None:
    """Makes a folder and those above it; below the root no link is followed."""
    if not root.is_dir():
        _mkdir(root, parents=True)
    path = root
    for part in folder.relative_to(root).parts:
        path = path / part
        if not os.path.lexists(path):
            _mkdir(path)
            fsync_directory(path.parent)
        elif not stat.S_ISDIR(path.lstat().st_mode):
            raise ConfigurationError(f"{shown(path)}: must be a directory and not a link")


def _mkdir(path: Path, parents: bool = False) -> None:
    with storage_border("make the folder", path):
        try:
            path.mkdir(parents=parents, exist_ok=True)
        except (PermissionError, NotADirectoryError, FileExistsError) as error:
            raise ConfigurationError(
                f"{shown(path)}: the folder must be possible to make, got {error.strerror}"
            ) from error


def _probe(source: Path, target: Path) -> None:
    """Moves an empty dot-file from one folder to the other and deletes it."""
    probe = temporary(source)
    arrived = target / probe.name
    with storage_border("write", source):
        try:
            probe.touch(exist_ok=False)
            os.rename(probe, arrived)
        except PermissionError as error:
            raise ConfigurationError(
                f"{shown(source)}: must be writable, as must {shown(target)}"
            ) from error
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            raise ConfigurationError(
                f"{shown(target)}: must be on the same file system as {shown(source)}, got another"
            ) from error
        finally:
            probe.unlink(missing_ok=True)
            arrived.unlink(missing_ok=True)
