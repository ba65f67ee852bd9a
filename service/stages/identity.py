"""Whether a file is one that was learnt before, by its content or by its name.

Rules: a file is held against those whose fate is known: an earlier one with the same content may yet be
refused, and then this one is to be learnt from. The content is only looked at when an earlier file of
the same size exists.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service.stages.line import Line
from service.stages.messages import Sample
from service.storage.journal import Journal
from service.storage.tables import FileRow


@dataclass(frozen=True, slots=True)
class Same:
    """The earlier file that a file repeats, by its admission; and the content's digest where it was taken."""

    admission: int
    sha256: str | None


async def same_as(line: Line, sample: Sample, sha256: str | None) -> Same | None:
    """The file that this one repeats; `sha256` if it is known already. A file named on the command
    line repeats nothing: it was asked for. One that is learnt again was judged when it first came."""
    if sample.row.path is not None or sample.row.revision:
        return None
    if line.conduct.identity == "name":
        return await _same_name(line, sample.row)
    return await _same_content(line, sample.row, sample.path, sha256)


async def may_repeat(
    line: Line, samples: Sequence[Sample], digests: Sequence[str | None]
) -> list[bool]:
    """Which of these files may repeat an earlier one, whatever its fate: `same_as` has the last word on them.

    Without a digest a file is not asked about.
    """
    by_name = line.conduct.identity == "name"
    asked = [
        (sample.row, digest)
        for sample, digest in zip(samples, digests, strict=True)
        if digest is not None and sample.row.path is None
    ]
    # Before the journal is asked: what is decided meanwhile is then in the journal.
    undecided = line.undecided.repeating({row.admission: digest for row, digest in asked})

    def repeating(journal: Journal) -> set[int]:
        if by_name:
            return {row.admission for row, _ in asked if _same_named(journal, row) is not None}
        first = journal.first_of_each(line.job, [digest for _, digest in asked])
        again = {
            row.admission
            for row, digest in asked
            if first.get((row.size, digest), row.admission) < row.admission
        }
        open_ones = [row for row, _ in asked if row.admission in undecided]
        return again.union(
            row.admission for row in open_ones if _same_sized(journal, row, None) is not None
        )

    found = await line.ask(repeating)
    return [sample.row.admission in found for sample in samples]


def _same_named(journal: Journal, row: FileRow) -> FileRow | None:
    return journal.find_named(row.job, name=row.name, before=row.admission)


def _same_sized(journal: Journal, row: FileRow, sha256: str | None) -> FileRow | None:
    return journal.find_same(row.job, size=row.size, sha256=sha256, before=row.admission)


async def _same_name(line: Line, row: FileRow) -> Same | None:
    while True:
        found = await line.ask(lambda journal: _same_named(journal, row))
        if found is None or found.admission not in line.undecided.digests:
            return Same(found.admission, None) if found else None
        await line.news()


async def _same_content(line: Line, row: FileRow, path: Path, sha256: str | None) -> Same | None:
    if await _find(line, row, None) is None:
        return None
    digest = await asyncio.to_thread(_digest, path) if sha256 is None else sha256
    line.undecided.known(row.admission, digest)
    while line.undecided.repeating({row.admission: digest}):
        await line.news()
    found = await _find(line, row, digest)
    return Same(found.admission, digest) if found else None


async def _find(line: Line, row: FileRow, sha256: str | None) -> FileRow | None:
    return await line.ask(lambda journal: _same_sized(journal, row, sha256))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
