"""Whole daemons whose workers die: killed and stopped from outside, and in the middle of their replies.

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

from tests.daemon.daemon_root import Life, eventually, root_in
from tests.harness.fault import Fault, Round
from tests.harness.ordeal import GOOD, JOBS, SAME, Ordeal, await_end_of_files, undisturbed

CHAOS = Path(__file__).with_name("chaos")  # holds a sitecustomize.py, which the workers import
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
    for _ in range(chance.randint(3, 12)):
        served = life.status()["subtasks"] + chance.randrange(5, 80)

        def due(served: int = served) -> bool:
            everything = all(len(root.names("done", one["name"])) == GOOD + SAME for one in JOBS)
            return everything or (life.status()["subtasks"] >= served and bool(life.workers()))

        eventually(due, f"{served} sub-tasks", life)
        number = chance.choice([signal.SIGKILL] * 4 + [signal.SIGSTOP])
        workers = life.workers()
        if workers:
            with suppress(ProcessLookupError):
                os.kill(chance.choice(workers), number)
            ordeal.counted(f"{number.name} to a worker")


def faults() -> Iterator[Fault]:
    """The faults of this module."""
    yield Fault(
        "daemon-workers",
        "a daemon's workers are killed, stopped, and die in their replies",
        _workers_die,
    )
