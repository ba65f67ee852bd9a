"""CSV and TSV: RFC 4180, with or without a header; LF or CRLF; comma, semicolon, tab or bar between
fields, as the first lines show or the settings say.

Rules
- A quote opens only at a field's start and closes only at its end; anything else is no CSV, and
  the file is refused.
- Every row's fields are counted: polars fills short rows with nulls without a word. A row may go on behind the columns with empty
  fields, however many: delimiters that trail.
- The shortest way reads what is nothing but numbers, `numeric`; the fast way numbers and text at once, by polars; whenever it
  can't prove that all is well, the exact way reads the same bytes as text and says which row is wrong. All accept the same
  numbers, so it never shows which one was taken. Of few cells the exact way is the fastest: it cuts them one by one.
- Blank lines, and lines of nothing but delimiters, are no rows. Spaces around names, numbers and
  labels don't count.
- With a decimal comma a point is no decimal point: whether 1.500 is more than a thousand is not ours
  to guess.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from service.formats import quoting
from service.formats.contract import MOST_NOTES, BadRow, Chunk, Mask, Source, Table, Wanted
from service.formats.frames import are_few, named, nameless, pl, replaced
from service.formats.header import inspect, marks_of, refused
from service.formats.text import check_bytes, read_range
from service.formats.title import ALIGNED
from service.formats.values import COMMAED, FILL_IN, Faults, is_ascii
from service.formats.wording import shown

__all__ = [
    "inspect",
    "nothing_but_numbers",
    "numbers_at_once",
    "row_starts",
    "table",
    "trailing_of",
]

POINTED = r"^[ \t]*[+-]?(\d+\.\d*|\.\d+)([eE][+-]?\d+)?[ \t]*$"


def table(source: Source, chunk: Chunk, wanted: Wanted) -> Table:
    """Reads the wanted columns of the chunk. Raises FileRefused for faults of structure."""
    data = read_range(source, chunk)
    check_bytes(source, data, chunk.start)
    if data.endswith(b"\r"):  # the last row's CRLF was cut in two by the end of the file
        data = data[:-1]
    lines = quoting.count_lines(data)
    exact = partial(_exact, source, data, lines, wanted)
    found = nothing_but_numbers(source, data, lines + (not data.endswith(b"\n")), wanted)
    if found is None:
        marks = marks_of(source, data, chunk.start)
        rows, trailing = marks.breaks + (not data.endswith(b"\n")), trailing_of(source, data, marks)
        if trailing is not None and not are_few(rows * len(source.columns)):
            found = numbers_at_once(source, data, rows, wanted, trailing)
    return exact() if found is None else replace(found, lines=lines, texts=exact)


def nothing_but_numbers(source: Source, data: bytes, lines: int, wanted: Wanted) -> Table | None:
    """All rows of so many lines, the shortest way; None where something isn't plain."""
    # Here, since it is compiled: the daemon, which reads no table, starts without a compiler.
    from service.formats import numeric

    if wanted.texts:
        return None
    columns, others = source.columns, wanted.others
    found = numeric.numbers(data, lines, source.dialect, columns, wanted.features, others)
    if found is None:
        return None
    x, beside, is_full = found
    series = {name: pl.Series(name, beside[place]) for place, name in enumerate(others)}
    frame = pl.DataFrame(series or None, height=len(x))
    return Table(frame, np.arange(len(x), dtype=np.int64), len(x), x=x, is_full=is_full)


def trailing_of(source: Source, data: bytes, marks: quoting.Marks) -> int | None:
    """How many fields each row has behind the columns, if there are (columns - 1 + so many) delimiters for every row: where no
    row is longer, none is shorter then. None where the rows are uneven.

    Blank lines make the sum wrong, except where a row is one field: there they are looked for.
    """
    rows, columns = marks.breaks + (not data.endswith(b"\n")), len(source.columns)
    trailing, rest = divmod(marks.delimiters, rows) if data else (0, 1)
    trailing -= columns - 1
    if rest or trailing < 0 or columns + trailing > source.limits.max_columns:
        return None
    starts_blank = data.startswith((b"\n", b"\r\n"))
    may_be_blank = starts_blank or b"\n\n" in data or b"\n\r\n" in data
    return None if columns + trailing == 1 and may_be_blank else trailing


def numbers_at_once(
    source: Source, data: bytes, rows: int, wanted: Wanted, trailing: int
) -> Table | None:
    """All rows of even data, `trailing` fields behind the columns of each, numbers as numbers; None when that can't be proved
    right.

    The proof: polars refuses long rows, so an even file has no short one either.
    """
    if source.dialect.decimal == "," and b"." in data:
        return None
    columns = wanted.columns
    numbers = set(columns) - wanted.texts
    behind = [f"\0behind {place}" for place in range(trailing)]
    schema = _schema(source, numbers) | dict.fromkeys(behind, pl.String)
    frame = _read(source, data, schema)
    if frame is None or frame.height != rows:
        return None
    if behind and frame.select(pl.any_horizontal(pl.col(behind) != "")).to_series().any():
        return None
    frame = frame if columns == tuple(frame.columns) else frame.select(named(columns))
    if _may_have_blank(frame):
        return None
    return Table(frame, np.arange(rows, dtype=np.int64), rows)


def _may_have_blank(frame: pl.DataFrame) -> bool:
    """Whether some row has nothing in any of the columns: it may be a line of delimiters."""
    if any(column.dtype == pl.Float64 and not column.null_count() for column in frame):
        return False
    nothing = [named(c).is_null() | (named(c).cast(pl.String) == "") for c in frame.columns]
    return bool(frame.select(pl.all_horizontal(nothing)).to_series().any())


def _schema(source: Source, numbers: Collection[str] = ()) -> dict[str, type[pl.DataType]]:
    """All columns of the file in order; those whose name another one had before, which have no part, by names of ours."""
    schema: dict[str, type[pl.DataType]] = {}
    for place, column in enumerate(source.columns):
        name = f"\0again {place}" if column in schema else column  # no header has a NUL
        schema[name] = pl.Float64 if name in numbers else pl.String
    return schema


def _read(
    source: Source, data: bytes, schema: Mapping[str, type[pl.DataType]]
) -> pl.DataFrame | None:
    if data.startswith(codecs.BOM_UTF8):
        data = codecs.BOM_UTF8 + data  # polars takes one away: it would do so where a chunk begins
    try:
        return pl.read_csv(
            data,
            has_header=False,
            schema=schema,
            separator=source.dialect.delimiter,
            decimal_comma=source.dialect.decimal == ",",
            quote_char=(source.dialect.quotes in data and source.dialect.quote) or None,
            empty_string_is_null=False,
            infer_schema=False,
            truncate_ragged_lines=False,
        )
    except pl.exceptions.PolarsError:
        return None


def _exact(source: Source, data: bytes, line_breaks: int, wanted: Wanted) -> Table:
    """Leaves out the rows that can't be cut into the columns, and reads the others as text."""
    lines = quoting.lines(np.frombuffer(data, np.uint8), source.dialect)
    ends = _ends(lines, len(source.columns))
    seen = ~lines.blank
    good = seen & (lines.delimiters >= len(source.columns) - 1)
    for i in np.flatnonzero(good & (ends < lines.stops)).tolist():
        good[i] = not any(_behind(source, data, ends[i], lines.stops[i]))
    row = np.cumsum(seen) - 1
    bad = [
        _misfit(source, data, lines, i, ends[i], int(row[i]))
        for i in np.flatnonzero(seen & ~good)[:MOST_NOTES].tolist()
    ]
    if are_few(len(good) * len(source.columns)) and not _has_lone_returns(data):
        frame = _few_texts(source, data, lines, good, ends, wanted.columns)
    else:
        frame = _texts(source, _kept(data, lines, good, ends), int(np.count_nonzero(good)))
        frame = frame.select(named(wanted.columns))
    faults = Faults(np.zeros(frame.height, np.bool_))
    if source.dialect.decimal == ",":
        frame = _with_points(frame, wanted, faults)
    whole_rows = row[good]
    bad = sorted([*bad, *faults.notes(whole_rows, MOST_NOTES)], key=lambda note: note.row)
    kept_rows = ~faults.bad
    if faults.bad.any():
        frame, whole_rows = frame.filter(kept_rows), whole_rows[kept_rows]
    rows_seen = int(np.count_nonzero(seen))
    return Table(frame, whole_rows, rows_seen, tuple(bad[:MOST_NOTES]), line_breaks)


def _ends(lines: quoting.Lines, columns: int) -> quoting.Places:
    """Where the columns of each line end: at the delimiter behind the last one, or with the line."""
    ends, goes_on = lines.stops.copy(), lines.delimiters >= columns
    ends[goes_on] = lines.places[lines.before[goes_on] + columns - 1]
    return ends


def _behind(source: Source, data: bytes, end: int, stop: int) -> list[bytes]:
    """The fields that a row has behind its columns, from the delimiter at `end` on; empty ones as b"", quoted or not."""
    twice = 2 * source.dialect.quotes
    fields = data[end + 1 : stop].rstrip(b"\r\n").split(source.dialect.delimiter.encode())
    return [b"" if field == twice else field for field in fields]


def _kept(data: bytes, lines: quoting.Lines, good: Mask, ends: quoting.Places) -> bytes:
    """The good lines, without what is behind their columns."""
    trails = good & (ends < lines.stops)
    if good.all() and not trails.any():
        return data
    bytes_ = np.frombuffer(data, np.uint8)
    keep = np.repeat(good, lines.stops - lines.starts)
    turns = np.zeros(bytes_.size + 1, np.int8)
    breaks = lines.stops[trails] - 1
    turns[ends[trails]] = 1
    turns[breaks + (bytes_[breaks] != quoting.NEWLINE)] = -1  # the last line may have none
    kept: bytes = bytes_[keep & (np.cumsum(turns[:-1], dtype=np.int8) == 0)].tobytes()
    return kept


def _misfit(
    source: Source, data: bytes, lines: quoting.Lines, line: int, end: int, row: int
) -> BadRow:
    """Why a line can't be cut into the columns."""
    columns, fields = len(source.columns), int(lines.delimiters[line]) + 1
    width, stop = columns + source.unnamed, int(lines.stops[line])
    if columns < fields <= width:
        behind = _behind(source, data, end, stop)
        place, cell = next((place, cell) for place, cell in enumerate(behind) if cell)
        rule, remedy = "a column without a name is empty", "name it in the header, or empty it"
        return BadRow(row, f"number {columns + place}", rule, shown(cell), remedy)
    rule = f"a row has {width} fields, as the first line has"
    text = data[int(lines.starts[line]) : stop].rstrip(b"\r\n")
    value = shown(f"{fields} field{'s' * (fields != 1)}: {text[:1000].decode('utf-8', 'replace')}")
    return BadRow(row, "", rule, value, _about_width(source, text, fields - width))


def _about_width(source: Source, text: bytes, more: int) -> str:
    """What to do about a row that has so many fields more than it should."""
    if b"\r" in text:
        return "end all lines alike: a CR stands within the row, and the first line has none"
    if source.dialect.delimiter == " " and (text.startswith(b" ") or b"  " in text):
        return ALIGNED
    if more < 0:
        return FILL_IN
    named = " (where every row has one more, name it in the header, too: R leaves out the place of row names)"
    return f"quote fields that hold the delimiter{named if more == 1 else ''}; else delete the row"


def _with_points(frame: pl.DataFrame, wanted: Wanted, faults: Faults) -> pl.DataFrame:
    """Numbers as the rest of the house spells them, with a point; marks the rows that have one already."""
    columns = [c for c in wanted.columns if c not in wanted.texts]
    for name in columns:
        column = frame[name]
        rule = 'a number has a decimal comma (csv.decimal = ",")'
        remedy = "write it as 1234,5, without points"
        faults.mark(_is_pointed(column), column, rule, remedy, as_spelt=True)
    return replaced(frame, {name: _with_point(frame[name]) for name in columns})


def _is_pointed(column: pl.Series) -> Mask:
    """Which cells are numbers with a decimal point."""
    if are_few(column.len()) and is_ascii(cells := column.to_list()):
        found = re.compile(POINTED)
        return np.array(["." in cell and bool(found.fullmatch(cell)) for cell in cells], np.bool_)
    return nameless(column).str.contains(POINTED).to_numpy()


def _with_point(column: pl.Series) -> pl.Series:
    """The cells, those that are numbers with a decimal comma with a point."""
    if are_few(column.len()) and is_ascii(cells := column.to_list()):
        found = re.compile(COMMAED)
        pointed = [
            cell.replace(",", ".") if "," in cell and found.fullmatch(cell) else cell
            for cell in cells
        ]
        return pl.Series(pointed, dtype=pl.String)
    return nameless(column).str.replace(COMMAED, "${1}.${2}")


def _texts(source: Source, data: bytes, rows: int) -> pl.DataFrame:
    """All columns of whole rows as text. Raises FileRefused if polars sees other rows."""
    schema = _schema(source)
    if not rows:
        return pl.DataFrame(schema=schema)
    frame = _read(source, data, schema)
    if frame is None or frame.height != rows:
        rule, remedy = "rows are lines of fields, as RFC 4180 has it", "write it with a CSV library"
        raise refused(source, rule, data[:200], remedy, f"{rows} rows")
    return frame


def _few_texts(
    source: Source,
    data: bytes,
    lines: quoting.Lines,
    good: Mask,
    ends: quoting.Places,
    columns: Sequence[str],
) -> pl.DataFrame:
    """These columns of the good lines, as `_texts` has them: their cells one by one."""
    quotes, behind = source.dialect.quotes, len(source.columns) - 1
    places = [source.columns.index(column) for column in columns]
    rows = []
    for line in np.flatnonzero(good).tolist():
        start, first = int(lines.starts[line]), int(lines.before[line])
        stop = start + len(_without_break(data[start : int(ends[line])]))
        bounds = [start - 1, *lines.places[first : first + behind].tolist(), stop]
        cells = [data[bounds[place] + 1 : bounds[place + 1]] for place in places]
        rows.append([_unquoted(cell, quotes) for cell in cells])
    cells_of = zip(*rows, strict=True) if rows else ([] for _ in columns)
    texts = [pl.Series(cells, dtype=pl.String) for cells in cells_of]
    return pl.DataFrame(dict(zip(columns, texts, strict=True)))


def _has_lone_returns(data: bytes) -> bool:
    """Whether some CR has no LF behind it: what a cell that ends with one is, polars says, of few cells as of many."""
    return b"\r" in data and data.count(b"\r") > data.count(b"\r\n")


def _without_break(line: bytes) -> bytes:
    return line.removesuffix(b"\n").removesuffix(b"\r")


def _unquoted(cell: bytes, quotes: bytes) -> str:
    if quotes and cell.startswith(quotes):
        cell = cell[1:-1].replace(2 * quotes, quotes)
    return cell.decode()


def row_starts(source: Source, data: bytes) -> npt.NDArray[np.int64]:
    """Where each data row of a chunk's bytes begins; blank lines left out."""
    lines = quoting.lines(np.frombuffer(data, np.uint8), source.dialect)
    return lines.starts[~lines.blank]
