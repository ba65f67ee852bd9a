"""Whole daemons, ended by `kill -9`: at work, starting, recovering, stopping, and at calls that change a file.

    two roots side by side, each:  files come ─▶ life, killed ─▶ life, killed ─▶ files come ─▶ … ─▶ judged once

Rules. Somebody follows the logs all the while, as `tail -f` does: what he has read once stays as he has read it. Half of the
kills are to meet a daemon that is ready, and the others its whole birth. All times are shares of what a start takes, which is
what a kill costs: so who was ready is not left to work for long, and the files of a root last for all its lives.
A start is mostly one core's work, hence the two roots; and what judging costs is shared by some dozens of kills.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from tests.daemon.daemon_root import root_in
from tests.harness import shim
from tests.harness.fault import Fault, Round
from tests.harness.ordeal import COMING, JOBS, Ordeal, await_end_of_files, undisturbed
from tests.harness.shim import Action, Plan

TAIL_SECONDS = 0.02
ROOTS = 2
KILLS = (36, 48)  # of one root
MOST_CALLS = (
    200  # what a life makes in its first moments of work; the storage sweeps leave out none
)


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


def _while_starting(ordeal: Ordeal) -> None:
    seconds = ordeal.chance.uniform(0, 1.1) * ordeal.start_seconds
    life = ordeal.root.start(ready=False)
    time.sleep(seconds)
    ordeal.kill(life, f"kill -9 {seconds:.3f} s after its start")


def _at_a_call(ordeal: Ordeal) -> None:
    """At a call that changes a file, as the daemon's own threads make them."""
    action = ordeal.chance.choice([Action.KILL, Action.TORN])
    plan = Plan(action, ordeal.chance.randint(1, MOST_CALLS))
    ordeal.root.environment = shim.environment(ordeal.root.path, plan)
    life = ordeal.root.start(ready=False)
    ordeal.root.environment = {}
    await_end_of_files(ordeal.root, life)
    ordeal.kill(life, f"daemon: {plan}")


def _while_stopping(ordeal: Ordeal) -> None:
    life = ordeal.healthy()
    seconds = ordeal.chance.uniform(0, 0.3) * ordeal.start_seconds
    time.sleep(seconds)
    life.signal(signal.SIGTERM)
    again = ordeal.chance.uniform(0, 0.3)
    time.sleep(again)
    ordeal.kill(life, f"SIGTERM after {seconds:.3f} s, kill -9 {again:.3f} s later")


DEATHS: tuple[Callable[[Ordeal], None], ...] = (
    Ordeal.kill_at_work,
    Ordeal.kill_at_work,
    Ordeal.kill_at_work,
    _while_starting,
    _while_starting,
    _while_starting,
    _at_a_call,
    _while_stopping,
)


def _killed(seed: int, place: Path) -> Round:
    """Several roots at the same time; an interruption ends each at its next kill."""
    undisturbed(place.parent)
    leave = threading.Event()

    def besieged(number: int) -> Round:
        return _besieged(
            random.Random(f"{seed} {number}"), place / str(number), place.parent, leave
        )

    with ThreadPoolExecutor(ROOTS) as threads:
        try:
            parts = list(threads.map(besieged, range(ROOTS)))
        finally:
            leave.set()
    return sum(parts, start=Round())


def _besieged(chance: random.Random, place: Path, home: Path, leave: threading.Event) -> Round:
    with root_in(place) as root:
        ordeal = Ordeal(root, chance)
        ordeal.configure()
        logs = [root.folder("logs", one["name"]) for one in JOBS]
        tail = Tail(log / name for log in logs for name in ("metrics.jsonl", "samples.jsonl"))
        try:
            _lives(ordeal, leave)
            return ordeal.done if leave.is_set() else ordeal.judged(home)
        finally:
            ordeal.done.wrong += tail.close()


def _lives(ordeal: Ordeal, leave: threading.Event) -> None:
    """The files come one group after the other, in the first half of the lives, while no daemon lists the inbox: their order is that
    of their names."""
    kills = ordeal.chance.randint(*KILLS)
    coming = dict(
        zip(sorted(ordeal.chance.sample(range(kills // 2), len(COMING))), COMING, strict=True)
    )
    for number in range(kills):
        if leave.is_set():
            return
        ordeal.drop(coming.get(number, []))
        ordeal.chance.choice(DEATHS)(ordeal)


def faults() -> Iterator[Fault]:
    """The faults of this module."""
    yield Fault(
        "daemon",
        "`kill -9` of the whole daemon: at work, starting, recovering, stopping, at a call",
        _killed,
    )
