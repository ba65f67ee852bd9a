"""Hands sub-tasks to the pool when a worker is free, and again when their worker died.

The rules, in the order in which they decide who is next:
- what a job waits for (`NOW`) comes before decoding ahead (`AHEAD`);
- the job that the pool has served least comes before the others, so that a small file of one job
  is never stuck behind a huge one of another; a job that was idle starts level with the least
  served of the busy ones, and can't save up its claim; when all were idle all start level, and nobody
  pays for what he had when nobody else wanted it (start-time fair queueing: Goyal, Vin & Cheng 1996);
- within a job, first come, first served.

A sub-task is a pure function of its arguments, so one whose worker died runs again; after a second
death it runs alone (it may be one of several that exhaust the machine together); after `MOST_DEATHS`
in a row its `WorkerDied` reaches the caller, who refuses the file. Whose worker was killed from outside
may do nothing wrong: memory that somebody else takes is back after a while. So from the second death on it
rests before it runs again, each time twice as long, and gives up after `MOST_KILLS`. A job that is to stop
has no time for that: what rests then, or would, ends with Stopped.

Everything here is bookkeeping on the loop: no lock, and no await between looking and changing.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, TypeVar

from kernels.contract import KernelFault
from service.core.errors import HeadraceError, KernelFailed, Stopped, SubtaskFailed, WorkerDied
from service.runtime.process import KILLED

R = TypeVar("R")

MOST_DEATHS = 5
MOST_KILLS = 8
DEATHS_BEFORE_ALONE = 2
FIRST_REST_SECONDS = 1.0
"""All rests of a sub-task, up to the last of `MOST_KILLS` deaths, take 63 times as long."""


class Urgency(IntEnum):
    """What is handed over first."""

    NOW = 0
    AHEAD = 1


@dataclass(slots=True, eq=False)
class _Ticket:
    """One sub-task on its way through the pool."""

    job: str
    urgency: Urgency
    serial: int
    outcome: asyncio.Future[Any]
    submit: Callable[[Executor], Any]
    deaths: int = 0
    begun: float = 0.0
    ended: float = 0.0
    left: bool = False  # its caller was cancelled while it ran

    def end(self) -> None:
        self.ended = time.monotonic()

    @property
    def alone(self) -> bool:
        return self.deaths >= DEATHS_BEFORE_ALONE


@dataclass(slots=True)
class _Queue:
    """A job's waiting sub-tasks, and how much of the pool it has had, in seconds."""

    waiting: dict[Urgency, deque[_Ticket]] = field(
        default_factory=lambda: {urgency: deque() for urgency in Urgency}
    )
    resting: set[_Ticket] = field(default_factory=set)
    running: int = 0
    served_seconds: float = 0.0

    @property
    def busy(self) -> bool:
        return self.running > 0 or bool(self.resting) or any(self.waiting.values())

    def remove(self, ticket: _Ticket) -> bool:
        """Takes out a sub-task that waits or rests; False where there is none."""
        for place in (self.resting, self.waiting[ticket.urgency]):
            if ticket in place:
                place.remove(ticket)
                return True
        return False


class Dispatcher:
    """Shares one executor among all jobs.

    `width` is how many sub-tasks are handed over at a time: the workers, and one more that lies
    ready, so that a worker need not wait for the loop between two.
    """

    def __init__(self, executor: Executor, workers: int) -> None:
        self._executor = executor
        self._workers = workers
        self._width = workers + 1
        self._lying: deque[_Ticket] = deque()  # ready for a worker that has none yet
        self._running = 0
        self._alone = False
        self._serials = itertools.count()
        self._jobs: dict[str, _Queue] = {}
        self._stopping: set[str] = set()
        self.completed = 0
        self.repeated = 0

    @property
    def trouble(self) -> str:
        """Which sub-tasks rest since their workers were killed, in words; empty when none does."""
        deaths = {
            job: max(ticket.deaths for ticket in queue.resting)
            for job, queue in self._jobs.items()
            if queue.resting
        }
        return "; ".join(
            f"job {job}: {count} workers in a row were killed with a sub-task (is memory short?);"
            f" after {MOST_KILLS} its file is refused"
            for job, count in deaths.items()
        )

    @property
    def is_crowded(self) -> bool:
        """Whether more jobs want a worker than can have one: whatever a job asks for waits for the others then."""
        return sum(queue.busy for queue in self._jobs.values()) > self._width

    async def run(
        self, function: Callable[..., R], *args: Any, job: str, urgency: Urgency = Urgency.NOW
    ) -> R:
        """Runs `function(*args)` in a worker and returns what it returns.

        Raises what the function raises, if it is an error of ours or of the system, and any other as
        `SubtaskFailed`; `WorkerDied` after too many deaths in a row; Stopped, see `stop`. When the
        caller is cancelled, a waiting sub-task is dropped and a running one is waited for first:
        it may still write to regions that the caller is about to give back.
        """
        loop = asyncio.get_running_loop()
        ticket = _Ticket(
            job=job,
            urgency=urgency,
            serial=next(self._serials),
            outcome=loop.create_future(),
            submit=lambda executor: executor.submit(function, *args),
        )
        self._enqueue(ticket)
        try:
            result: R = await asyncio.shield(ticket.outcome)
        except asyncio.CancelledError:
            await self._leave(ticket)
            raise
        return result

    def stop(self, job: str) -> None:
        """The job is to stop soon: from now on none of its sub-tasks rests."""
        self._stopping.add(job)
        queue = self._jobs.get(job)
        while queue is not None and queue.resting:
            _end(queue.resting.pop(), Stopped())

    def go_on(self, job: str) -> None:
        """The job's sub-tasks may rest again."""
        self._stopping.discard(job)

    def promote(self, job: str) -> None:
        """The job has run dry: what it decodes next is no longer ahead of anything."""
        queue = self._jobs.get(job)
        if queue is not None and queue.waiting[Urgency.AHEAD]:
            ticket = queue.waiting[Urgency.AHEAD].popleft()
            ticket.urgency = Urgency.NOW
            queue.waiting[Urgency.NOW].append(ticket)
            self._hand_over()

    def forget(self, job: str) -> None:
        """Drops a job's account when the job is gone."""
        self.go_on(job)
        queue = self._jobs.get(job)
        if queue is not None and not queue.busy:
            del self._jobs[job]

    def __repr__(self) -> str:
        waiting = sum(len(d) for q in self._jobs.values() for d in q.waiting.values())
        return f"<Dispatcher running={self._running} waiting={waiting} alone={self._alone}>"

    # --- bookkeeping -----------------------------------------------------------------------------

    def _enqueue(self, ticket: _Ticket) -> None:
        queue = self._jobs.setdefault(ticket.job, _Queue())
        if not queue.busy:
            busy = [q.served_seconds for q in self._jobs.values() if q.busy]
            level = min(busy) if busy else max(q.served_seconds for q in self._jobs.values())
            queue.served_seconds = max(queue.served_seconds, level)
        queue.waiting[ticket.urgency].append(ticket)
        self._hand_over()

    def _next(self) -> _Ticket | None:
        heads = [
            (urgency, queue.served_seconds, waiting[0].serial, waiting)
            for queue in self._jobs.values()
            for urgency, waiting in queue.waiting.items()
            if waiting
        ]
        if not heads:
            return None
        *_, waiting = min(heads, key=lambda head: head[:3])
        if waiting[0].alone and self._running:
            return None  # it goes next, once the others have come back
        return waiting.popleft()

    def _hand_over(self) -> None:
        while self._running < self._width and not self._alone:
            ticket = self._next()
            if ticket is None:
                return
            if ticket.outcome.done():
                continue
            self._start(ticket)

    def _start(self, ticket: _Ticket) -> None:
        try:
            future = ticket.submit(self._executor)
            future.add_done_callback(lambda _: ticket.end())  # here, since the loop may be late
            handed = asyncio.wrap_future(future)
        except Exception as error:  # shut down, or it can't be had: its own caller's trouble alone
            ticket.outcome.set_exception(error)
            return
        self._running += 1
        self._alone = ticket.alone
        self._jobs[ticket.job].running += 1
        ticket.begun = time.monotonic()
        if self._running > self._workers:
            self._lying.append(ticket)
        handed.add_done_callback(lambda done: self._came_back(ticket, done))

    def _came_back(self, ticket: _Ticket, done: asyncio.Future[Any]) -> None:
        queue = self._jobs[ticket.job]
        queue.running -= 1
        queue.served_seconds += self._served(ticket)
        self._running -= 1
        self._alone = False
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if isinstance(error, WorkerDied) and not ticket.left and ticket.deaths + 1 < _most(error):
            self._try_again(ticket, error)
        elif not ticket.outcome.done():
            self.completed += 1
            if error is None:
                ticket.outcome.set_result(done.result())
            elif done.cancelled():
                ticket.outcome.cancel()
            else:
                ticket.outcome.set_exception(_translated(error))
        self._hand_over()

    def _served(self, ticket: _Ticket) -> float:
        """How long a worker had the sub-task that came back. One that lay ready begins now, and what it waited is not on its job's
        account: among a hundred jobs it would wait that long fifty times over."""
        now = time.monotonic()
        if ticket in self._lying:
            self._lying.remove(ticket)
            return 0.0
        if self._lying:
            self._lying.popleft().begun = now
        return max(0.0, ticket.ended - ticket.begun)

    def _try_again(self, ticket: _Ticket, error: WorkerDied) -> None:
        queue = self._jobs[ticket.job]
        ticket.deaths += 1
        self.repeated += 1
        if error.reason == KILLED and ticket.alone and ticket.job in self._stopping:
            _end(ticket, Stopped())
        elif error.reason == KILLED and ticket.alone:
            queue.resting.add(ticket)
            seconds = FIRST_REST_SECONDS * 2.0 ** (ticket.deaths - DEATHS_BEFORE_ALONE)
            asyncio.get_running_loop().call_later(seconds, self._rested, ticket)
        else:
            queue.waiting[ticket.urgency].appendleft(ticket)

    def _rested(self, ticket: _Ticket) -> None:
        queue = self._jobs.get(ticket.job)
        if queue is not None and queue.remove(ticket):  # else its caller has left
            queue.waiting[ticket.urgency].appendleft(ticket)
            self._hand_over()

    async def _leave(self, ticket: _Ticket) -> None:
        if self._jobs[ticket.job].remove(ticket):
            ticket.outcome.cancel()
            self._hand_over()
            return
        ticket.left = True
        await asyncio.wait([ticket.outcome])
        if not ticket.outcome.cancelled():
            ticket.outcome.exception()  # seen: nobody is left to ask for it


def _end(ticket: _Ticket, error: Exception) -> None:
    if not ticket.outcome.done():
        ticket.outcome.set_exception(error)


def _most(error: WorkerDied) -> int:
    """How many deaths in a row a sub-task may cost, the last one of this kind."""
    return MOST_KILLS if error.reason == KILLED else MOST_DEATHS


def _translated(error: BaseException) -> BaseException:
    """Our own errors and the system's as they are; any other is a bug, which costs its file alone."""
    if isinstance(error, HeadraceError | OSError):
        return error
    kind, text = SubtaskFailed, f"{type(error).__name__}: {error}"
    if isinstance(error, KernelFault):
        kind, text = KernelFailed, str(error)
    failed = kind(text.splitlines()[0])
    failed.__cause__ = error
    return failed
