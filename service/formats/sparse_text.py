"""Sparse rows as text, svmlight's and Vowpal Wabbit's: what their readers have in common.

Rules: a row is a line, and its parts have their places, so its columns have names of ours: `label`, and what
each format has beside it. Features have no names but their slots. A row that breaks a rule is left out with a
note; the rest of the line counts no more than its fault.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from kernels.contract import Sparse
from service.formats import mending
from service.formats.contract import BadRow, Chunk, Fields, Floats, Integers, Source, Table, Wanted
from service.formats.frames import pl, replaced
from service.formats.quoting import count_lines
from service.formats.text import (
    BLANK,
    check_bytes,
    lines_before,
    read_range,
    skip_blank,
    without_rows,
)
from service.formats.wording import shown


def holds_more(line: bytes) -> bool:
    """Whether anything but blank space stands in a line."""
    return bool(line.strip(BLANK))


def inspect(
    source: Source,
    fields: Fields,
    columns: tuple[str, ...],
    is_row: Callable[[bytes], bool] = holds_more,
) -> Source:
    """Finds where the rows begin. Raises FileRefused for a file that has none."""
    with open(source.path, "rb") as file:
        source, start = skip_blank(source, file)
        file.seek(start)
        while not is_row(text := file.readline(source.limits.max_row_bytes)):
            if not text:
                raise without_rows(source, has_comments=True)
    line, bits = lines_before(source, start) + 1, fields.hashed.bits
    return replace(source, columns=columns, data_start=start, first_line=line, bits=bits)


def table(source: Source, chunk: Chunk, wanted: Wanted, *, is_vw: bool) -> Table:
    """Reads the chunk. Raises FileRefused for bytes that are no text."""
    from service.formats.scan import scan

    data = read_range(source, chunk)
    check_bytes(source, data, chunk.start)
    found, seen = scan(data, source.bits, is_vw=is_vw)
    spans, columns = found.spans, dict[str, pl.Series]()
    for name in wanted.columns:
        if name == "label":
            columns[name] = _labels(data, spans, found.numbers[:, 0], found.kinds[:, 0], wanted)
        elif name == "importance":
            columns[name] = pl.Series(found.numbers[:, 1])
        else:
            columns[name] = _texts(data, spans[:, 2:])
    notes = [_note(source, data, *fault) for fault in found.faults.tolist()]
    frame = pl.DataFrame([column.alias(name) for name, column in columns.items()])
    rows = Sparse(found.starts, found.slots, found.values)
    read = Table(frame, found.row, seen, tuple(notes), count_lines(data), sparse=rows)
    if "label" not in columns or columns["label"].dtype == pl.String:
        return read
    return replace(read, texts=lambda: _spelt(read, _texts(data, spans[:, :2])))


def _spelt(read: Table, labels: pl.Series) -> Table:
    """The same rows with their labels as they are spelled: what a note shows must not depend on the other rows of a chunk."""
    return replace(read, frame=replaced(read.frame, {"label": labels}), texts=None)


def row_starts(data: bytes, is_row: Callable[[bytes], bool] = holds_more) -> Integers:
    """Where each data row of a chunk's bytes begins; other lines left out."""
    starts, start = [], 0
    for line in data.split(b"\n"):
        if is_row(line):
            starts.append(start)
        start += len(line) + 1
    return np.array(starts, np.int64)


def _labels(
    data: bytes,
    spans: Integers,
    numbers: Floats,
    kinds: npt.NDArray[np.int8],
    wanted: Wanted,
) -> pl.Series:
    """The labels: as numbers where all are, and nobody wants their texts; else as text."""
    from service.formats.scan import ROUNDED, TEXT

    if "label" in wanted.texts or (kinds == TEXT).any():
        return _texts(data, spans[:, :2])
    for i in np.flatnonzero(kinds == ROUNDED).tolist():
        numbers[i] = float(data[spans[i, 0] : spans[i, 1]])
    return pl.Series(numbers)


def _texts(data: bytes, spans: Integers) -> pl.Series:
    found = [data[a:b].decode() if a < b else None for a, b in spans.tolist()]
    return pl.Series(found, dtype=pl.String)


def _note(source: Source, data: bytes, row: int, reason: int, begin: int, end: int) -> BadRow:
    from service.formats import scan

    mend = "correct it, or delete the row"
    column, rule, remedy = {
        scan.NO_LABEL: (
            "label",
            "a row begins with its label",
            "write the label first; in a file to predict any number, or ?, will do",
        ),
        scan.NO_PAIR: ("", "a feature is an index and a value, 3:1.5", mend),
        scan.NO_INDEX: ("", "a feature's index is a whole number from 0", mend),
        scan.BEYOND: (
            "",
            f"a feature's index is below {1 << source.bits}, the slots of the job",
            "raise hashing.bits (to 24 at most), or number the features from 1",
        ),
        scan.NOT_GROWING: (
            "",
            "a row's indices grow, and each stands once",
            "write the features of a row in the order of their indices",
        ),
        scan.NO_NUMBER: ("", "a feature's value is a number", mend),
        scan.TOO_LARGE: ("", "a feature's value is a finite number of 32 bits", mend),
        scan.NO_BAR: ("", "a row's features stand behind a |", "write | before them"),
        scan.TOO_MANY: (
            "label",
            "before the first | there are a label, an importance and a tag",
            mend,
        ),
        scan.NO_IMPORTANCE: (
            "importance",
            "an importance is a finite number, not negative",
            mending.COSTS if b":" in data[begin:end] or data[begin:end] == b"shared" else mend,
        ),
        scan.HAS_BASE: (
            "label",
            "a row has no initial prediction (a third number) but 0",
            "leave it out",
        ),
    }[reason]
    return BadRow(row, column, rule, shown(data[begin:end]), remedy)
