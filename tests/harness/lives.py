"""Whole daemons: lives that end by `kill -9` at any moment, and lives whose workers die; then a quiet one, and the oracle.

    root ─▶ life, killed ─▶ life, killed while it recovers ─▶ … ─▶ `run --once` ─▶ as if nothing had happened?

Rules. A round is one root, with jobs of several shapes and files of several sizes, some of them bad. What the seed
decides is what happens and when; what it meets there is the machine's choice, so a violation may need several tries to
be met again. After each kill nobody may be left, and each start must be healthy within a bound.
"""

from __future__ import annotations

import errno
import functools
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.daemon import daemon_root, sample_tables
from tests.daemon.daemon_root import Life, Root, eventually, job, root_in, rounds
from tests.harness import oracle, record, shim
from tests.harness.fault import Fault, Round
from tests.harness.shim import Action, Kind, Plan

daemon_root.PATIENCE_SECONDS = 300.0  # a machine that is busy for days must not look like a hang
CHAOS = Path(__file__).with_name("chaos")  # holds a sitecustomize.py, which the workers import

LOCAL = {"kernel": "mlp", "hidden": [6], "classes": 2}
JOBS: tuple[Mapping[str, Any], ...] = (
    job("plain", training=rounds(16)),
    job("exact", training=rounds(8, 3), output={"samples": "full"}),
    job("local", model=LOCAL, training=rounds(8, 3, 2), output={"samples": "off"}),
    job("columns", training={"batch_rows": 64, "lanes": 2, "partition": "features"}),
)
FILES: Mapping[str, bytes] = {
    "0-long.csv": sample_tables.csv(sample_tables.rows(5000, 1)),
    "1-short.csv": sample_tables.csv(sample_tables.rows(90, 2)),
    "2-bad.csv": b"a,b,c,y\n1,2,3,0\n1,2,three,0\n",
    "3-lines.jsonl": sample_tables.jsonl(sample_tables.rows(700, 3)),
    "4-again.csv": sample_tables.csv(sample_tables.rows(90, 2)),
    "5-empty.csv": b"",
    "6-table.parquet": sample_tables.parquet(sample_tables.rows(1500, 4)),
}
GOOD, SAME = 4, 1
DEADLINE_SECONDS = 8.0  # a new worker on a busy machine must not miss it by itself


@dataclass(slots=True)
class Ordeal:
    """A root in trouble."""

    root: Root
    chance: random.Random
    done: Round = field(default_factory=Round)

    def configure(self, **service: Any) -> None:
        chunks = {"chunk_bytes": 8000, "workers": self.chance.choice([1, 2, 3])}
        self.root.configure(*JOBS, service=chunks | service, logs={"every_rows": 250})
        for one in JOBS:
            for name, data in FILES.items():
                self.root.drop(name, data, one["name"])

    def kill(self, life: Life, what: str) -> None:
        """kill -9, and nobody may be left of it."""
        workers = life.workers() if life.process.poll() is None else []
        life.process.kill()
        life.process.wait()
        self.counted(what)
        self.done.wrong += oracle.await_gone(workers)

    def counted(self, what: str) -> None:
        self.done.injected += 1
        self.done.notes.append(what)

    def healthy(self, *arguments: str, path: tuple[Path, ...] = ()) -> Life:
        """A life that is ready within the bound."""
        begun = time.monotonic()
        life = self.root.start(*arguments, path=path)
        if (seconds := time.monotonic() - begun) > oracle.HEALTHY_SECONDS:
            self.done.wrong.append(f"the start took {seconds:.0f} s")
        return life

    def judged(self, home: Path) -> Round:
        """A quiet life to the end of all files; then the root is held against the undisturbed one."""
        life = self.root.start("--once", ready=False)
        if life.exit() != 0:
            self.done.wrong.append(f"the quiet life failed: {life.said[-2000:]}")
        self.done.wrong += compared(undisturbed(home), self.root)
        return self.done


@functools.cache
def undisturbed(home: Path) -> Root:
    """The root that all others below `home` are held against."""
    with root_in(home / "quiet") as root:
        Ordeal(root, random.Random(0)).configure()
        root.once()
        assert [len(root.names("done", one["name"])) for one in JOBS] == [GOOD + SAME] * len(JOBS)
        return root


def compared(expected: Root, found: Root) -> Iterator[str]:
    """What is not as in the undisturbed root: bytes of models and logs, names in done/ and failed/, leftovers."""
    for one in JOBS:
        name = one["name"]
        quiet, other = expected.outcome(name), found.outcome(name)
        for part in ("model", "metrics", "samples"):
            if getattr(quiet, part) != getattr(other, part):
                yield f"{name}: {part} differ"
        for folder in ("done", "failed"):
            if expected.names(folder, name) != found.names(folder, name):
                yield f"{folder}/{name}: {found.names(folder, name)}"
    yield from (f"left over: {path}" for path in found.leftovers())
    yield from oracle.strays(found.path)
    yield from (f"in shared memory: {name}" for name in oracle.shared_memory())


# --- deaths of the daemon ----------------------------------------------------------------------------


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
    _await_end_of_files(ordeal.root, life)
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
        for _ in range(ordeal.chance.randint(6, 14)):
            ordeal.chance.choice(DEATHS)(ordeal)
        return ordeal.judged(home)


# --- a disk in trouble -------------------------------------------------------------------------------


def _disk_in_trouble(seed: int, place: Path) -> Round:
    """A call of the daemon fails, or is cut short, or finds no room for a while, in several lives one after the other."""
    home = place.parent
    undisturbed(home)
    with root_in(place) as root:
        ordeal = Ordeal(root, random.Random(seed))
        ordeal.configure()
        for _ in range(ordeal.chance.randint(2, 4)):
            ordeal.chance.choice(TROUBLES)(ordeal)
        return ordeal.judged(home)


def _troubled(ordeal: Ordeal, plan: Plan) -> bool:
    """A life under a plan: did it get all files done?"""
    root, log = ordeal.root, ordeal.root.home / "disk.log"
    log.unlink(missing_ok=True)
    root.environment = shim.environment(root.path, plan, record=log)
    life = root.start(ready=False)
    root.environment = {}
    everything = _await_end_of_files(root, life)
    ordeal.counted(f"daemon: {plan}")
    if everything:
        life.stop()
    elif life.exit() not in (0, 1):
        ordeal.done.wrong.append(f"the daemon ended with {life.process.returncode}: {life.said}")
    return everything


def _flush_fails(ordeal: Ordeal) -> None:
    """It stops, and never flushes that file again."""
    at = ordeal.chance.randint(1, 150)
    error = ordeal.chance.choice([errno.EIO, errno.ENOSPC])
    _troubled(ordeal, Plan(Action.FAIL, at, error=error, kinds=Kind.SYNC))
    events = record.read(ordeal.root.home / "disk.log")
    failed = [n for n, event in enumerate(events) if event.what is record.What.SYNC_FAILED]
    for number in failed:
        path = events[number].one
        again = [e for e in events[number:] if e.what is record.What.SYNC and e.one == path]
        if again and not path.endswith(b"/state"):  # of which SQLite's failed flush means nothing
            ordeal.done.wrong.append(f"{path!r} was flushed again after a failure")


def _call_fails(ordeal: Ordeal) -> None:
    """It stops, or bears it where nothing depends on it (what it shows of itself)."""
    at = ordeal.chance.randint(1, 900)
    _troubled(ordeal, Plan(Action.FAIL, at, error=errno.EIO, kinds=Kind.ALL & ~Kind.SYNC))


def _no_room(ordeal: Ordeal) -> None:
    """Once it is at work it waits for room, and goes on by itself."""
    at, many = ordeal.chance.randint(1, 900), ordeal.chance.randint(1, 6)
    kinds = Kind.ALL & ~Kind.SYNC
    plan = Plan(Action.FAIL, at, at + many, errno.ENOSPC, kinds, ordeal.chance.choice(ROOMS))
    if not _troubled(ordeal, plan) and ordeal.root._lives[-1].events("ready"):
        said = ordeal.root._lives[-1].said[-1500:]
        ordeal.done.wrong.append(f"it did not go on by itself: {plan}: {said}")


def _writes_cut_short(ordeal: Ordeal) -> None:
    at = ordeal.chance.randint(1, 900)
    plan = Plan(Action.SHORT, at, at + ordeal.chance.randint(0, 200), kinds=Kind.WRITE)
    if not _troubled(ordeal, plan):
        ordeal.done.wrong.append(f"short writes ended it: {ordeal.root._lives[-1].said[-1500:]}")


ROOMS = ("", "/logs/", "/models/", "/state/private/", "/state/spool/", "/journal.sqlite", "/done/")
TROUBLES: tuple[Callable[[Ordeal], None], ...] = (
    _flush_fails,
    _call_fails,
    _no_room,
    _writes_cut_short,
)


# --- deaths of workers -------------------------------------------------------------------------------


def _await_end_of_files(root: Root, life: Life) -> bool:
    """Until all files are done (True) or the daemon has ended (False)."""

    def see() -> str:
        if life.process.poll() is not None:
            return "ended"
        done = all(len(root.names("done", one["name"])) == GOOD + SAME for one in JOBS)
        return "done" if done and not root.leftovers() and life.events("ready") else ""

    return eventually(see, "the end of the files") == "done"


def _workers_die(seed: int, place: Path) -> Round:
    """Workers are killed and stopped from outside, and die in their replies by themselves; then, perhaps, the daemon."""
    home = place.parent
    undisturbed(home)
    with root_in(place) as root:
        ordeal = Ordeal(root, random.Random(seed))
        chance = ordeal.chance
        ordeal.configure(deadline_seconds=DEADLINE_SECONDS)
        log = place / "chaos.log"
        root.environment = {"HEADRACE_CHAOS": f"{seed}|{chance.choice([0.002, 0.01])}|{log}"}
        life = ordeal.healthy(path=(CHAOS,))
        _harass(ordeal, life)
        if chance.random() < 0.5:
            ordeal.kill(life, "kill -9")
        else:
            if not _await_end_of_files(root, life):
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
        "daemon",
        "`kill -9` of the whole daemon: at work, starting, recovering, stopping, at a call",
        _killed,
    )
    yield Fault(
        "daemon-disk",
        "the whole daemon's calls fail (fsync, EIO, ENOSPC for a while) or are cut short",
        _disk_in_trouble,
        needs=lambda: "" if shim.library() else "no C compiler for the shim",
    )
    yield Fault(
        "daemon-workers",
        "a daemon's workers are killed, stopped, and die in their replies",
        _workers_die,
    )
