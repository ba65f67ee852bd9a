"""The float64 nearest to a decimal number, compiled: ties to even, as IEEE 754 and every reader of numbers has it.

    mantissa · 10^exponent ─▶ both exact as float64: one multiplication or division     (Clinger, PLDI 1990)
                           └▶ else 128 bits of the power of five decide                 (Lemire, SP&E 51(8), 2021)

Rules: what can't be decided here is said to be so, never guessed: numbers beyond the normal ones, and the few with more digits
than 64 bits hold that lie too near to the middle between two neighbours.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
from __future__ import annotations

import math

import numba as nb
import numpy as np
import numpy.typing as npt

from kernels.loops import FLAGS

UNDECIDED = math.nan
MOST_DIGITS = 19
"""So many always fit 64 bits."""

LEAST_POWER, MOST_POWER = -342, 308  # beyond them a number of 19 digits is 0, or infinite
EXACT_POWER = 22  # 10^22 < 5^22 · 2^53
MANTISSA_BITS = 53

parts = nb.njit(**FLAGS)
_ONE, _HALF, _LOW = np.uint64(1), np.uint64(32), np.uint64(0xFFFFFFFF)
_EXACT = np.uint64(1 << MANTISSA_BITS)
_UNSURE = np.uint64((1 << (64 - MANTISSA_BITS - 2)) - 1)
"""The bits of a product below those that count and the two that round: all ones, a carry from below may change them."""
_TOP, _KEPT = np.uint64(63), np.uint64(64 - MANTISSA_BITS - 2)
_TENS = np.array([10.0**power for power in range(EXACT_POWER + 1)])


def _five_to_the(power: int) -> int:
    """The 128 leading bits of 5^power, its highest bit set; of a negative power rounded up, as the proof asks for."""
    if power >= 0:
        whole: int = 5**power
        return (
            whole << 128 - whole.bit_length()
            if whole < 1 << 128
            else whole >> whole.bit_length() - 128
        )
    divisor: int = 5**-power
    bits = (divisor - 1).bit_length()
    if power >= -27:
        return (1 << bits + 127) // divisor + 1
    quotient: int = (1 << 2 * bits + 128) // divisor + 1
    return quotient >> quotient.bit_length() - 128


def _fives() -> npt.NDArray[np.uint64]:
    """(powers, 2): the upper and the lower 64 bits of each power of five."""
    found = map(_five_to_the, range(LEAST_POWER, MOST_POWER + 1))
    return np.array([(five >> 64, five & (1 << 64) - 1) for five in found], np.uint64)


_FIVES = _fives()


@parts
def _product(a, b):
    """The upper and the lower 64 bits of a · b."""
    a0, a1, b0, b1 = a & _LOW, a >> _HALF, b & _LOW, b >> _HALF
    first, second = a1 * b0, a0 * b1
    middle = (a0 * b0 >> _HALF) + (first & _LOW) + (second & _LOW)
    return a1 * b1 + (first >> _HALF) + (second >> _HALF) + (middle >> _HALF), a * b


@parts
def _leading_zeros(number):
    zeros = 0
    for step in (32, 16, 8, 4, 2, 1):
        if number >> np.uint64(64 - step) == np.uint64(0):
            number <<= np.uint64(step)
            zeros += step
    return zeros


@parts
def _by_fives(mantissa, power):
    """As `nearest`, for a mantissa that isn't 0."""
    if power < LEAST_POWER or power > MOST_POWER:
        return UNDECIDED
    zeros = _leading_zeros(mantissa)
    number = mantissa << np.uint64(zeros)
    high, low = _product(number, _FIVES[power - LEAST_POWER, 0])
    if high & _UNSURE == _UNSURE:
        carried, _ = _product(number, _FIVES[power - LEAST_POWER, 1])
        low += carried
        if low < carried:
            high += _ONE
    top = high >> _TOP
    shift = top + _KEPT
    bits = high >> shift
    scale = (217706 * power) >> 16  # floor(log2(10^power))
    exponent = scale + np.int64(top) - zeros + 64 - MANTISSA_BITS
    if exponent + MANTISSA_BITS - 1 < -1021 or exponent + MANTISSA_BITS > 1023:
        return UNDECIDED  # near or beyond the ends of the normal numbers
    is_middle = bits & np.uint64(3) == _ONE and low <= _ONE and -4 <= power <= 23
    if is_middle and bits << shift == high:
        bits &= ~_ONE  # exactly between two: to the even one
    bits += bits & _ONE
    return math.ldexp(np.float64(bits >> _ONE), int(exponent))


@parts
def nearest(mantissa, power):
    """The float64 nearest to mantissa · 10^power, or `UNDECIDED`; mantissa is a uint64."""
    if mantissa < _EXACT and -EXACT_POWER <= power <= EXACT_POWER:
        value = np.float64(mantissa)
        return value * _TENS[power] if power >= 0 else value / _TENS[-power]
    if mantissa == np.uint64(0):
        return 0.0
    return _by_fives(mantissa, power)


@parts
def nearest_cut(mantissa, power):
    """As `nearest`, for a number of which `mantissa` has only the leading digits: at least it, and less than one more."""
    value = nearest(mantissa, power)
    return value if value == nearest(mantissa + _ONE, power) else UNDECIDED
