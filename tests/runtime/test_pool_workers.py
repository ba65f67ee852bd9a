"""How workers come up, and what they find and leave alone when they are up."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pool_subtasks as subtasks
import pytest
from pool_meeting import PATIENCE_SECONDS, Meeting, children

from service.core.errors import WorkerDied, WorkerError
from service.runtime.nursery import why_no_process
from service.runtime.pool import Pool, State

MakePool = Callable[..., Pool]

HOSTILE = {
    "OPENBLAS_NUM_THREADS": "64",
    "OPENBLAS_CORETYPE": "Prescott",
    "OMP_NUM_THREADS": "64",
    "OMP_DYNAMIC": "1",
    "MKL_CBWR": "AUTO",
    "NPY_DISABLE_CPU_FEATURES": "AVX2",
    "NUMBA_DISABLE_JIT": "1",
    "NUMBA_CACHE_DIR": "/somewhere",
    "BLIS_ARCH_TYPE": "1",
    "GOTO_NUM_THREADS": "64",
    "KMP_AFFINITY": "compact",
    "POLARS_MAX_THREADS": "64",
    "PYTHONHASHSEED": "7",
    "LC_ALL": "de_DE.UTF-8",
}


def test_a_worker_finds_a_clean_numeric_environment(make_pool: MakePool) -> None:
    pool = make_pool(environment={**os.environ, **HOSTILE})
    found = pool.submit(subtasks.environment).result(PATIENCE_SECONDS)
    assert {name: found.get(name) for name in HOSTILE} == {
        "OPENBLAS_NUM_THREADS": "1",
        "OPENBLAS_CORETYPE": None,
        "OMP_NUM_THREADS": "1",
        "OMP_DYNAMIC": None,
        "MKL_CBWR": None,
        "NPY_DISABLE_CPU_FEATURES": None,
        "NUMBA_DISABLE_JIT": None,
        "NUMBA_CACHE_DIR": "/somewhere",
        "BLIS_ARCH_TYPE": None,
        "GOTO_NUM_THREADS": None,
        "KMP_AFFINITY": None,
        "POLARS_MAX_THREADS": "1",
        "PYTHONHASHSEED": "0",
        "LC_ALL": "C.UTF-8",
    }
    assert (found["MKL_NUM_THREADS"], found["NUMBA_NUM_THREADS"]) == ("1", "1")


def test_a_worker_keeps_the_memory_that_a_sub_task_let_go_for_the_next_one(
    make_pool: MakePool,
) -> None:
    pool = make_pool()
    faults = [pool.submit(subtasks.faults_of_a_chunk).result(PATIENCE_SECONDS) for _ in range(3)]
    assert faults[-1] < 50  # of 5,120 pages


def test_a_worker_imports_no_event_loop(make_pool: MakePool) -> None:
    imported = make_pool().submit(subtasks.imported).result(PATIENCE_SECONDS)
    assert "service.runtime.arena" in imported
    assert not {"asyncio", "uvloop", "service.runtime.pool"} & set(imported)


def test_a_worker_leaves_ctrl_c_to_the_daemon_and_dies_before_it(make_pool: MakePool) -> None:
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        pool = make_pool()
        found = pool.submit(subtasks.signals).result(PATIENCE_SECONDS)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    assert found.pop("oom_score_adj") in (500, 1000)
    assert found == {"SIGINT": True, "SIGTERM": True, "blocked": 0, "session": True}


def test_the_status_names_each_worker(make_pool: MakePool, meeting: Meeting) -> None:
    pool = make_pool(1)
    assert [worker.state for worker in pool.workers] in ([], [State.STARTING], [State.IDLE])
    future = pool.submit(subtasks.meet, str(meeting.folder))
    pid = meeting.begun()
    assert pool.workers == [(pid, State.BUSY)]
    assert repr(pool) == "<Pool <Desk [busy], 0 waiting>>"
    meeting.let_go()
    future.result(PATIENCE_SECONDS)
    assert pool.workers == [(pid, State.IDLE)]


def test_the_warm_up_is_done_once_before_the_first_worker(
    make_pool: MakePool, tmp_path: Path, meeting: Meeting
) -> None:
    log = tmp_path / "warm"
    pool = make_pool(3, warm="pool_subtasks:warm", environment={**os.environ, "WARM_LOG": str(log)})
    held = [pool.submit(subtasks.meet, str(meeting.folder)) for _ in range(3)]
    pids = [meeting.begun() for _ in held]
    meeting.let_go(3)
    for future in held:
        future.result(PATIENCE_SECONDS)
    warmed = [int(pid) for pid in log.read_text().split()]
    assert len(warmed) == 1
    assert warmed[0] not in pids
    assert pool.submit(subtasks.warmed).result(PATIENCE_SECONDS) == warmed


def test_workers_come_from_a_process_with_one_thread_and_are_our_own_children(
    make_pool: MakePool, nursery_of: Callable[[Pool], int]
) -> None:
    pool = make_pool(warm="service.subtasks.warming:warm")
    nursery = nursery_of(pool)
    assert pool.submit(os.getppid).result(PATIENCE_SECONDS) == os.getpid()
    assert len(os.listdir(f"/proc/{nursery}/task")) == 1


def test_the_collector_spares_what_was_made_before_a_worker_and_no_more(
    make_pool: MakePool,
) -> None:
    pool = make_pool(warm="pool_subtasks:warm_by_importing")
    assert pool.submit(gc.get_threshold).result(PATIENCE_SECONDS) == gc.get_threshold()
    assert pool.submit(gc.get_freeze_count).result(PATIENCE_SECONDS) > 0


def test_each_worker_settles_before_it_serves_and_one_that_can_not_is_replaced(
    make_pool: MakePool, tmp_path: Path
) -> None:
    log = tmp_path / "settled"
    environment = {**os.environ, "WARM_LOG": str(log)}
    pool = make_pool(warm="pool_subtasks:warm_for_workers", environment=environment)
    first = pool.submit(subtasks.pid).result(PATIENCE_SECONDS)
    dying = pool.submit(subtasks.die, signal.SIGKILL)
    with pytest.raises(WorkerDied):
        dying.result(PATIENCE_SECONDS)
    third = pool.submit(subtasks.pid).result(PATIENCE_SECONDS)
    settled = list(map(int, log.read_text().split()))
    assert len(settled) == 3
    assert (settled[0], settled[2]) == (first, third)


def test_a_worker_that_is_killed_before_it_can_say_a_word_is_buried(
    make_pool: MakePool, tmp_path: Path
) -> None:
    before, log = set(children()), tmp_path / "born"
    environment = {**os.environ, "WARM_LOG": str(log)}
    pool = make_pool(warm="pool_subtasks:warm_to_die_young", environment=environment)
    assert pool.submit(subtasks.echo, 1).result(PATIENCE_SECONDS) == 1
    assert log.read_text() == "...."
    states = [
        Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
        for pid in set(children()) - before
    ]
    assert len(states) == 2  # the worker, and where it came from
    assert "Z" not in states


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EAGAIN, "; raise the limit of processes (ulimit -u, TasksMax=, pids.max)"),
        (errno.EMFILE, "; raise the limit of open files (ulimit -n, LimitNOFILE=, fs.file-max)"),
        (errno.EACCES, ""),
    ],
)
def test_only_a_limit_that_was_met_is_to_be_raised(number: int, remedy: str) -> None:
    error = OSError(number, os.strerror(number), "/bin/python")
    told = f"a process can be started, got /bin/python: {os.strerror(number)}{remedy}"
    assert why_no_process(error) == told


@pytest.mark.parametrize(
    ("warm", "reason"),
    [
        ("pool_subtasks:warm_fails", "the cache is on fire"),
        ("pool_subtasks:warm_exits", "exit status 7"),
        ("no_such_module:warm", "No module named 'no_such_module'"),
    ],
)
def test_a_pool_whose_workers_never_come_up_says_why(
    make_pool: MakePool, warm: str, reason: str
) -> None:
    pool = make_pool(warm=warm)
    waiting = pool.submit(subtasks.echo, 1)
    for future in (pool.ready, waiting):
        with pytest.raises(WorkerError, match=reason):
            future.result(PATIENCE_SECONDS)
    with pytest.raises(RuntimeError, match=reason):
        pool.submit(subtasks.echo, 1)
    pool.shutdown()


def test_a_shutdown_does_not_wait_for_a_worker_that_is_coming_up(
    make_pool: MakePool, tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)  # the warm-up opens it to write, and waits for a reader for ever
    pool = make_pool(warm="pool_subtasks:warm", environment={**os.environ, "WARM_LOG": str(fifo)})
    pool.shutdown()
    with pytest.raises(WorkerError, match="shutdown first"):
        pool.ready.result(PATIENCE_SECONDS)


def test_who_stops_waiting_for_the_first_worker_does_not_disturb_it(make_pool: MakePool) -> None:
    pool = make_pool()

    async def impatient() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.wrap_future(pool.ready)

    asyncio.run(impatient())
    assert pool.submit(subtasks.echo, 1).result(PATIENCE_SECONDS) == 1
    assert pool.ready.result(PATIENCE_SECONDS) is None


@pytest.mark.parametrize(
    ("workers", "deadline_seconds", "text"),
    [
        (0, 1.0, "pool: it has at least 1 worker, got 0"),
        (1, 0.0, "pool: a deadline is more than 0 s, got 0.0"),
        (1, float("nan"), "pool: a deadline is more than 0 s, got nan"),
    ],
)
def test_an_impossible_pool_is_refused(workers: int, deadline_seconds: float, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Pool(workers, deadline_seconds=deadline_seconds)
