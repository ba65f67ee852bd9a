"""Suspects: files that lives of the daemon have ended with.

A file can kill its worker, and is refused when it has done so too often; but it can kill the daemon as well (all memory taken,
a bug of ours), and then nobody is left to count. So a life is counted as a death before it begins with a file that
the life before had taken, and taken back when it stops in good order. Progress (a private commit, a decision) counts from 0 again.

    admitted in this life ─▶ free
    inherited ─▶ counted ─▶ more than MOST_DEATHS: refused
                    ╰─ from SUSPECT deaths on: alone in its line, committed after few rounds
                    ╰─ from QUARANTINED deaths on: one such file in the whole daemon at a time

Rules: who only happened to be there when the daemon died must never be refused. Alone, and with commits after the first, the second, the
fourth round, an innocent file makes progress in nearly every life, whoever kills the others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.core.errors import FileRefused
from service.stages.line import Line
from service.stages.messages import Sample
from service.storage import units

MOST_DEATHS = 10
"""Lives in a row that may end with a file before it is refused."""
QUARANTINED = 2


@asynccontextmanager
async def counted(line: Line, sample: Sample) -> AsyncIterator[None]:
    """The time in which a file is worked on. Raises FileRefused when too many lives have ended with it."""
    row, quarantine = sample.row, line.machinery.quarantine
    if not sample.is_inherited:
        yield
        return
    is_quarantined = row.deaths >= QUARANTINED
    if is_quarantined:
        line.note("quarantined: lives of the daemon have ended with it", file=sample.shown)
        while not quarantine.enter(line.wake):
            await line.news()
    try:
        await line.settle(units.death(line.job, row.admission))
        if row.deaths >= MOST_DEATHS:
            raise _refused(sample)
        yield
        if line.stopping.is_set():
            await line.settle(units.survival(line.job, row.admission, row.deaths))
    finally:
        if is_quarantined:
            quarantine.leave()


def _refused(sample: Sample) -> FileRefused:
    return FileRefused(
        "a file must not end the daemon",
        place=sample.shown,
        value=f"{sample.row.deaths} lives of the daemon in a row ended with this file in hand, without progress",
        remedy="look into the system's log for the reason (out of memory?); cut the file in parts, or mend it",
    )
