"""Small CSV files that begin alike, read as one: what a reader takes to begin is paid once for all of them.

    files ─▶ those with one beginning ─▶ the rows of each ─▶ one behind the other: a block ─▶ a block each

Rules
- It doesn't show where rows were cut into chunks, so it doesn't show either where they were joined: what comes of a file
  here is, to the bit, what comes of it alone.
- Everything that `prepare` finds out must follow from the bytes before the first row, which the files share.
- Whatever is out of the ordinary with a file is only found here, never judged: it is left, to be read alone.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import numpy as np

from service.core.errors import FileRefused
from service.formats import csv, header
from service.formats.columns import features_of, unused_of, wanted
from service.formats.contract import Block, Fields, RowRules, Source, Table
from service.formats.quoting import Marks
from service.formats.table import block
from service.formats.text import check_bytes

FEW = 16
"""Fewer files that don't go together are not tried in halves."""
Prepared = Callable[[int], Source]
"""Prepares the file of that number as far as its first row; raises FileRefused and OSError."""


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """A file that was read whole; its rows are all good, and at least one."""

    block: Block
    sha256: str
    columns_unused: int


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of one file: its number among all, its bytes from the first row on, and what separates them: where they are
    nothing but numbers, line breaks alone."""

    number: int
    data: bytes
    marks: Marks


def read_alike(
    paths: Sequence[str], names: Sequence[str], fields: Fields, most_bytes: int, prepared: Prepared
) -> list[Read | None]:
    """What was read of each file; None for those that are to be read alone, larger ones among them.

    `names` are the files' original ones.
    """
    contents = [_content(path, most_bytes) for path in paths]
    groups: dict[tuple[str, bytes], list[int]] = {}
    for number, (name, content) in enumerate(zip(names, contents, strict=True)):
        first_line = content[: content.find(b"\n") + 1]
        groups.setdefault((os.path.splitext(name.lower())[1], first_line), []).append(number)
    found: list[Read | None] = [None] * len(paths)
    for numbers in groups.values():
        first = max(numbers, key=lambda number: len(contents[number]))  # one that surely has rows
        with suppress(FileRefused, OSError):
            source = prepared(first) if len(numbers) > 1 else None
            if source is not None and source.path == paths[first]:  # nothing was undone
                before = contents[first][: source.data_start]
                for number, read in _read(source, before, contents, numbers, fields):
                    found[number] = read
    return found


def _content(path: str, most_bytes: int) -> bytes:
    """The file's bytes; none where they are too many, or can't be read."""
    with suppress(OSError), open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        # Room for the most would be new memory each time, for the kernel to clear.
        if size <= most_bytes:
            content = file.read(size + 1)
            return content if len(content) <= size else b""
    return b""


def _read(
    source: Source, before: bytes, contents: Sequence[bytes], numbers: Sequence[int], fields: Fields
) -> Iterator[tuple[int, Read]]:
    """What was read of those files that begin with the bytes `before` the first row of the prepared one."""
    if not _tells_all(source, before, fields):
        return
    unused = unused_of(source, fields)
    rows = [*_rows(before, contents, numbers)]
    decoded_all = _all_numbers(source, rows, len(before), fields)
    if decoded_all is None:
        rows = [*_even(source, rows, len(before))]
        decoded_all = _decoded(source, rows, fields)
    for one, decoded in zip(rows, decoded_all, strict=True):
        if decoded is not None and len(decoded.y):
            digest = hashlib.sha256(contents[one.number]).hexdigest()
            yield one.number, Read(decoded, digest, unused)


def _tells_all(source: Source, before: bytes, fields: Fields) -> bool:
    """Whether the bytes before the first row say all that `prepare` finds out: where only one of the marks that may
    delimit stands in them, no row has a say in which it is."""
    marks = sum(mark.encode() in before for mark in header.DELIMITERS)
    is_certain = fields.dialect.delimiter != "auto" or marks <= 1
    return source.format == "csv" and not fields.numbered and not fields.hashed.bits and is_certain


def _rows(before: bytes, contents: Sequence[bytes], numbers: Sequence[int]) -> Iterator[_Rows]:
    """The rows of those files that begin with `before`: the last one ended by a line break, and no blank lines behind it."""
    for number in numbers:
        if not contents[number].startswith(before):
            continue
        data = contents[number][len(before) :]
        is_plain = data[-1:] == b"\n" and data[-2:-1] not in (b"\n", b"\r")
        rows = data if is_plain else data.rstrip(b"\r\n") + b"\n"
        if len(rows) > 1:
            breaks = rows.count(b"\n")
            lines = breaks if is_plain else data.count(b"\n")
            yield _Rows(number, rows, Marks(breaks, 0, lines))


def _all_numbers(
    source: Source, rows: Sequence[_Rows], start: int, fields: Fields
) -> list[Block | None] | None:
    """A block of each; None where not all of them are nothing but numbers."""
    data = b"".join(one.data for one in rows)
    with suppress(FileRefused):
        check_bytes(source, data, start)
        breaks = sum(one.marks.breaks for one in rows)
        table = csv.nothing_but_numbers(source, data, breaks, wanted(source, fields))
        is_dense = table is not None and table.rows_seen == breaks  # else whose rows are whose?
        whole = _good(source, table, fields) if table is not None and is_dense else None
        return None if whole is None else [*_cut(whole, [one.marks for one in rows])]
    return None


def _even(source: Source, rows: Sequence[_Rows], start: int) -> Iterator[_Rows]:
    """Those files whose rows are of as many fields as the header has, nameless ones included."""
    for one in rows:
        with suppress(FileRefused):
            check_bytes(source, one.data, start)
            marks = header.marks_of(source, one.data, start)
            if csv.trailing_of(source, one.data, marks) == source.unnamed:
                yield replace(one, marks=marks._replace(lines=one.marks.lines))


def _decoded(source: Source, rows: Sequence[_Rows], fields: Fields) -> list[Block | None]:
    """A block of each. Where all don't go together the halves may: a few odd files cost some others that are near them
    what reading alone costs, and many odd ones cost all of them little more."""
    whole = _together(source, rows, fields)
    if whole is not None:
        return [*_cut(whole, [one.marks for one in rows])]
    if len(rows) < FEW:
        return [None] * len(rows)
    half = len(rows) // 2
    return _decoded(source, rows[:half], fields) + _decoded(source, rows[half:], fields)


def _together(source: Source, rows: Sequence[_Rows], fields: Fields) -> Block | None:
    """All rows as one block; None unless each is good, or has no label."""
    breaks = sum(one.marks.breaks for one in rows)
    data = b"".join(one.data for one in rows)
    table = csv.numbers_at_once(source, data, breaks, wanted(source, fields), source.unnamed)
    return None if table is None else _good(source, table, fields)


def _good(source: Source, table: Table, fields: Fields) -> Block | None:
    whole = block(table, source, fields, features_of(source, fields), RowRules(notes=0))
    return None if whole.rejected else whole


def _cut(whole: Block, files: Sequence[Marks]) -> Iterator[Block]:
    """The block of each file, of one that holds the rows of all: no row is bad."""
    ends = [0, *accumulate(marks.breaks for marks in files)]
    places = np.searchsorted(whole.row, ends).tolist()
    for marks, first, (start, stop) in zip(files, ends, pairwise(places), strict=False):
        rows = slice(start, stop)
        yield Block(
            x=whole.x[rows],
            y=whole.y[rows],
            w=None if whole.w is None else whole.w[rows],
            offset=None if whole.offset is None else whole.offset[rows],
            row=whole.row[rows] - first,
            carried=whole.carried and {name: c[rows] for name, c in whole.carried.items()},
            rows_seen=marks.breaks,
            unlabelled=marks.breaks - (stop - start),
            rejected=0,
            lines=marks.lines,
            gaps={name: gap[rows] for name, gap in whole.gaps.items()},
        )
