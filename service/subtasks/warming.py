"""What is done before there is any worker: everything that is compiled or imported by all of them; and what each does.

Rules: `warm` leaves the process with one thread, since workers are forks of it. polars starts threads of its own when it is
imported, and more when it first reads: a worker has them all before it serves, or is not born. What can't be had then is
waited for; later it would cost an innocent file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

import kernels.warming
from service.core.errors import NO_TASKS_REMEDY, WorkerError
from service.formats import numeric
from service.formats.contract import Dialect


def warm() -> Callable[[], None]:
    """Compiles the kernels, or reads them from the cache; returns what each worker does when it is born."""
    np.seterr(
        all="ignore"
    )  # a step that overflows is found by the check of the round, not by a warning
    kernels.warming.warm()
    numeric.numbers(b"1\n", 1, Dialect(delimiter=","), ["a"], ["a"], [])
    return settle


def settle() -> None:
    """Starts the threads that reading a table needs. Raises WorkerError."""
    try:
        with _unheard():
            import polars

            polars.read_csv(b"a\n1\n")
    except BaseException as error:  # its panics are no Exception
        raise WorkerError(
            f"polars: its threads can be started, got {type(error).__name__}; {NO_TASKS_REMEDY}"
        ) from error


@contextmanager
def _unheard() -> Iterator[None]:
    """What is written to stderr meanwhile is dropped, and when it goes wrong from then on: polars' panics write traces of
    their own, and its allocator a line a thread, where one sentence says why there is no worker."""
    if sys.stderr is None:  # it was closed: its number may be anything's by now
        yield
        return
    with open(os.devnull, "wb") as nowhere:
        heard = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
    yield
    os.dup2(heard, 2)
    os.close(heard)
