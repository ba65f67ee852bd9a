"""Whole daemons in want: calls to the disk fail, are cut short, or find no room for a while; or descriptors run out.

Rules. A failed flush ends the daemon, and that file is not flushed again. Any other error ends it too, or costs only what
it shows of itself. On a full disk, and without descriptors, it waits, and goes on by itself; a short write is continued.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from tests.daemon.daemon_root import Life, none_left, root_in
from tests.harness import record, shim
from tests.harness.fault import Fault, Round
from tests.harness.ordeal import Ordeal, await_end_of_files, undisturbed
from tests.harness.shim import Action, Kind, Plan


def _disk_in_trouble(seed: int, place: Path) -> Round:
    """A call of the daemon fails, or is cut short, or finds no room for a while, in several lives one after the other."""
    home = place.parent
    undisturbed(home)
    with root_in(place) as root:
        ordeal = Ordeal(root, random.Random(seed))
        ordeal.configure()
        ordeal.drop()
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
    everything = await_end_of_files(root, life)
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


def _without_descriptors(seed: int, place: Path) -> Round:
    """The live daemon's limit goes down to what it has, and up again, several times; a worker may die meanwhile."""
    home = place.parent
    undisturbed(home)
    with root_in(place) as root:
        ordeal = Ordeal(root, random.Random(seed))
        ordeal.configure()
        life = ordeal.healthy()
        ordeal.drop()
        for _ in range(ordeal.chance.randint(3, 8)):
            _starved(ordeal, life)
        if await_end_of_files(root, life):
            life.stop()
        else:
            ordeal.done.wrong.append(f"the daemon ended: {life.said[-2000:]}")
        return ordeal.judged(home)


def _starved(ordeal: Ordeal, life: Life) -> None:
    before, hungry = (ordeal.chance.uniform(0, 0.5) * ordeal.start_seconds for _ in range(2))
    spare, kills = ordeal.chance.randrange(4), ordeal.chance.random() < 0.3
    time.sleep(before)  # the moment is what the seed says: any is good
    with suppress(ProcessLookupError), none_left(life, spare):
        for worker in life.workers()[:1] if kills else ():
            os.kill(worker, signal.SIGKILL)
        time.sleep(hungry)
    worker = ", a worker killed" if kills else ""
    ordeal.counted(f"{spare} descriptors left for {hungry:.3f} s{worker}")
    ordeal.done.ready += 1


ROOMS = ("", "/logs/", "/models/", "/state/private/", "/state/spool/", "/journal.sqlite", "/done/")
TROUBLES: tuple[Callable[[Ordeal], None], ...] = (
    _flush_fails,
    _call_fails,
    _no_room,
    _writes_cut_short,
)


def faults() -> Iterator[Fault]:
    """The faults of this module."""
    yield Fault(
        "daemon-disk",
        "the whole daemon's calls fail (fsync, EIO, ENOSPC for a while) or are cut short",
        _disk_in_trouble,
        needs=lambda: (
            "" if shim.library() else "no C compiler for the shim between process and disk"
        ),
    )
    yield Fault(
        "daemon-descriptors",
        "the live daemon can open no more files for a while; workers die meanwhile",
        _without_descriptors,
    )
