"""How passes compile the exponential and the logarithm of losses: without a branch and without a call.

Rules: the errors are at most two units in the last place. A loop over them becomes vector instructions, which calls of the C
library never do: there the losses of a row were a quarter of its learning. Results that are no normal numbers are 0.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba.extending import overload

from kernels import losses

_OPTIONS: Any = {"error_model": "numpy", "forceinline": True, "_nrt": False}

_LOG2_E = 1.0 / math.log(2.0)
_LN2_HIGH = 6.93147180369123816490e-01
"""ln 2 in two parts; this one has so few digits that its product with an exponent is exact."""
_LN2_LOW = 1.90821492927058770002e-10
_ROUNDING = 1.5 * 2.0**52
"""Added to a number it leaves the nearest whole one in the last digits."""
_LEAST, _MOST = -708.3, 709.4
_ROOT_2 = math.sqrt(2.0)
_TERMS = tuple(1.0 / math.factorial(n) for n in range(14))


@overload(losses.exp, jit_options=_OPTIONS)
def _exp(x):
    """e^x = 2^n e^r with |r| ≤ ln(2)/2, of which the series up to r¹³ is exact to the last place."""
    c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13 = _TERMS[2:]

    def exp(x):
        held = min(max(x, _LEAST), _MOST)
        shifted = held * _LOG2_E + _ROUNDING
        n = shifted - _ROUNDING
        r = (held - n * _LN2_HIGH) - n * _LN2_LOW
        tail = c8 + r * (c9 + r * (c10 + r * (c11 + r * (c12 + r * c13))))
        tail = c2 + r * (c3 + r * (c4 + r * (c5 + r * (c6 + r * (c7 + r * tail)))))
        exponent = np.int64(np.float64(shifted).view(np.int64) + 1023) << 52
        power = (1.0 + (r + r * r * tail)) * np.int64(exponent).view(np.float64)
        power = 0.0 if x < _LEAST else power
        power = np.inf if x > _MOST else power
        return power if x == x else x

    return exp


@overload(losses.log1p, jit_options=_OPTIONS)
def _log1p(x):
    """log(1 + x) of x from 0 to 1, by log m = 2 artanh((m - 1)/(m + 1)). Source: FreeBSD's msun, s_log1p.c."""

    def log1p(x):
        whole = 1.0 + x
        lost = (x - (whole - 1.0)) / whole
        is_large = whole > _ROOT_2
        f = (0.5 * whole if is_large else whole) - 1.0
        n = 1.0 if is_large else 0.0
        s = f / (2.0 + f)
        z = s * s
        w = z * z
        even = w * (0.3999999999940941908 + w * (0.2222219843214978396 + w * 0.1531383769920937332))
        odd = 0.2857142874366239149 + w * (0.1818357216161805012 + w * 0.1479819860511658591)
        odd = z * (0.6666666666666735130 + w * odd)
        half = 0.5 * f * f
        return n * _LN2_HIGH - ((half - (s * (half + (even + odd)) + (n * _LN2_LOW + lost))) - f)

    return log1p
