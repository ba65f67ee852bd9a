"""How passes compile elementary functions: exponential, logarithm, inverse root; of a number, or of a register's four.

Rules: no branch and no call, which the C library's would be; and few steps that wait for one another, since a row's learning is a
chain of them. The errors are at most two units in the last place.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
from __future__ import annotations

import math

import numba as nb
import numpy as np
from numba.extending import overload

from kernels import losses
from kernels.registers import INLINED, choose, fma, larger, of_bits, smaller
from kernels.scaling import LEAST_VARIANCE

_inlined = nb.njit(nogil=True, **INLINED)

_LOG2_E = 1.0 / math.log(2.0)
_LN2_HIGH = 6.93147180369123816490e-01
"""ln 2 in two parts; this one has so few digits that its product with an exponent is exact."""
_LN2_LOW = 1.90821492927058770002e-10
_ROUNDING = 1.5 * 2.0**52
"""Added to a number it leaves the nearest whole one in the last digits."""
_LEAST, _MOST = -708.3, 709.4
_ROOT_2 = math.sqrt(2.0)
_TERMS = tuple(1.0 / math.factorial(n) for n in range(14))
_HALVED = 0x5FE6EB50C7B537A9
"""Less half of a number's bits, those of its inverse root, to within a thirtieth (Lomont, 2003)."""
_MANTISSA = 52


def _bits_of(number: float) -> int:
    return int(np.float64(number).view(np.int64))


def _exponent_bits(builder, bits, number):
    return builder.ashr(builder.sub(bits, number(_bits_of(_ROOT_2 / 2.0))), number(_MANTISSA))


_power_of_2 = of_bits(
    lambda builder, bits, number: builder.shl(builder.add(bits, number(1023)), number(_MANTISSA))
)
"""2^n of n + _ROUNDING."""
_root_guess = of_bits(
    lambda builder, bits, number: builder.sub(number(_HALVED), builder.ashr(bits, number(1)))
)
_exponent = of_bits(
    lambda builder, bits, number: builder.add(
        _exponent_bits(builder, bits, number), number(_bits_of(_ROUNDING))
    )
)
"""n + _ROUNDING of a number 2^n m with m from √½ to √2."""
_mantissa = of_bits(
    lambda builder, bits, number: builder.sub(
        bits, builder.shl(_exponent_bits(builder, bits, number), number(_MANTISSA))
    )
)
"""Its m."""


@_inlined
def inverse_root(x):
    """1/√x of a normal x: two of Householder's steps of the fourth order, each from 1 - x y²."""
    y = _root_guess(x)
    for _ in range(2):
        h = fma(-(x * y), y, 1.0)
        y = fma(y * h, fma(h, fma(h, 0.3125, 0.375), 0.5), y)
    return y


@_inlined
def inverse_deviation(variance):
    """1/√variance, 0 of 0; one below `LEAST_VARIANCE` counts as that."""
    return choose(variance > 0.0, inverse_root(larger(variance, LEAST_VARIANCE)), 0.0)


@overload(losses.exp, jit_options=INLINED)
def _exp(x):
    """e^x = 2^n e^r with |r| ≤ ln(2)/2, of which the series up to r¹³ is exact to the last place; its terms are summed in pairs,
    these in pairs, and so on. Below e^-708.3 it is 0, and above e^709.4 infinite."""
    c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13 = _TERMS[2:]

    def exp(x):
        held = smaller(larger(x, _LEAST), _MOST)
        shifted = fma(held, _LOG2_E, _ROUNDING)
        n = shifted - _ROUNDING
        r = fma(n, -_LN2_LOW, fma(n, -_LN2_HIGH, held))
        r2 = r * r
        low = fma(fma(c5, r, c4), r2, fma(c3, r, c2))
        middle = fma(fma(c9, r, c8), r2, fma(c7, r, c6))
        high = fma(fma(c13, r, c12), r2, fma(c11, r, c10))
        r4 = r2 * r2
        less_one = fma(r2, fma(fma(high, r4, middle), r4, low), r)
        scale = _power_of_2(shifted)
        power = choose(x < _LEAST, 0.0, fma(less_one, scale, scale))
        return choose(x > _MOST, np.inf, power)

    return exp


@_inlined
def _log_near_1(f, n, lost):
    """n ln 2 + log(1 + f) + lost, where 1 + f lies between √½ and √2, by log m = 2 artanh((m - 1)/(m + 1)).
    Source: FreeBSD's msun, s_log1p.c."""
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    even = fma(w, fma(w, 0.1531383769920937332, 0.2222219843214978396), 0.3999999999940941908) * w
    odd = fma(w, fma(w, 0.1479819860511658591, 0.1818357216161805012), 0.2857142874366239149)
    odd = fma(w, odd, 0.6666666666666735130) * z
    half = 0.5 * f * f
    return n * _LN2_HIGH - ((half - (s * (half + (even + odd)) + (n * _LN2_LOW + lost))) - f)


@overload(losses.log1p, jit_options=INLINED)
def _log1p(x):
    """log(1 + x) of x from 0 to 1."""

    def log1p(x):
        whole = 1.0 + x
        lost = (x - (whole - 1.0)) / whole
        is_large = whole > _ROOT_2
        return _log_near_1(
            whole * choose(is_large, 0.5, 1.0) - 1.0, choose(is_large, 1.0, 0.0), lost
        )

    return log1p


@_inlined
def log(x):
    """log x of a normal x; infinity and what is no number stay what they are."""
    return choose(x < np.inf, _log_near_1(_mantissa(x) - 1.0, _exponent(x) - _ROUNDING, 0.0), x)
