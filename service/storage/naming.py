"""Which files a command line means, among those that a job knows.

Rules. A file is named as it lies in its folder now, or by the path of one that was never moved, or by the name that it came
under; the first of these that fits anything decides. A file that was learnt several times (epochs) is one file. A name
that fits none, or several, is a mistake of the command line, and all of them are told in one line.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.core.errors import ConfigurationError
from service.core.layout import shown
from service.storage.tables import FileRow, FileState

MOST_SHOWN = 5

_INSTEAD = {
    FileState.ADMITTED: "it is not learnt yet",
    FileState.ACCEPTED: "it is in the model",
    FileState.REFUSED: "it was refused, and is in no model",
    FileState.DUPLICATE: "a duplicate: the model has its rows from another file",
    FileState.WITHDRAWN: "it went back to the inbox, and is not learnt",
    FileState.RETRACTED: "it was taken back already",
}
"""What a file is that a command can't do anything with."""


@dataclass(frozen=True, slots=True)
class Named:
    """An argument of the command line: as it was typed, and as an absolute path."""

    typed: str
    path: str


def chosen(
    rows: Sequence[FileRow],
    named: Iterable[Named],
    folder: Path,
    what: str,
    others: Callable[[], Sequence[FileRow]] = tuple,
) -> list[FileRow]:
    """The rows that are named, in their order; `folder` is where they lie now, and `what` they are, for people.

    A name that fits only one of `others` is told what that file is instead.

    Of rows with one name in the folder the last one is there: the others were taken away before it came.
    """
    there = {row.settled_as: row for row in rows if row.path is None}
    found: dict[int, FileRow] = {}
    wrong = []
    for one in named:
        files = _fitting(rows, list(there.values()), one, folder)
        if len(files) == 1:
            found |= {row.admission: row for group in files for row in group}
        else:
            wrong.append(_complaint(one, files, folder, others))
    if wrong:
        raise ConfigurationError(f"FILE: must name one {what} each, got {'; '.join(wrong)}")
    return [found[number] for number in sorted(found)]


def _fitting(
    rows: Sequence[FileRow], there: Sequence[FileRow], one: Named, folder: Path
) -> list[list[FileRow]]:
    """The files that fit best, each as its rows."""
    typed, path = os.fsencode(one.typed), os.fsencode(one.path)
    beside = os.fsencode(folder)
    tests: list[tuple[Sequence[FileRow], Callable[[FileRow], bool]]] = [
        (rows, lambda row: row.path == path),
        (there, lambda row: os.path.join(beside, row.settled_as or b"") == path),
        (there, lambda row: row.settled_as == typed),
        (rows, lambda row: row.name == typed),
    ]
    for candidates, fits in tests:
        groups: dict[bytes | int, list[FileRow]] = {}
        for row in filter(fits, candidates):
            groups.setdefault(row.admission if row.path is None else row.path, [])
        for row in rows:  # all passes over a file that was learnt several times
            key = row.admission if row.path is None else row.path
            if key in groups:
                groups[key].append(row)
        if groups:
            return list(groups.values())
    return []


def _complaint(
    one: Named,
    files: Sequence[Sequence[FileRow]],
    folder: Path,
    others: Callable[[], Sequence[FileRow]],
) -> str:
    if not files:
        typed = os.path.basename(os.fsencode(one.typed))
        instead = [row for row in others() if typed in (row.settled_as, row.name)]
        return f"{shown(one.typed)} ({_INSTEAD[instead[-1].state] if instead else 'no such file'})"
    places = [shown(group[0].path or group[0].settled_as or group[0].name) for group in files]
    more = ", ..." if len(places) > MOST_SHOWN else ""
    return f"{shown(one.typed)} (one of {', '.join(places[:MOST_SHOWN])}{more} in {folder.parent.name}/)"
