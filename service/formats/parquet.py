"""Parquet: the footer names columns and rows; chunks are ranges of rows, and polars reads only
what they need.

Rules
- Numbers (decimals among them) and booleans of every width count as float64, rounded as in CSV. Booleans among names, ids and text
  are "true" and "false".
- Text and categories are text; dates and times are text in ISO 8601, for `id` and `time` only.
- Of the columns that are read a row has as much text as a row of text may have.
- What pandas wrote as a frame's index is no feature, unless the fields name it.
- Nested and binary columns may be there, but can't be used.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np

from service.core.errors import FileRefused
from service.formats import contents, mending
from service.formats.contract import Chunk, Fields, Source, Table, Wanted
from service.formats.footer import MAGIC, group_rows
from service.formats.frames import named, nameless, pl
from service.formats.wording import shown

Value = TypeVar("Value")
MOST_TEXT_BYTES = 1 << 30
"""In the rows that are read at once. Words of 16 bytes each would have as many slots as a chunk may have."""


def inspect(source: Source, fields: Fields) -> Source:
    """Reads the footer. Raises FileRefused."""
    with open(source.path, "rb") as file:
        head = file.read(4)
        file.seek(max(0, source.size - 4))
        tail = file.read(4)
        groups = group_rows(file, source.size)
    if source.size == 0:
        raise _refused(source, "a file holds rows", "an empty file", "drop files that hold rows")
    if head != MAGIC:
        rule = "the content is what the name says, parquet"
        _, remedy = contents.found(head) or ("", "call it by what it holds, .csv say")
        raise _refused(source, rule, shown(head), remedy)
    if tail != MAGIC:
        rule = "a parquet file ends with its footer"
        raise _refused(source, rule, shown(tail), "the file is torn or encrypted: write it again")
    schema = _reading(source, lambda: pl.read_parquet_schema(source.path))
    rows = _reading(source, lambda: _scan(source).select(pl.len()).collect().item())
    if not rows:
        raise _refused(source, "a file holds rows", "no rows", "drop files that hold rows")
    if len(schema) > source.limits.max_columns:
        rule = f"a file has at most {source.limits.max_columns} columns"
        raise _refused(source, rule, str(len(schema)), "split the file")
    aside = _index(_reading(source, lambda: pl.read_parquet_metadata(source.path)))
    columns = tuple(schema)
    return replace(source, columns=columns, rows=int(rows), groups=groups, aside=aside)


def _index(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """The columns that are the index of a frame of pandas; one that only counts is no column of the file."""
    try:
        said = json.loads(metadata.get("pandas", "{}"))
        return tuple(name for name in said["index_columns"] if isinstance(name, str))
    except (ValueError, RecursionError, TypeError, KeyError):  # anybody may have written it
        return ()


def table(source: Source, chunk: Chunk, wanted: Wanted) -> Table:
    """Reads the wanted columns of the chunk's rows. Raises FileRefused."""
    rows = chunk.stop - chunk.start

    def read() -> pl.DataFrame:
        part = _scan(source).slice(chunk.start, rows).select(named(wanted.columns))
        types = part.collect_schema()
        plain = [
            _plain(source, name, dtype, text=name in wanted.texts, feature=name in wanted.features)
            for name, dtype in types.items()
        ]
        return part.select(plain).collect()

    frame = _reading(source, read)
    if frame.height != rows:
        rule = "a parquet file holds the rows that its footer counts"
        raise _refused(source, rule, f"{frame.height} of {rows}", "write the file again")
    _check_text(source, frame)
    return Table(frame, np.arange(rows, dtype=np.int64), rows)


def _check_text(source: Source, frame: pl.DataFrame) -> None:
    """Holds text to the limits before anything copies it: rows may share one value of the file, so it can be any multiple of its size."""
    sizes = np.zeros(frame.height, np.int64)
    for column in frame:
        if column.dtype == pl.String:
            sizes += nameless(column).str.len_bytes().fill_null(0).to_numpy()
    longest, total = int(sizes.max(initial=0)), int(sizes.sum())
    remedy = "shorten the values, or leave the columns of text out"
    if longest > source.limits.max_row_bytes:
        rule = f"a row has at most {source.limits.max_row_bytes} bytes"
        raise _refused(source, rule, f"{longest} of text in one", remedy)
    if total > MOST_TEXT_BYTES:
        rule = f"the rows of a chunk hold at most {MOST_TEXT_BYTES} bytes of text"
        raise _refused(source, rule, str(total), remedy)


def _scan(source: Source) -> pl.LazyFrame:
    return pl.scan_parquet(source.path, glob=False, hive_partitioning=False, cache=False)


def _plain(source: Source, name: str, dtype: pl.DataType, *, text: bool, feature: bool) -> pl.Expr:
    """The column as Float64 or String."""
    column: pl.Expr = named(name)
    if dtype.is_numeric() or dtype == pl.Boolean:
        return column.cast(pl.String if text else pl.Float64)
    if isinstance(dtype, (pl.String, pl.Categorical, pl.Enum, pl.Null)):
        return column.cast(pl.String)
    if isinstance(dtype, (pl.Date, pl.Datetime, pl.Time)) and not feature:
        return column.dt.to_string("iso:strict")
    rule = "a used column holds numbers or text"
    where = f"{source.name}: column {shown(name)}"
    is_time = isinstance(dtype, (pl.Date, pl.Datetime))
    remedy = mending.remedy("2024-05-01") if is_time else f"{mending.LEAVE}, or convert it"
    raise FileRefused(rule, place=where, value=shown(dtype), remedy=remedy)


def _reading(source: Source, read: Callable[[], Value]) -> Value:
    """A damaged file can make the reader panic, which is no Exception; both mean that the file isn't whole."""
    try:
        return read()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as fault:
        text = shown(fault).partition("\\n")[0]
        raise _refused(source, "a parquet file is whole", text, "write the file again") from fault


def _refused(source: Source, rule: str, value: str, remedy: str) -> FileRefused:
    return FileRefused(rule, place=source.name, value=value, remedy=remedy)
