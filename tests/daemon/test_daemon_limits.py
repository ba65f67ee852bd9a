"""The machine's bounds: the kernel kills a worker for want of memory, or lets nobody start a process or a thread."""

from __future__ import annotations

import os
import signal

import sample_tables
from control_group import MEBIBYTE, group_of
from daemon_root import Root, eventually, job, root_in

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


def test_where_no_thread_can_be_started_files_wait_and_none_is_refused(root: Root) -> None:
    names = [f"{number}.csv" for number in range(3)]
    with group_of("pids") as group, root_in(root.home / "calm") as calm:
        for one in (root, calm):
            one.configure(JOB, service={"workers": 1})
        for number, name in enumerate(names):
            calm.drop(name, sample_tables.csv(sample_tables.rows(50, number)))
        calm.once()
        group.starts(root)
        life = root.start()
        (worker,) = life.workers()
        group.limit_tasks(group.tasks - len(os.listdir(f"/proc/{worker}/task")) + 3)
        os.kill(worker, signal.SIGKILL)  # its successor can be born, and have no threads
        for number, name in enumerate(names):
            root.drop(name, sample_tables.csv(sample_tables.rows(50, number)))
        eventually(lambda: "raise the limit of processes" in life.status()["trouble"], "why", life)
        assert root.names("failed") == []
        group.limit_tasks(None)
        life.done(files=len(names))
        eventually(lambda: not life.status()["trouble"], "no more trouble", life)
        life.stop()
        assert root.outcome() == calm.outcome()
