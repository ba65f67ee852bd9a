"""The storage sweep: a scripted life, disturbed at one state-changing call after the other, must end as if undisturbed.

Rules. The seed is the point: seed s disturbs call 1 + s mod n, where n is how many calls an undisturbed life makes of
the fault's kinds; so n seeds in a row leave none out. What else a round chooses (the call at which recovery dies, the
path, how long a disk stays full) is chosen by the same seed. Every disturbed life is followed by an undisturbed one.
"""

from __future__ import annotations

import errno
import functools
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from tests.harness import oracle, scripted_run, shim
from tests.harness.children import End, in_child
from tests.harness.fault import Fault, Round
from tests.harness.shim import Action, Kind, Plan

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

PATHS = {
    "result logs": "/logs/",
    "models": "/models/",
    "resume points": "/state/private/",
    "spools": "/state/spool/",
    "journal": "/journal.sqlite",
    "work": "/work/",
    "done": "/done/",
    "failed": "/failed/",
}
NOT_SYNC = Kind.ALL & ~Kind.SYNC
MOST_FULL_CALLS = 40
TIDYING = " at the journal's closing, when all was done"


@functools.cache
def undisturbed(home: Path) -> Path:
    """The root that all others below `home` are held against."""
    root = home / "undisturbed"
    must(in_child(lambda: scripted_run.prepare(root)))
    must(in_child(lambda: scripted_run.run(root)))
    return root


class Calls(NamedTuple):
    """How many calls of some kinds an undisturbed life makes until it is ready, and in all."""

    ready: int
    whole: int


@functools.cache
def calls(
    home: Path, kinds: Kind, part: str = "", hands: scripted_run.Hands = scripted_run.by_hand
) -> Calls:
    root, answer = home / "counted", home / "count"

    def count() -> None:
        scripted_run.prepare(root)
        watched = _shim()
        watched.watch(root, Plan(Action.COUNT, 0, kinds=kinds, part=part))
        seen: list[int] = []

        def see() -> None:
            seen.append(watched.calls)

        scripted_run.run(root, hands, ready=see)
        answer.write_text(f"{seen[0]} {watched.calls}")

    must(in_child(count))
    shutil.rmtree(root)
    return Calls(*map(int, answer.read_text().split()))


def _point(seed: int, home: Path, kinds: Kind, part: str = "") -> int:
    return 1 + seed % max(1, calls(home, kinds, part).whole)


def _whole(kinds: Kind) -> Callable[[Path], int]:
    return lambda home: calls(home, kinds).whole


@dataclass(slots=True)
class Victim:
    """A root whose lives are disturbed."""

    root: Path
    done: Round
    only_linking: bool = False
    met: str = ""  # the path of the last call that was disturbed and survived

    @classmethod
    def prepared(cls, place: Path, *, only_linking: bool = False) -> Victim:
        root = place / "root"
        must(in_child(lambda: scripted_run.prepare(root)))
        return cls(root, Round(), only_linking)

    def live(self, plan: Plan, hands: scripted_run.Hands = scripted_run.by_hand) -> End:
        """One life under a plan."""
        hits = self.root.with_name("hits")
        hits.write_text("")

        def life() -> None:
            watched, tidying = _shim(), []

            def closing() -> None:
                tidying.extend([TIDYING] * (watched.hits == 0))

            watched.watch(self.root, plan, only_linking=self.only_linking)
            try:
                scripted_run.run(self.root, hands, closing=closing)
            finally:
                if watched.hits:
                    hits.write_text(watched.met + "".join(tidying))

        end = in_child(life, quiet=True)
        met = hits.read_text()
        self.met = met or self.met
        self.done.injected += int(end is End.KILLED or bool(met))
        self.done.notes.append(f"{plan}{met and f' ({met})'}: {end.value}")
        return end

    def judged(self, home: Path) -> Round:
        """Lives once more, undisturbed, and is held against the undisturbed."""
        end = self.live(replace(shim.NOTHING))
        if end is not End.DONE:
            self.done.wrong.append("the life after it failed")
        else:
            self.done.wrong += oracle.differences(undisturbed(home), self.root)
            self.done.wrong += oracle.strays(self.root)
        return self.done


# --- the faults ------------------------------------------------------------------------------------


def _killed(seed: int, place: Path, action: Action, kinds: Kind) -> Round:
    victim = Victim.prepared(place)
    victim.live(Plan(action, _point(seed, place.parent, kinds), kinds=kinds))
    return victim.judged(place.parent)


def _killed_again(seed: int, place: Path) -> Round:
    chance = random.Random(seed)
    victim = Victim.prepared(place)
    victim.live(Plan(Action.KILL, _point(seed, place.parent, Kind.ALL)))
    for _ in range(chance.randint(1, 3)):
        victim.live(Plan(chance.choice([Action.KILL, Action.TORN]), chance.randint(1, 60)))
    return victim.judged(place.parent)


def _killed_without_noreplace(seed: int, place: Path) -> Round:
    chance = random.Random(seed)
    victim = Victim.prepared(place, only_linking=True)
    kinds = Kind.LINK | Kind.UNLINK
    victim.live(Plan(Action.KILL, 1 + seed % 60, kinds=kinds))
    victim.live(Plan(Action.KILL, chance.randint(1, 10), kinds=kinds))
    return victim.judged(place.parent)


def _failed(seed: int, place: Path) -> Round:
    """One call fails: the life may bear it or end of it; the next one recovers."""
    victim = Victim.prepared(place)
    point = _point(seed, place.parent, NOT_SYNC)
    victim.live(Plan(Action.FAIL, point, error=errno.EIO, kinds=NOT_SYNC))
    return victim.judged(place.parent)


def _broken(seed: int, place: Path) -> Round:
    """From some call on everything on one kind of path fails, until the disk is replaced: the daemon stops."""
    chance = random.Random(seed)
    part = chance.choice([*PATHS.values()])
    first = chance.randint(1, calls(place.parent, Kind.ALL, part).whole)
    victim = Victim.prepared(place)
    plan = Plan(Action.FAIL, first, 1 << 40, errno.EIO, part=part)
    end = victim.live(plan, scripted_run.by_writer)
    if end is End.DONE and victim.met and not victim.met.endswith(TIDYING):
        victim.done.wrong.append("the daemon went on with a broken disk")
    return victim.judged(place.parent)


def _unflushed(seed: int, place: Path) -> Round:
    """A flush fails: the daemon stops.

    Of the journal's folder SQLite flushes its new files' names too and makes light of a failure; the journal itself
    flushes them before anything is committed, and does not. Closing the journal only tidies up.
    """
    victim = Victim.prepared(place)
    point = _point(seed, place.parent, Kind.SYNC)
    error = random.Random(seed).choice([errno.EIO, errno.ENOSPC])
    end = victim.live(
        Plan(Action.FAIL, point, error=error, kinds=Kind.SYNC), scripted_run.by_writer
    )
    if end is End.DONE and not victim.met.endswith(("/state", TIDYING)) and victim.met:
        victim.done.wrong.append("the daemon went on after a failed flush")
    return victim.judged(place.parent)


def _full(seed: int, place: Path) -> Round:
    """A disk without room for some calls, on all paths or one kind: the life goes on by itself.

    A full quota is not tried on the journal: SQLite does not tell it from a broken disk, so the journal asks the disk
    itself, which here says yes.
    """
    chance = random.Random(seed)
    part = chance.choice(["", *PATHS.values()])
    error = errno.ENOSPC if part in ("", PATHS["journal"]) else chance.choice(FULL)
    made = calls(place.parent, NOT_SYNC, part, scripted_run.by_writer)
    first = chance.randint(1, made.whole)
    last = first + chance.randint(0, MOST_FULL_CALLS)
    victim = Victim.prepared(place)
    end = victim.live(Plan(Action.FAIL, first, last, error, NOT_SYNC, part), scripted_run.by_writer)
    if end is not End.DONE and first > made.ready:
        victim.done.wrong.append("the daemon did not go on by itself")
    return victim.judged(place.parent)


def _short(seed: int, place: Path) -> Round:
    """Half of a write is taken, now and then of all that follow, too; of one kind of path, or the most would be SQLite's."""
    victim, chance = Victim.prepared(place), random.Random(seed)
    part = chance.choice(["", "/logs/", "/models/", "/state/private/", "/state/spool/"])
    point = _point(seed, place.parent, Kind.WRITE, part)
    last = chance.choice([point, point + chance.randint(1, 50)])
    end = victim.live(Plan(Action.SHORT, point, last, kinds=Kind.WRITE, part=part))
    if end is not End.DONE:
        victim.done.wrong.append("the daemon failed of a short write")
    return victim.judged(place.parent)


def needs_shim() -> str:
    return "" if shim.loaded() else "no C compiler for the shim between process and disk"


def faults() -> Iterator[Fault]:
    """The faults of this module."""
    all_calls, writes = _whole(Kind.ALL), _whole(Kind.WRITE)

    def fault(name: str, what: str, injected, whole=None) -> Fault:  # type: ignore[no-untyped-def]
        return Fault(name, what, injected, whole, needs_shim)

    yield fault(
        "kill",
        "`kill -9` at a state-changing call",
        lambda seed, place: _killed(seed, place, Action.KILL, Kind.ALL),
        all_calls,
    )
    yield fault(
        "torn",
        "`kill -9` in the middle of a write",
        lambda seed, place: _killed(seed, place, Action.TORN, Kind.WRITE),
        writes,
    )
    yield fault(
        "kill-again", "`kill -9`, then up to three more during recovery", _killed_again, all_calls
    )
    yield fault(
        "kill-linking",
        "`kill -9` twice where files can only be linked and unlinked, not renamed without replacing",
        _killed_without_noreplace,
    )
    yield fault("eio", "a call fails with EIO", _failed, _whole(NOT_SYNC))
    yield fault("broken", "all calls on one kind of path fail from some point on", _broken)
    yield fault("flush", "an fsync fails", _unflushed, _whole(Kind.SYNC))
    yield fault("full", "no room for a while, by path (ENOSPC, EDQUOT, EFBIG)", _full)
    yield fault("short", "short writes, by path", _short)


# --- small things ----------------------------------------------------------------------------------


def _shim() -> shim.Shim:
    found = shim.loaded()
    assert found is not None, "the shim must be loaded"
    return found


def must(end: End) -> None:
    assert end is End.DONE, "the undisturbed life failed: nothing can be compared"
