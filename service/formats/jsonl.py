"""JSON lines: one object a line, its keys the columns; numbers, text, booleans and null.

Rules
- The columns are the keys of the first row, and those that the fields name, if one of the first
  rows has them; where the fields name no features, all keys of the first rows, as they appear. Other
  keys are not looked at; an absent key is the same as null.
- A line that is no object, repeats a key, nests deeper than 64, or holds a list where a value is
  wanted, is a bad row.
- The fast way reads all lines with polars, which takes the first of repeated keys; so the
  key-value pairs are counted, outside of quotes, and only if every row has each key once is its
  table taken. Otherwise Python reads line by line; so it does where the cells are few, for that is faster.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from service.core.errors import FileRefused
from service.formats.contract import (
    HEAD_BYTES,
    HEAD_ROWS,
    MOST_NOTES,
    BadRow,
    Chunk,
    Fields,
    Source,
    Table,
    Wanted,
)
from service.formats.frames import are_few, named, nameless, pl
from service.formats.quoting import count_lines
from service.formats.text import BLANK, check_bytes, lines_before, read_range, skip_blank
from service.formats.wording import listed, shown

DEEPEST = 64
QUOTE, COLON, BRACE, BRACKET = b'":{['
ESCAPE = re.compile(rb"\\.", re.DOTALL)
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
FRACTION = rb"[ \t]*:[ \t]*-?[0-9]+[.eE]"
WIDE = 10_000
"""Columns in the head; with more of them its rows are few, and those behind it are counted, too."""
MANY_KEYS = "write what varies from row to row as values, under keys that all rows share; or list the `features`"
CORRECT = "correct the line, or delete it"
Cell = str | None


class Number(str):
    """A number as the file spells it."""

    __slots__ = ()


class Pairs(list[tuple[str, Any]]):
    """An object as its pairs, so that repeated keys are seen."""


class NoConstant(ValueError):
    """NaN or an infinity, which JSON has not."""


class BadLine(Exception):
    """Why a line is no row, and what to do."""

    def __init__(self, column: str, rule: str, value: str, remedy: str = CORRECT) -> None:
        self.column, self.rule, self.value, self.remedy = column, rule, value, remedy
        super().__init__(rule)


def inspect(source: Source, fields: Fields) -> Source:
    """Finds the columns in the first rows. Raises FileRefused."""
    with open(source.path, "rb") as file:
        source, start = skip_blank(source, file)
        file.seek(start)
        head = file.read(HEAD_BYTES)
        if b"\n" not in head.lstrip(BLANK):
            head += file.readline(source.limits.max_row_bytes)
    lines = [line for line in head.split(b"\n") if line.strip(BLANK)][:HEAD_ROWS]
    check_bytes(source, lines[0], start)
    try:
        first = dict(_pairs(lines[0]))
    except BadLine as fault:
        where = f"{source.name}: first row"
        raise FileRefused(
            fault.rule, place=where, value=fault.value, remedy=fault.remedy
        ) from fault
    if fields.features is None:
        columns = dict.fromkeys((*first, *_keys(lines[1:])))
    else:
        columns = dict.fromkeys((*first, *_later(lines[1:], _named(fields) - set(first))))
    odd = [name for name in columns if not _is_unicode(name)]
    if odd:
        where = f"{source.name}: first rows"
        rule, remedy = "a key is valid Unicode", "rename the key in every line"
        raise FileRefused(rule, place=where, value=listed(odd), remedy=remedy)
    most = source.limits.max_columns
    is_cut = fields.features is None and WIDE < len(columns) <= most and len(lines) < HEAD_ROWS
    count = _count_on(source, start, columns) if is_cut else len(columns)
    if count > most:
        value = str(count) if count == len(columns) else f"more than {most}"
        rule, remedy = f"a file has at most {most} columns", MANY_KEYS
        raise FileRefused(rule, place=source.name, value=value, remedy=remedy)
    first_line = lines_before(source, start) + 1
    return replace(source, columns=tuple(columns), data_start=start, first_line=first_line)


def _named(fields: Fields) -> set[str]:
    times = (column for column, _ in fields.times)
    named = (*fields.roles, *(fields.features or ()), *fields.hashed.columns, *times)
    return {column for column in named if isinstance(column, str)}


def _keys(lines: list[bytes]) -> Iterator[str]:
    """The keys of all lines that are rows: not of bad ones, nor of the last one, torn by the end of the head."""
    for line in lines:
        with suppress(BadLine):
            yield from (key for key, _ in _pairs(line))


def _count_on(source: Source, start: int, columns: Collection[str]) -> int:
    """How many keys the first rows have, also beyond the head; counted until they are too many. Where keys are data each row
    brings others, and no table is large enough for them."""
    keys = set(columns)
    with open(source.path, "rb") as file:
        file.seek(start)
        for _ in range(HEAD_ROWS):
            line = file.readline(source.limits.max_row_bytes)
            keys.update(_keys([line]))
            if not line or len(keys) > source.limits.max_columns:
                break
    return len(keys)


def _later(lines: list[bytes], names: set[str]) -> list[str]:
    """Those of `names` that are keys of one of the lines."""
    found: set[str] = set()
    for line in lines:
        if found == names:
            break
        found |= names & set(_keys([line]))
    return sorted(found)


def table(source: Source, chunk: Chunk, wanted: Wanted) -> Table:
    """Reads the wanted columns of the chunk. Raises FileRefused for bytes that are no text."""
    data = read_range(source, chunk)
    check_bytes(source, data, chunk.start)
    lines = count_lines(data)
    is_short = are_few((lines + 1) * len(source.columns))
    frame = None if is_short else _fast(source, data, wanted)
    if frame is not None:
        return Table(frame, np.arange(frame.height, dtype=np.int64), frame.height, lines=lines)
    return _exact(data, lines, wanted)


# --- the fast way ---


def _fast(source: Source, data: bytes, wanted: Wanted) -> pl.DataFrame | None:
    """All lines at once; None when it can't be proved that every row has each column once, flat."""
    columns = tuple(dict.fromkeys((*source.columns, *wanted.columns)))
    numbers = set(wanted.columns) - wanted.texts
    schema = {c: pl.Float64 if c in numbers else pl.String for c in columns}
    pairs = _flat_pairs(data)
    if pairs is None:
        return None
    try:
        frame = pl.read_ndjson(data, schema=schema)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None
    rows, objects = frame.height, pairs[0]
    if rows != objects or any(_is_doubtful(data, frame[c]) for c in wanted.texts):
        return None
    lacking = frame.select(pl.any_horizontal(pl.all().is_null())).to_series().to_numpy()
    others = _count_pairs(data, lacking) if lacking.any() else 0
    if others is None or pairs[1] - others != (rows - int(lacking.sum())) * len(columns):
        return None
    return frame.select(named(wanted.columns))


def _is_doubtful(data: bytes, texts: pl.Series) -> bool:
    """Whether a column of text may hold what polars gives as another text than the other formats
    have: fractions (1.0 as "1"), halves of surrogate pairs (as NUL)."""
    if b"\\" in data and SURROGATE.search(data):
        return True
    if not nameless(texts).str.contains(r"^-?\d").any():
        return False
    key = re.escape(json.dumps(texts.name, ensure_ascii=False).encode())
    return b"\\" in data or re.search(key + FRACTION, data) is not None


def _flat_pairs(data: bytes) -> tuple[int, int] | None:
    """How many objects and key-value pairs there are outside of quotes; None if there are lists,
    too."""
    plain = ESCAPE.sub(b"__", data) if b"\\" in data else data
    bytes_ = np.frombuffer(plain, np.uint8)
    inside = np.bitwise_xor.accumulate((bytes_ == QUOTE).view(np.uint8)).view(np.bool_)
    outside = ~inside
    if not data or data.isspace() or np.count_nonzero((bytes_ == BRACKET) & outside):
        return None
    objects = np.count_nonzero((bytes_ == BRACE) & outside)
    return int(objects), int(np.count_nonzero((bytes_ == COLON) & outside))


def _count_pairs(data: bytes, chosen: npt.NDArray[np.bool_]) -> int | None:
    """The pairs in the chosen lines, where some column is null; None if a line is no row."""
    lines = [line for line in data.split(b"\n") if line.strip(BLANK)]
    if len(lines) != len(chosen):
        return None
    try:
        return sum(len(_pairs(lines[place])) for place in np.flatnonzero(chosen))
    except BadLine:
        return None


# --- the exact way ---


def _exact(data: bytes, line_breaks: int, wanted: Wanted) -> Table:
    cells: dict[str, list[Cell]] = {column: [] for column in wanted.columns}
    rows: list[int] = []
    bad: list[BadRow] = []
    lines = [line for line in data.split(b"\n") if line.strip(BLANK)]
    for row, line in enumerate(lines):
        try:
            values = _cells(line, wanted)
        except BadLine as fault:
            if len(bad) < MOST_NOTES:
                bad.append(BadRow(row, fault.column, fault.rule, fault.value, fault.remedy))
            continue
        rows.append(row)
        for column, value in zip(wanted.columns, values, strict=True):
            cells[column].append(value)
    frame = pl.DataFrame(cells, schema=dict.fromkeys(wanted.columns, pl.String))
    return Table(frame, np.array(rows, np.int64), len(lines), tuple(bad), line_breaks)


def _cells(line: bytes, wanted: Wanted) -> list[Cell]:
    found = dict(_pairs(line))
    return [_cell(column, found.get(column), column in wanted.texts) for column in wanted.columns]


def _cell(column: str, value: Any, text: bool) -> Cell:
    """A value as text: a number as in the other formats, a boolean as true or false."""
    if value is None or isinstance(value, Number):
        return _number_text(value) if text and value is not None else value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        if not value.isascii() and not _is_unicode(value):
            raise BadLine(shown(column), "text is valid Unicode", shown(value))
        return value
    kind, remedy = _nested(column, value)
    raise BadLine(shown(column), "a value is a number, text, true, false or null", kind, remedy)


def _nested(column: str, value: object) -> tuple[str, str]:
    """What is nested where a value should stand, and what to do."""
    key = f".[{json.dumps(column, ensure_ascii=False)}]"
    if isinstance(value, Pairs):
        return (
            "an object",
            f"leave it out by `exclude`, or bring its keys up: jq -c '. + {key} | del({key})'",
        )
    return (
        "a list",
        f"leave it out by `exclude`, or give each element a key of its own: jq -c '.a = {key}[0] | del({key})'",
    )


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _number_text(number: str) -> str:
    """Whole numbers as they are, others in the shortest form, as polars writes them."""
    if number.lstrip("-").isdigit():
        return "0" if number == "-0" else str(number)
    return str(pl.Series([float(number)]).cast(pl.String)[0])


def _pairs(line: bytes) -> Pairs:
    """The key-value pairs of a line. Raises BadLine."""
    if max(line.count(b"["), line.count(b"{")) > DEEPEST // 2 and _depth(line) > DEEPEST:
        raise BadLine("", f"a row nests at most {DEEPEST} deep", "deeper")
    try:
        found = DECODER.decode(line.decode())
    except UnicodeDecodeError as fault:
        raise BadLine("", "text is valid UTF-8", shown(line)) from fault
    except NoConstant as fault:
        remedy = "write null where there is no number"
        raise BadLine("", f"a row is one JSON object: {fault}", shown(line), remedy) from fault
    except ValueError as fault:
        rule = f"a row is one JSON object: {_why(fault)}"
        raise BadLine("", rule, shown(line), _mend(line)) from fault
    if not isinstance(found, Pairs):
        raise BadLine("", "a row is one JSON object", shown(line), _mend(line))
    keys = [key for key, _ in found]
    if len(set(keys)) < len(keys):
        twice = sorted(key for key, count in Counter(keys).items() if count > 1)
        raise BadLine("", "a row has each key once", listed(twice))
    return found


def _why(fault: ValueError) -> str:
    """What the parser says; its place counts in the row, whose line the parser doesn't know."""
    if isinstance(fault, json.JSONDecodeError):
        return f"{fault.msg[:1].lower()}{fault.msg[1:]}, at its character {fault.pos + 1}"
    return shown(fault)


def _mend(line: bytes) -> str:
    """What to do about a line that is no object, by what it looks like."""
    text = line.strip(BLANK)
    if b"\r" in text:
        return "end each row with a line feed: a CR stands within this line"
    if text.startswith((b"[", b"]")):
        return "write each object on a line of its own, without the list around them (jq -c '.[]')"
    if text.startswith(b"{") and text.endswith(b"},"):
        return "leave out the comma between objects, and the list around them (jq -c '.[]')"
    if text in (b"{", b"}"):
        return "write each object on one line (jq -c .)"
    if not text.startswith((b"{", b'"')) and b"," in text:
        return "call a file of CSV .csv; else write the row as one JSON object"
    return CORRECT


def _depth(line: bytes) -> int:
    """How deep lists and objects nest (brackets in quotes left out)."""
    outside = b"".join(ESCAPE.sub(b"", line).split(b'"')[::2])
    deepest = depth = 0
    for mark in outside:
        depth += (mark in b"[{") - (mark in b"]}")
        deepest = max(deepest, depth)
    return deepest


def _no_constant(name: str) -> Any:
    raise NoConstant(f"{name} is no JSON")


DECODER = json.JSONDecoder(
    object_pairs_hook=Pairs,
    parse_int=Number,
    parse_float=Number,
    parse_constant=_no_constant,
)


def row_starts(source: Source, data: bytes) -> npt.NDArray[np.int64]:
    """Where each data row of a chunk's bytes begins; blank lines left out."""
    starts = []
    start = 0
    for line in data.split(b"\n"):
        if line.strip(BLANK):
            starts.append(start)
        start += len(line) + 1
    return np.array(starts, np.int64)
