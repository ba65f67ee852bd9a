"""Puts files that lie in failed/ back into the inbox, to be admitted as new ones, or into predict/, if they came from there; their
notes go.

Rules. Of files from predict/ the journal knows nothing: their notes say what they are, and they are just moved. Of the others
the journal decides first: a file is `withdrawn` from then on, and a crash leaves only what recovery finishes. A file that
somebody has mended where it lies is the one that goes.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, replace

from service.core.layout import Layout, shown
from service.storage import completion, failed
from service.storage.disk import names, storage_border
from service.storage.journal import Journal
from service.storage.naming import Named, chosen
from service.storage.tables import FileRow
from service.storage.writer import Unit

_Applied = tuple[list[FileRow], set[str]]


@dataclass(frozen=True, slots=True)
class Retried:
    """The rows with the files' names in the inbox, and the names of those that are in predict/ again."""

    rows: list[FileRow]
    predicted: list[bytes]


def retrial(
    layout: Layout, job: str, named: Collection[Named]
) -> Unit[dict[Named, str], _Applied, Retried]:
    """ConfigurationError where a name is wrong; then no file is moved."""

    def prepare() -> dict[Named, str]:
        return {one: name for one in named if (name := _to_predict(layout, job, one))}

    def apply(journal: Journal, to_predict: dict[Named, str]) -> _Applied:
        others = [one for one in named if one not in to_predict]
        rows = chosen(_there(layout, journal, job), others, layout.failed(job), "file in failed/")
        for row in rows:
            journal.retry(row)
        return [journal.file(job, row.admission) for row in rows], set(to_predict.values())

    def finish(applied: _Applied) -> Retried:
        rows, to_predict = applied
        moved = [replace(row, settled_as=completion.settle(layout, row)) for row in rows]
        predicted = [failed.predict_again(layout, job, name) for name in sorted(to_predict)]
        return Retried(moved, [name for name in predicted if name is not None])

    def mark(journal: Journal, _: _Applied, retried: Retried) -> None:
        for row in retried.rows:
            journal.settled(job, row.admission, row.settled_as)

    return Unit(prepare, apply, finish, mark, job=job)


def told(retried: Retried) -> dict[str, list[str]]:
    """The files' names in the inbox, and in predict/, for people."""
    rows = retried.rows
    return {
        "files": [shown(row.name if row.settled_as is None else row.settled_as) for row in rows],
        "predict": [shown(name) for name in retried.predicted],
    }


def _to_predict(layout: Layout, job: str, one: Named) -> str | None:
    """The name in failed/ of a file that is named, and was refused in predict/."""
    ours = os.fspath(layout.failed(job))
    for path in (one.path, os.path.join(ours, one.typed)):
        folder, name = os.path.split(path)
        if folder == ours and failed.was_to_predict(layout, job, name):
            return name
    return None


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
