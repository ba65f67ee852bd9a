"""Rows of delimited numbers -> a matrix, compiled: the shortest way for a CSV chunk in which nothing is odd.

Rules
- A cell that is wanted is a number in digits, with blanks around it or not, or nothing; one that isn't wanted is anything without
  quotes. Where the delimiter is the decimal comma, no number without quotes has a fraction; where it is a blank, none is around a cell.
- Every row has all its cells, delimiters behind them or not, ended by LF or CRLF, and not all of them are empty; blank lines are no rows.
- A text ends with a line break, so that nobody need ask at each byte whether it has ended.
- Where anything else stands, nothing is said about the chunk: another reader looks at it from its beginning. What is read here
  is what that one would have read, to the bit.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba as nb
import numpy as np

from kernels.loops import FLAGS, checksum
from service.formats import nearest
from service.formats.contract import Dialect, Floats

NEWLINE, TAB, RETURN, SPACE = b"\n\t\r "
PLUS, MINUS, ZERO, SMALL_E, LARGE_E = b"+-0eE"
NO_MARK = 0  # no byte of a text

BEST_DIGITS = nearest.MOST_DIGITS - 1
"""So many are read without looking how large their number grows."""
MOST_EXPONENT = 10_000

parts = nb.njit(**FLAGS)
inlined = nb.njit(forceinline=True, **FLAGS)


@inlined
def _digits(data, i, number):
    """What the digits from i on make of a number, and where they end; beyond 64 bits, anything."""
    digit = data[i] - np.uint8(ZERO)
    while digit <= 9:
        number = number * np.uint64(10) + np.uint64(digit)
        i += 1
        digit = data[i] - np.uint8(ZERO)
    return number, i


@parts
def _exponent(data, i):
    """The exponent that begins behind an e, and where it ends: at i where none is there."""
    begin = i
    negative = data[i] == MINUS
    if negative or data[i] == PLUS:
        i += 1
    first, exponent = i, np.int64(0)
    while data[i] - np.uint8(ZERO) <= 9:
        if exponent < MOST_EXPONENT:
            exponent = exponent * 10 + np.int64(data[i]) - ZERO
        i += 1
    return (-exponent if negative else exponent), (i if i > first else begin)


@parts
def _long(data, i, point, exponent):
    """The value of a mantissa of many digits that begins at i; `exponent` is what stands behind it."""
    number, cut, behind_point = np.uint64(0), False, False
    most = np.uint64(10 ** (nearest.MOST_DIGITS - 1))
    while True:
        digit = data[i] - np.uint8(ZERO)
        if digit > 9:
            if data[i] != point or behind_point:
                break
            behind_point = True
        elif number < most:
            number = number * np.uint64(10) + np.uint64(digit)
            exponent -= behind_point
        else:
            cut |= digit > 0
            exponent += not behind_point
        i += 1
    return nearest.nearest_cut(number, exponent) if cut else nearest.nearest(number, exponent)


@inlined
def _number(data, i, point):
    """The number that begins at i, and where it ends; -1 where none does, or one that isn't decided here."""
    # Signs come at random: the processor would guess half of the branches wrongly.
    negative, positive = data[i] == MINUS, data[i] == PLUS
    i += negative | positive
    begin = i
    number, i = _digits(data, i, np.uint64(0))
    digits, power = i - begin, 0
    if data[i] == point:
        number, end = _digits(data, i + 1, number)
        power = i + 1 - end
        digits -= power
        i = end
    if digits == 0:
        return 0.0, -1
    if data[i] == SMALL_E or data[i] == LARGE_E:
        exponent, end = _exponent(data, i + 1)
        if end == i + 1:
            return 0.0, -1
        power, i = power + exponent, end
        value = (
            nearest.nearest(number, power)
            if digits <= BEST_DIGITS
            else _long(data, begin, point, exponent)
        )
    elif digits <= BEST_DIGITS:
        value = nearest.nearest(number, power)
    else:
        value = _long(data, begin, point, 0)
    if np.isnan(value) or np.isinf(value):
        return 0.0, -1
    return (-value if negative else value), i


@inlined
def _skip_blank(data, i):
    while data[i] == SPACE or data[i] == TAB:
        i += 1
    return i


@inlined
def _ends(data, i, delimiter):
    """Whether a cell ends before i."""
    return data[i] == delimiter or data[i] == NEWLINE or data[i] == RETURN


@parts
def _scan(data, delimiter, point, quote, places, x, others):
    """Fills x (lines, features) and others (columns, lines), and says how many rows there are, -1 if not all of `data` could be read,
    and how many cells of x are empty.

    places (columns,): a column of x, the row of `others` that is -1 - place, or what is beyond both: not wanted.
    """
    i, row, empty, width, features = 0, 0, 0, len(places), x.shape[1]
    for _ in range(len(x)):
        if i == len(data):
            return -1, 0
        if data[i] == NEWLINE or (data[i] == RETURN and data[i + 1] == NEWLINE):
            i += 1 + (data[i] == RETURN)
            continue
        is_empty = True
        for column in range(width):
            place = places[column]
            if data[i] <= SPACE and delimiter > SPACE:
                i = _skip_blank(data, i)
            if place >= features:
                begin = i
                while not _ends(data, i, delimiter):
                    if data[i] == quote:
                        return -1, 0
                    i += 1
                is_empty &= i == begin
            else:
                value = np.nan
                if not _ends(data, i, delimiter):
                    value, i = _number(data, i, point)
                    if i < 0:
                        return -1, 0
                    is_empty = False
                    if data[i] != delimiter and delimiter > SPACE:
                        i = _skip_blank(data, i)
                else:
                    empty += place >= 0
                if place >= 0:
                    x[row, place] = value
                else:
                    others[-1 - place, row] = value
            if column < width - 1:
                if data[i] != delimiter:
                    return -1, 0
                i += 1
        while data[i] == delimiter:
            i += 1
        if is_empty:
            return -1, 0
        i += data[i] == RETURN
        if data[i] != NEWLINE:
            return -1, 0
        i += 1
        row += 1
    return (row, empty) if i == len(data) else (-1, 0)


def _entry(sources: int) -> Any:
    @nb.njit(cache=True, **FLAGS)
    def run(data, delimiter, point, quote, places, x, others):
        _ = sources
        return _scan(data, delimiter, point, quote, places, x, others)

    return run


_run = _entry(checksum(nearest))


def numbers(
    data: bytes,
    lines: int,
    dialect: Dialect,
    columns: Sequence[str],
    features: Sequence[str],
    others: Sequence[str],
) -> tuple[Floats, Floats, bool] | None:
    """The features (n, features) in C-order and the other columns (others, n) of a text of `lines` lines, n of which aren't
    blank; NaN where nothing stands, and whether no feature is so. None where it isn't so plain.

    `columns` are those of the text, in order.
    """
    if not data.endswith(b"\n"):
        data += b"\n"
    nowhere = len(features)
    targets = {name: place for place, name in enumerate(features)}
    targets |= {name: -1 - place for place, name in enumerate(others)}
    if len(targets) < len(features) + len(others):
        return None
    places = np.array([targets.get(name, nowhere) for name in columns], np.int64)
    x, beside = np.empty((lines, len(features))), np.empty((len(others), lines))
    marks = (
        ord(dialect.delimiter),
        ord(dialect.decimal) if dialect.decimal != dialect.delimiter else NO_MARK,
        ord(dialect.quote) if dialect.quote else NO_MARK,
    )
    rows, empty = _run(np.frombuffer(data, np.uint8), *map(np.uint8, marks), places, x, beside)
    return None if rows < 0 else (x[:rows], beside[:, :rows], empty == 0)
