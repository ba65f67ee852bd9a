"""How many rows each row group of a Parquet file has: a chunk that keeps to them has no page read twice.

Rules
- It is a hint, and nothing depends on it but time: a footer that can't be read, that is long, or whose groups don't add up says nothing.
- The footer is Thrift's compact protocol; all but the counts is skipped. Sources: apache/parquet-format, README and parquet.thrift;
  apache/thrift, doc/specs/thrift-compact-protocol.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

MAGIC = b"PAR1"
TAIL_BYTES = 4 + len(MAGIC)  # the footer's length, and the mark
MOST_BYTES = 1 << 20
"""A longer footer, of thousands of columns times groups, would take longer to read than it saves."""
DEEPEST = 16  # structs within structs; the format has five

_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
_INTEGERS = (4, 5, 6)
_ROW_GROUPS, _NUM_ROWS = 4, 3  # the fields of FileMetaData and of RowGroup


def group_rows(file: BinaryIO, size: int) -> tuple[int, ...]:
    """The rows of each group of a file of `size` bytes, in order; none where its footer doesn't say."""
    file.seek(max(0, size - TAIL_BYTES))
    tail = file.read(TAIL_BYTES)
    length = int.from_bytes(tail[:4], "little")
    if len(tail) < TAIL_BYTES or length > min(MOST_BYTES, size - TAIL_BYTES):
        return ()
    file.seek(size - TAIL_BYTES - length)
    try:
        found = tuple(_groups(_Thrift(file.read(length))))
    except (IndexError, ValueError):
        return ()
    return found if min(found, default=0) >= 0 else ()


def _groups(thrift: _Thrift) -> Iterator[int]:
    for number, kind in thrift.fields():
        if number == _ROW_GROUPS and kind == _LIST:
            count, of = thrift.list()
            for _ in range(count if of == _STRUCT else 0):
                yield _rows(thrift)
            return
        thrift.skip(kind)


def _rows(thrift: _Thrift) -> int:
    found = -1
    for number, kind in thrift.fields():
        if number == _NUM_ROWS and kind in _INTEGERS:
            found = thrift.integer()
        else:
            thrift.skip(kind)
    return found


class _Thrift:
    """Reads values one behind the other. Raises IndexError behind the end, ValueError for what is none."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    def fields(self) -> Iterator[tuple[int, int]]:
        """The number and the type of each field of a struct; whoever is told takes or skips its value."""
        number = 0
        while head := self._byte():
            step = head >> 4
            number = number + step if step else self.integer()
            yield number, head & 15

    def list(self) -> tuple[int, int]:
        """How many items a list or set has, and their type."""
        head = self._byte()
        count = head >> 4
        return (self._unsigned() if count == 15 else count), head & 15

    def integer(self) -> int:
        """An integer of any width."""
        value = self._unsigned()
        return value >> 1 ^ -(value & 1)

    def skip(self, kind: int, depth: int = 0, *, is_item: bool = False) -> None:
        """Passes over a value; a boolean is a byte where it is an item, and nothing where it is a field."""
        # A list may say that it has any number of items.
        if depth > DEEPEST or self._place >= len(self._data):
            raise ValueError("thrift: structs are flat, and end")
        if kind in (_TRUE, _FALSE):
            self._place += is_item
        elif kind == _BYTE:
            self._place += 1
        elif kind in _INTEGERS:
            self._unsigned()
        elif kind == _DOUBLE:
            self._place += 8
        elif kind == _BINARY:
            length = self._unsigned()
            self._place += length
        elif kind in (_LIST, _SET):
            count, of = self.list()
            for _ in range(count):
                self.skip(of, depth + 1, is_item=True)
        elif kind == _STRUCT:
            for _, of in self.fields():
                self.skip(of, depth + 1)
        else:  # a map: the format has none
            raise ValueError(f"thrift: a type that Parquet has, got {kind}")

    def _byte(self) -> int:
        self._place += 1
        return self._data[self._place - 1]

    def _unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("thrift: an integer of 64 bits")
