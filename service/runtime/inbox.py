"""Looks into a directory that people drop files in, and says which of them are whole.

Rules: the listing is the truth, events only hints. A file renamed in is whole at once; one written in
place when its size and mtime have been still for `settle_seconds` and nobody is known to hold it
open for writing. Names that are hidden, or that tools use while they copy, are never looked at.
Everything here may wait for a disk, and runs in a thread; one look at a time.
"""

from __future__ import annotations

import errno
import fcntl
import fnmatch
import os
import re
import stat
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.core.ledger import Listing
from service.storage.disk import scarcity_border

MOST_AT_ONCE = 256
GONE = "is gone"
ELSEWHERE = "lies on another file system"


@dataclass(frozen=True, slots=True)
class Found:
    """A file that is whole: what its directory entry says."""

    name: bytes
    size: int
    mtime_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class Look:
    """What a look found: the whole files in the order of their names, how many wait (with them), and
    in how many seconds the next of the others may be whole (None: none that we wait for). `missing`: why nothing can be
    taken from there, GONE or ELSEWHERE, where files can't be moved out of; else empty."""

    ready: tuple[Found, ...]
    waiting: int
    again_seconds: float | None
    missing: str = ""


@dataclass(frozen=True, slots=True)
class _Sighting:
    """A file that may still be written: as it was, and since when."""

    shape: tuple[int, int, int]
    since: float


class Inbox:
    """One watched directory."""

    def __init__(
        self, path: Path, include: Sequence[str], ignore: Sequence[str], settle_seconds: float
    ) -> None:
        self.path = path
        self._include = _any_of(include)
        self._ignore = _any_of(ignore)
        self._settle_seconds = settle_seconds
        self._listing = Listing()
        self._is_stale = False  # a new listing was asked for while the last one was worked off
        self._sightings: dict[bytes, _Sighting] = {}

    def look(self, hints: Mapping[bytes, bool], relist: bool) -> Look:
        """Looks at the names that events told of (True: renamed in), at what was not whole yet, and
        on through the listing; a new listing is made when the last is worked off and `relist` asks.

        Raises TooManyFiles when no descriptor is to be had: it is to be tried again, with a new listing.
        """
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            root = self.path.parents[1].stat()
            with scarcity_border("open", self.path):
                folder = os.open(self.path, flags)
        except OSError:
            return Look((), 0, None, missing=GONE)
        try:
            if os.fstat(folder).st_dev != root.st_dev:
                return Look((), 0, None, missing=ELSEWHERE)
            self._is_stale |= relist
            if self._is_stale and not self._listing:
                self._list(folder)
                self._is_stale = False
            names = {name for name in hints if self.wants(name)}
            names.update(self._sightings)
            names.update(self._listing.take(MOST_AT_ONCE))
            self._listing.strike(names)
            found = [self._look_at(folder, name, hints.get(name, False)) for name in sorted(names)]
        finally:
            os.close(folder)
        ready = tuple(file for file in found if file is not None)
        for file in ready:
            self._sightings.pop(file.name, None)
        waiting = len(ready) + len(self._sightings) + len(self._listing)
        return Look(ready, waiting, self._again())

    def count(self) -> int:
        """How many files lie there that will be taken: for a time in which nobody looks. Raises OSError."""
        return len(self._names(self.path))

    def wants(self, name: bytes) -> bool:
        """Whether a file of this name is ever taken."""
        if name.startswith(b".") or self._include.match(name) is None:
            return False
        return self._ignore.match(name) is None

    def _list(self, folder: int) -> None:
        with scarcity_border("list", self.path):
            self._listing.refill(self._names(folder))

    def _names(self, folder: int | Path) -> list[bytes]:
        with os.scandir(folder) as entries:
            names = [os.fsencode(e.name) for e in entries if not e.is_dir(follow_symlinks=False)]
        return [name for name in names if self.wants(name)]

    def _look_at(self, folder: int, name: bytes, moved: bool) -> Found | None:
        try:
            seen = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            self._sightings.pop(name, None)
            return None
        if stat.S_ISDIR(seen.st_mode):
            return None  # somebody's folder; only files are taken
        found = Found(name, seen.st_size, seen.st_mtime_ns, seen.st_ino)
        if not stat.S_ISREG(seen.st_mode):
            return found  # no more will become of it: taken, and refused with a note
        if (moved or self._still(found, seen.st_ctime)) and not _held_open(folder, name):
            return found
        self._sightings.setdefault(name, _Sighting(_shape(found), time.monotonic()))
        return None

    def _still(self, found: Found, changed: float) -> bool:
        """Whether a file has been still long enough: since we saw it, or by its own ctime.

        Nobody can set a ctime back, as they can an mtime; a clock that was set wrong only costs or
        saves a wait, since a writer that holds the file open is found by its lease.
        """
        sighting = self._sightings.get(found.name)
        if sighting is None or sighting.shape != _shape(found):
            self._sightings[found.name] = sighting = _Sighting(_shape(found), time.monotonic())
        still_seconds = max(time.monotonic() - sighting.since, time.time() - changed)
        return still_seconds >= self._settle_seconds

    def _again(self) -> float | None:
        if self._listing or self._is_stale:
            return 0.0
        if not self._sightings:
            return None
        oldest = min(sighting.since for sighting in self._sightings.values())
        return min(
            max(oldest + self._settle_seconds - time.monotonic(), 0.05), self._settle_seconds
        )


def _any_of(globs: Sequence[str]) -> re.Pattern[bytes]:
    """What matches the names that one of the patterns matches: a hundred thousand names are looked at again and again."""
    translated = [fnmatch.translate(os.fsencode(glob).decode("latin-1")) for glob in globs]
    return re.compile("|".join(translated or ["(?!)"]).encode("latin-1"))


def _shape(found: Found) -> tuple[int, int, int]:
    return found.size, found.mtime_ns, found.inode


def _held_open(folder: int, name: bytes) -> bool:
    """Whether somebody is known to hold the file open for writing.

    A read lease is granted only when nobody does. Where leases can't be had (another's file, a
    network file system) nobody is *known* to. The lease is let go at once; SIGIO, should somebody
    open the file in that instant, is ignored by the daemon.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with scarcity_border("open", os.fsdecode(name)):
            file = os.open(name, flags, dir_fd=folder)
    except OSError:
        return False  # unreadable, or gone: taking it will say so
    try:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    finally:
        os.close(file)
    return False
