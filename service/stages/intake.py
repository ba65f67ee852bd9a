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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service.core.errors import DiskFull
from service.core.layout import shown
from service.core.terms import Terms, parse_body
from service.runtime.channel import BrokenChannel, Sender
from service.runtime.inbox import Inbox, Look
from service.runtime.watch import Hints
from service.stages.line import Line
from service.stages.messages import Sample
from service.storage import units
from service.storage.tables import Entry, FileRow

ADMITTED_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Source:
    """Where a job's files come from, and what they are admitted with."""

    inbox: Inbox
    terms: Terms
    digest: str
    body: str
    after: str
    rescan_seconds: float
    once: bool
    hints: Hints


async def intake(line: Line, source: Source, outbox: Sender[Sample]) -> None:
    """Takes files until the line stops; with `once` until there is nothing left to wait for."""
    async with outbox:
        try:
            await resume(line, outbox)
            await _Intake(line, source, outbox).run()
        except BrokenChannel:
            return


async def resume(line: Line, outbox: Sender[Sample]) -> None:
    """Sends on what was admitted before the start."""
    for row in line.unfinished:
        body = await line.ask(lambda journal, digest=row.settings: journal.settings_body(digest))  # type: ignore[misc]
        await _send(line, row, parse_body(body), outbox)


async def named(line: Line, source: Source, entries: Sequence[Entry], outbox: Sender[Sample]) -> None:
    """Takes the files that the command line named, instead of watching an inbox."""
    async with outbox:
        try:
            await resume(line, outbox)
            taking = _Intake(line, source, outbox)
            for start in range(0, len(entries), ADMITTED_AT_ONCE):
                await taking.admit(entries[start : start + ADMITTED_AT_ONCE])
        except BrokenChannel:
            return


class _Intake:
    def __init__(self, line: Line, source: Source, outbox: Sender[Sample]) -> None:
        self.line = line
        self.source = source
        self.outbox = outbox
        self.relist = True
        self.listed = time.monotonic()
        self.missing = False

    async def run(self) -> None:
        while not self.line.stopping.is_set():
            look = await self._look()
            self.line.status.waiting = look.waiting + len(self.line.undecided.digests)
            ready = [Entry(f.name, f.size, f.mtime_ns, f.inode) for f in look.ready]
            for start in range(0, len(ready), ADMITTED_AT_ONCE):
                await self.admit(ready[start : start + ADMITTED_AT_ONCE])
            if look.ready:
                continue
            if self.source.once and look.again_seconds is None:
                return
            await self._wait(look)

    async def _look(self) -> Look:
        names, lost = self.source.hints.heard()
        due = time.monotonic() - self.listed >= self.source.rescan_seconds
        relist = self.relist or lost or due
        if relist:
            self.listed = time.monotonic()
        look = await asyncio.to_thread(self.source.inbox.look, names, relist)
        self.relist = False
        if look.missing != self.missing:
            self.missing = look.missing
            path = shown(self.source.inbox.path)
            self.line.note("inbox is gone" if look.missing else "inbox is back", path=path)
        return look

    async def _wait(self, look: Look) -> None:
        """Until a hint, the next listing, or the time at which a file may be whole."""
        waits = [self.listed + self.source.rescan_seconds - time.monotonic()]
        if look.again_seconds is not None:
            waits.append(look.again_seconds)
        try:
            async with asyncio.timeout(max(min(waits), 0.0)):
                await self.source.hints.wait()
        except TimeoutError:
            return

    async def admit(self, entries: Sequence[Entry]) -> None:
        source, line = self.source, self.line
        settings = (source.digest, source.body)
        terms = source.terms
        unit = units.admission(
            line.machinery.layout,
            line.job,
            entries,
            settings=settings,
            after=source.after,
            at=time.time(),
        )
        while True:
            try:
                rows = await line.settle(unit)
                break
            except DiskFull as full:
                line.status.state, line.status.reason = "paused", str(full)
                if not await self._disk_has_room():
                    return
        for row in rows:
            if row is not None:
                await _send(line, row, terms, self.outbox)

    async def _disk_has_room(self) -> bool:
        """Waits before the disk is tried again; False when the line stops."""
        try:
            async with asyncio.timeout(1.0):
                await self.line.stopping.wait()
        except TimeoutError:
            return True
        return False


async def _send(line: Line, row: FileRow, terms: Terms, outbox: Sender[Sample]) -> None:
    line.undecided.opened(row.admission)
    if line.status.oldest_waiting is None:
        line.status.oldest_waiting = row.admitted_at
    work = line.machinery.layout.work_file(line.job, row.admission)
    path = work if row.path is None else Path(os.fsdecode(row.path))
    await outbox.send(Sample(row, path, terms, shown(row.name)))


