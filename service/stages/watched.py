"""A directory that a line watches: looked into on a hint, when a file may be whole, and at intervals."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from types import TracebackType

from service.core.errors import Scarcity
from service.core.layout import shown
from service.runtime.inbox import ELSEWHERE, Inbox, Look
from service.runtime.watch import Hints, Watch
from service.stages.line import Line


class Watched:
    """Use it as `async with`: events are heard until it is left."""

    def __init__(
        self, watch: Watch, line: Line, inbox: Inbox, rescan_seconds: float, once: bool
    ) -> None:
        self.once = once
        self.rescan_seconds = rescan_seconds
        self._watch = watch
        self._line = line
        self._inbox = inbox
        self._hints = Hints()
        self._listed = -rescan_seconds
        self._missing = ""

    async def __aenter__(self) -> Watched:
        self._watch.add(self._inbox.path, self._hear)
        self._line.wakers.append(self._hints.wake)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._watch.remove(self._inbox.path)
        self._line.wakers.remove(self._hints.wake)

    def _hear(self, name: bytes | None, moved: bool) -> None:
        """A `Hear`. A file that is being written under a name that is never taken is no reason to look."""
        if name is None or self._inbox.wants(name):
            self._hints.hear(name, moved)

    async def look(self) -> Look:
        """What is whole now; the directory is listed again when its time has come or events were lost."""
        names, lost = self._hints.heard()
        due = time.monotonic() - self._listed >= self.rescan_seconds
        if due:
            self._listed = time.monotonic()
            self._watch.arm(self._inbox.path)
        try:
            look = await asyncio.to_thread(self._inbox.look, names, due or lost)
        except Scarcity:
            self._hints.hear(None, False)  # what was heard is found by a new listing
            raise
        came = self._hints.came() and not look.missing
        if came or look.missing != self._missing:
            self._missing = look.missing
            self._tell(look.missing)
        return look

    def _tell(self, missing: str) -> None:
        """That nothing can be taken, or can again. Nobody makes the directory again here: its disk may be gone with it."""
        path, status = shown(self._inbox.path), self._line.status
        if missing:
            remedy = "unmount it" if missing == ELSEWHERE else f"make it again (mkdir {path})"
            status.gone[path] = f"{path}: this directory {missing}, no file can come; {remedy}"
            self._line.note(f"directory {missing}", path=path, remedy=remedy)
        else:
            status.gone.pop(path, None)
            self._line.note("directory was made again", path=path)

    async def recount(self) -> int | None:
        """How many files wait while nobody looks; None where the directory can't be listed."""
        with suppress(OSError):
            return await asyncio.to_thread(self._inbox.count)
        return None

    def is_done(self, look: Look) -> bool:
        """Whether, looking only once, there is nothing left to wait for."""
        return self.once and not look.ready and look.again_seconds is None

    async def wait(self, look: Look, at_most: float | None = None) -> None:
        """Until a hint, the next listing, or the time at which a file may be whole."""
        waits = [self._listed + self.rescan_seconds - time.monotonic()]
        waits += [seconds for seconds in (look.again_seconds, at_most) if seconds is not None]
        try:
            async with asyncio.timeout(max(min(waits), 0.0)):
                await self._hints.wait()
        except TimeoutError:
            return
