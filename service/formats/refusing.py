"""From a bad row to what people read of it: on which line of the file it is, and how a refusal reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from service.core.errors import FileRefused
from service.formats import csv, jsonl, svmlight, vw
from service.formats.contract import BadRow, Chunk, Source
from service.formats.quoting import NEWLINE
from service.formats.text import read_range

ROW_STARTS = {
    "csv": csv.row_starts,
    "jsonl": jsonl.row_starts,
    "svmlight": svmlight.row_starts,
    "vw": vw.row_starts,
}
"""The formats that have lines."""


def with_lines(source: Source, chunk: Chunk, bad: Sequence[BadRow]) -> tuple[BadRow, ...]:
    """The bad rows with the chunk's line breaks before them, where the format has lines; reads the chunk again."""
    if not bad or source.format not in ROW_STARTS:
        return tuple(bad)
    data = read_range(source, chunk)
    starts = ROW_STARTS[source.format](source, data)
    breaks = np.flatnonzero(np.frombuffer(data, np.uint8) == NEWLINE)
    lines = np.searchsorted(breaks, starts[[note.row for note in bad]])
    return tuple(replace(note, line=line) for note, line in zip(bad, lines.tolist(), strict=True))


def placed(source: Source, bad: BadRow, rows: int, lines: int) -> BadRow:
    """The bad row by the file's own row and line, when so many data rows and line breaks stand before its chunk."""
    line = None if bad.line is None else source.first_line + lines + bad.line
    return replace(bad, row=rows + bad.row, line=line)


def refusal(source: Source, bad: BadRow) -> FileRefused:
    """The refusal of a file for one of its rows, which is `placed`."""
    place = source.name if bad.line is None else f"{source.name}:{bad.line}"
    column = f", column {bad.column}" if bad.column else ""
    return FileRefused(
        bad.rule, place=f"{place}: row {bad.row}{column}", value=bad.value, remedy=bad.remedy
    )
