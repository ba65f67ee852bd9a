"""Text of sparse rows -> arrays, compiled: svmlight's lines, and Vowpal Wabbit's.

Rules
- A scan reads bytes from row to row and never looks back; rows that it can't read are left out, with the
  first reasons beside them.
- Numbers are read to 32 bits, where they are values of features; a label's or an importance's that can't
  be read exactly here is read again from its text by whoever called.
- A row's slots grow and differ: those of hashed names are put in order, and values that meet in a slot are
  added.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
from __future__ import annotations

from typing import Any, NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt

from kernels.loops import FLAGS, checksum
from service.formats import cells, hashing
from service.formats.cells import in_order
from service.formats.contract import MOST_NOTES, Integers
from service.formats.hashing import murmur, name_hash

NEWLINE, TAB, RETURN, SPACE, HASH, QUOTE = b"\n\t\r #'"
PLUS, MINUS, POINT, COLON, BAR, ZERO, NINE = b"+-.:|09"
TEXT, EXACT, ROUNDED = 0, 1, 2
"""What a number's text is: none; one that is read to the last bit; one that isn't."""

(
    NO_LABEL, NO_PAIR, NO_INDEX, BEYOND, NOT_GROWING, NO_NUMBER, TOO_LARGE,
    NO_BAR, TOO_MANY, NO_IMPORTANCE, HAS_BASE,
) = range(11)  # fmt: skip
"""What is wrong with a row."""

parts = nb.njit(**FLAGS)
POWERS = np.array([10.0**e for e in range(309)])


class Scanned(NamedTuple):
    """What a scan fills, with room for all rows and entries; positions are bytes of the text.

    `starts` (n + 1,) int64, `slots` (m,) uint32, `values` (m,) float32 are sparse rows; `row` (n,) int64 the
    rows' numbers among all. `spans` (n, 4) int64: where the label begins and ends, and what the row is called
    (svmlight's qid, Vowpal Wabbit's tag); an absent one is empty. `numbers` (n, 2) float64: the label and the
    importance; `kinds` (n, 2) int8: what their texts are. `faults` (100, 4) int64: row, reason, begin and
    end of the text that is wrong. `words` (2, 4) is scratch.
    """

    starts: Integers
    slots: npt.NDArray[np.uint32]
    values: npt.NDArray[np.float32]
    row: Integers
    spans: Integers
    numbers: npt.NDArray[np.float64]
    kinds: npt.NDArray[np.int8]
    faults: Integers
    words: Integers


@parts
def _is_blank(byte):
    return byte in (SPACE, TAB, RETURN)


@parts
def _is_digit(byte):
    return ZERO <= byte <= NINE


@parts
def _number(data, start, stop):
    """The number that data[start:stop] is, and what its text is: sign, digits, point, exponent."""
    i, digits, shift, mantissa = start, 0, 0, np.uint64(0)
    negative = i < stop and data[i] == MINUS
    if i < stop and (data[i] == MINUS or data[i] == PLUS):
        i += 1
    behind_point = False
    while i < stop:
        if data[i] == POINT and not behind_point:
            behind_point = True
        elif _is_digit(data[i]):
            if mantissa < np.uint64(10**18):
                mantissa = mantissa * np.uint64(10) + np.uint64(data[i] - ZERO)
                shift -= behind_point
            else:
                shift += not behind_point
                mantissa |= np.uint64(1)  # what is cut off doesn't vanish: never taken for exact
            digits += 1
        else:
            break
        i += 1
    if digits == 0:
        return 0.0, TEXT
    if i < stop:
        if data[i] != 101 and data[i] != 69:  # e, E
            return 0.0, TEXT
        i += 1
        sign = -1 if i < stop and data[i] == MINUS else 1
        if i < stop and (data[i] == MINUS or data[i] == PLUS):
            i += 1
        if i == stop:
            return 0.0, TEXT
        exponent = 0
        while i < stop:
            if not _is_digit(data[i]):
                return 0.0, TEXT
            exponent = min(exponent * 10 + data[i] - ZERO, 100000)
            i += 1
        shift += sign * exponent
    value = np.float64(mantissa)
    exact = mantissa < np.uint64(1 << 53) and -22 <= shift <= 22
    if shift > 0:
        value *= POWERS[min(shift, 308)]
        if shift > 308:
            value *= POWERS[308]  # infinity, or 0 as it was
    elif shift < 0:
        value /= POWERS[min(-shift, 308)]
        if shift < -308:
            value /= POWERS[min(-shift - 308, 308)]
    return (-value if negative else value), (EXACT if exact else ROUNDED)


@parts
def _word_end(data, i, stop):
    """Where the word that begins at i ends: at a blank, or at `stop`."""
    while i < stop and not _is_blank(data[i]):
        i += 1
    return i


@parts
def _skip_blank(data, i, stop):
    while i < stop and _is_blank(data[i]):
        i += 1
    return i


@parts
def _line_end(data, i):
    while i < len(data) and data[i] != NEWLINE:
        i += 1
    return i


@parts
def _is_qid(data, i, stop):
    """Whether "qid:" begins here."""
    is_word = stop - i > 4 and data[i] == 113 and data[i + 1] == 105 and data[i + 2] == 100
    return is_word and data[i + 3] == COLON


@parts
def _svmlight_row(data, i, stop, bits, out, n, entry):
    """One row from its first byte: (-1, entries so far, 0), or (reason, begin, end)."""
    end = _word_end(data, i, stop)
    for j in range(i, end):
        if data[j] == COLON:
            return NO_LABEL, i, end
    out.spans[n, 0], out.spans[n, 1], out.spans[n, 2], out.spans[n, 3] = i, end, end, end
    out.numbers[n, 0], out.kinds[n, 0] = _number(data, i, end)
    last = -1
    i = _skip_blank(data, end, stop)
    if _is_qid(data, i, stop):
        end = _word_end(data, i, stop)
        out.spans[n, 2], out.spans[n, 3] = i + 4, end
        i = _skip_blank(data, end, stop)
    while i < stop:
        index, j = 0, i
        while j < stop and _is_digit(data[j]):
            index = min(index * 10 + data[j] - ZERO, 1 << 40)
            j += 1
        is_digit = j + 2 < stop and _is_digit(data[j + 1]) and _is_blank(data[j + 2])  # most are
        end = j + 2 if is_digit and data[j] == COLON else _word_end(data, j, stop)
        if j == end or data[j] != COLON:
            k = i
            while k < end and data[k] != COLON:
                k += 1
            return (NO_PAIR if k == end else NO_INDEX), i, end
        if j == i:
            return NO_INDEX, i, end
        if index >= 1 << bits:
            return BEYOND, i, end
        if index <= last:
            return NOT_GROWING, i, end
        last = index
        if is_digit:
            value, kind = np.float64(data[j + 1] - ZERO), EXACT
        else:
            value, kind = _number(data, j + 1, end)
        if kind == TEXT:
            return NO_NUMBER, i, end
        small = np.float32(value)
        if not np.isfinite(small):
            return TOO_LARGE, i, end
        if small != 0.0:
            out.slots[entry], out.values[entry] = index, small
            entry += 1
        i = _skip_blank(data, end, stop)
    return -1, entry, 0


@parts
def _vw_value(data, i, end):
    """The value behind a colon: (value, kind); an empty one is 1."""
    if i == end:
        return 1.0, EXACT
    return _number(data, i, end)


@parts
def _is_word_value(data, i, end):
    """Whether a value is a word, which is hashed: it begins as no number does, and is no NaN or infinity."""
    first = data[i]
    if _is_digit(first) or first in (PLUS, MINUS, POINT):
        return False
    if end - i >= 3:
        a, b, c = data[i] | 32, data[i + 1] | 32, data[i + 2] | 32
        if (a == 110 and b == 97 and c == 110) or (a == 105 and b == 110 and c == 102):
            return False
    return True


@parts
def _vw_head(data, i, bar, out, n):
    """What stands before the first bar: label, importance, tag. As `_svmlight_row`."""
    begins, ends, words = out.words[0], out.words[1], 0
    i = _skip_blank(data, i, bar)
    while i < bar:
        end = _word_end(data, i, bar)
        if words == 4:
            return TOO_MANY, i, end
        begins[words], ends[words] = i, end
        words += 1
        i = _skip_blank(data, end, bar)
    spans = out.spans[n]
    spans[0], spans[1], spans[2], spans[3] = bar, bar, bar, bar
    if words and (ends[words - 1] == bar or data[begins[words - 1]] == QUOTE):
        words -= 1
        spans[2] = begins[words] + (data[begins[words]] == QUOTE)
        spans[3] = ends[words]
    if words == 4:
        return TOO_MANY, begins[3], ends[3]
    out.numbers[n, 0], out.kinds[n, 0] = 0.0, TEXT
    out.numbers[n, 1], out.kinds[n, 1] = 1.0, EXACT
    if words:
        spans[0], spans[1] = begins[0], ends[0]
        out.numbers[n, 0], out.kinds[n, 0] = _number(data, begins[0], ends[0])
    if words > 1:
        out.numbers[n, 1], out.kinds[n, 1] = _number(data, begins[1], ends[1])
        if out.kinds[n, 1] == TEXT or not out.numbers[n, 1] >= 0.0 or np.isinf(out.numbers[n, 1]):
            return NO_IMPORTANCE, begins[1], ends[1]
    if words > 2:
        base, kind = _number(data, begins[2], ends[2])
        if kind == TEXT or base != 0.0:
            return HAS_BASE, begins[2], ends[2]
    return -1, 0, 0


@parts
def _vw_row(data, i, stop, bits, out, n, entry):
    """One row from its first byte, as `_svmlight_row`; its slots as they come."""
    bar = i
    while bar < stop and data[bar] != BAR:
        bar += 1
    if bar == stop:
        return NO_BAR, i, min(stop, i + 80)
    reason, begin, end = _vw_head(data, i, bar, out, n)
    if reason >= 0:
        return reason, begin, end
    mask = np.uint64((1 << bits) - 1)
    i = bar
    seed, factor, nameless = np.uint64(0), 1.0, np.uint64(0)
    while i < stop:
        opens = data[i] == BAR
        i += opens
        end = i
        while end < stop and not _is_blank(data[end]) and data[end] != BAR:
            end += 1
        colon = i
        while colon < end and data[colon] != COLON:
            colon += 1
        has_value = colon < end
        value, kind = _vw_value(data, colon + 1, end) if has_value else (1.0, EXACT)
        is_word = kind == TEXT and not opens and _is_word_value(data, colon + 1, end)
        if kind == TEXT and not is_word:
            return NO_NUMBER, i, end
        if opens:
            seed, nameless, factor = np.uint64(0), np.uint64(0), value
            if colon > i:
                seed = name_hash(data, i, colon, np.uint64(0))
        elif end > i:
            if colon == i:
                slot = seed + nameless
                nameless += np.uint64(1)
            else:
                slot = name_hash(data, i, colon, seed)
            if is_word:
                slot, value = murmur(data, colon + 1, end, slot), 1.0
            small = np.float32(value * factor)
            if not np.isfinite(small):
                return TOO_LARGE, i, end
            if small != 0.0:
                out.slots[entry], out.values[entry] = np.uint32(slot & mask), small
                entry += 1
        i = _skip_blank(data, end, stop)
    return -1, entry, 0


@parts
def _scan(data, bits, is_vw, out):
    """Fills `out`; how many rows are good, how many there are, and how many reasons are described."""
    n, seen, entry, faults, i = 0, 0, 0, 0, 0
    out.starts[0] = 0
    while i < len(data):
        stop = i
        while stop < len(data) and data[stop] != NEWLINE and (is_vw or data[stop] != HASH):
            stop += 1
        line_end = _line_end(data, stop)
        first = _skip_blank(data, i, stop)
        i = line_end + 1
        if first == stop:
            continue
        if is_vw:
            reason, begin, end = _vw_row(data, first, stop, bits, out, n, entry)
        else:
            reason, begin, end = _svmlight_row(data, first, stop, bits, out, n, entry)
        if reason < 0 and is_vw:
            begin = in_order(out.slots, out.values, entry, begin)
            if begin < 0:
                reason, begin, end = TOO_LARGE, first, stop
        if reason < 0:
            entry = begin
            out.row[n] = seen
            n += 1
            out.starts[n] = entry
        elif faults < len(out.faults):
            fault = out.faults[faults]
            fault[0], fault[1], fault[2], fault[3] = seen, reason, begin, end
            faults += 1
        seen += 1
    return n, seen, faults


def _entry(sources: int) -> Any:
    @nb.njit(cache=True, **FLAGS)
    def run(data, bits, is_vw, out):
        _ = sources
        return _scan(data, bits, is_vw, out)

    return run


_run = _entry(checksum(hashing, cells))


def scan(data: bytes, bits: int, *, is_vw: bool) -> tuple[Scanned, int]:
    """The good rows of a text, and how many rows there are in all."""
    bytes_ = np.frombuffer(data, np.uint8)
    rows = int(np.count_nonzero(bytes_ == NEWLINE)) + 1
    if is_vw:  # an entry follows a blank, and is no shorter than a byte
        separators = np.count_nonzero(
            (bytes_ == SPACE) | (bytes_ == TAB) | (bytes_ == BAR) | (bytes_ == RETURN)
        )
    else:
        separators = np.count_nonzero(bytes_ == COLON)
    entries = int(separators)
    out = Scanned(
        np.empty(rows + 1, np.int64),
        np.empty(entries, np.uint32),
        np.empty(entries, np.float32),
        np.empty(rows, np.int64),
        np.empty((rows, 4), np.int64),
        np.ones((rows, 2)),
        np.ones((rows, 2), np.int8),
        np.empty((MOST_NOTES, 4), np.int64),
        np.empty((2, 4), np.int64),
    )
    n, seen, faults = _run(bytes_, bits, is_vw, out)
    starts = out.starts[: n + 1]
    found = Scanned(
        starts,
        out.slots[: starts[-1]],
        out.values[: starts[-1]],
        out.row[:n],
        out.spans[:n],
        out.numbers[:n],
        out.kinds[:n],
        out.faults[:faults],
        out.words,
    )
    return found, seen
