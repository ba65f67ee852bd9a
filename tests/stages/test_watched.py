"""A directory that a line watches is looked into whether or not the machine sends events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import cast

from service.core.status import JobStatus
from service.runtime.inbox import Inbox
from service.runtime.watch import Watch
from service.stages.line import Line
from service.stages.watched import Watched

PATIENCE_SECONDS = 20.0


class Job:
    """What `Watched` asks of a line."""

    def __init__(self) -> None:
        self.wakers: list[Callable[[], None]] = []
        self.notes: list[str] = []
        self.status = JobStatus()

    def note(self, event: str, **facts: object) -> None:
        self.notes.append(event)


async def _found(watched: Watched) -> list[bytes]:
    """The names of whole files, as soon as there are some."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (look := await watched.look()).ready:
            await watched.wait(look)
    return [file.name for file in look.ready]


def _inbox(folder: Path) -> Inbox:
    return Inbox(folder, ["*"], [], settle_seconds=0.0)


def test_without_events_files_and_a_new_directory_are_found_by_listing(tmp_path: Path) -> None:
    async def scene() -> None:
        job, folder = Job(), tmp_path / "inbox"
        folder.mkdir()
        silent = Watch()  # never started, as where the machine sends no events
        async with Watched(silent, cast(Line, job), _inbox(folder), 0.01, False) as watched:
            assert not (await watched.look()).ready
            (folder / "a").touch()
            assert await _found(watched) == [b"a"]
            (folder / "a").unlink()
            folder.rmdir()
            while not job.notes:
                await watched.wait(await watched.look())
            folder.mkdir()
            (folder / "b").touch()
            assert await _found(watched) == [b"b"]
            assert job.notes == ["directory is gone", "directory was made again"]

    asyncio.run(scene())


def test_a_directory_that_was_made_again_between_two_looks_is_told_of(tmp_path: Path) -> None:
    async def scene() -> None:
        job, folder = Job(), tmp_path / "inbox"
        folder.mkdir()
        watch = Watch()
        assert watch.start() is None
        try:
            async with Watched(watch, cast(Line, job), _inbox(folder), 3600.0, False) as watched:
                look = await watched.look()
                folder.rmdir()
                folder.mkdir()
                (folder / "b").touch()
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await watched.wait(look)  # the next listing is an hour away
                assert await _found(watched) == [b"b"]
                assert job.notes == ["directory was made again"]
        finally:
            watch.close()

    asyncio.run(scene())


def test_a_file_that_is_being_written_under_a_hidden_name_is_no_reason_to_look(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        folder = tmp_path / "inbox"
        folder.mkdir()
        watch = Watch()
        assert watch.start() is None
        try:
            async with Watched(watch, cast(Line, Job()), _inbox(folder), 3600.0, False) as watched:
                look = await watched.look()
                (folder / ".a.part").write_text("1")
                (folder / ".a.part").rename(folder / "a")
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await watched.wait(look)
                assert watched._hints.heard() == ({b"a": True}, False)
        finally:
            watch.close()

    asyncio.run(scene())
