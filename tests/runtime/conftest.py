"""Pools for the tests, and a way to reach the modules that workers import too."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.runtime.pool import Pool

sys.path.append(str(Path(__file__).parent))  # workers get this path too

from pool_meeting import PATIENCE_SECONDS, Meeting, readable


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
