"""Hints that something happened in a directory, from inotify; never more than hints.

Rules: whoever is told looks for itself. Events get lost, and network and container file systems send
none, so a missing or broken watch costs nothing but time until the next listing. A directory that is deleted or moved away is
watched again as soon as its parent has one of its name: the parent is watched for that.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from inotify_simple import Event, INotify, flags

_DIRECTORY = flags.ONLYDIR | flags.DONT_FOLLOW
_WATCHED = flags.MOVED_TO | flags.CLOSE_WRITE | flags.CREATE | flags.MOVE_SELF | _DIRECTORY
_COMING = flags.MOVED_TO | flags.CREATE | _DIRECTORY
_GONE = flags.IGNORED | flags.DELETE_SELF | flags.MOVE_SELF | flags.UNMOUNT

MOST_NAMES = 4096
"""So many are remembered. A listing finds the others, and holds them in a tenth of the memory; but it can't tell that they were
renamed in, so each must have been still for a while."""

Hear = Callable[[bytes | None, bool], None]
"""Called with the name of a file and whether it was renamed in; with None when events were lost, and then with True when
the directory itself has come, in the place of one that is gone."""


class Hints:
    """What was heard of one directory since it was last looked into."""

    def __init__(self) -> None:
        self._names: dict[bytes, bool] = {}
        self._lost = False
        self._came = False
        self._something = asyncio.Event()

    def hear(self, name: bytes | None, moved: bool) -> None:
        """A `Hear`: remembers names, up to `MOST_NAMES`, and whether there were more or events were lost."""
        if name is None:
            self._lost = True
            self._came |= moved
        elif name not in self._names and len(self._names) >= MOST_NAMES:
            self._lost = True
        else:
            self._names[name] = self._names.get(name, False) or moved
        self._something.set()

    def heard(self) -> tuple[dict[bytes, bool], bool]:
        """The names since the last call, each with whether it was renamed in; and whether more may be."""
        names, lost = self._names, self._lost
        self._names, self._lost = {}, False
        self._something.clear()
        return names, lost

    def came(self) -> bool:
        """Whether the directory has come since the last call, in the place of one that is gone."""
        came, self._came = self._came, False
        return came

    async def wait(self) -> None:
        """Until something is heard, or `wake` is called."""
        await self._something.wait()

    def wake(self) -> None:
        """Ends a wait without news."""
        self._something.set()


class Watch:
    """One inotify for all inboxes; directories that are gone are watched again by `arm`."""

    def __init__(self) -> None:
        self._inotify: INotify | None = None
        self._heard: dict[Path, Hear] = {}
        self._paths: dict[int, Path] = {}
        self._parents: dict[int, Path] = {}

    def start(self) -> str | None:
        """Listens from now on; returns why not where the machine gives no inotify."""
        try:
            self._inotify = INotify(nonblocking=True)
        except OSError as error:
            return f"no events, listing only: {error}"
        asyncio.get_running_loop().add_reader(self._inotify.fd, self._read)
        return None

    def add(self, path: Path, hear: Hear) -> None:
        """Calls `hear` when something happens in `path`."""
        self._heard[path] = hear
        self.arm(path)

    def arm(self, path: Path) -> None:
        """Watches a directory (again), and its parent; harmless where they are watched already."""
        if self._inotify is None:
            return
        with suppress(OSError):  # gone, or no watches left: the listing goes on
            parent = path.parent
            self._parents[self._inotify.add_watch(os.fspath(parent), _COMING)] = parent
            self._paths[self._inotify.add_watch(os.fspath(path), _WATCHED)] = path

    def remove(self, path: Path) -> None:
        """Calls nobody for `path` any more."""
        self._heard.pop(path, None)

    def close(self) -> None:
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify.fd)
            self._inotify.close()
            self._inotify = None

    def _read(self) -> None:
        assert self._inotify is not None
        for event in self._inotify.read(timeout=0):
            if event.mask & flags.Q_OVERFLOW:
                for hear in list(self._heard.values()):
                    hear(None, False)
                continue
            if event.wd in self._parents:
                self._hear_parent(event)
            elif event.wd in self._paths:
                self._hear(event)

    def _hear(self, event: Event) -> None:
        path = self._paths[event.wd]
        if event.mask & _GONE:
            self._forget(event.wd)
        hear_of = self._heard.get(path)
        if hear_of is not None and event.name:
            hear_of(os.fsencode(event.name), bool(event.mask & flags.MOVED_TO))
        elif hear_of is not None:
            hear_of(None, False)

    def _hear_parent(self, event: Event) -> None:
        """What has come there may be a directory that was gone."""
        if event.mask & _GONE:
            del self._parents[event.wd]  # its next listing watches it again
            return
        path = self._parents[event.wd] / event.name
        if path not in self._heard:
            return
        before = {number for number, known in self._paths.items() if known == path}
        self.arm(path)
        now = {number for number, known in self._paths.items() if known == path}
        if before and now == before:
            return  # it is watched already: the news is older than the watch
        for number in before:
            self._forget(number)
        self._heard[path](None, True)

    def _forget(self, number: int) -> None:
        """Hears nothing more of a directory that is gone, or lies elsewhere now."""
        del self._paths[number]
        assert self._inotify is not None
        with suppress(OSError):  # with a deleted one the kernel has done it
            self._inotify.rm_watch(number)
