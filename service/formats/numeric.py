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

import sys
from collections.abc import Sequence
from typing import Any

import numba as nb
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import overload

from kernels.loops import FLAGS, checksum
from kernels.registers import intrinsic
from service.formats import nearest
from service.formats.contract import Dialect, Floats

NEWLINE, TAB, RETURN, SPACE = b"\n\t\r "
PLUS, MINUS, ZERO, SMALL_E, LARGE_E = b"+-0eE"
NO_MARK = 0  # no byte of a text

BEST_DIGITS = nearest.MOST_DIGITS - 1
"""So many are read without looking how large their number grows."""
MOST_EXPONENT = 10_000
EIGHT = 8
_TENS = np.array([10.0**digits for digits in range(EIGHT + 1)])
_WHOLE_TENS = np.array([10**digits for digits in range(EIGHT + 1)], np.uint64)
_ZEROS, _ABOVE_NINE, _HIGHEST = (
    np.uint64(byte * 0x0101010101010101) for byte in (0x30, 0x76, 0x80)
)
_PAIRS = np.uint64(0x000000FF000000FF)
_THREE, _BYTE, _SEVEN_BYTES, _EIGHT_BYTES = np.uint64(3), np.uint64(8), np.uint64(56), np.uint64(64)
_OF_FIRST, _OF_SECOND = np.uint64(100 + (1_000_000 << 32)), np.uint64(1 + (10_000 << 32))
"""What two pairs of digits each are worth, the first pair in the lower half."""

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


def _eight(data, i):
    """The eight bytes from i on as a number, the first of them lowest."""
    return np.frombuffer(data[i : i + EIGHT].tobytes(), "<u8")[0]


def _byte(data, i):
    """The byte at i, which is no index from the end."""
    return data[np.uint64(i)]


def _trailing_zeros(bits):
    """Of 64 bits; 64 of none."""
    whole = int(bits) | 1 << 64
    return np.uint64((whole & -whole).bit_length() - 1)


def _address(context, builder, signature, args):
    array = context.make_array(signature.args[0])(context, builder, args[0])
    return builder.gep(array.data, [args[1]])


@intrinsic
def _load_eight(_context, data, i):
    def made(context, builder, signature, args):
        address = _address(context, builder, signature, args)
        found = builder.load(builder.bitcast(address, ir.IntType(64).as_pointer()), align=1)
        return builder.bswap(found) if sys.byteorder == "big" else found

    return types.uint64(data, types.intp), made


@intrinsic
def _load_byte(_context, data, i):
    def made(context, builder, signature, args):
        return builder.load(_address(context, builder, signature, args))

    return types.uint8(data, types.intp), made


@intrinsic
def _count_trailing_zeros(_context, bits):
    def made(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), made


overload(_eight)(lambda data, i: lambda data, i: _load_eight(data, i))
overload(_byte)(lambda data, i: lambda data, i: _load_byte(data, i))
overload(_trailing_zeros)(lambda bits: lambda bits: _count_trailing_zeros(bits))


@inlined
def _bits_of_digits(digits):
    """Eight times the number of digits at the beginning of eight bytes, from which "0" was taken: all others get their highest bit."""
    others = ((digits + _ABOVE_NINE) | digits) & _HIGHEST
    return _trailing_zeros(others) & ~np.uint64(7)


@inlined
def _worth(digits, bits):
    """The number that the first `bits` / 8 of eight digits make, as if zeros stood before them: they are added up in pairs, these
    in pairs, and so on. Source: Lemire, "Quickly parsing eight digits", 2018."""
    shifted = (digits << (_SEVEN_BYTES - bits)) << _BYTE
    pairs = shifted * np.uint64(10) + (shifted >> _BYTE)
    first, second = pairs & _PAIRS, (pairs >> np.uint64(16)) & _PAIRS
    return (first * _OF_FIRST + second * _OF_SECOND) >> np.uint64(32)


@inlined
def _short_number(data, i, point, delimiter):
    """The number that begins at i, and where it ends; -1 where it has more than six digits before its point, or more than seven behind it,
    or anything that isn't a digit, or doesn't end with the delimiter.

    Most have so few. Where a number ends is what the next one waits for, and the processor guesses it wrongly as often as not: so
    sixteen bytes are looked at at once, without a branch on signs or digits.
    """
    whole, rest = _eight(data, i), _eight(data, i + EIGHT)
    first = np.uint8(whole)
    negative = first == MINUS
    is_signed = np.uint64(negative | (first == PLUS))
    whole = (whole >> (is_signed << _THREE)) | ((rest << _SEVEN_BYTES) * is_signed)
    rest >>= is_signed << _THREE
    digits = whole ^ _ZEROS
    bits = _bits_of_digits(digits)
    if bits >= _SEVEN_BYTES:
        return 0.0, -1
    number, behind = _worth(digits, bits), np.uint64(0)
    length = bits
    if np.uint8(whole >> bits) == point:
        digits = ((whole >> (bits + _BYTE)) | (rest << (_SEVEN_BYTES - bits))) ^ _ZEROS
        behind = _bits_of_digits(digits)
        if behind >= _EIGHT_BYTES:
            return 0.0, -1
        fraction = _worth(digits, behind)
        length += behind + _BYTE
        behind >>= _THREE
        number = number * _WHOLE_TENS[behind] + fraction
        if bits + behind == 0:
            return 0.0, -1
    end = i + np.int64(is_signed + (length >> _THREE))
    if length == 0 or _byte(data, end) != delimiter:
        return 0.0, -1
    value = np.float64(np.int64(number)) / _TENS[behind]
    return (-value if negative else value), end


@inlined
def _number(data, i, point):
    """The number that begins at i, and where it ends; -1 where none does, or one that isn't decided here."""
    negative, positive = data[i] == MINUS, data[i] == PLUS
    value, end = _any_number(data, i + (negative | positive), point)
    return (-value if negative else value), end


@parts
def _any_number(data, i, point):
    """The number without a sign that begins at i, digit by digit; as `_number`."""
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
    return value, i


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
    near = len(data) - 2 * EIGHT
    for _ in range(len(x)):
        if i == len(data):
            return -1, 0
        if data[i] == NEWLINE or (data[i] == RETURN and data[i + 1] == NEWLINE):
            i += 1 + (data[i] == RETURN)
            continue
        is_empty = True
        for column in range(width):
            place = places[column]
            if place < features and i < near:
                behind = delimiter if column < width - 1 else np.uint8(NEWLINE)
                value, end = _short_number(data, i, point, behind)
                if end >= 0:
                    is_empty = False
                    if place >= 0:
                        x[row, place] = value
                    else:
                        others[-1 - place, row] = value
                    i = end + (column < width - 1)
                    continue
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
    if len(targets) < len(features) + len(others) or dialect.delimiter in "+-eE":
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
