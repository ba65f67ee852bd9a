"""Pools for the tests, and a way to reach the modules that workers import too."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.runtime.pool import Pool

sys.path.append(str(Path(__file__).parent))  # workers get this path too

from pool_meeting import PATIENCE_SECONDS, Meeting, children, readable


@pytest.fixture
def meeting(tmp_path: Path) -> Iterator[Meeting]:
    meeting = Meeting(tmp_path)
    yield meeting
    meeting.close()


@pytest.fixture
def make_pool() -> Iterator[Callable[..., Pool]]:
    """Makes pools that are killed at the end of the test, however it ends."""
    made: list[Pool] = []

    def make(workers: int = 1, deadline_seconds: float = PATIENCE_SECONDS, **options: Any) -> Pool:
        made.append(Pool(workers, deadline_seconds=deadline_seconds, **options))
        return made[-1]

    yield make
    for pool in made:
        pool.kill()
        pool.shutdown()


@pytest.fixture
def wait_dead() -> Callable[[int], None]:
    """Waits until a process has ended (a zombie has)."""

    def wait(pidfd: int) -> None:
        try:
            assert readable(pidfd), "the process lives"
        finally:
            os.close(pidfd)

    return wait


@pytest.fixture
def nursery_of() -> Callable[[Pool], int]:
    """The pid of the process that a pool's workers come from, as soon as there is a worker and a nursery."""
    before = set(children())

    def look(pool: Pool) -> int:
        pool.ready.result(PATIENCE_SECONDS)
        limit = time.monotonic() + PATIENCE_SECONDS
        while True:
            workers = {worker.pid for worker in pool.workers}
            found = set(children()) - before - workers
            if len(found) == 1 and workers:
                return found.pop()
            assert time.monotonic() < limit, f"one nursery, got {found}"

    return look
