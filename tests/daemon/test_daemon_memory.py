"""The machine's memory runs out: the kernel kills a worker, as its OOM killer does, in a control group that is too small."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import sample_tables
from daemon_root import Root, eventually, job, root_in

MEBIBYTE = 1 << 20
JOB = job(training={"batch_rows": 1000}, output={"samples": "off"})
HEAD, _, BODY = sample_tables.csv(sample_tables.rows(20_000, 1)).partition(b"\n")
LARGE = HEAD + b"\n" + 40 * BODY  # some 30 MiB, to be decoded at once


class Group:
    """A control group of processes, which may have so much memory together."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def limit(self, mebibytes: int) -> None:
        for name in ("memory.max", "memory.limit_in_bytes"):  # version 2, version 1
            if (self.path / name).exists():
                (self.path / name).write_text(str(mebibytes * MEBIBYTE))

    def add(self, pid: int) -> None:
        (self.path / "cgroup.procs").write_text(str(pid))

    @property
    def kills(self) -> int:
        """How many processes the kernel has killed in it."""
        for name in ("memory.events", "memory.oom_control"):
            with suppress(FileNotFoundError):
                lines = (self.path / name).read_text().splitlines()
                return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
        return 0


@pytest.fixture
def group() -> Iterator[Group]:
    """A new group; skips where none can be made, or it has no bound on memory."""
    mounted = Path("/sys/fs/cgroup")
    parent = mounted / "memory" if (mounted / "memory").is_dir() else mounted
    path = parent / f"headrace-test-{secrets.token_hex(4)}"
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        if not any((path / name).exists() for name in ("memory.max", "memory.limit_in_bytes")):
            pytest.skip("a control group has no bound on memory here")
        yield Group(path)
        eventually(lambda: not (path / "cgroup.procs").read_text(), "an empty group")
    finally:
        path.rmdir()


def test_a_worker_that_runs_out_of_memory_costs_its_sub_task_only(root: Root, group: Group) -> None:
    service = {"chunk_bytes": 64 * MEBIBYTE, "workers": 1}
    with root_in(root.home / "calm") as calm:
        for one in (root, calm):
            one.configure(JOB, service=service)
        calm.drop("large.csv", LARGE)
        calm.once()
        life = root.start()
        (worker,) = life.workers()
        group.limit(10)
        group.add(worker)
        root.drop("large.csv", LARGE)
        life.done()
        assert group.kills == 1
        assert life.status()["subtasks_repeated"] >= 1
        life.stop()
        assert root.outcome() == calm.outcome()
