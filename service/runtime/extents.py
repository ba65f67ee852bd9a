"""Ranges of free bytes in a file: sorted, disjoint, neighbours merged, searched first-fit.

Rules: pure bookkeeping, no file. Offsets and lengths are bytes. First-fit keeps what is in use at
low offsets, so that the same pages serve again; the ends of the ranges that lie highest go first.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator


class Extents:
    """A set of bytes, as few ranges as can be."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        self.total = 0

    def add(self, start: int, length: int) -> None:
        """Puts a range in that shares no byte with those inside."""
        stop = start + length
        at = bisect_left(self._starts, start)
        first, last = at, at
        if at > 0 and self._stops[at - 1] == start:
            first, start = at - 1, self._starts[at - 1]
        if at < len(self._starts) and self._starts[at] == stop:
            last, stop = at + 1, self._stops[at]
        self._starts[first:last] = [start]
        self._stops[first:last] = [stop]
        self.total += length

    def take_first(self, length: int) -> int | None:
        """Cuts `length` bytes off the front of the first range that has them; None if none has."""
        for at, (start, stop) in enumerate(zip(self._starts, self._stops, strict=True)):
            if stop - start >= length:
                self._replace(at, start + length, stop)
                return start
        return None

    def take_last(self, most: int) -> tuple[int, int] | None:
        """Cuts up to `most` bytes off the end of the last range: (start, length), None if empty."""
        if not self._starts or most <= 0:
            return None
        start, stop = self._starts[-1], self._stops[-1]
        length = min(most, stop - start)
        self._replace(len(self._starts) - 1, start, stop - length)
        return stop - length, length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yields (start, length) in order."""
        return ((a, b - a) for a, b in zip(self._starts, self._stops, strict=True))

    def _replace(self, at: int, start: int, stop: int) -> None:
        self.total -= self._stops[at] - self._starts[at] - (stop - start)
        kept = [(start, stop)] if stop > start else []
        self._starts[at : at + 1] = [a for a, _ in kept]
        self._stops[at : at + 1] = [b for _, b in kept]
