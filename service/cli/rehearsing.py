"""The engine's run in a scratch root for `headrace verify`: its settings, its progress bar, and when it may stop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from itertools import accumulate
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from service.cli.terminal import terminal
from service.core.errors import Scarcity
from service.core.settings import Commit, Intake, Logs, Service, Settings
from service.core.terms import parse_body
from service.daemon import Daemon
from service.lines.life import Life
from service.storage.rehearsal import Original, parting
from service.storage.tables import FileState

REFRESH_SECONDS = 0.1
DEADLINE_SECONDS = (
    24 * 3600.0
)  # the root's configuration, which may have a long one, is not at hand
ROTATE_BYTES = 64 << 20  # with the segments below this bounds what a scratch log takes
SEGMENTS = 4


def scratch_settings(root: Path, originals: Iterable[Original]) -> Settings:
    """How it runs; what is learnt is said by each file's own terms."""
    jobs = tuple(
        parse_body(original.settings[original.files[-1].settings]).job for original in originals
    )
    return Settings(
        service=Service(root=root, deadline_seconds=DEADLINE_SECONDS),
        intake=Intake(max_file_bytes=2**62),
        commit=Commit(interval_seconds=1e9, keep=1),
        logs=Logs(rotate_bytes=ROTATE_BYTES, keep=SEGMENTS),
        jobs=jobs,
    )


class Watcher:
    """Shows how far it is, and ends a job's run at the first file that does not come out the same."""

    def __init__(self, originals: Mapping[str, Original]) -> None:
        self._originals = originals
        sizes = {job: [f.size for f in one.files] for job, one in originals.items()}
        self._bytes_before = {job: [0, *accumulate(each)] for job, each in sizes.items()}
        self._judged = dict.fromkeys(originals, 0)
        self.trouble = ""

    async def follow(self, daemon: Daemon) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._leave_in_trouble(daemon), name="trouble")
            group.create_task(self._judge_all(daemon), name="judge")

    async def _leave_in_trouble(self, daemon: Daemon) -> None:
        """Where something is scarce a daemon waits for it; here somebody waits for an answer.

        A task of its own, since whoever asks the journal meanwhile waits with the daemon.
        """
        while not self.trouble:
            paused = [life.status for life in daemon.lives.values() if life.status.pauses]
            reason = next((status.reason for status in paused), None) or daemon.held_up
            if reason:
                self.trouble = reason
                daemon.stop(reason)
            await asyncio.sleep(REFRESH_SECONDS)

    async def _judge_all(self, daemon: Daemon) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        total = sum(before[-1] for before in self._bytes_before.values())
        with Progress(*columns, console=terminal(stderr=True)) as progress:
            bar = progress.add_task("learning again", total=max(total, 1))
            while True:
                for life in daemon.lives.values():
                    await self._judge(life)
                done = sum(self._done_bytes(life) for life in daemon.lives.values())
                progress.update(bar, completed=done)
                await asyncio.sleep(REFRESH_SECONDS)

    async def _judge(self, life: Life) -> None:
        """Of a line that has ended the writer may be closed; when it has all files, whoever called judges them."""
        job = life.job.name
        files, journal = self._originals[job].files, life.machinery.journal
        while self._judged[job] < len(files) and life.line is not None and not life.leaving:
            number = self._judged[job] + 1
            asked = life.machinery.writer.run(lambda number=number: journal.file(job, number))  # type: ignore[misc]
            try:
                row = await asyncio.wrap_future(asked)
            except Scarcity:
                return  # the writer gave up, since the daemon was stopped
            if row.state is FileState.ADMITTED:
                return
            if parting(files[number - 1], row) is not None:
                life.stop()
            self._judged[job] = number

    def _done_bytes(self, life: Life) -> float:
        status, before = life.status, self._bytes_before[life.job.name]
        whole = min(status.done + status.failed, len(before) - 1)
        file = status.file
        return before[whole] + (0 if file is None else file.share * file.bytes)
