"""Where a file's records, written twice, part: the first record that is not the same, if the logs still have it.

Rules. Logs are read from their oldest segment on, a line at a time. A file's records are told by its name, its place in the
order and its revision, its samples by the versions that were in force; of several such runs of lines the last one counts,
for an earlier one was taken back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.core.layout import shown
from service.storage import logs
from service.storage.tables import FileRow

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """The first record that is not the same: where it is, and its two texts (None: there is none)."""

    where: str
    was: str | None
    now: str | None


@dataclass(frozen=True, slots=True)
class Learnt:
    """A file's records in the logs of one root; `since` is the version before the file."""

    logs: Path
    file: FileRow
    since: int


def first_difference(original: Learnt, again: Learnt) -> Difference | None:
    """None where the logs don't have the file's records any more, or have the same."""
    for log, mine in (("samples.jsonl", _is_sample), ("metrics.jsonl", _is_metric)):
        found = _differing(original, again, log, mine)
        if found is not None:
            return found
    return None


def _differing(
    original: Learnt, again: Learnt, log: str, mine: Callable[[Learnt, Record], bool]
) -> Difference | None:
    """Compares each run of the original's lines with all of the other's; the last comparison counts."""
    found: Difference | None = None
    others: Iterator[str] = iter(())
    last, open_run = -1, False
    for line in _lines(original, log, mine):
        place = _place(json.loads(line))
        if place <= last or not open_run:
            others, found, open_run = _lines(again, log, mine), None, True
        last = place
        if found is None:
            other = next(others, None)
            if other != line:
                found = Difference(_where(json.loads(line)), line, other)
    if open_run and found is None:
        for other in others:
            return Difference(_where(json.loads(other)), None, other)
    return found


def _lines(learnt: Learnt, log: str, mine: Callable[[Learnt, Record], bool]) -> Iterator[str]:
    for path in logs.segments(learnt.logs, log):
        with path.open("rb") as file:
            for line in file:
                try:
                    record = json.loads(line)
                except ValueError:
                    continue  # somebody's line; the lengths are the journal's affair
                if mine(learnt, record):
                    yield line.decode("utf-8", "replace").rstrip("\n")


def _is_sample(learnt: Learnt, record: Record) -> bool:
    file = learnt.file
    assert file.version is not None
    return (
        record.get("file") == shown(file.name)
        and record.get("revision", 0) == file.revision
        and learnt.since <= record.get("version", -1) < file.version
    )


def _is_metric(learnt: Learnt, record: Record) -> bool:
    file = learnt.file
    return (
        record.get("kind") != "retracted"
        and record.get("file") == shown(file.name)
        and record.get("sequence") == file.sequence
        and record.get("revision", 0) == file.revision
    )


def _place(record: Record) -> int:
    """Grows within a file's records: the row, or the row that a progress record begins with; the last one has none."""
    at = record.get("row", record.get("rows_from"))
    return 2**62 if at is None else int(at)


def _where(record: Record) -> str:
    version = f"version {record.get('version')}"
    if "row" in record:
        return f"row {record['row']}, {version}"
    if "rows_from" in record:
        return f"{record['kind']} record of rows {record['rows_from']} to {record['rows_to']}, {version}"
    return f"{record.get('kind')} record, {version}"
