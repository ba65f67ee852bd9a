"""Where CSV lacks a column: whether its first line is no header, but a title, or is cut by another mark than meant.

Rules: what is guessed here is only told, never done. The file is read again as far as a header may hide, for refusals only.
"""

from __future__ import annotations

import json
from itertools import islice

from service.formats.contract import Source
from service.formats.values import label_key

OTHER_DELIMITERS = ",;\t|: ^~!#&*/"
"""What is tried where a column isn't found: that it is found by one of these is no accident."""
LINES, LINE_BYTES = 50, 1 << 16
"""So far a header is looked for below the first line."""
ALIGNED = (
    "put one mark between the fields, for these are aligned with blanks: sed 's/^ *//; s/ *$//; s/  */,/g'"
    " old > new.csv"
)


def header_line(source: Source) -> int:
    """The line of the file on which its header begins; 0 where it has none."""
    is_headed = source.format == "csv" and source.columns != tuple(
        map(str, range(len(source.columns)))
    )
    broken = sum(name.count("\n") for name in source.columns)
    return source.first_line - 1 - broken if is_headed else 0


def about_header(source: Source, lacking: str) -> str:
    """What to do where the header lacks a column, by what stands there and below; "" where nothing tells."""
    if source.columns[0].startswith("+--"):
        return "write it with one mark between the fields, without lines drawn: mysql --batch gives tabs, for a .tsv"
    if mark := _delimiter_that_gives(source, lacking):
        aligned = "  " in source.columns[0] if len(source.columns) == 1 else False
        if mark == " " and aligned:
            return ALIGNED
        return f"set csv.delimiter = {json.dumps(mark)}, if that is what stands between the fields"
    if all(map(_is_number, source.columns)):
        return "give the file a header, or number the columns in the settings, from 0"
    if line := _line_that_gives(source, lacking):
        first = source.columns[0][:1]
        comment = ', or set csv.comment = "#", if that is how they begin' if first == "#" else ""
        return f"delete what stands above line {line}, which has this column: tail -n +{line} old > new.csv{comment}"
    return ""


def _delimiter_that_gives(source: Source, name: str) -> str:
    """Of the marks that may delimit, one by which the header has a column of this name; empty where none does so."""
    header = source.dialect.delimiter.join(source.columns)
    return next(
        (mark for mark in OTHER_DELIMITERS if mark in header and name in _cells(header, mark)), ""
    )


def _line_that_gives(source: Source, name: str) -> int:
    """The first line below the header that may be one: it has more fields, no numbers, and this name; 0 where none is so."""
    with open(source.path, "rb") as file:
        file.seek(source.data_start)
        for place, data in enumerate(islice(iter(lambda: file.readline(LINE_BYTES), b""), LINES)):
            line = data.decode("utf-8", "replace")
            for mark in OTHER_DELIMITERS:
                cells = _cells(line, mark)
                if (
                    name in cells
                    and len(cells) > len(source.columns)
                    and not any(map(_is_number, cells))
                ):
                    return source.first_line + place
    return 0


def _cells(line: str, mark: str) -> list[str]:
    return [cell.strip(" \t\r\n\"'") for cell in line.split(mark)]


def _is_number(name: str) -> bool:
    return isinstance(label_key(name), float)
