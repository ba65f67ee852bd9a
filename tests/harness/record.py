"""What the shim recorded of a life: every change of a file, every flush, and what was said to the world, in order."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

_HEAD = struct.Struct("<5Q")


class What(IntEnum):
    """What happened, as shim.c numbers it."""

    CREATE = 1
    WRITE = 2
    SIZE = 3
    SYNC = 4
    SYNC_FAILED = 5
    RENAME = 6
    LINK = 7
    SYMLINK = 8
    UNLINK = 9
    MKDIR = 10
    MARK = 11


@dataclass(frozen=True, slots=True)
class Event:
    """`one` and `two` are paths (of a symlink: its target and its path); `number` is an offset or a size."""

    what: What
    one: bytes
    two: bytes
    number: int
    data: bytes

    def __str__(self) -> str:
        two = f" {self.two!r}" if self.two else ""
        return f"{self.what.name} {self.one!r}{two} {self.number} [{len(self.data)}]"


def read(path: Path) -> list[Event]:
    """All events of a record."""
    return list(_events(path.read_bytes()))


def _events(record: bytes) -> Iterator[Event]:
    at = 0

    def next_bytes(length: int) -> bytes:
        nonlocal at
        at += length
        return record[at - length : at]

    while at < len(record):
        what, one, two, number, size = _HEAD.unpack(next_bytes(_HEAD.size))
        yield Event(What(what), next_bytes(one), next_bytes(two), number, next_bytes(size))
