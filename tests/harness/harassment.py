"""Whole daemons whose workers die: killed and stopped from outside, and in the middle of their replies; and the process
that they come from, likewise.

Rules. Nothing of the service knows of it: the workers of these daemons import chaos/sitecustomize.py. A sub-task whose
worker died five times in a row costs its file, so the replies that end badly are few, and no file may be refused.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from service.core.layout import Layout
from service.runtime.control import ask
from tests.daemon.daemon_root import PATIENCE_SECONDS, Life, Root, eventually, root_in
from tests.harness.fault import Fault, Round
from tests.harness.ordeal import GOOD, JOBS, SAME, Ordeal, await_end_of_files, undisturbed

CHAOS = Path(__file__).with_name("chaos")  # holds a sitecustomize.py, which the workers import
NURSES_STOPPED = (
    0.15  # share of the rounds: it is found out at a birth's deadline, half a minute later
)
DEADLINE_SECONDS = 8.0  # a new worker on a busy machine must not miss it by itself


def _workers_die(seed: int, place: Path) -> Round:
    """Workers are killed and stopped from outside, and die in their replies by themselves; then, perhaps, the daemon."""
    home = place.parent
    undisturbed(home)
    with root_in(place) as root:
        ordeal = Ordeal(root, random.Random(seed))
        chance = ordeal.chance
        ordeal.configure(deadline_seconds=DEADLINE_SECONDS)
        ordeal.drop()
        log = place / "chaos.log"
        root.environment = {"HEADRACE_CHAOS": f"{seed}|{chance.choice([0.002, 0.01])}|{log}"}
        life = ordeal.healthy(path=(CHAOS,))
        _harass(ordeal, life)
        if chance.random() < 0.5:
            ordeal.kill(life, "kill -9")
        else:
            if not await_end_of_files(root, life):
                ordeal.done.wrong.append(f"the daemon ended: {life.said[-2000:]}")
            life.stop()
        root.environment = {}
        ordeal.done.injected += len(log.read_bytes()) if log.exists() else 0
        return ordeal.judged(home)


def _harass(ordeal: Ordeal, life: Life) -> None:
    """Picks out workers, one at a time, as long as sub-tasks come back between two of them."""
    root, chance = ordeal.root, ordeal.chance
    if chance.random() < NURSES_STOPPED:
        _lose_nurse(ordeal, life, signal.SIGSTOP)
    for _ in range(chance.randint(50, 300)):
        served = _served(root) + chance.randrange(1, 12)

        def due(served: int = served) -> bool:
            everything = all(len(root.names("done", one["name"])) == GOOD + SAME for one in JOBS)
            return everything or (_served(root) >= served and bool(life.workers()))

        eventually(due, f"{served} sub-tasks", life)
        if chance.random() < 0.04:
            _lose_nurse(ordeal, life, signal.SIGKILL)
        else:
            _lose_worker(ordeal, life, chance.choice([signal.SIGKILL] * 99 + [signal.SIGSTOP]))


def _served(root: Root) -> int:
    """How many sub-tasks have been done, by the daemon's own word: its status.json is half a second old."""
    socket = Layout(root.path).socket
    return int(ask(socket, {"command": "status"}, PATIENCE_SECONDS)["status"]["subtasks"])


def _lose_worker(ordeal: Ordeal, life: Life, number: signal.Signals) -> None:
    workers = life.workers()
    if workers:
        with suppress(ProcessLookupError):
            os.kill(ordeal.chance.choice(workers), number)
        ordeal.counted(f"{number.name} to a worker")


def _lose_nurse(ordeal: Ordeal, life: Life, number: signal.Signals) -> None:
    """Perhaps in the middle of a birth; another one must take its place, and bear the workers that are missing."""
    nurse, *_ = eventually(life.nurses, "a process that workers come from", life)
    os.kill(nurse, number)
    ordeal.counted(f"{number.name} to the process that workers come from")
    _lose_worker(ordeal, life, signal.SIGKILL)  # who is stopped is missed when one is to be born
    eventually(lambda: nurse not in life.nurses() and life.nurses(), "another one", life)
    eventually(life.workers, "a worker", life)


def faults() -> Iterator[Fault]:
    """The faults of this module."""
    yield Fault(
        "daemon-workers",
        "a daemon's workers, and the process that they come from, are killed and stopped; workers die in their replies",
        _workers_die,
    )
