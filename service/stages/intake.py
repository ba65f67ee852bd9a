"""Intake: files that people drop become files that the journal knows, in an order that never changes.

    hint or timer ─▶ look (thread) ─▶ admission (journal's thread: record, then take) ─▶ Sample

Rules: admission comes before any work. Within one listing the names go in the order of their bytes.
What was admitted before the start comes first. A full channel stops the admissions, so that what
is not yet admitted stays in the inbox, where people can see it and take it back.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from service.core.errors import Stopped
from service.core.layout import shown
from service.core.terms import Terms, parse_body
from service.runtime.channel import BrokenChannel, Sender
from service.stages.line import Line
from service.stages.messages import Sample
from service.stages.watched import Watched
from service.storage import units
from service.storage.tables import After, Entry, FileRow

R = TypeVar("R")

ADMITTED_AT_ONCE = 256  # all that a look shows


@dataclass(frozen=True, slots=True)
class Admission:
    """What files are admitted with: the terms, as a value and as the journal keeps them."""

    terms: Terms
    digest: str
    body: str
    after: After


async def intake(
    line: Line, admission: Admission, watched: Watched, outbox: Sender[Sample]
) -> None:
    """Takes files until the line stops, or there is nothing left to wait for."""
    door = _Door(line, outbox, line.machinery.layout.work(line.job), watched)
    async with outbox:
        try:
            await door.recount()
            await _resume(door)
            while not line.stopping.is_set():
                look = await line.patiently(watched.look)
                line.status.in_inbox = look.waiting
                found = [Entry(f.name, f.size, f.mtime_ns, f.inode) for f in look.ready]
                await _admit(door, admission, found)
                if watched.is_done(look):
                    return
                if not look.ready:
                    await watched.wait(look)
        except (BrokenChannel, Stopped):
            return


async def named(
    line: Line, admission: Admission, entries: Sequence[Entry], outbox: Sender[Sample]
) -> None:
    """Takes the files that the command line named, instead of watching a directory."""
    door = _Door(line, outbox, line.machinery.layout.work(line.job))
    async with outbox:
        try:
            line.status.in_inbox = len(entries)
            await _resume(door)
            # All at once: a training that is interrupted finds either all its passes admitted or none.
            await _admit(door, admission, entries, at_once=max(1, len(entries)))
        except (BrokenChannel, Stopped):
            return


@dataclass(frozen=True, slots=True)
class _Door:
    """Where admitted files leave; while it is blocked, what waits before it is counted again."""

    line: Line
    outbox: Sender[Sample]
    work: Path
    watched: Watched | None = None

    async def send(self, row: FileRow, terms: Terms, *, is_inherited: bool = False) -> None:
        line = self.line
        line.undecided.opened(row.admission)
        if row.path is None:
            path = self.work / line.machinery.layout.work_name(row.admission)
        else:
            path = Path(os.fsdecode(row.path))
        sample = Sample(row, path, terms, shown(row.name), is_inherited)
        if not self.outbox.send_nowait(sample):
            await self.passed(self.outbox.send(sample))

    async def passed(self, passing: Coroutine[Any, Any, R]) -> R:
        """Waits for what may be blocked for long, by a full channel or a full disk; what waits is counted meanwhile.

        Cancelled, it cancels what it waits for.
        """
        patience = None if self.watched is None else self.watched.rescan_seconds
        task = asyncio.ensure_future(passing)
        try:
            while not (await asyncio.wait([task], timeout=patience))[0]:
                await self.recount()
            return await task
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task])

    async def recount(self) -> None:
        """Counts the files that wait, as nobody looks at them now."""
        count = None if self.watched is None else await self.watched.recount()
        if count is not None:
            self.line.status.in_inbox = count


async def _resume(door: _Door) -> None:
    """Sends on what was admitted before the start, on the terms of then."""
    line = door.line
    terms: dict[str, Terms] = {}
    for row in line.unfinished:
        if row.settings not in terms:
            digest = row.settings
            body = await line.ask(lambda journal, digest=digest: journal.settings_body(digest))  # type: ignore[misc]
            terms[digest] = parse_body(body)
        await door.send(row, terms[row.settings], is_inherited=True)


async def _admit(
    door: _Door,
    admission: Admission,
    entries: Sequence[Entry],
    at_once: int = ADMITTED_AT_ONCE,
) -> None:
    for start in range(0, len(entries), at_once):
        rows = await door.passed(_admitted(door.line, admission, entries[start : start + at_once]))
        status = door.line.status
        status.in_inbox -= len(rows)
        status.admitted |= {row.admission: row.admitted_at for row in rows if row is not None}
        for row in rows:
            if row is not None:
                await door.send(row, admission.terms)


async def _admitted(
    line: Line, admission: Admission, entries: Sequence[Entry]
) -> Sequence[FileRow | None]:
    """The journal's rows of some files; None for those that vanished."""
    unit = units.admission(
        line.machinery.layout,
        line.job,
        entries,
        settings=(admission.digest, admission.body),
        after=admission.after,
        at=time.time(),
    )
    return await line.patiently(lambda: line.settle(unit))
