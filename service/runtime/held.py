"""Regions of the arena that several hold at once: the last to let go gives them back.

Rules: all on the event loop, so counting needs no lock. Whoever passes a region on, through a channel
say, passes its hold with it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.runtime.arena import Arena, Region


class Held:
    """A region and how many hold it; made with one hold."""

    def __init__(self, region: Region, give_back: Callable[[Region], None]) -> None:
        self.region = region
        self._give_back = give_back
        self._holds = 1

    @property
    def is_shared(self) -> bool:
        """Whether others hold it, too."""
        return self._holds > 1

    def hold(self) -> Held:
        """One more holds it; returns itself."""
        if not self._holds:
            raise ValueError(f"region: it is held while it is passed on, got {self!r}")
        self._holds += 1
        return self

    def drop(self) -> None:
        """One holds it no longer; the last one gives it back."""
        if not self._holds:
            raise ValueError(f"region: dropped once for each hold, got {self!r}")
        self._holds -= 1
        if not self._holds:
            self._give_back(self.region)

    def __repr__(self) -> str:
        return f"<Held {self.region.length} bytes at {self.region.offset}, {self._holds} holds>"


def reserve(arena: Arena, nbytes: int) -> Held:
    """A new region of the arena, backed by memory when a worker first uses it."""
    return Held(arena.reserve(nbytes, backed=False), arena.release)


@contextmanager
def dropped_on_error(*some: Held) -> Iterator[None]:
    """Drops them when the block raises: what would have held them doesn't come to be."""
    try:
        yield
    except BaseException:
        for held in some:
            held.drop()
        raise


class Slots:
    """The slots that blocks are decoded into: their number bounds the memory of decoding ahead.

    A slot is granted at once to a job that has no block at all, or whose training has run dry while
    nothing of it is being decoded (`dry`): so each active job always gets on, and no job waits for
    another's slots. The `shared` slots beyond that are for decoding ahead, first come, first served.
    Slots are kept and used again, latest first, so that their pages need not be faulted in anew.
    """

    def __init__(self, arena: Arena, shared: int) -> None:
        self._arena = arena
        self._shared = shared
        self._free: list[Region] = []
        self._held: Counter[str] = Counter()
        self._ahead = 0  # how many are held beyond each job's first
        self._decoding: Counter[str] = Counter()
        self._dry: set[str] = set()
        self._waiting: list[tuple[str, asyncio.Future[bool]]] = []

    async def acquire(self, job: str, nbytes: int) -> tuple[Held, bool]:
        """A slot of at least `nbytes`, and whether the job waits for it (or merely decodes ahead)."""
        waited_for = await self._turn(job)
        try:
            region = self._region(nbytes)
        except BaseException:
            self._let_go(job)
            self.decoded(job)
            raise
        return Held(region, lambda given: self._given_back(job, given)), waited_for

    def decoded(self, job: str) -> None:
        """A block of the job reached its training, or never will."""
        self._decoding[job] -= 1
        self._wake()

    def dry(self, job: str, is_dry: bool) -> None:
        """Says whether the job's training waits for rows."""
        (self._dry.add if is_dry else self._dry.discard)(job)
        if is_dry:
            self._wake()

    def close(self) -> None:
        """Gives the kept slots back to the arena."""
        while self._free:
            self._arena.release(self._free.pop())

    def __repr__(self) -> str:
        return (
            f"<Slots {dict(+self._held)} held, {len(self._waiting)} waiting, {self._shared} shared>"
        )

    async def _turn(self, job: str) -> bool:
        if not self._waiting and self._may(job) is not None:
            return self._grant(job)
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, turn))
        self._wake()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._let_go(job)
                self.decoded(job)
            else:
                self._waiting = [w for w in self._waiting if w[1] is not turn]
            raise

    def _may(self, job: str) -> bool | None:
        """Whether the job may have a slot because it waits for it (True), to decode ahead (False), or not."""
        if not self._held[job] or (job in self._dry and not self._decoding[job]):
            return True
        return False if self._ahead < self._shared else None

    def _grant(self, job: str) -> bool:
        waited_for = bool(self._may(job))
        self._ahead += self._held[job] > 0
        self._held[job] += 1
        self._decoding[job] += 1
        return waited_for

    def _wake(self) -> None:
        for entry in list(self._waiting):
            job, turn = entry
            if turn.done():
                self._waiting.remove(entry)
            elif self._may(job) is not None:
                self._waiting.remove(entry)
                turn.set_result(self._grant(job))

    def _region(self, nbytes: int) -> Region:
        for index in range(len(self._free) - 1, -1, -1):
            if self._free[index].length >= nbytes:
                return self._free.pop(index)
        return self._arena.reserve(nbytes, backed=False)

    def _given_back(self, job: str, region: Region) -> None:
        if len(self._free) <= self._shared:
            self._free.append(region)
        else:
            self._arena.release(region)
        self._let_go(job)

    def _let_go(self, job: str) -> None:
        self._held[job] -= 1
        self._ahead -= self._held[job] > 0
        self._wake()
