"""The machine's bounds: the kernel kills a worker for want of memory, or lets nobody start a process or a thread."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import sample_tables
from control_group import MEBIBYTE, Group, group_of
from daemon_root import CHECKOUT, Life, Outcome, Root, eventually, job, root_in

JOB = job(training={"batch_rows": 1000}, output={"samples": "off"})
HEAD, _, BODY = sample_tables.csv(sample_tables.rows(20_000, 1)).partition(b"\n")
LARGE = HEAD + b"\n" + 40 * BODY  # some 45 MiB, to be decoded in large chunks


def test_a_worker_that_runs_out_of_memory_costs_its_sub_task_only(root: Root) -> None:
    service = {"chunk_bytes": 64 * MEBIBYTE, "workers": 1}
    with group_of("memory") as group, root_in(root.home / "calm") as calm:
        for one in (root, calm):
            one.configure(JOB, service=service)
        calm.drop("large.csv", LARGE)
        calm.once()
        life = root.start()
        (worker,) = life.workers()
        group.limit_memory(8)
        group.add(worker)
        root.drop("large.csv", LARGE)
        life.done()
        assert group.kills == 1
        assert life.status()["subtasks_repeated"] >= 1
        life.stop()
        assert root.outcome() == calm.outcome()


def _ends_with_a_remedy(root: Root, said: str, remedy: str) -> None:
    """One line says what to do; nothing else does, and the file lies where it was dropped."""
    assert remedy in said.splitlines()[-1], said
    for noise in ("Traceback", "panicked", "OpenBLAS", "jemalloc"):
        assert noise not in said, said
    assert root.names("inbox") == ["a.csv"]
    assert root.names("failed") == []


@pytest.mark.parametrize("tasks", [1, 2, 3, 5, 10, 11, 12, 13, 14, 15])
def test_a_start_where_hardly_a_process_or_thread_can_be_had_ends_with_a_remedy(
    root: Root, tasks: int
) -> None:
    root.configure(JOB)
    root.drop("a.csv", sample_tables.csv(sample_tables.rows(50, 1)))
    with group_of("pids") as group:
        group.limit_tasks(tasks)
        group.starts(root)
        life = root.once(expected=1)
    _ends_with_a_remedy(root, life.said, "raise the limit of processes (ulimit -u")


@pytest.mark.parametrize("blocks", [0, 8, 4000])
def test_a_start_where_no_file_may_be_long_ends_with_a_remedy(root: Root, blocks: int) -> None:
    root.configure(JOB)
    root.drop("a.csv", sample_tables.csv(sample_tables.rows(50, 1)))
    command = root.command("run", "--once", "-c", str(root.config), "--root", str(root.path))
    ended = subprocess.run(
        ["sh", "-c", f'ulimit -f {blocks}; exec "$@"', "sh", *command],
        capture_output=True, text=True, cwd=CHECKOUT, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    _ends_with_a_remedy(root, ended.stderr, "ulimit -f")


NAMES = [f"{number}.csv" for number in range(3)]


@pytest.fixture
def calm(tmp_path: Path) -> Iterator[Outcome]:
    """What the small files come to."""
    with root_in(tmp_path / "calm") as calm:
        calm.configure(JOB)
        _drop(calm)
        calm.once()
        yield calm.outcome()


def _drop(root: Root) -> None:
    for number, name in enumerate(NAMES):
        root.drop(name, sample_tables.csv(sample_tables.rows(50, number)))


def _without_workers(root: Root, group: Group) -> Life:
    """A daemon whose only worker is dead, and whose next one could be born, and have no threads; and files."""
    root.configure(JOB, service={"workers": 1})
    group.starts(root)
    life = root.start()
    (worker,) = life.workers()
    group.limit_tasks(group.tasks - len(os.listdir(f"/proc/{worker}/task")) + 3)
    os.kill(worker, signal.SIGKILL)
    _drop(root)
    eventually(lambda: "raise the limit of processes" in life.status()["trouble"], "why", life)
    return life


def test_where_no_thread_can_be_started_files_wait_and_none_is_refused(
    root: Root, calm: Outcome
) -> None:
    with group_of("pids") as group:
        life = _without_workers(root, group)
        assert root.names("failed") == []
        group.limit_tasks(None)
        life.done(files=len(NAMES))
        eventually(lambda: not life.status()["trouble"], "no more trouble", life)
        life.stop()
    assert root.outcome() == calm


def test_a_daemon_that_can_have_no_worker_stops_when_it_is_asked_to(
    root: Root, calm: Outcome
) -> None:
    with group_of("pids") as group:
        life = _without_workers(root, group)
        eventually(lambda: root.names("work"), "a file in hand", life)
        life.stop()
        group.limit_tasks(None)
        root.once()
    assert root.outcome() == calm
    assert root.names("failed") == []
