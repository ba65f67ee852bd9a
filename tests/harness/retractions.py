"""Whole daemons, ended by `kill -9` while a file is taken back, while what came after it is learnt again, and while it is retried.

    learnt ─▶ `retract`, somebody killed ─▶ lives, killed ─▶ perhaps `retry`, somebody killed ─▶ lives, killed ─▶ judged

Rules. What comes of it is what comes of a root that never had the file; or, where it was retried, that had it last. It is the
daemon that dies, or the command where no daemon runs and it does the work itself. An order whose client saw no
answer is given again until the journal has it.
"""

from __future__ import annotations

import functools
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.daemon import sample_tables
from tests.daemon.daemon_root import Root, eventually, job, root_in, rounds
from tests.daemon.live_records import live
from tests.harness import oracle
from tests.harness.fault import Fault, Round
from tests.harness.ordeal import Ordeal, unverified

JOB = job(training=rounds(16))
ROWS = {"0.csv": 1500, "1.csv": 150, "2.csv": 1500, "3.csv": 150, "4.csv": 1500}
FILES = {
    name: sample_tables.csv(sample_tables.rows(count, seed))
    for seed, (name, count) in enumerate(ROWS.items())
}
MOST_DISTURBED = 3  # of the tries of one order; then it is left in peace


@dataclass(frozen=True, slots=True)
class Order:
    """A command on one file, and how to see in a root that it was carried out."""

    command: str
    name: str
    done: Callable[[Root], bool]

    def given(self, root: Root) -> subprocess.Popen[bytes]:
        whole = root.command(self.command, "--root", str(root.path), "--job", "j", self.name)
        quiet = subprocess.DEVNULL
        return subprocess.Popen(whole, stdin=quiet, stdout=quiet, stderr=quiet)


def _retract(name: str) -> Order:
    return Order(
        "retract", name, lambda root: bool(root.files(name=name.encode(), state="retracted"))
    )


def _retry(name: str) -> Order:
    return Order("retry", name, lambda root: name not in root.names("failed"))


def _taken_back(seed: int, place: Path) -> Round:
    chance = random.Random(seed)
    taken, retried = chance.choice(list(FILES)), chance.random() < 0.5
    with root_in(place) as root:
        ordeal = Ordeal(root, chance)
        _learn(root, list(FILES), keep=chance.choice([1, 10]))
        _carry_out(ordeal, _retract(taken))
        _lives(ordeal)
        if retried:
            _carry_out(ordeal, _retry(taken))
            _lives(ordeal)
        ordeal.end_quietly()
        ordeal.done.wrong += _compared(undisturbed(place.parent, taken, retried), root)
        return ordeal.done


def _learn(root: Root, names: list[str], keep: int = 10) -> None:
    chunks, often = {"chunk_bytes": 8000, "workers": 1}, {"every_rows": 250}
    root.configure(JOB, commit={"keep": keep}, service=chunks, logs=often)
    for name in names:
        root.drop(name, FILES[name])
    root.once()


@functools.cache
def undisturbed(home: Path, taken: str, retried: bool) -> Root:
    """The root that never had the file, or had it last."""
    with root_in(home / f"without-{taken}-{retried}") as root:
        _learn(root, [name for name in FILES if name != taken])
        if retried:
            _learn(root, [taken])
        return root


def _carry_out(ordeal: Ordeal, order: Order) -> None:
    """Disturbed some times, then in peace."""
    for _ in range(ordeal.chance.randint(1, MOST_DISTURBED)):
        ordeal.chance.choice([_daemon_dies, _daemon_dies_of_it, _command_dies])(ordeal, order)
        if order.done(ordeal.root):
            return
    if order.given(ordeal.root).wait() != 0:
        ordeal.done.wrong.append(f"{order.command} {order.name} in peace failed")


def _daemon_dies(ordeal: Ordeal, order: Order) -> None:
    """At some time from the asking to the answer, or later."""
    life = ordeal.healthy()
    client, seconds = order.given(ordeal.root), ordeal.chance.uniform(0, 1.5) * ordeal.start_seconds
    time.sleep(seconds)
    ordeal.kill(life, f"kill -9 of the daemon {seconds:.3f} s after {order.command}")
    client.wait()


def _daemon_dies_of_it(ordeal: Ordeal, order: Order) -> None:
    """As soon as it can be seen that the order was carried out."""
    life = ordeal.healthy()
    client = order.given(ordeal.root)
    eventually(lambda: order.done(ordeal.root) or client.poll() is not None, order.command, life)
    ordeal.kill(life, f"kill -9 of the daemon when {order.command} is in the journal")
    client.wait()


def _command_dies(ordeal: Ordeal, order: Order) -> None:
    """While no daemon runs."""
    client, seconds = order.given(ordeal.root), ordeal.chance.uniform(0, 1.2) * ordeal.start_seconds
    time.sleep(seconds)
    client.kill()
    client.wait()
    ordeal.counted(f"kill -9 of {order.command} {seconds:.3f} s after its start")


def _lives(ordeal: Ordeal) -> None:
    for _ in range(ordeal.chance.randint(1, 4)):
        ordeal.kill_at_work()


def _compared(expected: Root, found: Root) -> Iterator[str]:
    if expected.model_sha256() != found.model_sha256():
        yield "the models differ"
    if live(expected) != live(found):
        yield "the records that count differ"
    names = set(found.names("failed"))
    gone = set(FILES) - set(found.names("done"))
    if found.names("done") != expected.names("done") or names != gone | {
        f"{n}.error.json" for n in gone
    }:
        yield f"done: {found.names('done')}, failed: {found.names('failed')}"
    yield from (f"left over: {path}" for path in found.leftovers())
    yield from oracle.strays(found.path)
    yield from unverified(found, {"j"})


def faults() -> Iterator[Fault]:
    """The faults of this module."""
    yield Fault(
        "daemon-retract",
        "`kill -9` of daemon or command during `retract`, the learning again after it, and `retry`",
        _taken_back,
    )
