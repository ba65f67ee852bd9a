"""Faults of workers, by the thousand: at the pool alone, where one costs the birth of a process and no more.

Rules. Each sub-task either does no harm, or is disturbed in one way that the seed chose. Every future must end within
its deadline and some patience: the harmless ones with their own value, the disturbed ones with WorkerDied, none
otherwise. What a worker that was killed idle had not read goes to another. At the end the pool holds no more
descriptors than before, and shuts down without leaving a process.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from service.core.errors import WorkerDied
from service.runtime.pool import Pool
from tests.harness import dying, oracle
from tests.harness.fault import Fault, Round

sys.path.append(str(Path(__file__).parents[1] / "runtime"))

from pool_meeting import PATIENCE_SECONDS, Meeting

SUBTASKS = 200  # of one pool's life
WORKERS = 3
DEADLINE_SECONDS = 2.0

# Ways to die that a sub-task brings about itself.
DEADLY: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "killed while it computes": (dying.die, (int(signal.SIGKILL),)),
    "SIGTERM": (dying.die, (int(signal.SIGTERM),)),
    "SIGXCPU": (dying.die, (int(signal.SIGXCPU),)),
    "exit": (dying.leave, (3,)),
    "between result and reply": (dying.die_before_the_reply, ()),
    "instead of the reply": (dying.die_in_the_reply, (0.0,)),
    "in the head of the reply": (dying.die_in_the_reply, (0.1, 20)),
    "in the middle of the reply": (dying.die_in_the_reply, (0.5,)),
    "socket closed": (dying.close_the_socket, ()),
}


def _dying(seed: int, place: Path) -> Round:
    """A pool's life in which sub-tasks die and idle workers are killed, a third of the time."""
    chance, done = random.Random(seed), Round(notes=[f"pool of {WORKERS}"])
    descriptors = len(os.listdir("/proc/self/fd"))
    pool = Pool(WORKERS, deadline_seconds=DEADLINE_SECONDS * 15)
    futures: list[tuple[str, Any, Future[Any]]] = []
    for number in range(SUBTASKS):
        what = chance.choice([*DEADLY, "idle"]) if chance.random() < 1 / 3 else ""
        if what == "idle":
            done.injected += _kill_idle(pool, chance)
        elif what:
            function, arguments = DEADLY[what]
            done.injected += 1
            futures.append((what, None, pool.submit(function, *arguments)))
        else:
            futures.append(("", number, pool.submit(dying.echo, number)))
        if chance.random() < 0.05:
            _ended(futures[-1][2] if futures else None)
    done.wrong += _judged(futures)
    return _closed(pool, descriptors, done)


def _kill_idle(pool: Pool, chance: random.Random) -> int:
    idle = [worker.pid for worker in pool.workers if worker.state == "idle"]
    if idle:
        _kill(chance.choice(idle), signal.SIGKILL)
    return len(idle[:1])


def _stopped(seed: int, place: Path) -> Round:
    """Workers are stopped: while they compute, and idle, so that they never read what comes. Their deadline ends it."""
    chance, done = random.Random(seed), Round(notes=[f"pool of {WORKERS}"])
    meeting = Meeting(place)
    descriptors = len(os.listdir("/proc/self/fd"))
    pool = Pool(WORKERS, deadline_seconds=DEADLINE_SECONDS, warm="tests.harness.dying:nothing")
    futures: list[tuple[str, Any, Future[Any]]] = []
    pool.ready.result(PATIENCE_SECONDS)
    for _ in range(chance.randint(1, WORKERS)):
        futures.append(("stopped", None, pool.submit(dying.meet, str(place))))
        _kill(meeting.begun(), signal.SIGSTOP)
        done.injected += 1
    futures += [("", n, pool.submit(dying.echo, n)) for n in range(20)]
    done.wrong += _judged(futures)
    meeting.close()
    return _closed(pool, descriptors, done)


def _judged(futures: list[tuple[str, Any, Future[Any]]]) -> Iterator[str]:
    for number, (what, value, future) in enumerate(futures):
        error = _ended(future)
        if error is _NEVER:
            yield f"sub-task {number} ({what or 'harmless'}) never ends"
        elif what and not isinstance(error, WorkerDied):
            yield f"sub-task {number} ({what}) must be a death, got {error!r}"
        elif not what and (error is not None or future.result() != value):
            yield f"harmless sub-task {number} must give {value}, got {error!r}"


_NEVER = TimeoutError("never")


def _ended(future: Future[Any] | None) -> BaseException | None:
    try:
        return future.exception(PATIENCE_SECONDS * 3) if future else None
    except TimeoutError:
        return _NEVER


def _closed(pool: Pool, descriptors: int, done: Round) -> Round:
    pids = [worker.pid for worker in pool.workers]
    begun = time.monotonic()
    pool.shutdown()
    if time.monotonic() - begun > PATIENCE_SECONDS:
        done.wrong.append(f"the shutdown took {time.monotonic() - begun:.0f} s")
    done.wrong += oracle.await_gone(pids)
    if len(os.listdir("/proc/self/fd")) > descriptors:
        done.wrong.append(f"{len(os.listdir('/proc/self/fd')) - descriptors} descriptors are left")
    return done


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def faults() -> Iterator[Fault]:
    """The faults of this module."""
    yield Fault("workers", "a worker dies: computing, idle, before, in and after its reply", _dying)
    yield Fault("stopped", "a worker is stopped; its deadline kills it", _stopped)
