"""A place to meet a sub-task without sleeping."""

from __future__ import annotations

import os
import select
from contextlib import suppress
from pathlib import Path

PATIENCE_SECONDS = 30.0  # only ever waited for by a test that fails


def readable(fd: int) -> bool:
    """Waits for a descriptor to be readable; False when patience is at its end."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(PATIENCE_SECONDS * 1000))


class Meeting:
    """Two pipes with names: sub-tasks say through one that they have begun, and wait at the other.

    Pass `str(meeting.folder)` to `pool_subtasks.meet`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("begun", "gate"):
            os.mkfifo(folder / name)
        self._begun = os.open(folder / "begun", os.O_RDWR)
        self._gate = os.open(folder / "gate", os.O_RDWR)

    def begun(self) -> int:
        """Waits until one more sub-task has begun; its worker's pid."""
        assert readable(self._begun), "no sub-task has begun"
        return int(os.read(self._begun, 8))

    def let_go(self, count: int = 1) -> None:
        """Lets so many sub-tasks end."""
        os.write(self._gate, b"." * count)

    def close(self) -> None:
        os.close(self._begun)
        os.close(self._gate)


def children() -> list[int]:
    """The processes that this one is the parent of."""
    found: list[int] = []
    for task in Path("/proc/self/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            found += map(int, task.read_text().split())
    return found
