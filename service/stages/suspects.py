"""Suspects: files that lives of the daemon have ended with.

A file can kill its worker, and is refused when it has done so too often; but it can kill the daemon as well (all memory taken,
a bug of ours), and then nobody is left to count. So a life is counted as a death before it begins with a file that
the life before had taken, and taken back when it stops in good order. Progress (a private commit, a decision) counts from 0 again.

    admitted in this life ─▶ free
    inherited ─▶ counted ─▶ MOST_DEATHS: refused
                    ╰─ from 1 death on: alone in its line, committed after few rounds
                    ╰─ from QUARANTINED deaths on: alone of its kind in the whole daemon, and after a vigil

Rules: who only happened to be there when the daemon died must never be refused, whoever kills the daemon, and however often. A
file kills when it is worked on; an operator, or the memory that something else takes, at any time. So before a quarantined
file is worked on, the daemon lives for a while without it, the vigil: a life that ends there speaks for the file, and the count
falls back to QUARANTINED. How long the vigil lasts is drawn by lot, up to twice as long with each death: who doesn't know
the lot kills within the file's first moments (until its first commit) with a chance of these moments over the longest vigil,
and ten times in a row one time in many millions. A file that does kill the daemon is refused after MOST_DEATHS lives in any case.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.core.errors import FileRefused
from service.stages.line import Line
from service.stages.messages import Sample
from service.storage import units

MOST_DEATHS = 10
"""Lives in a row that may end with a file before it is refused."""
QUARANTINED = 2
VIGIL_SECONDS = 0.125
"""The longest vigil of a file without deaths, if there were one: doubled with each death, 64 s before the last life."""


def longest_vigil(deaths: int) -> float:
    """How many seconds at most the daemon lives without a file that so many lives ended with, before it is worked on."""
    return VIGIL_SECONDS * 2.0**deaths if deaths >= QUARANTINED else 0.0


@asynccontextmanager
async def counted(line: Line, sample: Sample) -> AsyncIterator[None]:
    """The time in which a file is worked on. Raises FileRefused when too many lives have ended with it."""
    row = sample.row
    if not sample.is_inherited:
        yield
        return
    if row.deaths >= MOST_DEATHS:
        raise _refused(sample)
    async with _quarantined(line, sample):
        try:
            await line.settle(units.death(line.job, row.admission, row.deaths + 1))
            yield
        except BaseException:  # this life goes on without it, or ends in good order
            await _survived(line, sample)
            raise
        if line.stopping.is_set():
            await _survived(line, sample)


async def _survived(line: Line, sample: Sample) -> None:
    await line.settle(units.survival(line.job, sample.row.admission, sample.row.deaths))


@asynccontextmanager
async def _quarantined(line: Line, sample: Sample) -> AsyncIterator[None]:
    """The room for one, once its vigil is over; nothing for a file that few lives ended with."""
    row, room = sample.row, line.machinery.quarantine
    if row.deaths < QUARANTINED:
        yield
        return
    while not room.enter(line.wake):
        await line.news()
    try:
        seconds = random.uniform(0.0, longest_vigil(row.deaths))
        line.note(
            "quarantined: lives of the daemon have ended with it",
            file=sample.shown,
            deaths=row.deaths,
            vigil_seconds=round(seconds, 3),
        )
        await line.settle(units.survival(line.job, row.admission, QUARANTINED))
        await line.rest(seconds)
        yield
    finally:
        room.leave()


def _refused(sample: Sample) -> FileRefused:
    return FileRefused(
        "a file must not end the daemon",
        place=sample.shown,
        value=f"{sample.row.deaths} lives of the daemon in a row ended with this file in hand, without progress",
        remedy="look into the system's log for the reason (out of memory?); cut the file in parts, or mend it",
    )
