"""Where quotes are in CSV, and what lies outside of them; on bytes, by numpy, many rows at once.

Rules
- RFC 4180: a field is quoted as a whole or not at all; a quote within it is written twice. So the
  parity of the quotes since a row's start says whether a byte is inside, and every quote stands
  beside a delimiter, a line break or a quote.
- Bytes are looked at in blocks that fit the cache: whole-chunk temporaries cost more in page
  faults than the work.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]
NEWLINE, RETURN, QUOTE = b'\n\r"'
BLOCK_BYTES = 1 << 17


class Marks(NamedTuple):
    """How many line breaks and delimiters lie outside of quotes."""

    breaks: int
    delimiters: int


class Lines(NamedTuple):
    """The lines of a chunk, line breaks within quotes left aside; arrays of one entry a line."""

    starts: Places
    stops: Places
    """After the line break."""
    blank: Mask
    delimiters: Places
    """How many of them, outside of quotes."""


def inside(data: Bytes) -> Mask:
    """Whether each byte lies in quotes; an opening quote does, a closing one doesn't. (n,) ->
    (n,)"""
    return np.bitwise_xor.accumulate((data == QUOTE).view(np.uint8)).view(np.bool_)


def count(data: Bytes, delimiter: int) -> Marks | None:
    """The marks of a chunk; None if a quote stands where none may, or the last one doesn't
    close."""
    breaks = delimiters = 0
    quoted = False
    for start in range(0, data.size, BLOCK_BYTES):
        block = data[start : start + BLOCK_BYTES]
        is_break, is_delimiter, is_quote = block == NEWLINE, block == delimiter, block == QUOTE
        if quoted or is_quote.any():
            around = data[max(start - 1, 0) : start + BLOCK_BYTES + 1]
            within = np.bitwise_xor.accumulate(is_quote.view(np.uint8)).view(np.bool_) ^ quoted
            if _odd(around, within, is_quote, delimiter, first=start == 0):
                return None
            is_break &= ~within
            is_delimiter &= ~within
            quoted = bool(within[-1])
        breaks += int(np.count_nonzero(is_break))
        delimiters += int(np.count_nonzero(is_delimiter))
    return None if quoted else Marks(breaks, delimiters)


def _odd(around: Bytes, within: Mask, is_quote: Mask, delimiter: int, *, first: bool) -> bool:
    """Whether a quote of a block opens behind, or closes before, anything but a mark; `around` is
    the block with the byte before it, unless it is the first, and the byte after it, if any."""
    mark = (around == delimiter) | (around == NEWLINE) | (around == QUOTE)
    size = within.size
    before = np.concatenate(([True], mark[: size - 1])) if first else mark[:size]
    mark |= around == RETURN
    after = mark[(0 if first else 1) + 1 :]
    if after.size < size:  # the end of the chunk is the end of a row
        after = np.concatenate((after, [True]))
    return bool((is_quote & np.where(within, ~before, ~after)).any())


def first_odd(data: Bytes, delimiter: int) -> int:
    """The place of the first quote that stands where none may; of the last quote if all are right
    but don't pair."""
    places = np.flatnonzero(data == QUOTE)
    opening = inside(data)[places]
    padded = np.concatenate(([NEWLINE], data, [NEWLINE]))
    before, after = padded[places], padded[places + 2]
    starts = (before == delimiter) | (before == NEWLINE) | (before == QUOTE)
    ends = (after == delimiter) | (after == NEWLINE) | (after == QUOTE) | (after == RETURN)
    wrong = np.flatnonzero(np.where(opening, ~starts, ~ends))
    return int(places[wrong[0] if wrong.size else -1])


def lines(data: Bytes, delimiter: int) -> Lines:
    """Every line outside of quotes. A line is blank when nothing but its line break (LF or CRLF)
    is there."""
    outside = ~inside(data)
    stops = np.flatnonzero((data == NEWLINE) & outside) + 1
    if data.size and (not stops.size or stops[-1] != data.size):
        stops = np.append(stops, data.size)
    starts = np.concatenate((np.zeros(min(1, stops.size), np.int64), stops[:-1]))
    lengths = stops - starts
    blank = (data[starts] == NEWLINE) & (lengths == 1)
    blank |= (lengths == 2) & (data[starts] == RETURN) & (data[stops - 1] == NEWLINE)
    places = np.flatnonzero((data == delimiter) & outside)
    delimiters = np.searchsorted(places, stops) - np.searchsorted(places, starts)
    return Lines(starts, stops, blank, delimiters)
