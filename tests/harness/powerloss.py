"""Power loss: from a recorded life come the states that its disk may be in, and on each a life begins and must end well.

    life ─record─▶ events ─seed: a point─▶ legal state ─▶ a life on it ─▶ the oracle
                                               └─record again: the power goes during recovery, too

Rules. What was said to the world before the power went must be in the journal after it; and what the next life comes to
must be what an undisturbed one does, byte for byte. The files that were dropped are on the disk from the beginning.
"""

from __future__ import annotations

import copy
import errno
import functools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.harness import oracle, scripted_run, sweep
from tests.harness.children import End, in_child
from tests.harness.disks import EVERYTHING, Disk, Style, lay_out
from tests.harness.fault import Fault, Round
from tests.harness.record import Event, read
from tests.harness.shim import NOTHING, Action, Kind, Plan, loaded

Inodes = Mapping[int, int]
OTHERS = 1 << 40  # what shim.c adds to the number of an inode that it was not told of


@functools.cache
def recorded(home: Path) -> tuple[Disk, Sequence[Event]]:
    """The disk before the undisturbed life, and what happened in it."""
    root = home / "recorded"
    sweep.must(in_child(lambda: scripted_run.prepare(root)))
    disk = Disk(root)
    assert _live(root, home / "record", None) is End.DONE
    return disk, read(home / "record")


def _live(root: Path, record: Path | None, inodes: Inodes | None, plan: Plan = NOTHING) -> End:
    def life() -> None:
        watched = loaded()
        assert watched is not None
        watched.watch(root, plan, record=record, inodes=inodes)
        scripted_run.run(root, said=watched.mark)

    return in_child(life, quiet=plan.action is not Action.COUNT)


@dataclass(slots=True)
class State:
    """A folder that is what a disk held, and what the world had been told by then."""

    folder: Path
    inodes: Inodes
    said: Sequence[str]

    @classmethod
    def of(
        cls, disk: Disk, folder: Path, chance: random.Random, style: Style | None = None
    ) -> State:
        inodes = lay_out(disk, folder, chance, style or Style.chosen(chance))
        return cls(folder, inodes, disk.said)

    def live(self, record: Path) -> tuple[End, Disk, Sequence[Event]]:
        """A life on it, recorded: how it ended, the disk before it, what happened."""
        disk = Disk(self.folder, lambda number: self.inodes.get(number, number + OTHERS))
        disk.said = [*self.said]
        return _live(self.folder, record, self.inodes), disk, read(record)

    def judged(self, home: Path, done: Round, cuts: int = 1) -> Round:
        """Nothing said is lost, so often as the power went, and a life on it comes to what an undisturbed one does."""
        done.wrong += _lost_words(self.folder, self.said, cuts)
        if not done.wrong and _live(self.folder, None, self.inodes) is not End.DONE:
            done.wrong.append("the life on it failed")
        if not done.wrong:
            done.wrong += oracle.differences(sweep.undisturbed(home), self.folder)
            done.wrong += oracle.strays(self.folder)
        return done


AFTER_IT: dict[str, set[str] | None] = {
    "admitted": None,
    "accepted": {"retracted"},
    "refused": {"withdrawn"},
    "retracted": {"withdrawn"},
}
"""What may have been decided of a file after what was said of it last, before anything was said of that; None: anything."""


def _after(state: str, cuts: int) -> set[str] | None:
    """As `AFTER_IT`, where the power went so often: a life finds decided what the one before it had no time to say, doesn't
    say it either, and decides the next thing."""
    later = AFTER_IT.get(state, set())
    if later is None or cuts == 1:
        return later
    return later.union(*(_after(one, cuts - 1) or set() for one in later))


def _lost_words(folder: Path, said: Sequence[str], cuts: int) -> Iterator[str]:
    if not said:
        return
    known = {f"{f['job']} {f['admission']}": f for f in oracle.rows(folder, "files")}
    last = {
        (job, number): (state, int(revision))
        for state, job, number, revision in map(str.split, said)
    }
    for (job, number), (state, revision) in last.items():
        row = known.get(f"{job} {number}")
        if row is not None and row["revision"] > revision:
            continue  # it is learnt once more since then
        later = _after(state, cuts)
        if row is None or not (row["state"] == state or later is None or row["state"] in later):
            now = None if row is None else row["state"]
            yield f"lost: {state} {job} {number}, and the journal says {now}"


def _power_lost(seed: int, place: Path) -> Round:
    chance = random.Random(seed)
    pristine, events = recorded(place.parent)
    disk, point = copy.deepcopy(pristine), chance.randint(0, len(events))
    for event in events[:point]:
        disk.take(event)
    done = Round(1, notes=[f"the power went after event {point} of {len(events)}"])
    return State.of(disk, place / "state", chance).judged(place.parent, done)


def _power_lost_again(seed: int, place: Path) -> Round:
    """During the recovery, too."""
    chance = random.Random(seed)
    pristine, events = recorded(place.parent)
    disk, point = copy.deepcopy(pristine), chance.randint(0, len(events))
    for event in events[:point]:
        disk.take(event)
    done = Round(2, notes=[f"the power went after event {point} of {len(events)}"])
    end, disk, events = State.of(disk, place / "state", chance).live(place / "record")
    if end is not End.DONE:
        done.wrong.append("the life on it failed")
        return done
    point = chance.randint(0, min(len(events), chance.choice([100, 1000])))
    for event in events[:point]:
        disk.take(event)
    done.notes.append(f"and after event {point} of {len(events)} of the life after it")
    return State.of(disk, place / "again", chance).judged(place.parent, done, cuts=2)


def _flush_lost(seed: int, place: Path) -> Round:
    """A flush fails, and what was to be flushed is gone from the kernel's memory: no later flush brings it back."""
    chance, home = random.Random(seed), place.parent
    root = place / "root"
    sweep.must(in_child(lambda: scripted_run.prepare(root)))
    disk = Disk(root)
    point = 1 + seed % sweep.calls(home, Kind.SYNC).whole
    plan = Plan(Action.FAIL, point, error=errno.EIO, kinds=Kind.SYNC)
    _live(root, place / "record", None, plan)
    for event in read(place / "record"):
        disk.take(event)
    done = Round(1, notes=[str(plan)])
    return State.of(disk, place / "state", chance, EVERYTHING).judged(home, done)


def faults() -> Iterator[Fault]:
    """The faults of this module."""
    yield Fault(
        "power", "the power goes: a legal state of the disk", _power_lost, needs=sweep.needs_shim
    )
    yield Fault(
        "power-again",
        "the power goes, and again during recovery or after it",
        _power_lost_again,
        needs=sweep.needs_shim,
    )
    yield Fault(
        "flush-lost",
        "an fsync fails, and what it was to flush is lost",
        _flush_lost,
        lambda home: sweep.calls(home, Kind.SYNC).whole,
        needs=sweep.needs_shim,
    )
