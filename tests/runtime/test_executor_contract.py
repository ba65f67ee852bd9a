"""What any Executor promises: the same suite against our pool and the stdlib's."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import (
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    as_completed,
)
from pathlib import Path

import pool_subtasks as subtasks
import pytest
import uvloop
from pool_meeting import PATIENCE_SECONDS, Meeting

from service.runtime.pool import Pool


def _ours() -> Executor:
    return Pool(1, deadline_seconds=PATIENCE_SECONDS)


def _stdlib() -> Executor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


@pytest.fixture(params=[_ours, _stdlib], ids=["ours", "stdlib"])
def make(request: pytest.FixtureRequest) -> Callable[[], Executor]:
    make: Callable[[], Executor] = request.param
    return make


@pytest.fixture
def executor(make: Callable[[], Executor]) -> Iterator[Executor]:
    with make() as executor:
        yield executor


def test_a_result_comes_back(executor: Executor) -> None:
    assert executor.submit(subtasks.add, 1, b=2).result(PATIENCE_SECONDS) == 3


def test_an_error_comes_back_with_its_type_and_text(executor: Executor) -> None:
    future = executor.submit(subtasks.divide, 1, 0)
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        future.result(PATIENCE_SECONDS)


def test_an_error_leaves_the_worker_in_service(executor: Executor) -> None:
    first = executor.submit(subtasks.pid).result(PATIENCE_SECONDS)
    assert executor.submit(subtasks.divide, 1, 0).exception(PATIENCE_SECONDS) is not None
    assert executor.submit(subtasks.pid).result(PATIENCE_SECONDS) == first


def test_arguments_that_cannot_be_pickled_fail_the_future_alone(executor: Executor) -> None:
    assert executor.submit(subtasks.echo, lambda: None).exception(PATIENCE_SECONDS) is not None
    assert executor.submit(subtasks.echo, 1).result(PATIENCE_SECONDS) == 1


def test_a_result_that_cannot_be_pickled_fails_the_future_alone(executor: Executor) -> None:
    assert executor.submit(subtasks.unpicklable).exception(PATIENCE_SECONDS) is not None
    assert executor.submit(subtasks.echo, 1).result(PATIENCE_SECONDS) == 1


def test_one_worker_serves_in_the_order_of_submission(executor: Executor, tmp_path: Path) -> None:
    log = tmp_path / "log"
    futures = [executor.submit(subtasks.append, str(log), str(n)) for n in range(100)]
    for future in futures:
        future.result(PATIENCE_SECONDS)
    assert log.read_text().split() == [str(n) for n in range(100)]


def test_map_keeps_the_order(executor: Executor) -> None:
    assert list(executor.map(subtasks.add, range(50), range(50))) == list(range(0, 100, 2))


def test_a_waiting_future_can_be_cancelled_and_a_running_one_cannot(
    executor: Executor, meeting: Meeting
) -> None:
    running = executor.submit(subtasks.meet, str(meeting.folder), "whole")
    meeting.begun()
    waiting = [executor.submit(subtasks.echo, n) for n in range(10)]
    assert waiting[-1].cancel()
    assert not running.cancel()
    meeting.let_go()
    assert running.result(PATIENCE_SECONDS) == "whole"
    assert [future.result(PATIENCE_SECONDS) for future in waiting[:-1]] == list(range(9))
    with pytest.raises(CancelledError):
        waiting[-1].result(PATIENCE_SECONDS)


def test_many_threads_may_submit(executor: Executor) -> None:
    def submit(start: int, into: list[Future[int]]) -> None:
        into.extend(executor.submit(subtasks.add, start, n) for n in range(100))

    futures: list[list[Future[int]]] = [[] for _ in range(8)]
    threads = [
        threading.Thread(target=submit, args=(1000 * at, into)) for at, into in enumerate(futures)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for at, into in enumerate(futures):
        expected = [1000 * at + n for n in range(100)]
        assert [future.result(PATIENCE_SECONDS) for future in into] == expected


def test_a_callback_may_submit_again(executor: Executor) -> None:
    again: Future[Future[int]] = Future()
    first = executor.submit(subtasks.echo, 1)
    first.add_done_callback(lambda _: again.set_result(executor.submit(subtasks.echo, 2)))
    assert again.result(PATIENCE_SECONDS).result(PATIENCE_SECONDS) == 2


def test_as_completed_gives_every_future(executor: Executor) -> None:
    futures = {executor.submit(subtasks.echo, n) for n in range(20)}
    assert set(as_completed(futures, PATIENCE_SECONDS)) == futures


def test_uvloop_awaits_a_sub_task(executor: Executor) -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        first = loop.run_in_executor(executor, subtasks.add, 1, 2)
        second = asyncio.wrap_future(executor.submit(subtasks.add, 3))
        return await first + await second

    assert uvloop.run(main()) == 6


def test_leaving_the_with_waits_for_what_was_submitted(make: Callable[[], Executor]) -> None:
    with make() as executor:
        futures = [executor.submit(subtasks.echo, n) for n in range(20)]
    assert all(future.done() for future in futures)


def test_nothing_is_taken_after_shutdown(make: Callable[[], Executor]) -> None:
    executor = make()
    executor.shutdown()
    executor.shutdown()
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.submit(subtasks.echo, 1)


def test_a_shutdown_may_cancel_what_waits(make: Callable[[], Executor], meeting: Meeting) -> None:
    executor = make()
    running = executor.submit(subtasks.meet, str(meeting.folder), "whole")
    meeting.begun()
    waiting = [executor.submit(subtasks.echo, n) for n in range(10)]
    executor.shutdown(wait=False, cancel_futures=True)
    meeting.let_go()
    executor.shutdown(cancel_futures=True)
    assert running.result(PATIENCE_SECONDS) == "whole"
    assert waiting[-1].cancelled()
