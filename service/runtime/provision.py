"""What a daemon sees to at its start, since it may be scarce later: descriptors and threads.

Rules: the soft limit of descriptors, which is there for programs that use select(2), is raised to the hard one. Threads
are made at once, so that none has to be made while the machine has no process to give.
"""

from __future__ import annotations

import resource
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from service.core.errors import NO_TASKS_REMEDY, HeadraceError

THREADS = 8
"""What may wait for a disk at a time: a few calls for each of the stages."""
_OWN_THREADS = THREADS + 3  # the loop's, the pool's and the writer's

# Measured: a daemon at rest holds 25 and two for each worker; a file in progress holds two spools.
_ALWAYS, _PER_WORKER, _PER_JOB = 28, 2, 2


def see_to_descriptors(workers: int, jobs: int) -> None:
    """Raises HeadraceError where even the hard limit is too low for a daemon of this size to work at all."""
    least = _ALWAYS + _PER_WORKER * workers + _PER_JOB * jobs
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < least:
        raise HeadraceError(
            f"open files: their limit must be at least {least} for {_several(workers, 'worker')} and"
            f" {_several(jobs, 'job')}, got {hard}; raise it (ulimit -n, LimitNOFILE=), or have fewer"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def threads() -> ThreadPoolExecutor:
    """An executor whose threads are there already. Raises HeadraceError where they are not to be had."""
    executor = ThreadPoolExecutor(THREADS, thread_name_prefix="headrace-disk")
    everyone = threading.Barrier(THREADS + 1)
    try:
        with starting_threads():
            for _ in range(THREADS):
                executor.submit(everyone.wait)
    except HeadraceError:
        everyone.abort()
        executor.shutdown()
        raise
    everyone.wait()
    return executor


@contextmanager
def starting_threads() -> Iterator[None]:
    """What starts threads and nothing else; raises HeadraceError where one is not to be had."""
    try:
        yield
    except RuntimeError:  # "can't start new thread"
        raise HeadraceError(
            f"threads: the daemon's own {_OWN_THREADS} can be started, got {threading.active_count()}; {NO_TASKS_REMEDY}"
        ) from None


def _several(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
