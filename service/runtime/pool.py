"""A pool of worker processes behind `concurrent.futures.Executor`, where a death costs one future.

    submit ──▶ desk ──▶ an idle worker's socket       at once, in the caller's thread
                              │ answer, death, deadline
    future ◀── settled ◀── keeper, the pool's thread

Rules:
- one private socket pair per worker; nothing is shared that a dying process could leave locked;
- a sub-task is handed over when a worker is idle, first come, first served, one at a time;
- a worker that dies fails its own sub-task with `WorkerDied`, after it has been reaped, and is
  replaced; nothing is tried again here, that is for the dispatcher above;
- a waiting future can be cancelled, a running one can't.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import NamedTuple, ParamSpec, TypeVar

from service.core.errors import WorkerDied
from service.runtime import message
from service.runtime.births import Births
from service.runtime.desk import Desk
from service.runtime.keeper import Keeper
from service.runtime.nursery import Nursery
from service.runtime.process import State, Subtask

P = ParamSpec("P")
R = TypeVar("R")

__all__ = ["Pool", "State", "WorkerStatus"]


class WorkerStatus(NamedTuple):
    """One worker, for people who look."""

    pid: int
    state: State


class Pool(Executor):
    """`workers` processes that run module-level functions; arguments and results are small pickles.

    deadline_seconds: a sub-task that takes longer is killed with its worker;
    warm: "module:function", run once in the process that the workers are forks of, before the first of them; what it
        returns is run by each worker before it serves;
    environment: what the workers' environment is made from, None for this process's;
    recycle_after: a worker that has served so many sub-tasks is replaced, against slow leaks;
    nursery: one that was spawned before, with the same `warm` and `environment`, to save time; the pool ends it.
    """

    def __init__(
        self,
        workers: int,
        *,
        deadline_seconds: float,
        warm: str | None = None,
        environment: Mapping[str, str] | None = None,
        recycle_after: int | None = None,
        nursery: Nursery | None = None,
    ) -> None:
        if workers < 1:
            raise ValueError(f"pool: it has at least 1 worker, got {workers}")
        if not deadline_seconds > 0:
            raise ValueError(f"pool: a deadline is more than 0 s, got {deadline_seconds}")
        self._numbers = itertools.count(1)
        self._desk = Desk(deadline_seconds, recycle_after or sys.maxsize)
        self._births = Births()
        self._keeper = Keeper(
            self._desk,
            self._births,
            size=workers,
            deadline_seconds=deadline_seconds,
            warm=warm,
            environment=environment,
            nursery=nursery,
        )
        self._keeper.start()

    @property
    def ready(self) -> Future[None]:
        """Done when the first worker is up; fails with `WorkerError`, which says why, when several
        births in a row have failed and none has succeeded. Can't be cancelled."""
        return self._keeper.ready

    @property
    def workers(self) -> list[WorkerStatus]:
        """The processes that are there now, the oldest first."""
        return [WorkerStatus(worker.pid, worker.state) for worker in self._desk.workers]

    @property
    def trouble(self) -> str:
        """Why no worker could be had the last time, while that lasts; else empty. A pool that has
        had a worker keeps trying, at most every 5 s, and what was submitted waits."""
        return self._births.trouble

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Queues `fn(*args, **kwargs)`; hands it over at once when a worker is idle.

        The future brings the result, the function's error (its remote traceback is a note),
        `WorkerDied`, `SubtaskFailed` (an error that can't travel) or `MessageTooLarge`. Raises
        RuntimeError after `shutdown`, and as `BrokenExecutor` when no worker could be had. Done
        callbacks run in the pool's thread: they should be short.
        """
        future: Future[R] = Future()
        number = next(self._numbers)
        try:
            request = message.request(number, fn, args, kwargs)
        except Exception as error:
            future.set_exception(error)
            return future
        if not self._desk.put(Subtask(number, request, future)):
            self._refuse()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes nothing more. What was submitted is finished (what waits is cancelled instead, with
        `cancel_futures`), then the workers leave. It never hangs: a stopped worker is killed when
        its sub-task's deadline is over, or, idle, after a short grace. May be called again."""
        self._desk.close()
        if cancel_futures:
            self._cancel_waiting()
        self._keeper.wake()
        if wait:
            self._keeper.join()

    def kill(self) -> None:
        """Kills all workers now: what runs fails with `WorkerDied`, what waits is cancelled, and
        nothing more is taken. `shutdown` waits for its end."""
        self._desk.close()
        self._cancel_waiting()
        self._keeper.kill()

    def fail_waiting(self, error: Exception) -> None:
        """What no worker was handed fails with `error`."""
        self._desk.fail_waiting(error)

    def __repr__(self) -> str:
        return f"<Pool {self._desk!r}>"

    def _cancel_waiting(self) -> None:
        for subtask in self._desk.clear():
            if not subtask.future.cancel():  # it was handed over once, and never read
                subtask.future.set_exception(WorkerDied("shutdown before it was read"))

    def _refuse(self) -> None:
        broken = self._keeper.broken
        if broken is not None:
            raise BrokenExecutor(str(broken)) from broken
        raise RuntimeError("pool: sub-tasks come before its shutdown, got one after it")
