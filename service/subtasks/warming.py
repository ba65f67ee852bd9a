"""What each worker does before its first sub-task: everything that is compiled or imported once."""

from __future__ import annotations

import numpy as np

import kernels.warming
from service.subtasks import blocks, learn, predict, report

IMPORTED = (blocks, learn, predict, report)
"""Sub-tasks whose modules a worker has at hand from the start."""


def warm() -> None:
    """Compiles the kernels, or reads them from the cache; the first worker does it before the others."""
    np.seterr(
        all="ignore"
    )  # a step that overflows is found by the check of the round, not by a warning
    kernels.warming.warm()
