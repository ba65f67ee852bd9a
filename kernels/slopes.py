"""Whether a gradient that is claimed is the derivative of a loss, by central differences.

Rules: a gradient is tried at several places and along several directions, for any one of them may lie where nothing can be
seen: at a kink, across the term that is missing, beyond what a number of the dtype holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from kernels.contract import Array

_PLACES = 10
"""At so many a gradient may be tried."""
_DIRECTIONS = 2
"""Along so many random directions at each, beside its own. Of 162 kernels of ReLUs in float32 that lack half a layer's
gradient 14 agreed along one at one of five places; 2 do so now, and none that are right are refused."""
Slopes = Iterator[tuple[float, float, float]]
"""Along some directions: that of a gradient, that of central differences, and how far rounding alone may part them."""


def slopes_along(
    claimed: Array, losses: Callable[[Array], Array], dtype: Any, random: np.random.Generator
) -> Slopes:
    """What a gradient and central differences say along some directions; the step grows with the rounding of `dtype`.

    Along the gradient as it is claimed it shows clearest, but not a term that it lacks: that takes random directions, and
    more than one, for along one that happens to lie across the term nothing is missing. All are shorter where the
    gradient is long: the first lest an exponential loss bend within the step, the others lest many ReLUs cross their kinks within that of float32.
    """
    eps = float(np.finfo(dtype).eps)
    step = float(np.cbrt(eps))
    gradient = claimed.astype(np.float64)
    length = float(np.linalg.norm(gradient))
    size = float(np.abs(losses(np.zeros_like(gradient))).sum())
    steepest = gradient / (length or 1.0) / max(1.0, length / (1.0 + size))
    others = [random.normal(size=claimed.shape) / max(1.0, length) for _ in range(_DIRECTIONS)]
    for along in (steepest, *others):
        with np.errstate(all="ignore"):
            slope = float(losses(step * along).sum() - losses(-step * along).sum()) / (2 * step)
        yield float((gradient * along).sum()), slope, 4 * eps * size / step


def disagreement(
    slopes: Callable[[np.random.Generator], Slopes],
) -> tuple[float, float] | None:
    """What a gradient and a central difference say where they part at every one of some points; None where they agree.

    At one point a kink of straight pieces (a ReLU, a hinge) may lie within the step, or numbers be no more finite: that
    is nobody's fault. A gradient that is wrong is wrong nearly everywhere. So one point at which they agree along both
    directions is enough, to 1 % and the rounding.
    """
    told = None
    for place in range(_PLACES):
        found = list(slopes(np.random.Generator(np.random.Philox(key=place))))
        if not np.isfinite(found).all():
            continue
        parted = [
            (claimed, slope)
            for claimed, slope, rounding in found
            if abs(claimed - slope) > 1e-2 * max(abs(claimed), abs(slope)) + rounding + 1e-6
        ]
        if not parted:
            return None
        told = told or parted[0]
    return told
