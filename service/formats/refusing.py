"""From a bad row to the note beside a refused file: which line it is, and how the refusal reads."""

from __future__ import annotations

from dataclasses import replace

from service.core.errors import FileRefused
from service.formats import csv, jsonl
from service.formats.contract import BadRow, Source
from service.formats.survey import Survey
from service.formats.text import lines_before, read_range

STEP_BYTES = 1 << 20


def line_of(source: Source, row: int) -> int | None:
    """The 1-based line on which data row `row` of the file (from 0, bad ones counted) begins; None
    without lines.

    Reads the file from its start: for refusals only, in a worker. None, too, if the file has no
    such row.
    """
    if source.format not in ("csv", "jsonl"):
        return None
    starts_of = csv.row_starts if source.format == "csv" else jsonl.row_starts
    for chunk in Survey(replace(source, sha256=source.sha256 or ""), STEP_BYTES):
        starts = starts_of(source, read_range(source, chunk))
        if row < len(starts):
            return lines_before(source, chunk.start + int(starts[row])) + 1
        row -= len(starts)
    return None


def refusal(source: Source, bad: BadRow, row: int, line: int | None = None) -> FileRefused:
    """The refusal of a file for one of its rows; `row` counts from the file's start (`bad.row`
    from its chunk's)."""
    place = source.name if line is None else f"{source.name}:{line}"
    column = f", column {bad.column}" if bad.column else ""
    return FileRefused(
        bad.rule, place=f"{place}: row {row}{column}", value=bad.value, remedy=bad.remedy
    )
