"""Who verifies waits for an answer, also where the journal's thread waits for room."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from service.cli.rehearsing import Watcher
from service.core.errors import DiskFull, Scarcity
from service.core.status import JobStatus
from service.storage.journal import Journal
from service.storage.rehearsal import Original
from service.storage.tables import Entry
from service.storage.writer import Unit, Writer

SECONDS = 30  # a wait that ends only where the code is wrong


@dataclass
class Daemon:
    """What the watcher sees of one: its lives, what holds it up, and how it is stopped."""

    writer: Writer
    lives: dict[str, Any] = field(default_factory=dict)
    held_up: str = ""
    reason: str = ""
    leaving: asyncio.Event = field(default_factory=asyncio.Event)

    def stop(self, reason: str) -> None:
        self.reason = reason
        self.leaving.set()
        self.writer.give_up()


def test_a_question_behind_a_commit_that_waits_for_room(tmp_path: Path) -> None:
    """The commit meets the full disk when the watcher has asked already, so that both wait for the same thread."""
    journal = Journal(tmp_path / "journal.sqlite")
    entry = Entry(b"1.csv", 1, 1, 1)
    with journal.transaction():
        journal.admit("j", [entry], settings=("d", "b"), after="archive", at=0)
    (row,) = journal.unfinished("j")

    def scarce(error: Scarcity | None) -> None:
        daemon.held_up = str(error or "")

    writer = Writer(journal, on_scarce=scarce)
    daemon, asked = Daemon(writer), threading.Event()

    def finish(value: object) -> None:
        raise DiskFull("no space left")

    def ask(question: Any) -> Any:
        future = writer.run(question)
        asked.set()
        return future

    machinery = SimpleNamespace(journal=journal, writer=SimpleNamespace(run=ask))
    daemon.lives["j"] = SimpleNamespace(
        job=SimpleNamespace(name="j"),
        machinery=machinery,
        status=JobStatus(),
        line=object(),
        leaving=False,
    )
    watcher = Watcher({"j": Original("j", (row,), {"d": "b"})})

    async def follow() -> None:
        following = asyncio.create_task(watcher.follow(daemon))  # type: ignore[arg-type]
        try:
            async with asyncio.timeout(SECONDS):
                await daemon.leaving.wait()
        finally:
            writer.give_up()
            following.cancel()
            await asyncio.wait([following])
            assert following.cancelled()

    unit: Unit[Any, Any, Any] = Unit(
        lambda: asked.wait(SECONDS), lambda journal, value: None, finish
    )
    committed = writer.submit(unit)
    asyncio.run(follow())
    assert daemon.reason == watcher.trouble == "no space left"
    assert isinstance(committed.exception(SECONDS), DiskFull)
    writer.close()
    journal.close()
