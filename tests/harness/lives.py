"""Whole daemons, ended by `kill -9`: at work, starting, recovering, stopping, and at calls that change a file.

Rules. Somebody follows the logs all the while, as `tail -f` does: what he has read once stays as he has read it.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from tests.daemon.daemon_root import root_in
from tests.harness import shim
from tests.harness.fault import Fault, Round
from tests.harness.ordeal import JOBS, Ordeal, await_end_of_files, undisturbed
from tests.harness.shim import Action, Plan

TAIL_SECONDS = 0.005


class Tail:
    """Reads growing logs as `tail -f` does, in a thread, through the daemon's deaths."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.read = dict.fromkeys(paths, b"")
        self.wrong: list[str] = []
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> list[str]:
        """What a reader has seen that was taken back, or was not what came to stay."""
        self._leave.set()
        self._thread.join()
        for path, seen in self.read.items():
            if path.exists() and not path.read_bytes().startswith(seen):
                self.wrong.append(f"{path.name}: a reader saw other bytes than those that stayed")
        return self.wrong

    def _run(self) -> None:
        while not self._leave.wait(TAIL_SECONDS):
            for path in self.read:
                with suppress(FileNotFoundError), path.open("rb") as file:
                    if file.seek(0, os.SEEK_END) < len(self.read[path]):
                        self.wrong.append(f"{path.name} has become shorter")
                    file.seek(len(self.read[path]))
                    self.read[path] += file.read()


def _after_ready(ordeal: Ordeal) -> None:
    life, seconds = ordeal.healthy(), ordeal.chance.uniform(0, 1.5)
    time.sleep(seconds)  # the moment is what the seed says: any is good
    ordeal.kill(life, f"kill -9 {seconds:.3f} s after it was ready")


def _while_starting(ordeal: Ordeal) -> None:
    life, seconds = ordeal.root.start(ready=False), ordeal.chance.uniform(0, 2.0)
    time.sleep(seconds)
    ordeal.kill(life, f"kill -9 {seconds:.3f} s after its start")


def _at_a_call(ordeal: Ordeal) -> None:
    """At a call that changes a file, as the daemon's own threads make them."""
    action = ordeal.chance.choice([Action.KILL, Action.TORN])
    plan = Plan(action, ordeal.chance.randint(1, 600))
    ordeal.root.environment = shim.environment(ordeal.root.path, plan)
    life = ordeal.root.start(ready=False)
    ordeal.root.environment = {}
    await_end_of_files(ordeal.root, life)
    ordeal.kill(life, f"daemon: {plan}")


def _while_stopping(ordeal: Ordeal) -> None:
    life, seconds = ordeal.healthy(), ordeal.chance.uniform(0, 1.0)
    time.sleep(seconds)
    life.signal(signal.SIGTERM)
    again = ordeal.chance.uniform(0, 0.3)
    time.sleep(again)
    ordeal.kill(life, f"SIGTERM after {seconds:.3f} s, kill -9 {again:.3f} s later")


DEATHS: tuple[Callable[[Ordeal], None], ...] = (
    _after_ready,
    _after_ready,
    _while_starting,
    _at_a_call,
    _while_stopping,
)


def _killed(seed: int, place: Path) -> Round:
    home = place.parent
    undisturbed(home)
    with root_in(place) as root:
        ordeal = Ordeal(root, random.Random(seed))
        ordeal.configure()
        logs = [root.folder("logs", one["name"]) for one in JOBS]
        tail = Tail(log / name for log in logs for name in ("metrics.jsonl", "samples.jsonl"))
        try:
            for _ in range(ordeal.chance.randint(6, 14)):
                ordeal.chance.choice(DEATHS)(ordeal)
            return ordeal.judged(home)
        finally:
            ordeal.done.wrong += tail.close()


def faults() -> Iterator[Fault]:
    """The faults of this module."""
    yield Fault(
        "daemon",
        "`kill -9` of the whole daemon: at work, starting, recovering, stopping, at a call",
        _killed,
    )
