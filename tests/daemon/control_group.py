"""Control groups: processes that may have so much memory together, or so many tasks (processes and threads)."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from daemon_root import Root, eventually

MOUNTED = Path("/sys/fs/cgroup")
MEBIBYTE = 1 << 20


class Group:
    """One group, of version 1 or 2 as the machine has it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, pid: int) -> None:
        (self.path / "cgroup.procs").write_text(str(pid))

    def starts(self, root: Root) -> None:
        """All daemons of the root are born in the group."""
        root.starter = ["sh", "-c", f'echo $$ > {self.path}/cgroup.procs; exec "$@"', "sh"]

    def limit_memory(self, mebibytes: int) -> None:
        self._file("memory.max", "memory.limit_in_bytes").write_text(str(mebibytes * MEBIBYTE))

    @property
    def kills(self) -> int:
        """How many processes the kernel has killed for want of memory."""
        lines = self._file("memory.events", "memory.oom_control").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))

    @property
    def tasks(self) -> int:
        return int((self.path / "pids.current").read_text())

    def limit_tasks(self, tasks: int | None) -> None:
        (self.path / "pids.max").write_text("max" if tasks is None else str(tasks))

    def _file(self, *names: str) -> Path:
        return next(self.path / name for name in names if (self.path / name).exists())


@contextmanager
def group_of(controller: str) -> Iterator[Group]:
    """A new group that `controller` (memory, pids) bounds; skips where there can be none."""
    parent = MOUNTED / controller if (MOUNTED / controller).is_dir() else MOUNTED
    path = parent / f"headrace-test-{secrets.token_hex(4)}"
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        if not list(path.glob(f"{controller}.*max*")) and not list(
            path.glob(f"{controller}.limit*")
        ):
            pytest.skip(f"{controller} has no bound here")
        yield Group(path)
        eventually(lambda: not (path / "cgroup.procs").read_text(), "an empty group")
    finally:
        with suppress(OSError):  # a test that failed left somebody in it
            path.rmdir()
