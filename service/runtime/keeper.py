"""The pool's one thread: it orders workers, watches them, kills the overdue, and buries the dead.

    turn:  kill what is overdue ─▶ order who is missing ─▶ dismiss what is too many ─▶ wait
                                                                                        │
      answer: the sub-task's future is settled, the worker gets the next ◀──────────────┤
      end of file: nothing more will come from there; it is killed, if it isn't dead    │
      death (pidfd): reaped; its sub-task fails with WorkerDied ◀───────────────────────┘

Rules: the thread lives as long as the pool, since the kernel kills a nursery whose spawning thread ends; its workers are
this process's own children, and live on without it. A future is settled outside every lock, and a lost one only after its worker was reaped, so
that nobody uses its buffers again too early. What a dead worker had never read (the kernel says so)
goes back to the head of the queue: that is no second try, it never began.
"""

from __future__ import annotations

import os
import pickle
import selectors
import socket
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any

from service.core.errors import WorkerDied, WorkerError
from service.runtime import message
from service.runtime.births import Births
from service.runtime.desk import Desk
from service.runtime.message import Answer, Kind
from service.runtime.nursery import Nursery, why_no_process
from service.runtime.process import KILLED, State, WorkerProcess

OVERDUE_BIRTH = "deadline of its birth"
GRACE_SECONDS = 2.0  # for a dismissed worker to leave by itself
LONGEST_WAIT_SECONDS = 3600.0  # what epoll takes is bounded


class Keeper:
    """Keeps the desk staffed until it is closed and empty."""

    def __init__(
        self,
        desk: Desk,
        births: Births,
        *,
        size: int,
        deadline_seconds: float,
        warm: str | None,
        environment: Mapping[str, str] | None,
        nursery: Nursery | None,
    ) -> None:
        self.ready: Future[None] = Future()
        self.ready.set_running_or_notify_cancel()  # who stops waiting for it must not cancel it
        self.broken: WorkerError | None = None
        self._killing = False
        self._desk = desk
        self._births = births
        self._size = size
        self._nursery = nursery
        self._deadline_seconds = deadline_seconds
        self._warm = warm
        self._environment = environment
        self._buffer = memoryview(bytearray(message.MESSAGE_BYTES))
        self._selector = selectors.DefaultSelector()
        self._alarm = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._alarm_lock = threading.Lock()  # against writing to a number that was closed
        self._selector.register(self._alarm, selectors.EVENT_READ, os.eventfd_read)
        self._thread = threading.Thread(target=self._live, name="headrace-pool", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Makes the thread look at the desk again; any thread may call."""
        with self._alarm_lock:
            if self._alarm >= 0:
                os.eventfd_write(self._alarm, 1)

    def kill(self) -> None:
        """Makes the thread kill every worker, now and to come."""
        self._killing = True
        self.wake()

    def join(self) -> None:
        """Waits for the thread's end; from a callback on the thread itself that can't be."""
        if threading.current_thread() is not self._thread:
            self._thread.join()

    # --- the thread ------------------------------------------------------------------------------

    def _live(self) -> None:
        try:
            while self._turn():
                pass
        except BaseException as bug:
            self._give_up(WorkerError(f"pool: its thread lives as long as it does, got {bug!r}"))
            raise
        finally:
            self._end()

    def _turn(self) -> bool:
        """Does what is due, then waits for what comes; False when all is done and all are gone."""
        now = time.monotonic()
        if self._killing:
            self._kill_all()
        self._kill_overdue(now)
        if not self._desk.finished and now >= self._births.not_before:
            self._staff(now)
        self._dismiss(now)
        if self._births.hopeless and self._nobody_will_come():
            self._give_up(WorkerError(f"pool: a worker comes up, got {self._births.trouble}"))
        if self._desk.finished and not self._desk.workers and not self._expected:
            return False
        for key, _ in self._selector.select(self._patience(now)):
            key.data(key.fileobj)
        return True

    def _patience(self, now: float) -> float:
        """How long to wait, in seconds. Never longer than a sub-task's deadline, so that one which
        is handed over during the wait, by `submit`, can't be overslept."""
        until = [worker.deadline for worker in self._desk.workers]
        if self._births.not_before > now and not self._desk.finished:
            until.append(self._births.not_before)
        if self._nursery is not None:
            until.append(self._nursery.overdue)
        seconds = min([LONGEST_WAIT_SECONDS, self._deadline_seconds, *(t - now for t in until)])
        return max(0.0, seconds)

    # --- births ------------------------------------------------------------------------------------

    def _staff(self, now: float) -> None:
        """Sees that there is a nursery, and asks it for the workers that are missing."""
        try:
            if self._nursery is None:
                self._nursery = self._spawn()
            if self._nursery.pidfd not in self._selector.get_map():
                self._watch_nursery(self._nursery)
            if self._nursery.is_ready:
                for _ in range(self._desk.missing(self._size) - self._expected):
                    self._nursery.order(now + self._births.seconds)
        except OSError as error:  # no descriptor, no process, no memory
            self._mourn(why_no_process(error))

    def _spawn(self) -> Nursery:
        return Nursery.spawn(self._warm, self._environment, self._births.seconds)

    @property
    def _expected(self) -> int:
        """How many workers were ordered and are not born yet."""
        return len(self._nursery.ordered) if self._nursery else 0

    def _watch_nursery(self, nursery: Nursery) -> None:
        self._selector.register(nursery.link, selectors.EVENT_READ, self._hear_nursery)
        self._selector.register(nursery.pidfd, selectors.EVENT_READ, self._lose_nursery)

    def _hear_nursery(self, _: Any) -> None:
        """Takes all that it has said."""
        while (nursery := self._nursery) is not None:  # else it was buried in this very turn
            try:
                answer = nursery.read(self._buffer)
            except EOFError:
                nursery.kill()
                self._unwatch(nursery.link)
                return
            if answer is None:
                return
            if answer.kind is Kind.READY:
                nursery.is_ready = True
                self._births.prepared()
            elif nursery.is_ready:
                self._receive(answer, *nursery.ordered.popleft())
            else:
                nursery.last_words = answer.body.decode()

    def _receive(self, answer: Answer, link: socket.socket, deadline: float) -> None:
        """A worker is born; or it is not, and the nursery says why."""
        if answer.kind is not Kind.VALUE:
            link.close()
            self._mourn(answer.body.decode())
            return
        try:
            worker = WorkerProcess.born(pickle.loads(answer.body), link, deadline)
        except OSError as error:
            self._mourn(why_no_process(error))
            return
        self._desk.enter(worker)
        self._selector.register(link, selectors.EVENT_READ, partial(self._hear, worker))
        self._selector.register(worker.pidfd, selectors.EVENT_READ, partial(self._lose, worker))

    def _lose_nursery(self, source: Any) -> None:
        """It is dead: another one will be spawned, and what was ordered is asked for again."""
        self._hear_nursery(source)
        nursery, self._nursery = self._nursery, None
        assert nursery is not None, "its pidfd is watched as long as it is there"
        self._unwatch(nursery.link)
        self._unwatch(nursery.pidfd)
        self._mourn(nursery.close())

    def _mourn(self, why: str) -> None:
        """A birth has failed."""
        now, overdue = time.monotonic(), why == OVERDUE_BIRTH
        self._births.failed(now, why, by_others=why == KILLED, overdue=overdue)

    # --- what workers say ----------------------------------------------------------------------------

    def _hear(self, worker: WorkerProcess, _: Any) -> None:
        if worker.alive:  # else it was buried a moment ago, in this very turn
            self._listen(worker)

    def _lose(self, worker: WorkerProcess, _: Any) -> None:
        if worker.alive:
            self._listen(worker)
            self._bury(worker)

    def _listen(self, worker: WorkerProcess) -> None:
        """Takes the one message that may be there."""
        try:
            answer = worker.read(self._buffer)
        except EOFError:
            self._unwatch(worker.link)
            if worker.state is not State.LEAVING:
                worker.kill()
            return
        if answer is None:
            return
        if worker.state is State.STARTING:
            self._welcome(worker, answer)
        else:
            message.settle(self._desk.answered(worker).future, answer)

    def _welcome(self, worker: WorkerProcess, answer: Answer) -> None:
        """The first thing that a worker says: that it is ready, or why it can't serve."""
        if answer.kind is not Kind.READY:
            worker.kill(answer.body.decode())
            return
        self._births.succeeded()
        self._desk.ready(worker)
        if not self.ready.done():
            self.ready.set_result(None)

    def _bury(self, worker: WorkerProcess) -> None:
        self._unwatch(worker.link)
        self._unwatch(worker.pidfd)
        self._desk.remove(worker)
        reason = worker.reap()
        if worker.state is State.STARTING:
            self._mourn(reason)
        subtask = worker.subtask
        if subtask is None:
            return
        if worker.unread and not worker.sentence:
            self._desk.put_back(subtask)
        else:
            subtask.future.set_exception(WorkerDied(reason))

    def _kill_overdue(self, now: float) -> None:
        for worker in self._desk.workers:
            if worker.deadline <= now:
                self._listen(worker)  # its answer may be there: this process was stopped, say
            if worker.deadline <= now:
                worker.kill(self._sentence(worker.state))
        if self._nursery is not None and self._nursery.overdue <= now:
            self._nursery.kill(OVERDUE_BIRTH)

    def _sentence(self, state: State) -> str:
        if state is State.STARTING:
            return OVERDUE_BIRTH
        return f"deadline of {self._deadline_seconds:g} s"

    def _kill_all(self) -> None:
        for worker in self._desk.workers:
            worker.kill("killed with the pool")

    def _dismiss(self, now: float) -> None:
        for worker in self._desk.dismiss(self._size):
            worker.dismiss(now + GRACE_SECONDS)
        if self._desk.finished:
            for worker in self._desk.workers:
                if worker.state is State.STARTING:
                    worker.kill()

    def _unwatch(self, source: Any) -> None:
        if source in self._selector.get_map():
            self._selector.unregister(source)

    def _nobody_will_come(self) -> bool:
        """A running pool that has had a worker keeps trying: what is scarce may come back."""
        serving = self._desk.serving > 0
        return not serving and (self._desk.closing or not self._births.any_succeeded)

    def _give_up(self, error: WorkerError) -> None:
        """Fails what waits, now and later."""
        self.broken = self.broken or error
        self._desk.close()
        if not self.ready.done():
            self.ready.set_exception(error)
        self._desk.fail_waiting(error)

    def _end(self) -> None:
        """Leaves nobody waiting and nobody behind, also when the thread ends by a bug."""
        self._kill_all()
        for worker in self._desk.workers:
            self._bury(worker)
        if self._nursery is not None:
            self._nursery.close()
        if self.broken is not None:
            self._give_up(self.broken)  # what a dead worker had not read
        if not self.ready.done():
            self.ready.set_exception(WorkerError("pool: a worker came up, got a shutdown first"))
        with self._alarm_lock:
            self._selector.close()
            os.close(self._alarm)
            self._alarm = -1
