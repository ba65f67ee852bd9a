"""From a chunk to a block: the format reads the columns that the fields want, and the table's
rules judge them.

Rules: pure functions of a source, a chunk and the fields; they run in workers, again if need be.
Which columns a file has is checked once, by `prepare`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from service.core.errors import FileRefused
from service.core.spelling import spelt
from service.formats import disguise
from service.formats.columns import derived_from, features_of, wanted
from service.formats.contract import (
    HEAD_BYTES,
    HEAD_ROWS,
    SPARSE_TEXTS,
    BadRow,
    Block,
    Chunk,
    Fields,
    Label,
    RowRules,
    Source,
    Wanted,
)
from service.formats.features import words
from service.formats.frames import pl
from service.formats.quoting import count_lines
from service.formats.refusing import with_lines
from service.formats.registry import FORMATS
from service.formats.survey import Survey
from service.formats.table import block, distinct
from service.formats.text import read_range
from service.formats.wording import listed

MOST_CLASSES = 1000
WIDE_CELLS = 1 << 25
HEAD_CHUNKS = 4
"""Of `HEAD_BYTES` at most; those of text grow, and hold about as many bytes together."""
MOST_ODD = 0.1
"""The share of a column's values that may be no numbers where it is a column of numbers."""


def decode(source: Source, chunk: Chunk, fields: Fields, rows: RowRules | None = None) -> Block:
    """The chunk's good rows as arrays; bad ones and unlabelled ones are left out and counted.

    Raises FileRefused for faults of structure (torn data, bad UTF-8, odd quotes), never for a bad
    row; ValueError when the fields say "class" and give no classes.
    """
    if fields.labels == "class" and fields.label is not None and not fields.classes:
        raise ValueError("fields: classes are given when labels are classes, got none")
    want = wanted(source, fields)
    table = FORMATS[source.format].table(source, chunk, want)
    decoded = block(table, source, fields, features_of(source, fields), rows or RowRules())
    return replace(decoded, first_bad=with_lines(source, chunk, decoded.first_bad))


def clean(source: Source, chunk: Chunk, fields: Fields) -> Block | None:
    """As `decode`, of a chunk whose rows are all good, and at least one; else None, and no word is lost about it."""
    table = FORMATS[source.format].table(source, chunk, wanted(source, fields))
    if table.rows_seen > len(table.row):
        return None
    decoded = block(table, source, fields, features_of(source, fields), RowRules(notes=0))
    return None if decoded.rejected or not len(decoded.y) else decoded


@dataclass(frozen=True, slots=True)
class Judged:
    """How many of a chunk's rows are bad, and the first of them; the fields are those of `Block`."""

    rows_seen: int
    lines: int
    rejected: int
    first_bad: tuple[BadRow, ...]


def judged(source: Source, chunk: Chunk, fields: Fields) -> Judged:
    """Looks for the chunk's first bad row, as `decode` does, and leaves the values where they are."""
    found = decode(source, chunk, fields, RowRules(notes=1))
    return Judged(found.rows_seen, found.lines, found.rejected, found.first_bad)


def labels(source: Source, chunk: Chunk, fields: Fields) -> dict[Label, int]:
    """The distinct labels of a chunk in the order of their appearance: numbers where the text is a
    number, otherwise text; and how many rows have each. Reads only the label's column.

    Raises FileRefused when there are more than 1,000 of them.
    """
    if fields.label is None:
        return {}
    label = str(fields.label)
    want = Wanted((), (label,), frozenset((label,)))
    found = distinct(FORMATS[source.format].table(source, chunk, want).frame[label], fields)
    if len(found) > MOST_CLASSES:
        raise FileRefused(
            f"a column of classes holds at most {MOST_CLASSES} of them",
            place=source.name,
            value=f"{len(found)}: {listed(map(spelt, sorted(found, key=str)))}",
            remedy="give `classes`, or use a kernel for regression",
        )
    return found


def sparse_bytes(source: Source, text_bytes: int) -> int:
    """The bound for sparse text: a row is a character and a line break at least, and an entry is "a ", or "1:1 "."""
    rows, entries = text_bytes // 2 + 1, text_bytes // (4 if source.format == "svmlight" else 2) + 1
    numbers = 3 if source.format == "svmlight" else 4  # label, row, start; importance
    return 8 * (rows * numbers + 1 + entries)


def names(source: Source, fields: Fields) -> tuple[str, ...]:
    """The features that are columns of names, judged by the file's first rows: those of whose values more than one in ten are
    no numbers. What is odd in the others makes bad rows, as ever.

    Raises FileRefused for faults of structure, and where a column looks like one of numbers or times, see `disguise`.
    """
    features = wanted(source, fields).features
    numbers = {name: np.empty(0) for name in features}
    odd = {name: pl.Series(dtype=pl.String) for name in features}
    for frame in _head(source, features):
        for name in features:
            values, found = words(frame[name], fields)
            numbers[name] = np.append(numbers[name], values)
            odd[name] = odd[name].append(found)
    chosen = tuple(
        name
        for name in features
        if odd[name].len() > MOST_ODD * (len(numbers[name]) + odd[name].len())
    )
    for name in chosen:
        disguise.check(source, fields, name, numbers[name], odd[name])
    return chosen


def _head(source: Source, features: tuple[str, ...]) -> Iterator[pl.DataFrame]:
    """These columns of the file's first rows."""
    left = HEAD_ROWS
    for chunk in islice(Survey(source, HEAD_BYTES), HEAD_CHUNKS):
        table = FORMATS[source.format].table(source, chunk, Wanted(features, (), frozenset()))
        frame = table.frame if table.x is None else pl.DataFrame(table.x, schema=list(features))
        yield frame.head(left)
        left -= table.rows_seen
        if left <= 0:
            break


def block_bytes(source: Source, chunk: Chunk, fields: Fields) -> int:
    """A bound on the bytes of the arrays x, y, w, offset and row of the chunk's block (not of the carried
    text).

    Text: every row holds at least a character for each value that it must have, and its marks. The lines of wide JSON are
    counted, which reads the chunk.
    """
    features = features_of(source, fields)
    beside = [c for c in (fields.weight, fields.offset, fields.exposure) if c is not None]
    derived = derived_from(fields)
    plain = [name for name in features if name not in derived]
    must = [*map(str, beside), *(plain if fields.gaps.fill == "none" else ())]
    if fields.label is not None and fields.unlabelled == "skip":
        must.append(str(fields.label))
    rows = chunk.stop - chunk.start
    if source.format in SPARSE_TEXTS:
        return sparse_bytes(source, rows)
    if source.format == "csv":
        rows = (rows + 1) // (len(source.columns) + len(must))
    elif source.format == "jsonl":
        rows = (rows + 1) // (2 + sum(len(name.encode()) + 5 for name in must))
        if rows * len(features) > WIDE_CELLS:  # no room would do for rows of {} by the million
            rows = min(rows, count_lines(read_range(source, chunk)) + 1)
    own = len(fields.hashed.categorical) + len(fields.hashed.interactions)
    words = fields.hashed.ngrams * (chunk.stop - chunk.start + rows) if fields.hashed.text else 0
    slots = rows * (1 + own) + 1 + words if fields.hashed.bits else 0
    numbers = len(features) + len(fields.gaps.indicators) + 2 + len(beside)
    return 8 * (rows * numbers + slots)
