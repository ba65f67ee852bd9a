"""What stands before the rows of a CSV file: its delimiter, where that must be found, and its header.

Rules
- The delimiter is a function of the first rows' bytes alone: of the marks that split the very first
  row the one that splits most of the others alike. A first line sep=; says it, where the settings don't, and is no row.
- Columns without a name at the end of the header are trailing delimiters: their cells are empty.
- A name that stands twice refuses the file only where its column has a part: which one would be meant? Where the features are not
  known yet, all have.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import replace
from typing import BinaryIO

import numpy as np

from service.core.errors import FileRefused
from service.formats import quoting
from service.formats.contract import Dialect, Fields, Source
from service.formats.text import (
    BLANK,
    UNCLOSED,
    byte_place,
    check_text,
    lines_before,
    near,
    next_line,
    rest_is_blank,
    skip_blank,
)
from service.formats.wording import listed, shown

QUOTES_RULE = "quotes enclose whole fields, and close"
HEADER_STEP_BYTES = 1 << 16
DELIMITERS = ",;\t|"
"""Those that are looked for; of two that fit alike, the first."""
DELIMITER_ROWS = 20
SAYS_DELIMITER = re.compile(rb'"?sep=(?P<delimiter>[\t !#$%&*,/:;<=>?@\\^_`|~])"?\r?\n')
"""A first line that spreadsheets write, and understand."""


def inspect(source: Source, fields: Fields) -> Source:
    """Finds the delimiter, the columns, and where the rows begin. Raises FileRefused."""
    with open(source.path, "rb") as file:
        source, start = skip_blank(source, file)
        line = _first_row(source, file, start)
        if said := SAYS_DELIMITER.fullmatch(line):
            if fields.dialect.delimiter == "auto":
                found = said["delimiter"].decode()
                source = replace(source, dialect=replace(source.dialect, delimiter=found))
            start = next_line(file, start + len(line))
            line = _first_row(source, file, start)
        text = check_text(source, line, start).rstrip("\r\n")
        if text.lstrip().startswith("{"):
            raise refused(source, "the content is what the name says, CSV", text, "name it .jsonl")
        if source.dialect.delimiter == "auto":
            found = _delimiter(_first_rows(source, file, start, line), source.dialect)
            source = replace(source, dialect=replace(source.dialect, delimiter=found))
        names = _split(source, text, start)
        names, unnamed = (names, 0) if fields.numbered else _named(names)
        _check_columns(source, names, fields)
        if not fields.numbered:
            start += len(line)
            if rest_is_blank(file, start):
                rule = "a file has rows below its header"
                raise refused(source, rule, "a header only", "drop files that hold rows")
    columns = tuple(map(str, range(len(names)))) if fields.numbered else tuple(names)
    first_line = lines_before(source, start) + 1
    return replace(
        source, columns=columns, unnamed=unnamed, data_start=start, first_line=first_line
    )


def _first_row(source: Source, file: BinaryIO, start: int) -> bytes:
    file.seek(start)
    line = b""
    while part := file.read(HEADER_STEP_BYTES + len(line)):
        line += part
        data = np.frombuffer(line, np.uint8)
        ends = np.flatnonzero((data == quoting.NEWLINE) & ~quoting.inside(data, source.dialect))
        if ends.size:
            return line[: int(ends[0]) + 1]
        if len(line) > source.limits.max_row_bytes:
            rule = f"a row has at most {source.limits.max_row_bytes} bytes"
            raise refused(source, rule, f"more than {len(line)}", "check the file's line breaks")
    if source.dialect.quotes and line.count(source.dialect.quotes) % 2:
        rule = "quotes that open also close"
        raise refused(source, rule, "a quote without an end", UNCLOSED)
    return line


def _first_rows(source: Source, file: BinaryIO, start: int, line: bytes) -> list[bytes]:
    """The first row, and those after it that are whole within some more bytes; blank lines left
    out."""
    file.seek(start + len(line))
    after = file.read(HEADER_STEP_BYTES)
    data = np.frombuffer(after, np.uint8)
    ends = np.flatnonzero((data == quoting.NEWLINE) & ~quoting.inside(data, source.dialect))
    stops = [int(end) + 1 for end in ends[: 2 * DELIMITER_ROWS]]
    rows = [line, *(after[a:b] for a, b in zip([0, *stops], stops, strict=False))]
    return [row for row in rows if row.strip(BLANK)][:DELIMITER_ROWS]


def _delimiter(rows: list[bytes], dialect: Dialect) -> str:
    """The mark that splits most of the first rows as it splits the very first, outside of quotes; of
    several the one that splits it into most fields; a comma where none splits it.

    A comma that is a decimal comma delimits only where nothing else does.
    """
    outside = [b"".join(row.split(dialect.quotes)[::2]) if dialect.quote else row for row in rows]

    def fit(mark: str) -> tuple[int, int]:
        counts = [row.count(mark.encode()) for row in outside]
        return sum(count == counts[0] for count in counts), counts[0]

    found = [mark for mark in DELIMITERS if mark.encode() in outside[0]]
    if dialect.decimal == "," and len(found) > 1:
        found = [mark for mark in found if mark != ","]
    return max(found, key=fit, default=",")


def _split(source: Source, text: str, start: int) -> list[str]:
    """The cells of the header, which begins at byte `start`."""
    marks_of(source, text.encode(), start)
    csv.field_size_limit(2 * source.limits.max_row_bytes)
    delimiter, quote = source.dialect.delimiter, source.dialect.quote
    try:
        (cells,) = csv.reader(
            [text],
            delimiter=delimiter,
            quotechar=quote or None,
            quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
        )
    except csv.Error as fault:
        raise refused(source, f"the first line is CSV: {fault}", text, "write it again") from fault
    return [cell.strip(" \t") for cell in cells]


def _named(names: list[str]) -> tuple[list[str], int]:
    """The columns up to the last that has a name, and how many follow."""
    named = max((place + 1 for place, name in enumerate(names) if name), default=len(names))
    return names[:named], len(names) - named


def _check_columns(source: Source, names: list[str], fields: Fields) -> None:
    most = source.limits.max_columns
    if len(names) > most:
        raise refused(source, f"a file has at most {most} columns", str(len(names)), "split it")
    counts = Counter(names)
    own = set(map(str, fields.named))
    if fields.features is None:
        own |= counts.keys() - {"", *map(str, fields.exclude)}
    twice = sorted(name for name in own if counts[name] > 1)
    if twice and not fields.numbered:
        rule = "a header names each column once that has a part"
        raise refused(source, rule, listed(twice), "rename the columns that share a name")


def marks_of(source: Source, data: bytes, start: int) -> quoting.Marks:
    """Counts what separates the fields. Raises FileRefused for quotes in odd places."""
    marks = quoting.count(data, source.dialect)
    if marks is None:
        place = quoting.first_odd(data, source.dialect)
        raise FileRefused(
            QUOTES_RULE,
            place=byte_place(source, start + place),
            value=shown(near(data, place)),
            remedy=f'{_about_quotes(data, place, source.dialect)}; where quotes are plain characters, set csv.quote = ""',
        )
    return marks


def _about_quotes(data: bytes, place: int, dialect: Dialect) -> str:
    """What to do about the quote at `place`: often a blank keeps it from its delimiter."""
    delimiter = dialect.delimiter.encode()
    ends, blank = (delimiter, b"\n", b"\r"), BLANK.translate(None, delimiter + b"\r\n")
    before, after = data[max(0, place - 80) : place], data[place + 1 : place + 80]
    opened, closed = before.rstrip(blank), after.lstrip(blank)
    if opened != before and (not opened or opened.endswith(ends)):
        return "remove the blanks before the quote: it opens a field only where the field begins"
    if closed != after and (not closed or closed.startswith(ends)):
        return "remove the blanks behind the quote: it closes a field only where the field ends"
    return "quote the whole field, and write a quote within it twice"


def refused(
    source: Source, rule: str, value: str | bytes, remedy: str, place: str = ""
) -> FileRefused:
    where = f"{source.name}: {place}" if place else f"{source.name}:1"
    return FileRefused(rule, place=where, value=shown(value), remedy=remedy)
