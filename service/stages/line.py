"""A job's line: what its stages share.

Rules: everything here lives on the event loop. A stage changes only what the comment at a field says.
`stopping` asks the stages to leave at the next good point; it is never unset.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from service.core.errors import Refusal, Scarcity, Stopped, WorkerError
from service.core.layout import Layout
from service.core.ledger import Undecided
from service.core.status import JobStatus
from service.formats.contract import Limits
from service.runtime.arena import Arena
from service.runtime.dispatch import Dispatcher
from service.runtime.held import Held, Slots, reserve
from service.runtime.service_log import ServiceLog
from service.stages.messages import Schema
from service.storage.completion import Keep
from service.storage.journal import Journal
from service.storage.tables import Commit, FileRow
from service.storage.writer import Unit, Writer
from service.subtasks.learn import Shape, shape

R = TypeVar("R")

SCARCITY_SECONDS = 1.0
"""How long to wait before what is scarce is tried again."""


class Quarantine:
    """A room for one: who finds it taken is woken when it is free."""

    def __init__(self) -> None:
        self._is_taken = False
        self._waiting: list[Callable[[], None]] = []

    def enter(self, wake: Callable[[], None]) -> bool:
        """Takes the room if it is free; else `wake` will be called once, and it is to be tried again."""
        if self._is_taken:
            self._waiting.append(wake)
            return False
        self._is_taken = True
        return True

    def leave(self) -> None:
        """The room is free."""
        self._is_taken = False
        waiting, self._waiting = self._waiting, []
        for wake in waiting:
            wake()


@dataclass(frozen=True, slots=True)
class Machinery:
    """What all lines of the daemon share."""

    layout: Layout
    arena: Arena
    slots: Slots
    dispatcher: Dispatcher
    writer: Writer
    journal: Journal
    log: ServiceLog
    limits: Limits
    fingerprint: dict[str, Any]
    quarantine: Quarantine = field(default_factory=Quarantine)


@dataclass(frozen=True, slots=True)
class Conduct:
    """How the job runs, beside what it learns: may change at any time."""

    identity: str
    interval_seconds: float
    keep: Keep
    chunk_bytes: int
    max_file_bytes: int


@dataclass(frozen=True, slots=True)
class Model:
    """A job's model between two files; `spec` is the one that its state was made with."""

    shape: Shape
    schema: Schema
    state: Held
    version: int


@dataclass(slots=True)
class Line:
    """One job's line."""

    job: str
    machinery: Machinery
    conduct: Conduct
    status: JobStatus
    model: Model | None  # at the start; train keeps its own from there
    scores: Held | None  # at the start; record keeps its own from there
    sequence: int  # accepted files at the start
    schema: Schema | None  # record sets it when the first file is accepted
    unfinished: list[FileRow]  # admitted before the start
    resume: Commit | None  # the private commit, if the first unfinished file has one
    resume_spools: dict[str, int]
    refused: Callable[[Refusal], None]  # told of each refusal
    undecided: Undecided = field(default_factory=Undecided)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    drained: asyncio.Event = field(
        default_factory=asyncio.Event
    )  # record has recorded all there is
    wakers: list[Callable[[], None]] = field(default_factory=list)  # called when it stops
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _shapes: dict[str, Shape] = field(default_factory=dict)

    def stop(self) -> None:
        """Asks the stages to leave at the end of the round."""
        self.stopping.set()
        self.wake()
        for wake in self.wakers:
            wake()

    def close(self) -> None:
        """Lets go of the model that the line began with."""
        for held in (self.model.state if self.model else None, self.scores):
            if held is not None:
                held.drop()

    def decided(self, admission: int) -> None:
        """A file's fate is known and durable."""
        self.undecided.decided(admission)
        self.status.admitted.pop(admission, None)
        self.wake()

    def wake(self) -> None:
        """There is news."""
        self._news.set()

    async def news(self) -> None:
        """Waits for news, such as a file's fate; raises Stopped when the line stops first."""
        if not self.stopping.is_set():
            self._news.clear()
            await self._news.wait()
        if self.stopping.is_set():
            raise Stopped

    async def rest(self, seconds: float) -> None:
        """Lets some time pass; raises Stopped when the line stops."""
        try:
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        except TimeoutError:
            return
        raise Stopped

    async def settle(self, unit: Unit[Any, Any, R]) -> R:
        """Has the journal's thread carry out a unit."""
        return await asyncio.wrap_future(self.machinery.writer.submit(unit))

    async def ask(self, question: Callable[[Journal], R]) -> R:
        """Asks the journal, in its own thread."""
        journal = self.machinery.journal
        answer: Future[R] = self.machinery.writer.run(lambda: question(journal))
        return await asyncio.wrap_future(answer)

    async def patiently(self, act: Callable[[], Awaitable[R]]) -> R:
        """Does it again until nothing that it needs is scarce; raises Stopped when the line stops first.

        Meanwhile the job is paused, and says why.
        """
        scarce: Scarcity | None = None
        try:
            while True:
                try:
                    result = await act()
                except Scarcity as error:
                    self._paused(error, is_news=scarce is None)
                    scarce = error
                    await self.rest(SCARCITY_SECONDS)
                else:
                    if scarce is not None and self.status.pauses == 1:
                        self.note(f"resumed: {scarce.relief}")
                    return result
        finally:
            if scarce is not None:
                self.status.pauses -= 1
                self.status.reason = self.status.reason if self.status.pauses else None

    async def shape_of(self, spec: str) -> Shape:
        """The sizes of a learner, asked of a worker once."""
        if spec not in self._shapes:
            self._shapes[spec] = await self.machinery.dispatcher.run(shape, spec, job=self.job)
        return self._shapes[spec]

    def reserve(self, nbytes: int) -> Held:
        return reserve(self.machinery.arena, nbytes)

    def _paused(self, error: Scarcity, *, is_news: bool) -> None:
        if is_news and not self.status.pauses:
            self.note(f"paused: {error.lack}", error=str(error), remedy=error.remedy)
        self.status.pauses += is_news
        self.status.reason = f"{error}; {error.remedy}"

    def lost(self, error: WorkerError) -> None:
        """Writes to the service log what is known of a sub-task that could not be done."""
        trace = "".join(traceback.format_exception(error))
        self.note("a sub-task could not be done", error=str(error), trace=trace)

    def note(self, event: str, **facts: Any) -> None:
        """Writes an event of this job to the service log."""
        self.machinery.log.write(event, job=self.job, **facts)
