"""CSV and TSV: RFC 4180, with or without a header; LF or CRLF; "," or ";" or tab, as the first
line shows.

Rules
- A quote opens only at a field's start and closes only at its end; anything else is no CSV, and
  the file is refused.
- Every row's fields are counted: polars fills short rows with nulls without a word.
- The fast way reads numbers at once; whenever it can't prove that all is well, the exact way reads
  the same bytes as text and says which row is wrong. Both accept the same numbers, so it never
  shows which one was taken.
- Blank lines are no rows. Spaces around names, numbers and labels don't count.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import polars as pl

from service.core.errors import FileRefused
from service.formats import quoting
from service.formats.contract import MOST_NOTES, BadRow, Chunk, Fields, Source, Table, Wanted
from service.formats.text import (
    check_bytes,
    check_text,
    near,
    read_range,
    rest_is_blank,
    skip_blank,
)
from service.formats.wording import listed, shown

QUOTES_RULE = "quotes enclose whole fields, and close"
HEADER_STEP_BYTES = 1 << 16


# --- before the rows: header and delimiter ---


def inspect(source: Source, fields: Fields) -> Source:
    """Finds the delimiter, the columns, and where the rows begin. Raises FileRefused."""
    with open(source.path, "rb") as file:
        source, start = skip_blank(source, file)
        line = _first_row(source, file, start)
        text = check_text(source, line, start).rstrip("\r\n")
        if text.lstrip().startswith("{"):
            raise _refused(source, "the content is what the name says, CSV", text, "name it .jsonl")
        delimiter = source.delimiter or _delimiter(text)
        names = _split(source, text, delimiter)
        _check_columns(source, names, fields)
        if not fields.numbered:
            start += len(line)
            if rest_is_blank(file, start):
                rule = "a file has rows below its header"
                raise _refused(source, rule, "a header only", "drop files that hold rows")
    columns = tuple(map(str, range(len(names)))) if fields.numbered else tuple(names)
    return replace(source, columns=columns, delimiter=delimiter, data_start=start)


def _first_row(source: Source, file: BinaryIO, start: int) -> bytes:
    file.seek(start)
    line = b""
    while part := file.read(HEADER_STEP_BYTES + len(line)):
        line += part
        data = np.frombuffer(line, np.uint8)
        ends = np.flatnonzero((data == quoting.NEWLINE) & ~quoting.inside(data))
        if ends.size:
            return line[: int(ends[0]) + 1]
        if len(line) > source.limits.max_row_bytes:
            rule = f"a row has at most {source.limits.max_row_bytes} bytes"
            raise _refused(source, rule, f"more than {len(line)}", "check the file's line breaks")
    if line.count(b'"') % 2:
        rule = "quotes that open also close"
        raise _refused(source, rule, "a quote without an end", "close the quotes of the first line")
    return line


def _delimiter(header: str) -> str:
    """The first of comma, semicolon and tab that the first row has outside of quotes; a comma if
    it has none."""
    outside = "".join(header.split('"')[::2])
    return next((mark for mark in ",;\t" if mark in outside), ",")


def _split(source: Source, text: str, delimiter: str) -> list[str]:
    if "\r" in text and "\n" not in text and not text.count('"'):
        rule = "lines end with LF or CRLF"
        raise _refused(source, rule, "CR alone", "convert the line ends (dos2unix -c mac)")
    _marks(replace(source, delimiter=delimiter), text.encode(), 0)
    csv.field_size_limit(2 * source.limits.max_row_bytes)
    try:
        (cells,) = csv.reader([text], delimiter=delimiter)
    except csv.Error as fault:
        raise _refused(source, f"the first line is CSV: {fault}", text, "write it again") from fault
    return [cell.strip(" \t") for cell in cells]


def _check_columns(source: Source, names: list[str], fields: Fields) -> None:
    most = source.limits.max_columns
    if len(names) > most:
        raise _refused(source, f"a file has at most {most} columns", str(len(names)), "split it")
    twice = (
        sorted({name for name in names if names.count(name) > 1})
        if len(set(names)) < len(names)
        else []
    )
    if twice and not fields.numbered:
        rule = "a header names each column once"
        raise _refused(source, rule, listed(twice), "rename the columns that share a name")


# --- the rows ---


def table(source: Source, chunk: Chunk, wanted: Wanted) -> Table:
    """Reads the wanted columns of the chunk. Raises FileRefused for faults of structure."""
    data = read_range(source, chunk)
    check_bytes(source, data, chunk.start)
    if data.endswith(b"\r"):  # the last row's CRLF was cut in two by the end of the file
        data = data[:-1]
    marks = _marks(source, data, chunk.start)
    frame = _fast(source, data, marks, wanted)
    if frame is None:
        return _exact(source, data, wanted)
    rows = np.arange(frame.height, dtype=np.int64)
    return Table(frame, rows, frame.height, texts=partial(_exact, source, data, wanted))


def _marks(source: Source, data: bytes, start: int) -> quoting.Marks:
    """Counts what separates the fields. Raises FileRefused for quotes in odd places."""
    delimiter = ord(source.delimiter)
    marks = quoting.count(data, delimiter)
    if marks is None:
        place = quoting.first_odd(data, delimiter)
        remedy = 'quote the whole field, and write a quote within it twice ("")'
        raise _refused(source, QUOTES_RULE, near(data, place), remedy, f"byte {start + place}")
    return marks


def _fast(source: Source, data: bytes, marks: quoting.Marks, wanted: Wanted) -> pl.DataFrame | None:
    """All rows at once, numbers as numbers; None when that can't be proved right.

    The proof: polars refuses long rows, so if there are (columns - 1) delimiters for every row, no
    row is short either. Blank lines make the sum wrong, except in a file of one column: there they
    are looked for.
    """
    width = len(source.columns)
    rows = marks.breaks + (not data.endswith(b"\n"))
    if not data or marks.delimiters != rows * (width - 1):
        return None
    if width == 1 and (data.startswith((b"\n", b"\r\n")) or b"\n\n" in data or b"\n\r\n" in data):
        return None
    columns = wanted.columns
    numbers = set(columns) - wanted.texts
    schema = {c: pl.Float64 if c in numbers else pl.String for c in source.columns}
    frame = _read(source, data, schema)
    if frame is None or frame.height != rows:
        return None
    return frame if columns == source.columns else frame.select(columns)


def _read(
    source: Source, data: bytes, schema: Mapping[str, type[pl.DataType]]
) -> pl.DataFrame | None:
    try:
        return pl.read_csv(
            data,
            has_header=False,
            schema=schema,
            separator=source.delimiter,
            quote_char='"' if b'"' in data else None,
            empty_string_is_null=False,
            infer_schema=False,
            truncate_ragged_lines=False,
        )
    except pl.exceptions.PolarsError:
        return None


def _exact(source: Source, data: bytes, wanted: Wanted) -> Table:
    """Leaves out the rows whose number of fields is wrong, and reads the others as text."""
    width = len(source.columns)
    bytes_ = np.frombuffer(data, np.uint8)
    lines = quoting.lines(bytes_, ord(source.delimiter))
    seen = ~lines.blank
    good = seen & (lines.delimiters == width - 1)
    row = np.cumsum(seen) - 1
    whole = good.all()
    kept = data if whole else bytes_[np.repeat(good, lines.stops - lines.starts)].tobytes()
    rule = f"a row has {width} fields, as the first line has"
    remedy = "quote fields that hold the delimiter; fill in or delete short rows"
    bad = tuple(
        BadRow(int(row[i]), "", rule, f"{lines.delimiters[i] + 1} fields", remedy)
        for i in np.flatnonzero(seen & ~good)[:MOST_NOTES]
    )
    frame = _texts(source, kept, int(np.count_nonzero(good)))
    return Table(frame.select(wanted.columns), row[good], int(np.count_nonzero(seen)), bad)


def _texts(source: Source, data: bytes, rows: int) -> pl.DataFrame:
    """All columns of whole rows as text. Raises FileRefused if polars sees other rows."""
    schema = dict.fromkeys(source.columns, pl.String)
    if not rows:
        return pl.DataFrame(schema=schema)
    frame = _read(source, data, schema)
    if frame is None or frame.height != rows:
        rule, remedy = "rows are lines of fields, as RFC 4180 has it", "write it with a CSV library"
        raise _refused(source, rule, data[:200], remedy, f"{rows} rows")
    return frame


def row_starts(source: Source, data: bytes) -> npt.NDArray[np.int64]:
    """Where each data row of a chunk's bytes begins; blank lines left out."""
    lines = quoting.lines(np.frombuffer(data, np.uint8), ord(source.delimiter))
    return lines.starts[~lines.blank]


def _refused(
    source: Source, rule: str, value: str | bytes, remedy: str, place: str = ""
) -> FileRefused:
    where = f"{source.name}: {place}" if place else f"{source.name}:1"
    return FileRefused(rule, place=where, value=shown(value), remedy=remedy)
