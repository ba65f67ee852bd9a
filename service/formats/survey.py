"""Reads a file once from end to end: cuts it into chunks, and takes its digest on the way.

Rules
- It runs in a thread of the daemon, a step at a time, so a step holds the interpreter only for
  searches that run in C.
- Text is cut after a line break that no quotes enclose; a chunk is at most `chunk_bytes` long,
  unless one row is longer.
- A row longer than the limit, or quotes that never close, refuse the file.
- The bytes are counted: a file that is shorter than it was when it was prepared is refused.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Generator, Iterable, Iterator
from typing import BinaryIO

import numpy as np

from service.core.errors import FileRefused
from service.formats import quoting
from service.formats.contract import Chunk, Source
from service.formats.text import UNCLOSED, lines_before

PIECE_BYTES = 1 << 20
FIRST_BYTES = 1 << 16
"""A file's first chunk of text, if nothing else is asked for, and each is twice as long as the one before, up to `chunk_bytes`:
learning begins sooner."""
BLOCK_RATIO = 4
"""Parquet and arrays: a chunk is as many rows as give 4 times `chunk_bytes` of float64, about what
text of that size gives; fewer where an array's text is wider."""


class Survey:
    """Iterate for the chunks; after the last one `sha256` is the digest of the file as it was
    dropped (hex).

    The file is opened at the first step and closed at the end (or by `close`, or with the object).
    Raises FileRefused from a step; the survey is over then. An opening that failed may be tried again.
    """

    def __init__(self, source: Source, chunk_bytes: int, first_bytes: int = FIRST_BYTES) -> None:
        self.sha256: str | None = None
        self._source = source
        self._chunk_bytes = max(1, chunk_bytes)
        self._first_bytes = first_bytes
        self._was_opened = False
        self._is_over = False
        self._turn = threading.Lock()  # who has it may touch the generator
        self._chunks = self._run()

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        try:
            with self._turn:
                if not self._was_opened:
                    self._chunks = self._run()  # one that could not open its file has ended
                return next(self._chunks)
        finally:
            if self._is_over:
                self._end()

    def close(self) -> None:
        """Ends the survey early and closes the file; the digest stays unknown. While another thread is at a step, that step closes
        it at its end."""
        self._is_over = self._was_opened = True  # no other begins
        self._end()

    def _end(self) -> None:
        """Closes the generator, unless it is at a step: CPython 3.11 may crash when one is closed that runs, for it looks at the
        instruction behind the one that runs, which may be a counter."""
        if self._turn.acquire(blocking=False):
            try:
                self._chunks.close()
            finally:
                self._turn.release()

    def _run(self) -> Generator[Chunk]:
        with open(self._source.path, "rb", buffering=0) as file:
            self._was_opened = True
            reader = _Reader(self._source, file)
            if self._source.is_text:
                yield from _text_chunks(self._source, reader, self._chunk_bytes, self._first_bytes)
            else:
                yield from self._table_chunks(reader)
            self.sha256 = reader.finish()

    def _table_chunks(self, reader: _Reader) -> Iterator[Chunk]:
        """The rows are known beforehand; the digest keeps pace with the chunks."""
        rows = self._source.rows or 0
        held = sum(np.dtype(a.dtype).itemsize * (a.columns or 1) for a in self._source.arrays)
        row_bytes = max(8 * len(self._source.columns), held)
        step = max(1, self._chunk_bytes * BLOCK_RATIO // row_bytes)
        groups = self._source.groups if sum(self._source.groups) == rows else (rows,)
        for index, (start, stop) in enumerate(_pieces(groups, step)):
            reader.skim(self._source.size * stop // rows)
            yield Chunk(index, start, stop)


def _pieces(groups: Iterable[int], step: int) -> Iterator[tuple[int, int]]:
    """Ranges of about `step` rows that keep to the groups as far as these allow it: small ones together, large ones in equal parts."""
    start = stop = 0
    for rows in groups:
        if stop > start and stop - start + rows > step:
            yield start, stop
            start = stop
        stop += rows
        parts = -(-(stop - start) // (step + step // 2))
        for part in range(parts if parts > 1 else 0, 0, -1):
            end = stop - (stop - start) * (part - 1) // part
            yield start, end
            start = end
    if stop > start:
        yield start, stop


class _Reader:
    """Reads in order, and takes the digest if nobody has yet."""

    def __init__(self, source: Source, file: BinaryIO) -> None:
        self.source = source
        self.file = file
        self.position = 0
        self.digest = hashlib.sha256() if source.sha256 is None else None

    def fill(self, room: memoryview) -> int:
        """Fills `room`, as far as bytes are left of those that the source had when it was prepared; says how many came."""
        size = min(len(room), self.source.size - self.position)
        filled = 0
        while filled < size:
            piece = room[filled : min(filled + PIECE_BYTES, size)]
            count = self.file.readinto(piece)  # type: ignore[attr-defined]
            if not count:
                raise FileRefused(
                    f"a file keeps its size of {self.source.size} bytes while it is read",
                    place=self.source.name,
                    value=str(self.position),
                    remedy="rename files into the inbox when they are whole",
                )
            if self.digest is not None:
                self.digest.update(piece[:count])
            filled += count
            self.position += count
        return filled

    def skim(self, position: int) -> None:
        """Takes the bytes up to `position` into the digest."""
        left = min(position, self.source.size) - self.position
        if self.digest is None or left <= 0:
            return
        room = memoryview(bytearray(min(PIECE_BYTES, left)))
        while left > 0:
            left -= self.fill(room[:left])

    def finish(self) -> str:
        self.skim(self.source.size)
        return self.source.sha256 if self.digest is None else self.digest.hexdigest()  # type: ignore[return-value]


class _Window:
    """The bytes from a row's start on, in one piece of memory for all chunks: those behind a cut move to its front."""

    def __init__(self, reader: _Reader) -> None:
        self.bytes = bytearray()
        self.length = 0
        self._reader = reader

    def grow(self, size: int) -> None:
        """Reads on until it has `size` bytes, or all that are left."""
        left = self._reader.source.size - self._reader.position
        more = min(size - self.length, left)
        if more <= 0:
            return
        self.bytes += bytes(max(0, self.length + more - len(self.bytes)))
        with memoryview(self.bytes) as whole:
            self.length += self._reader.fill(whole[self.length : self.length + more])

    def drop(self, count: int) -> None:
        """Goes on behind its first `count` bytes."""
        self.bytes[: self.length - count] = self.bytes[count : self.length]
        self.length -= count


def _text_chunks(
    source: Source, reader: _Reader, chunk_bytes: int, first_bytes: int
) -> Iterator[Chunk]:
    """The window starts at a row's start and grows until a row ends in it, up to the longest row
    allowed."""
    longest = source.limits.max_row_bytes
    reader.fill(memoryview(bytearray(source.data_start)))
    start, index, window = source.data_start, 0, _Window(reader)
    while start < source.size:
        size = min(first_bytes << min(index, 32), chunk_bytes, longest)
        window.grow(size)
        while not (cut := _cut(source, reader, window, size)):
            if reader.position == source.size:
                cut = _final(source, window, start)
                break
            if window.length >= longest:
                raise _endless(source, window, start)
            size = min(2 * size, longest)
            window.grow(size)
        yield Chunk(index, start, start + cut)
        window.drop(cut)
        start, index = start + cut, index + 1


def _quote(source: Source) -> bytes:
    """What encloses line breaks that end no row; empty where nothing does."""
    return source.dialect.quotes if source.format == "csv" else b""


def last_row_end(window: bytes | bytearray, quote: bytes, length: int) -> int:
    """The position after the last line break in the first `length` bytes of `window` (which starts at a row's start) outside
    of quotes; 0: none.

    RFC 4180: a break is outside when the number of quotes before it is even; going back from the
    end, where it is odd every break up to the quote before is inside, too.
    """
    end = window.rfind(b"\n", 0, length)
    if not quote or end < 0 or window.find(quote, 0, end) < 0:  # to look is faster than to count
        return end + 1
    before = window.count(quote, 0, end)
    while end >= 0 and before % 2:
        opening = window.rfind(quote, 0, end)
        before -= 1
        end = window.rfind(b"\n", 0, opening)
        before -= window.count(quote, max(end, 0), opening)
    return end + 1


def _final(source: Source, window: _Window, start: int) -> int:
    """The rest of the file: one row whose line break is missing."""
    if (quote := _quote(source)) and window.bytes.count(quote, 0, window.length) % 2:
        raise _unclosed(source, window, start)
    return window.length


def _cut(source: Source, reader: _Reader, window: _Window, size: int) -> int:
    """Where the chunk ends: behind the last row that is whole in the window; 0: nowhere. The file's last row may lack its line
    break: it goes with those before it, for a chunk of its own costs a small file as much as all its other rows."""
    cut = last_row_end(window.bytes, _quote(source), window.length)
    if cut == window.length or reader.position < source.size or (cut and window.length > size):
        return cut
    return window.length if _is_sound(source, bytes(window.bytes[cut : window.length])) else cut


def _is_sound(source: Source, row: bytes) -> bool:
    """Whether a row has no fault of structure: one would be told before bad rows that stand before it."""
    try:
        row.decode()
    except UnicodeDecodeError:
        return False
    is_quoted = bool(quote := _quote(source)) and quote in row
    quotes_fit = not is_quoted or quoting.count(row, source.dialect) is not None
    return quotes_fit and b"\0" not in row


def _endless(source: Source, window: _Window, start: int) -> FileRefused:
    quote = _quote(source)
    is_open = quote and window.bytes.count(quote, 0, window.length) % 2
    return FileRefused(
        f"a row has at most {source.limits.max_row_bytes} bytes",
        place=f"{source.name}:{lines_before(source, start) + 1}",
        value=f"more than {window.length}{', the last of them in quotes' if is_open else ''}",
        remedy=f"shorten the row's fields; if one isn't meant to be so long, {UNCLOSED}"
        if is_open
        else "check the line breaks of the file",
    )


def _unclosed(source: Source, window: _Window, start: int) -> FileRefused:
    return FileRefused(
        "quotes that open also close",
        place=f"{source.name}:{lines_before(source, start) + 1}",
        value="a quote without an end",
        remedy=UNCLOSED,
    )
