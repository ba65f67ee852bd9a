"""The one thread in which everything durable happens, in order, and commits in groups.

Rules. Only this thread touches the journal. What is handed in is done in that order. Units that are ready together share
one transaction; a plain function runs alone, between groups.

    unit     prepare          apply                  finish              flush           mark
             flush spools,    rows of the journal,   publish, link,      what nobody     "it is done", in the
             write the model  in ONE transaction     move, delete        need wait for   next transaction
    group    each             all                    each                each            all

The future has its result after finish; what is handed in later comes after the flush. Units of one job keep their order in
every step. Those of several jobs are prepared, finished and flushed side by side, in a few threads: that is mostly waiting for
the disk, which takes many flushes together for little more than one.

    an error in         Scarcity                           other StorageError   anything else
    a function          fails the function                 fatal                fails the function
    prepare             fails the unit                     fatal                fails the unit
    apply, the commit   rolls back, fails the whole group  fatal                takes the unit's part back, fails the unit
    finish, flush       tried again until it has passed    fatal                fatal (the commit stands, its effects do not)
    mark                kept for the next transaction      fatal                fatal

A unit whose finish is long (`aside`: megabytes of records on their way to a log) finishes in a thread of its own, so that
other jobs' commits don't wait for it; whoever handed it in hands in nothing more of that job until it is done.

After a fatal error the thread does no more; every future, old and new, fails with it, and `on_fatal` is called once. What
was committed is finished by recovery at the next start: finish, flush and mark must bear being done again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from service.core.errors import Scarcity, StorageError
from service.storage.journal import Journal

P = TypeVar("P")
A = TypeVar("A")
R = TypeVar("R")

GROUP_UNITS = 64  # bounds how long the first unit of a group waits for the last one's flushes
SIDE_BY_SIDE = 8  # threads, this one included
MARKS_SECONDS = 0.05
"""How long marks wait for company: the file that comes next must not wait for a transaction of theirs."""
RETRY_SECONDS = 1.0  # how often a full disk, say, is asked again


@dataclass(frozen=True, slots=True)
class Unit(Generic[P, A, R]):
    """Something that becomes durable at once: what prepare gives goes to apply, what apply gives to finish and mark.

    The result of finish is the future's, and mark's too. None of them may use the event loop. But for the journal's part they
    touch only what is `job`'s.
    """

    prepare: Callable[[], P]
    apply: Callable[[Journal, P], A]
    finish: Callable[[A], R]
    mark: Callable[[Journal, A, R], None] | None = None
    aside: Callable[[A], bool] = lambda applied: False
    flush: Callable[[A], None] = lambda applied: None
    job: str = ""


@dataclass(slots=True, eq=False)
class _Waiting:
    unit: Unit[Any, Any, Any]
    future: Future[Any]
    value: Any = None
    """What its last step gave."""

    @property
    def is_open(self) -> bool:
        return not self.future.done()


@dataclass(frozen=True, slots=True)
class _Function:
    call: Callable[[], Any]
    future: Future[Any]


_Mark = tuple[Callable[[Journal, Any, Any], None], Any, Any]


class Writer:
    """Owns the journal's thread from the constructor to `close`. Safe to use from any thread.

    `on_fatal(error)` is called once, `on_scarce(error)` when a scarcity (a full disk, say) holds up what is committed,
    and `on_scarce(None)` when all of it goes on; both in threads of the writer.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        on_fatal: Callable[[BaseException], None] = lambda error: None,
        on_scarce: Callable[[Scarcity | None], None] = lambda error: None,
    ) -> None:
        self._journal = journal
        self._on_fatal = on_fatal
        self._on_scarce = on_scarce
        self._queue: deque[_Waiting | _Function] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._giving_up = False
        self._failed: BaseException | None = None
        self._group: list[_Waiting | _Function] = []
        self._marks: list[_Mark] = []
        self._aside: set[threading.Thread] = set()
        self._aside_failed: BaseException | None = None
        self._telling = threading.Lock()
        self._held_up = 0
        self._thread = threading.Thread(target=self._run, name="headrace-writer", daemon=True)
        self._thread.start()

    def submit(self, unit: Unit[P, A, R]) -> Future[R]:
        """Queues a unit; its future has the result when its finish is done. It can be cancelled until it is begun."""
        future: Future[R] = Future()
        self._put(_Waiting(unit, future))
        return future

    def run(self, call: Callable[[], R]) -> Future[R]:
        """Queues a function of no arguments, say a question to the journal."""
        future: Future[R] = Future()
        self._put(_Function(call, future))
        return future

    @property
    def is_at_work(self) -> bool:
        """Whether something is handed in and not done: a slow disk shows itself so."""
        return bool(self._queue or self._group or self._aside)

    def close(self) -> None:
        """Does what is queued, writes what is marked, ends the thread; idempotent. The journal stays open.

        A unit that a scarcity holds up fails with it: recovery will finish it.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        for thread in list(self._aside):
            thread.join()
        if self._failed is None and self._marks:
            self._write_marks()

    def give_up(self) -> None:
        """Holds nothing up any more: a unit that waits for what is scarce fails with it, now and from here on, and all after
        it. Recovery will finish it."""
        with self._changed:
            self._giving_up = True
            self._changed.notify_all()

    def _put(self, item: _Waiting | _Function) -> None:
        with self._changed:
            if self._failed is None and not self._closing:
                self._queue.append(item)
                self._changed.notify_all()
                return
            error = self._failed or RuntimeError("writer: must be open, got a unit after close")
        item.future.set_exception(error)

    # The thread

    def _run(self) -> None:
        try:
            while self._wait():
                self._group = self._take()
                if self._group and isinstance(self._group[0], _Function):
                    self._call(self._group[0])
                elif self._group:
                    self._commit([item for item in self._group if isinstance(item, _Waiting)])
                else:
                    self._write_marks()
                self._group = []
        except BaseException as error:
            self._stop(error)

    def _wait(self) -> bool:
        """Waits for work; False when closed and drained. Marks are work when nothing else comes for a while."""

        def is_urgent() -> bool:
            return bool(self._queue or self._closing or self._aside_failed)

        with self._changed:
            self._changed.wait_for(lambda: is_urgent() or self._marks)
            self._changed.wait_for(is_urgent, MARKS_SECONDS)
            if self._aside_failed is not None:
                raise self._aside_failed
            return bool(self._queue or self._marks)

    def _take(self) -> list[_Waiting | _Function]:
        """What is begun next: one function, or the units up to the next function, at most a group."""
        taken: list[_Waiting | _Function] = []
        with self._changed:
            while self._queue and len(taken) < GROUP_UNITS:
                alone = isinstance(self._queue[0], _Function)
                if not (alone and taken):
                    taken.append(self._queue.popleft())
                if alone:
                    break
        return [item for item in taken if item.future.set_running_or_notify_cancel()]

    def _call(self, function: _Function) -> None:
        try:
            function.future.set_result(function.call())
        except Exception as error:
            _fail(function, error)

    def _commit(self, group: list[_Waiting]) -> None:
        self._side_by_side(group, self._prepare)
        self._apply([waiting for waiting in group if waiting.is_open])
        self._side_by_side([waiting for waiting in group if waiting.is_open], self._end)

    def _side_by_side(self, group: list[_Waiting], step: Callable[[_Waiting], None]) -> None:
        """A step of all units, each job's in their order. An error ends it when what is begun has ended, and is raised."""
        jobs: dict[str, list[_Waiting]] = {}
        for waiting in group:
            jobs.setdefault(waiting.unit.job, []).append(waiting)
        left, errors = iter(jobs.values()), list[BaseException]()

        def work() -> None:
            try:
                while not errors and (ones := next(left, None)):
                    for waiting in ones:
                        step(waiting)
            except BaseException as error:
                errors.append(error)

        helpers = []
        with suppress(RuntimeError):  # no thread to be had: those that are there do it all
            for _ in range(min(len(jobs), SIDE_BY_SIDE) - 1):
                helper = threading.Thread(target=work, name="headrace-side", daemon=True)
                helper.start()
                helpers.append(helper)
        work()
        for helper in helpers:
            helper.join()
        if errors:
            raise errors[0]

    def _prepare(self, waiting: _Waiting) -> None:
        try:
            waiting.value = waiting.unit.prepare()
        except Exception as error:
            _fail(waiting, error)

    def _apply(self, group: list[_Waiting]) -> None:
        """One transaction for all."""
        if not group:
            return
        marks = self._take_marks()
        try:
            with self._journal.transaction():
                self._apply_marks(marks)
                for waiting in group:
                    self._apply_part(waiting)
        except Scarcity as error:
            self._put_marks_back(marks)
            for waiting in group:
                if waiting.is_open:
                    waiting.future.set_exception(error)

    def _apply_part(self, waiting: _Waiting) -> None:
        try:
            with self._journal.savepoint():
                waiting.value = waiting.unit.apply(self._journal, waiting.value)
        except StorageError:
            raise
        except Exception as error:
            _fail(waiting, error)

    def _end(self, waiting: _Waiting) -> None:
        if waiting.unit.aside(waiting.value):
            self._finish_aside(waiting)
        else:
            self._finish(waiting)

    def _finish_aside(self, waiting: _Waiting) -> None:
        def finish() -> None:
            try:
                self._finish(waiting)
            except BaseException as error:
                if waiting.is_open:
                    waiting.future.set_exception(error)
                with self._changed:
                    self._aside_failed = error
                    self._changed.notify_all()
            finally:
                self._aside.discard(threading.current_thread())

        thread = threading.Thread(target=finish, name="headrace-aside", daemon=True)
        self._aside.add(thread)
        try:
            thread.start()
        except RuntimeError:  # no thread to be had: the others' commits wait after all
            self._aside.discard(thread)
            self._finish(waiting)

    def _finish(self, waiting: _Waiting) -> None:
        unit, value = waiting.unit, waiting.value
        result = self._insisted(lambda: unit.finish(value))
        if unit.mark is not None:
            with self._changed:
                self._marks.append((unit.mark, value, result))
                self._changed.notify_all()
        waiting.future.set_result(result)
        self._insisted(lambda: unit.flush(value))

    def _insisted(self, effect: Callable[[], R]) -> R:
        """An effect of a committed unit, tried again while something is scarce: there is no way back."""
        held_up = False
        while True:
            try:
                result = effect()
            except Scarcity as error:
                if not held_up:
                    self._hold_up(error)
                held_up = True
                if self._closed_within(RETRY_SECONDS):
                    raise
                continue
            if held_up:
                self._go_on()
            return result

    def _hold_up(self, error: Scarcity) -> None:
        """Told are the first of those that are held up at a time, and the last's end."""
        with self._telling:
            self._held_up += 1
            if self._held_up == 1:
                self._on_scarce(error)

    def _go_on(self) -> None:
        with self._telling:
            self._held_up -= 1
            if not self._held_up:
                self._on_scarce(None)

    def _write_marks(self) -> None:
        """Marks in a transaction of their own, since nothing waits; what is scarce they wait for, or for company."""
        marks = self._take_marks()
        try:
            with self._journal.transaction():
                self._apply_marks(marks)
        except Scarcity:
            if not self._closed_within(RETRY_SECONDS):  # else recovery finds what they say
                self._put_marks_back(marks)

    def _take_marks(self) -> list[_Mark]:
        with self._changed:
            marks, self._marks = self._marks, []
        return marks

    def _put_marks_back(self, marks: list[_Mark]) -> None:
        with self._changed:
            self._marks = marks + self._marks

    def _apply_marks(self, marks: list[_Mark]) -> None:
        for mark, value, result in marks:
            mark(self._journal, value, result)

    def _closed_within(self, seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._closing or self._giving_up, seconds)

    def _stop(self, error: BaseException) -> None:
        """The end after an error: nothing more is done. Only a scarcity at the end is not fatal."""
        with self._changed:
            self._failed = error
            left = [*self._group, *self._queue]
            self._queue.clear()
        for item in left:
            if not item.future.done() and (
                item.future.running() or item.future.set_running_or_notify_cancel()
            ):
                item.future.set_exception(error)
        if not isinstance(error, Scarcity):
            try:
                self._journal.abandon()
            finally:
                self._on_fatal(error)


def _fail(item: _Waiting | _Function, error: Exception) -> None:
    """Gives the error to its future; one of the disk, but a scarcity, is everybody's."""
    if isinstance(error, StorageError) and not isinstance(error, Scarcity):
        raise error
    item.future.set_exception(error)
