"""What is done before there is any worker: everything that is compiled or imported by all of them; and what each does.

Rules: `warm` leaves the process with one thread, since workers are forks of it. polars starts threads of its own when it is
imported, and more when it first reads: a worker has them all before it serves, or is not born. What can't be had then is
waited for; later it would cost an innocent file.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import kernels.warming
from service.core.errors import NO_TASKS_REMEDY, WorkerError


def warm() -> Callable[[], None]:
    """Compiles the kernels, or reads them from the cache; returns what each worker does when it is born."""
    np.seterr(
        all="ignore"
    )  # a step that overflows is found by the check of the round, not by a warning
    kernels.warming.warm()
    return settle


def settle() -> None:
    """Starts the threads that reading a table needs. Raises WorkerError."""
    try:
        import polars

        polars.read_csv(b"a\n1\n")
    except BaseException as error:  # its panics are no Exception
        raise WorkerError(
            f"polars: its threads can be started, got {type(error).__name__}; {NO_TASKS_REMEDY}"
        ) from error
