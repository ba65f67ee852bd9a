"""NPY and NPZ: arrays as numpy writes them, read a range of rows at a time.

Rules
- NPY: one two-dimensional array (rows, columns); its columns are numbers counted from 0.
- NPZ: arrays of the same length. A one-dimensional one is a column of its own name; a
  two-dimensional one named `x` with F columns is the columns x0 ... x<F-1>. So np.savez(file,
  x=images, y=digits) has the columns x0, x1, ..., y.
- Booleans, integers and floats of up to 8 bytes, any byte order, C or Fortran order; text (U) or
  UTF-8 bytes (S); times (M8), which are text in ISO 8601. Never objects: nothing is ever unpickled.
- Where a feature is text, all columns are given as they are, and the table's rules judge them.
- Files are read, not mapped: a file that shrinks meanwhile is an error then, and not a SIGBUS.
"""

from __future__ import annotations

import math
import sys
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from service.core.errors import FileRefused
from service.formats import mending
from service.formats.contract import Array, Chunk, Fields, Floats, Source, Table, Wanted
from service.formats.frames import pl
from service.formats.wording import listed, shown

MAGIC = b"\x93NUMPY"
HEADER_BYTES = 1 << 16
FINER = ("ns", "ps", "fs", "as")
"""Units of time that microseconds are rounded from, and always hold."""
BAD_HEADER = (
    ValueError,
    SyntaxError,
    TypeError,
    KeyError,
    OverflowError,
    RecursionError,
    MemoryError,
    tokenize.TokenError,
)


def inspect(source: Source, fields: Fields) -> Source:
    """Reads the header, unless the arrays are known already (those of an NPZ). Raises
    FileRefused."""
    if source.size == 0:
        raise refused(source, "a file holds rows", "an empty file", "drop files that hold rows")
    arrays = source.arrays
    if not arrays:
        arrays = (read_header(source, "", source.path, 0, source.size),)
        if arrays[0].columns is None:
            rule = "an NPY file holds an array of two dimensions, (rows, columns)"
            raise refused(source, rule, "one dimension", "save it as (rows, columns), or an NPZ")
    lengths = {array.name: array.rows for array in arrays}
    if len(set(lengths.values())) > 1:
        value = listed(f"{name}: {rows}" for name, rows in lengths.items())
        raise refused(source, "all arrays have the same length", value, "save arrays of one length")
    if not arrays[0].rows:
        raise refused(source, "a file holds rows", "no rows", "drop files that hold rows")
    width = sum(array.columns or 1 for array in arrays)
    if width > source.limits.max_columns:
        rule = f"a file has at most {source.limits.max_columns} columns"
        raise refused(source, rule, str(width), "split the file")
    row_bytes = sum(np.dtype(array.dtype).itemsize * (array.columns or 1) for array in arrays)
    if row_bytes > source.limits.max_row_bytes:
        rule = f"a row has at most {source.limits.max_row_bytes} bytes"
        raise refused(source, rule, str(row_bytes), "save shorter text, or leave arrays out")
    columns = tuple(name for array in arrays for name in _columns(array))
    if len(set(columns)) < width:
        value = listed(sorted(name for name, count in Counter(columns).items() if count > 1))
        raise refused(source, "each column has its own name", value, "rename the arrays")
    return replace(source, arrays=arrays, columns=columns, rows=arrays[0].rows)


def read_header(source: Source, name: str, path: str, offset: int, size: int) -> Array:
    """The array whose NPY bytes lie at [offset, offset + size) of the file at `path`. Raises
    FileRefused."""
    with open(path, "rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that Python 2 wrote
        file.seek(offset)
        try:
            shape, fortran, dtype = _parse_header(file)
        except BAD_HEADER as fault:
            rule, remedy = "an array has a header as numpy writes it", "save it again with numpy"
            raise refused(source, rule, shown(fault), remedy, name) from fault
        start = file.tell()
    if not _is_plain(dtype):
        rule = "an array holds numbers, text or times, never objects"
        remedy = 'save it as numbers, as text (astype(str)), or as times (astype("datetime64[us]"))'
        raise refused(source, rule, str(dtype), remedy, name)
    if len(shape) not in (1, 2) or min(shape) < 0:
        rule, remedy = "an array has one or two dimensions", "reshape it to (rows, columns)"
        raise refused(source, rule, str(shape), remedy, name)
    if math.prod(shape) * dtype.itemsize != offset + size - start:
        rule = f"an array of shape {shape} and dtype {dtype} has its bytes"
        value = f"{offset + size - start} bytes"
        raise refused(source, rule, value, "the file is torn: save it again", name)
    columns = shape[1] if len(shape) == 2 else None
    return Array(name, path, start, dtype.str, shape[0], columns, fortran)


def _is_plain(dtype: np.dtype[Any]) -> bool:
    """Whether values of this type are numbers of at most 64 bits, text, or times of a known unit."""
    if dtype.kind == "M":
        return np.datetime_data(dtype)[0] != "generic"
    return dtype.kind in "biufUS" and not (dtype.kind == "f" and dtype.itemsize > 8)


def _parse_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file, max_header_size=HEADER_BYTES)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file, max_header_size=HEADER_BYTES)
    raise ValueError(f"NPY version {version}, which is for structures")


def _columns(array: Array) -> Iterator[str]:
    if array.columns is None:
        yield array.name
    else:
        yield from (f"{array.name}{number}" for number in range(array.columns))


def table(source: Source, chunk: Chunk, wanted: Wanted) -> Table:
    """Reads the wanted columns of the chunk's rows. Raises FileRefused."""
    rows = chunk.stop - chunk.start
    places = {
        column: (array, number)
        for array in source.arrays
        for number, column in enumerate(_columns(array))
    }
    parts = {
        array.name: _read(source, array, chunk.start, rows)
        for array in {places[column][0] for column in wanted.columns}
    }

    def series(name: str) -> pl.Series:
        array, number = places[name]
        return _series(source, parts[array.name][:, number], name in wanted.texts)

    columns = {name: series(name) for name in wanted.others}
    kinds = {name: parts[places[name][0].name].dtype.kind for name in wanted.features}
    for name, kind in kinds.items():
        if kind == "M":
            rule, remedy = "a used column holds numbers or text", mending.remedy("2024-05-01")
            raise refused(source, rule, str(parts[places[name][0].name].dtype), remedy, name)
    x = None
    if {"U", "S"}.isdisjoint(kinds.values()):
        x = _matrix([places[name] for name in wanted.features], parts, rows)
    else:
        columns = {name: series(name) for name in wanted.columns}
    frame = pl.DataFrame(columns or None, height=rows)  # of {} polars makes 0 rows
    return Table(frame, np.arange(rows, dtype=np.int64), rows, x=x)


def _matrix(
    places: list[tuple[Array, int]], parts: Mapping[str, npt.NDArray[np.generic]], rows: int
) -> Floats:
    """The columns of numbers at these places, side by side."""
    x = np.empty((rows, len(places)))
    for first, last in _runs(places):
        array, number = places[first]
        x[:, first:last] = parts[array.name][:, number : number + last - first]
    return x


def _runs(places: list[tuple[Array, int]]) -> Iterator[tuple[int, int]]:
    """Ranges of features that are neighbours in one array, in the same order: each is copied at
    once."""
    first = 0
    for place in range(1, len(places) + 1):
        before = places[place - 1]
        if place == len(places) or places[place] != (before[0], before[1] + 1):
            yield first, place
            first = place


def _read(source: Source, array: Array, start: int, rows: int) -> npt.NDArray[np.generic]:
    """Rows [start, start + rows) of an array, as (rows, columns)."""
    dtype = np.dtype(array.dtype)
    width = 1 if array.columns is None else array.columns
    if width == 0 or dtype.itemsize == 0:
        return np.zeros((rows, width), dtype)
    with open(array.path, "rb", buffering=0) as file:
        if not array.fortran or width == 1:
            file.seek(array.offset + start * width * dtype.itemsize)
            part = np.fromfile(file, dtype, rows * width)
            whole = part.size == rows * width
            part = part.reshape(rows, width) if whole else part
        else:
            part = np.empty((rows, width), dtype, order="F")
            whole = all(_fill(file, array, start, part, column) for column in range(width))
    if not whole:
        rule = f"a file keeps its size of {source.size} bytes while it is read"
        raise refused(source, rule, "less", "rename files into the inbox when they are whole")
    return part


def _fill(
    file: BinaryIO, array: Array, start: int, part: npt.NDArray[np.generic], column: int
) -> bool:
    """Reads a column's rows; False if the file ends before."""
    file.seek(array.offset + (column * array.rows + start) * part.itemsize)
    cells = np.fromfile(file, part.dtype, part.shape[0])
    if cells.size == part.shape[0]:
        part[:, column] = cells
        return True
    return False


def _series(source: Source, cells: npt.NDArray[np.generic], text: bool) -> pl.Series:
    """A column as Float64 or String; a time as Parquet's are."""
    kind = cells.dtype.kind
    if kind == "M":
        return pl.Series(_times(source, cells)).dt.to_string("iso:strict")
    if kind == "S":
        try:
            return pl.Series([cell.decode() for cell in cells.tolist()], dtype=pl.String)
        except UnicodeDecodeError as fault:
            raise refused(source, "text is valid UTF-8", shown(fault), "save it as text") from fault
    if kind == "U":
        return pl.Series(_texts(source, cells), dtype=pl.String)
    if not text:
        return pl.Series(np.ascontiguousarray(cells, np.float64))
    native = np.ascontiguousarray(cells, cells.dtype.newbyteorder("="))
    return pl.Series(native.view(np.uint8) != 0 if kind == "b" else native).cast(pl.String)


def _times(source: Source, cells: npt.NDArray[np.generic]) -> npt.NDArray[np.datetime64]:
    """Times in a unit that polars knows: days and nanoseconds as they are, others in microseconds."""
    dtype: np.dtype[Any] = cells.dtype
    unit, count = np.datetime_data(dtype)
    times = cells.astype("M8[us]")
    lost = (times.astype(cells.dtype) != cells) & ~np.isnat(cells)
    if lost.any() and unit not in FINER:  # numpy lets them wrap
        value = f"{cells[lost][0].astype(np.int64)} in {cells.dtype}"
        rule, remedy = "a time lies within 292,000 years of 1970", "correct it, or save NaT"
        raise refused(source, rule, value, remedy)
    return cells.astype(f"M8[{unit}]") if count == 1 and unit in ("D", "ns") else times


def _texts(source: Source, cells: npt.NDArray[np.generic]) -> list[str]:
    rule, remedy = "text is valid Unicode", "save it again"
    native = np.ascontiguousarray(cells, cells.dtype.newbyteorder("="))
    points = native.view(np.uint32)
    if points.size and (largest := int(points.max())) > sys.maxunicode:
        # Neither numpy nor Python looks: a string would come of it that is none, and no UTF-8 of that.
        raise refused(source, rule, f"the code point {largest:#x}", remedy)
    try:
        texts: list[str] = native.tolist()
        "".join(texts).encode()
    except ValueError as fault:  # half of a pair
        raise refused(source, rule, shown(fault), remedy) from fault
    return texts


def refused(source: Source, rule: str, value: str, remedy: str, name: str = "") -> FileRefused:
    place = f"{source.name}: array {shown(name)}" if name else source.name
    return FileRefused(rule, place=place, value=shown(value), remedy=remedy)
