"""Deaths, deadlines and shutdowns: each costs one future at most, and nothing waits for ever."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from pathlib import Path
from typing import Any

import pool_subtasks as subtasks
import pytest
from pool_meeting import PATIENCE_SECONDS, Meeting, readable

from service.core.errors import FileRefused, SubtaskFailed, WorkerDied, WorkerError
from service.runtime import births, message
from service.runtime.message import MESSAGE_BYTES, MessageTooLarge
from service.runtime.pool import Pool, State

MakePool = Callable[..., Pool]

PRELOAD = "pool_subtasks:warm_by_importing"  # imports take long on a busy machine, and are none of a deadline's


def _stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)


def _until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < limit
        os.sched_yield()


def _ended(future: Future[Any]) -> BaseException | None:
    return future.exception(PATIENCE_SECONDS)


# --- deaths ---------------------------------------------------------------------------------------


def test_a_worker_killed_while_it_computes_fails_its_own_future_alone(
    make_pool: MakePool, meeting: Meeting
) -> None:
    pool = make_pool(2)
    both = [pool.submit(subtasks.meet, str(meeting.folder), n) for n in range(2)]
    pids = [meeting.begun(), meeting.begun()]
    os.kill(pids[0], signal.SIGKILL)
    wait(both, PATIENCE_SECONDS, FIRST_COMPLETED)
    meeting.let_go()
    errors = [_ended(future) for future in both]
    assert sorted(map(repr, errors)) == sorted(map(repr, [None, WorkerDied("killed by SIGKILL")]))
    assert pool.submit(subtasks.echo, 1).result(PATIENCE_SECONDS) == 1


@pytest.mark.parametrize(
    ("subtask", "argument", "reason"),
    [
        (subtasks.die, signal.SIGKILL, "killed by SIGKILL"),
        (subtasks.die, signal.SIGTERM, "killed by SIGTERM"),
        (subtasks.vanish, 3, "exit status 3"),
        (subtasks.leave, 4, "exit status 4"),
        (subtasks.die, signal.SIGRTMIN + 1, f"killed by signal {signal.SIGRTMIN + 1}"),
    ],
)
def test_a_death_says_its_reason(
    make_pool: MakePool, subtask: Callable[..., object], argument: int, reason: str
) -> None:
    error = _ended(make_pool().submit(subtask, int(argument)))
    assert isinstance(error, WorkerDied)
    assert error.reason == reason


def test_a_segmentation_fault_is_a_death(make_pool: MakePool) -> None:
    error = _ended(make_pool().submit(subtasks.segfault))
    assert isinstance(error, WorkerDied)
    assert error.reason == "killed by SIGSEGV"


def test_a_worker_killed_between_result_and_reply_fails_its_future(make_pool: MakePool) -> None:
    pool = make_pool()
    assert isinstance(_ended(pool.submit(subtasks.die_before_the_reply)), WorkerDied)
    assert pool.submit(subtasks.echo, 1).result(PATIENCE_SECONDS) == 1


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 0.5, 0.99])
def test_a_part_of_a_reply_is_a_death(make_pool: MakePool, share: float) -> None:
    pool = make_pool()
    error = _ended(pool.submit(subtasks.die_in_the_middle_of_the_reply, share))
    assert isinstance(error, WorkerDied)
    assert pool.submit(subtasks.echo, 1).result(PATIENCE_SECONDS) == 1


def test_workers_killed_while_idle_cost_nothing(make_pool: MakePool) -> None:
    pool = make_pool(2)
    for n in range(25):
        victim = pool.submit(subtasks.pid).result(PATIENCE_SECONDS)
        os.kill(victim, signal.SIGKILL)
        assert pool.submit(subtasks.echo, n).result(PATIENCE_SECONDS) == n


def test_a_worker_that_was_buried_is_handed_nothing(make_pool: MakePool) -> None:
    pool = make_pool()
    pool.ready.result(PATIENCE_SECONDS)
    victim = pool.workers[0].pid
    os.kill(victim, signal.SIGKILL)
    _until(lambda: victim not in [worker.pid for worker in pool.workers])
    assert pool.submit(subtasks.pid).result(PATIENCE_SECONDS) != victim


def test_what_a_dead_worker_had_not_read_goes_to_the_next_before_all_others(
    make_pool: MakePool, tmp_path: Path
) -> None:
    pool = make_pool()
    log = str(tmp_path / "log")
    pool.ready.result(PATIENCE_SECONDS)
    first = pool.workers[0].pid
    _stop(first)
    futures = [pool.submit(subtasks.append, log, str(n)) for n in range(3)]
    assert [future.running() for future in futures] == [True, False, False]
    os.kill(first, signal.SIGKILL)
    for future in futures:
        future.result(PATIENCE_SECONDS)
    assert Path(log).read_text().split() == ["0", "1", "2"]


def test_the_others_go_on_while_workers_die(make_pool: MakePool) -> None:
    pool = make_pool(2)
    futures = [
        pool.submit(subtasks.die, int(signal.SIGKILL))
        if n % 5 == 0
        else pool.submit(subtasks.echo, n)
        for n in range(50)
    ]
    for n, future in enumerate(futures):
        if n % 5 == 0:
            assert isinstance(_ended(future), WorkerDied)
        else:
            assert future.result(PATIENCE_SECONDS) == n


def test_a_death_is_reported_after_the_worker_is_reaped(
    make_pool: MakePool, meeting: Meeting
) -> None:
    pool = make_pool()
    future = pool.submit(subtasks.meet, str(meeting.folder))
    pid = meeting.begun()
    seen: Future[bool] = Future()
    future.add_done_callback(lambda _: seen.set_result(Path(f"/proc/{pid}").exists()))
    os.kill(pid, signal.SIGKILL)
    assert seen.result(PATIENCE_SECONDS) is False


def test_an_answer_to_something_else_is_dropped(make_pool: MakePool) -> None:
    pool = make_pool()
    assert pool.submit(subtasks.forge, 1).result(PATIENCE_SECONDS) == "true"
    assert pool.submit(subtasks.echo, 1).result(PATIENCE_SECONDS) == 1


def test_a_worker_that_closes_its_socket_is_replaced(make_pool: MakePool) -> None:
    pool = make_pool()
    assert isinstance(_ended(pool.submit(subtasks.close_the_socket)), WorkerDied)
    assert pool.submit(subtasks.echo, 1).result(PATIENCE_SECONDS) == 1


def test_a_worker_whose_status_somebody_else_took_is_a_death(
    make_pool: MakePool, meeting: Meeting
) -> None:
    pool = make_pool(2)
    futures = [pool.submit(subtasks.meet, str(meeting.folder)) for _ in range(2)]
    held, taken = threading.Event(), threading.Event()

    def hold_up_the_pool(_: Future[Any]) -> None:
        if not held.is_set():
            held.set()
            taken.wait(PATIENCE_SECONDS)

    for future in futures:
        meeting.begun()
        future.add_done_callback(hold_up_the_pool)
    meeting.let_go()
    assert held.wait(PATIENCE_SECONDS)
    (victim,) = [worker.pid for worker in pool.workers if worker.state is State.BUSY]
    os.kill(victim, signal.SIGKILL)
    os.waitpid(victim, 0)
    taken.set()
    error = _ended(futures[0]) or _ended(futures[1])
    assert isinstance(error, WorkerDied)
    assert error.reason == "an end that nobody saw"
    assert pool.submit(subtasks.echo, 1).result(PATIENCE_SECONDS) == 1


# --- deadlines ------------------------------------------------------------------------------------


def test_an_endless_loop_ends_at_its_deadline(make_pool: MakePool) -> None:
    pool = make_pool(deadline_seconds=0.3)
    error = _ended(pool.submit(subtasks.spin))
    assert isinstance(error, WorkerDied)
    assert error.reason == "deadline of 0.3 s"


def test_a_stopped_worker_ends_at_its_deadline(make_pool: MakePool, meeting: Meeting) -> None:
    pool = make_pool(deadline_seconds=1.5, warm=PRELOAD)
    future = pool.submit(subtasks.meet, str(meeting.folder))
    _stop(meeting.begun())
    error = _ended(future)
    assert isinstance(error, WorkerDied)
    assert error.reason == "deadline of 1.5 s"


def test_a_nursery_that_is_stopped_is_replaced_when_a_worker_is_needed(
    make_pool: MakePool, nursery_of: Callable[[Pool], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(births, "BIRTH_SECONDS", 1.0)
    pool = make_pool()
    nursery = nursery_of(pool)
    _stop(nursery)
    os.kill(pool.workers[0].pid, signal.SIGKILL)
    assert pool.submit(subtasks.echo, 1).result(PATIENCE_SECONDS) == 1
    assert nursery_of(pool) != nursery


def test_a_nursery_that_is_killed_is_replaced_and_costs_no_worker(
    make_pool: MakePool, nursery_of: Callable[[Pool], int]
) -> None:
    pool = make_pool()
    worker = pool.submit(subtasks.pid).result(PATIENCE_SECONDS)
    for _ in range(3):
        nursery = nursery_of(pool)
        os.kill(nursery, signal.SIGKILL)
        assert pool.submit(subtasks.pid).result(PATIENCE_SECONDS) == worker
        _until(lambda gone=nursery: nursery_of(pool) != gone)  # type: ignore[misc]
    os.kill(worker, signal.SIGKILL)
    assert pool.submit(subtasks.echo, 1).result(PATIENCE_SECONDS) == 1


def test_a_sub_task_that_a_stopped_worker_never_read_ends_at_its_deadline_too(
    make_pool: MakePool,
) -> None:
    pool = make_pool(deadline_seconds=0.3)
    pool.ready.result(PATIENCE_SECONDS)
    _stop(pool.workers[0].pid)
    assert isinstance(_ended(pool.submit(subtasks.pid)), WorkerDied)


def test_the_time_that_a_sub_task_waits_is_not_its_own(make_pool: MakePool) -> None:
    pool = make_pool(deadline_seconds=1.0, warm=PRELOAD)
    futures = [pool.submit(subtasks.spin), pool.submit(subtasks.spin)]
    last = pool.submit(subtasks.echo, 1)
    assert [type(_ended(future)) for future in futures] == [WorkerDied, WorkerDied]
    assert last.result(PATIENCE_SECONDS) == 1


def test_an_answer_that_lay_there_in_time_is_no_overdue_one(
    make_pool: MakePool, meeting: Meeting
) -> None:
    pool = make_pool(2, deadline_seconds=1.0, warm=PRELOAD)
    futures = [pool.submit(subtasks.meet, str(meeting.folder), n) for n in range(2)]
    pids = {meeting.begun(), meeting.begun()}
    held, late = threading.Event(), threading.Event()

    def hold_up_the_pool(_: Future[Any]) -> None:
        if not held.is_set():
            held.set()
            late.wait(PATIENCE_SECONDS)

    for future in futures:
        future.add_done_callback(hold_up_the_pool)
    meeting.let_go()
    assert held.wait(PATIENCE_SECONDS)
    meeting.let_go()
    assert not late.wait(1.1)  # the deadline passes while the pool's thread is held up
    late.set()
    assert [future.result(PATIENCE_SECONDS) for future in futures] == [0, 1]
    assert pool.submit(subtasks.pid).result(PATIENCE_SECONDS) in pids
    assert {worker.pid for worker in pool.workers} == pids


# --- errors ---------------------------------------------------------------------------------------


def test_our_own_errors_arrive_whole(make_pool: MakePool) -> None:
    error = _ended(make_pool().submit(subtasks.refuse))
    assert isinstance(error, FileRefused)
    assert error.refusal.remedy == "mend it"


def test_an_error_brings_the_remote_traceback_as_a_note(make_pool: MakePool) -> None:
    error = _ended(make_pool().submit(subtasks.divide, 1, 0))
    assert error is not None
    (note,) = error.__notes__
    assert "in worker" in note
    assert "return a / b" in note


@pytest.mark.parametrize(
    ("subtask", "text"),
    [
        (subtasks.raise_picky, "picky 1 2"),
        (subtasks.raise_panic, "the parser panicked"),
        (subtasks.raise_bare, "Bare"),
        (subtasks.raise_stop, "it ends a loop"),
        (subtasks.raise_verbosely, "xxx"),
    ],
)
def test_an_error_that_cannot_travel_arrives_as_its_text(
    make_pool: MakePool, subtask: Callable[[], object], text: str
) -> None:
    pool = make_pool()
    error = _ended(pool.submit(subtask))
    assert isinstance(error, SubtaskFailed)
    assert text in str(error)
    assert len(str(error)) < MESSAGE_BYTES
    assert pool.submit(subtasks.echo, 1).result(PATIENCE_SECONDS) == 1


def test_what_is_too_large_even_for_a_parcel_is_told_so(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message, "PARCEL_BYTES", 1 << 20)
    pool = make_pool()
    sent = pool.submit(subtasks.echo, bytes(1 << 20))
    with pytest.raises(MessageTooLarge, match=r"1048576 bytes .* the arena\), got 1048\d{3}"):
        sent.result(PATIENCE_SECONDS)
    assert pool.submit(subtasks.echo, 1).result(PATIENCE_SECONDS) == 1


def test_what_is_too_large_for_a_message_travels_as_a_parcel(make_pool: MakePool) -> None:
    pool = make_pool(1)
    pool.ready.result(PATIENCE_SECONDS)
    before = len(os.listdir("/proc/self/fd"))
    for nbytes in (MESSAGE_BYTES, MESSAGE_BYTES + 1, 5 << 20):
        assert pool.submit(subtasks.echo, bytes(nbytes)).result(PATIENCE_SECONDS) == bytes(nbytes)
    assert pool.submit(subtasks.echo, 1).result(PATIENCE_SECONDS) == 1
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_message_just_below_the_limit_passes_both_ways(make_pool: MakePool) -> None:
    pool = make_pool()
    for nbytes in (MESSAGE_BYTES - 200, MESSAGE_BYTES // 2, 1, 0):
        assert pool.submit(subtasks.echo, bytes(nbytes)).result(PATIENCE_SECONDS) == bytes(nbytes)


# --- shutdown -------------------------------------------------------------------------------------


def test_a_stopped_idle_worker_does_not_hold_up_the_shutdown(
    make_pool: MakePool, wait_dead: Callable[[int], None]
) -> None:
    pool = make_pool(2)
    pool.ready.result(PATIENCE_SECONDS)
    stopped = pool.submit(subtasks.pid).result(PATIENCE_SECONDS)
    pidfd = os.pidfd_open(stopped)
    _stop(stopped)
    pool.shutdown()
    wait_dead(pidfd)
    assert pool.workers == []


def test_a_stopped_busy_worker_holds_up_the_shutdown_no_longer_than_its_deadline(
    make_pool: MakePool, meeting: Meeting
) -> None:
    pool = make_pool(deadline_seconds=1.5, warm=PRELOAD)
    future = pool.submit(subtasks.meet, str(meeting.folder))
    _stop(meeting.begun())
    pool.shutdown()
    assert isinstance(_ended(future), WorkerDied)


def test_a_kill_ends_everything_at_once(make_pool: MakePool, meeting: Meeting) -> None:
    pool = make_pool()
    running = pool.submit(subtasks.meet, str(meeting.folder))
    meeting.begun()
    waiting = pool.submit(subtasks.echo, 1)
    pool.kill()
    error = _ended(running)
    assert isinstance(error, WorkerDied)
    assert error.reason == "killed with the pool"
    with pytest.raises(CancelledError):
        waiting.result(PATIENCE_SECONDS)
    pool.shutdown()
    with pytest.raises(RuntimeError, match="got one after it"):
        pool.submit(subtasks.echo, 1)


def test_a_shutdown_from_a_callback_does_not_wait_for_itself(make_pool: MakePool) -> None:
    pool = make_pool()
    ended: Future[None] = Future()

    def close(_: Future[Any]) -> None:
        pool.shutdown(wait=True)
        ended.set_result(None)

    pool.submit(subtasks.echo, 1).add_done_callback(close)
    ended.result(PATIENCE_SECONDS)


def test_a_shutdown_leaves_no_process_no_thread_and_no_descriptor(
    wait_dead: Callable[[int], None],
) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    threads = threading.active_count()
    with Pool(2, deadline_seconds=PATIENCE_SECONDS) as pool:
        pool.ready.result(PATIENCE_SECONDS)
        pidfds = [os.pidfd_open(worker.pid) for worker in pool.workers]
        pool.submit(subtasks.echo, 1).result(PATIENCE_SECONDS)
    for pidfd in pidfds:
        wait_dead(pidfd)
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert threading.active_count() == threads


# --- the daemon's death, and long lives -----------------------------------------------------------

_DAEMON = """
import sys
sys.path.append(sys.argv[1])
import pool_subtasks as subtasks
from service.runtime.pool import Pool, State
pool = Pool(3, deadline_seconds=60)
pids = {pool.submit(subtasks.meet, sys.argv[2]) for _ in range(2)}
pool.submit(subtasks.echo, 1).result()
print(*(worker.pid for worker in pool.workers), flush=True)
sys.stdin.read()
"""


def test_no_worker_outlives_a_killed_daemon(
    meeting: Meeting, wait_dead: Callable[[int], None]
) -> None:
    here = str(Path(__file__).parent)
    with subprocess.Popen(
        [sys.executable, "-c", _DAEMON, here, str(meeting.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as daemon:
        assert daemon.stdout is not None
        assert readable(daemon.stdout.fileno())
        workers = [int(pid) for pid in daemon.stdout.readline().split()]
        assert len(workers) == 3
        pidfds = [os.pidfd_open(pid) for pid in workers]
        os.kill(meeting.begun(), signal.SIGSTOP)  # one computes, one is stopped, one is idle
        meeting.begun()
        daemon.kill()
        for pidfd in pidfds:
            wait_dead(pidfd)


def test_descriptors_and_memory_stay_level_over_many_sub_tasks(make_pool: MakePool) -> None:
    pool = make_pool()

    def resources_after(count: int) -> tuple[int, tuple[int, int]]:
        for n in range(count):
            assert pool.submit(subtasks.echo, [n] * 100).result(PATIENCE_SECONDS) == [n] * 100
            assert pool.submit(subtasks.divide, 1, 0).exception(PATIENCE_SECONDS) is not None
        ours = len(os.listdir("/proc/self/fd"))
        return ours, pool.submit(subtasks.resources).result(PATIENCE_SECONDS)

    ours_before, (descriptors_before, resident_before) = resources_after(200)
    ours, (descriptors, resident) = resources_after(1000)
    assert ours == ours_before
    assert descriptors == descriptors_before
    assert resident - resident_before < 1024


def test_descriptors_stay_level_over_many_deaths(make_pool: MakePool) -> None:
    pool = make_pool()
    pool.submit(subtasks.vanish, 1).exception(PATIENCE_SECONDS)
    pool.submit(subtasks.echo, 1).result(PATIENCE_SECONDS)
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(20):
        pool.submit(subtasks.vanish, 1).exception(PATIENCE_SECONDS)
    pool.submit(subtasks.echo, 1).result(PATIENCE_SECONDS)
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_worn_worker_serves_until_its_heir_is_up_and_then_leaves(
    make_pool: MakePool, wait_dead: Callable[[int], None]
) -> None:
    pool = make_pool(recycle_after=10)
    first = pool.submit(subtasks.pid).result(PATIENCE_SECONDS)
    pidfd = os.pidfd_open(first)
    served = 1
    while pool.submit(subtasks.pid).result(PATIENCE_SECONDS) == first:
        served += 1
    assert served >= 10
    wait_dead(pidfd)
    assert pool.submit(subtasks.pid).result(PATIENCE_SECONDS) != first


def test_a_time_without_descriptors_is_survived(make_pool: MakePool, meeting: Meeting) -> None:
    pool = make_pool()
    lost = pool.submit(subtasks.meet, str(meeting.folder))
    victim = meeting.begun()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        os.kill(victim, signal.SIGKILL)
        waiting = pool.submit(subtasks.echo, 1)
        assert isinstance(_ended(lost), WorkerDied)
        with pytest.raises(TimeoutError):
            waiting.result(0.2)  # the births fail now
        assert "Too many open files" in pool.trouble
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert waiting.result(PATIENCE_SECONDS) == 1
    assert pool.trouble == ""


def test_what_was_never_read_and_cannot_be_fails_when_the_pool_is_killed(
    make_pool: MakePool,
) -> None:
    pool = make_pool()
    pool.ready.result(PATIENCE_SECONDS)
    victim = pool.workers[0].pid
    _stop(victim)
    unread = pool.submit(subtasks.echo, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        os.kill(victim, signal.SIGKILL)
        _until(lambda: bool(pool.trouble))
        pool.kill()
        error = _ended(unread)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert isinstance(error, WorkerDied)
    assert error.reason == "shutdown before it was read"


def test_a_shutdown_does_not_wait_for_workers_that_cannot_come(
    make_pool: MakePool, meeting: Meeting
) -> None:
    pool = make_pool()
    lost = pool.submit(subtasks.meet, str(meeting.folder))
    victim = meeting.begun()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        waiting = pool.submit(subtasks.echo, 1)
        os.kill(victim, signal.SIGKILL)
        pool.shutdown()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert isinstance(_ended(lost), WorkerDied)
    with pytest.raises(WorkerError, match="Too many open files"):
        waiting.result(PATIENCE_SECONDS)
