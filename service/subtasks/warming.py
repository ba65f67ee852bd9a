"""What is done once, before there is any worker: everything that is compiled or imported by all of them.

Rules: it leaves the process with one thread, since workers are forks of it. So nothing here imports polars, which starts
threads of its own when it is imported; a worker imports it with its first sub-task that needs it.
"""

from __future__ import annotations

import numpy as np

import kernels.warming


def warm() -> None:
    """Compiles the kernels, or reads them from the cache."""
    np.seterr(
        all="ignore"
    )  # a step that overflows is found by the check of the round, not by a warning
    kernels.warming.warm()
