"""The pool's books: which sub-tasks wait, which workers are there, and who has what.

Rules: every method looks at the whole situation and changes it under one lock, without waiting. No
future is settled here, since its callbacks may come back. Any thread may `put`; only the keeper's
thread lets workers in and out.
"""

from __future__ import annotations

import threading
import time
from collections import deque

from service.runtime.process import State, Subtask, WorkerProcess


class Desk:
    """Pairs sub-tasks, first come, first served, with idle workers.

    A worker that has served `recycle_after` sub-tasks is worn: it serves on until an heir is ready.
    """

    def __init__(self, deadline_seconds: float, recycle_after: int) -> None:
        self._deadline_seconds = deadline_seconds
        self._recycle_after = recycle_after
        self._lock = threading.Lock()
        self._waiting: deque[Subtask] = deque()
        self._idle: list[WorkerProcess] = []  # last in, first to serve: its caches are warm
        self._workers: list[WorkerProcess] = []
        self._closing = False

    def put(self, subtask: Subtask) -> bool:
        """Queues a sub-task; False, and nothing is queued, when the desk is closing."""
        with self._lock:
            if not self._closing:
                self._waiting.append(subtask)
                self._assign()
            return not self._closing

    def put_back(self, subtask: Subtask) -> None:
        """Makes one the next that its worker never read."""
        with self._lock:
            self._waiting.appendleft(subtask)
            self._assign()

    def close(self) -> None:
        """Takes no more sub-tasks."""
        with self._lock:
            self._closing = True

    def clear(self) -> list[Subtask]:
        """Removes what waits and returns it."""
        with self._lock:
            removed = list(self._waiting)
            self._waiting.clear()
        return removed

    def fail_waiting(self, error: Exception) -> None:
        """What waits fails with `error`; the futures are settled outside the lock."""
        for subtask in self.clear():
            if subtask.future.running() or subtask.future.set_running_or_notify_cancel():
                subtask.future.set_exception(error)

    def enter(self, worker: WorkerProcess) -> None:
        """Takes in a worker that was spawned."""
        with self._lock:
            self._workers.append(worker)

    def ready(self, worker: WorkerProcess) -> None:
        """A worker is up, and serves from now on."""
        with self._lock:
            worker.rest()
            self._idle.append(worker)
            self._assign()

    def answered(self, worker: WorkerProcess) -> Subtask:
        """Takes a worker's sub-task, which is answered, and gives it the next."""
        with self._lock:
            subtask = worker.take()
            self._idle.append(worker)
            self._assign()
        return subtask

    def remove(self, worker: WorkerProcess) -> None:
        """A worker is dead; from here on nothing can be handed to it."""
        with self._lock:
            self._workers.remove(worker)
            if worker in self._idle:
                self._idle.remove(worker)

    def dismiss(self, wanted: int) -> list[WorkerProcess]:
        """Idle workers that are to leave: all when all is done, else worn ones that have an heir."""
        with self._lock:
            leaving = list(self._idle) if self._finished() else self._worn_surplus(wanted)
            for worker in leaving:
                self._idle.remove(worker)
        return leaving

    def missing(self, wanted: int) -> int:
        """How many workers are to be spawned; a worn one doesn't count."""
        with self._lock:
            if self._finished():
                return 0
            return max(0, wanted - sum(self._lasts(worker) for worker in self._workers))

    @property
    def workers(self) -> list[WorkerProcess]:
        """Those that are there, the oldest first."""
        with self._lock:
            return list(self._workers)

    @property
    def serving(self) -> int:
        """How many workers are up."""
        with self._lock:
            return self._serving()

    @property
    def waiting(self) -> int:
        """How many sub-tasks wait, cancelled ones among them."""
        return len(self._waiting)

    @property
    def closing(self) -> bool:
        """Whether it takes no more sub-tasks."""
        return self._closing

    @property
    def finished(self) -> bool:
        """Whether it is closing and nothing waits; the last sub-tasks may still be running."""
        with self._lock:
            return self._finished()

    def __repr__(self) -> str:
        states = ", ".join(f"{worker.state}" for worker in self.workers)
        closing = ", closing" if self._closing else ""
        return f"<Desk [{states}], {self.waiting} waiting{closing}>"

    # --- under the lock --------------------------------------------------------------------------

    def _assign(self) -> None:
        while self._waiting and self._idle:
            subtask = self._waiting.popleft()
            future = subtask.future
            if future.running() or future.set_running_or_notify_cancel():
                self._idle.pop().hand(subtask, time.monotonic() + self._deadline_seconds)

    def _finished(self) -> bool:
        return self._closing and not self._waiting

    def _lasts(self, worker: WorkerProcess) -> bool:
        return worker.state is not State.LEAVING and worker.served < self._recycle_after

    def _worn_surplus(self, wanted: int) -> list[WorkerProcess]:
        worn = [worker for worker in self._idle if not self._lasts(worker)]
        return worn[: max(0, self._serving() - wanted)]

    def _serving(self) -> int:
        return sum(worker.state in (State.IDLE, State.BUSY) for worker in self._workers)
