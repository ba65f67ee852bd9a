"""Puts files that lie in failed/ back into the inbox, to be admitted as new ones; their notes go.

Rules. The journal decides first: a file is `withdrawn` from then on, and a crash leaves only what recovery finishes. A file
that somebody has mended where it lies is the one that goes.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import replace

from service.core.layout import Layout, shown
from service.storage import completion
from service.storage.disk import names, storage_border
from service.storage.journal import Journal
from service.storage.naming import Named, chosen
from service.storage.tables import FileRow
from service.storage.writer import Unit


def retrial(
    layout: Layout, job: str, named: Collection[Named]
) -> Unit[None, list[FileRow], list[FileRow]]:
    """Result: the rows with the files' names in the inbox. ConfigurationError where a name is wrong; then none is moved."""

    def apply(journal: Journal, _: None) -> list[FileRow]:
        rows = chosen(_there(layout, journal, job), named, layout.failed(job), "file in failed/")
        for row in rows:
            journal.retry(row)
        return [journal.file(job, row.admission) for row in rows]

    def finish(rows: list[FileRow]) -> list[FileRow]:
        return [replace(row, settled_as=completion.settle(layout, row)) for row in rows]

    def mark(journal: Journal, _: list[FileRow], rows: list[FileRow]) -> None:
        for row in rows:
            journal.settled(job, row.admission, row.settled_as)

    return Unit(lambda: None, apply, finish, mark)


def told(rows: list[FileRow]) -> dict[str, list[str]]:
    """The files' names in the inbox, for people."""
    return {
        "files": [shown(row.name if row.settled_as is None else row.settled_as) for row in rows]
    }


def _there(layout: Layout, journal: Journal, job: str) -> list[FileRow]:
    """The files that the journal put into failed/ and that lie there, as they are now."""
    present = set(names(layout.failed(job)))
    newest = {row.settled_as: row for row in journal.failed(job) if row.settled_as is not None}
    found = []
    for name, row in newest.items():
        if os.fsdecode(name) in present:
            path = layout.failed(job) / os.fsdecode(name)
            with storage_border("look at", path):
                found.append(replace(row, inode=path.lstat().st_ino))
    return found
