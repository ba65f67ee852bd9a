"""Runs the harness: chosen faults, for so many seconds or rounds, from a seed; tells, and writes the table.

    python -m tests.harness                                   all faults, half a minute
    python -m tests.harness --seconds 86400 --seed 7          for a day
    python -m tests.harness --faults kill,eio --every         every point, one after the other until none is left
    python -m tests.harness --seconds 3600 --table            and write what came of it into docs/reliability.md
    python -m tests.harness --faults daemon --kills 5000      until so many were injected

Rules. Time is shared among the faults: next comes the one that had least. The exit status is 1 when anything was violated,
and each violation is printed with the command that makes it again. SIGINT (Ctrl-C) and SIGTERM end it early: what was done
counts, a violation of the round that was cut off, too; without one the exit status is the shell's for the signal, 130 or 143.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.harness import shim, table
from tests.harness.catalogue import FAULTS
from tests.harness.fault import Fault, Round, Tally, watched

TELL_SECONDS = 60.0
_asked: list[int] = []  # signals that asked to leave


class Interrupted(KeyboardInterrupt):
    """A signal asks to leave."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    chosen = [fault for fault in FAULTS.values() if fault.name in options.faults]
    tallies: list[Tally] = []
    interrupted = 0
    try:
        with interruptible(), home(options.place) as place:
            run(chosen, place, options, tallies)
    except Interrupted as signalled:
        interrupted = 128 + signalled.number
        print(f"interrupted by {signalled}: the round that ran was left, and was not judged")
    for tally in tallies:
        print(table.told(tally))
    if options.table:
        table.write(tallies)
    wrong = [f"{tally.fault.name}: {what}" for tally in tallies for what in tally.wrong]
    print(*wrong, sep="\n")
    return 1 if wrong else interrupted


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT and SIGTERM raise Interrupted: no daemon is to outlive its round.

    Where the signal meets code that Python lets no exception leave (a finaliser, a lock of logging after a fork), the round
    goes on to its end, and `run` leaves then.
    """

    def interrupt(number: int, _: object) -> None:
        _asked.append(number)
        raise Interrupted(number)

    _asked.clear()
    before = {n: signal.signal(n, interrupt) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(
    chosen: Sequence[Fault], place: Path, options: argparse.Namespace, tallies: list[Tally]
) -> None:
    """Rounds of the faults, the one that had least time next, until the budget is spent or nothing is left; `tallies` is
    what came of them, also when it is cut off."""
    left: dict[str, float] = {}
    for fault in chosen:
        if why := fault.needs():
            print(f"{fault.name}: skipped, {why}")
            continue
        tally = Tally(fault, options.seed, options.stride)
        tallies.append(tally)
        left[fault.name] = _most(fault, place, options)
    begun = told = time.monotonic()
    while open_ones := [t for t in tallies if _is_open(t, left[t.fault.name], options.kills)]:
        if _asked:
            raise Interrupted(_asked[-1])
        if options.seconds and time.monotonic() - begun > options.seconds:
            return
        one_round(min(open_ones, key=lambda tally: tally.seconds), place)
        if time.monotonic() - told > TELL_SECONDS:
            told = time.monotonic()
            print(f"{told - begun:.0f} s: {', '.join(map(table.so_far, tallies))}", flush=True)


def _is_open(tally: Tally, rounds: float, kills: int) -> bool:
    return tally.rounds < rounds and not 0 < kills <= tally.injected


def one_round(tally: Tally, place: Path) -> None:
    """The fault's next round, in a folder of its own."""
    folder = place / f"{tally.fault.name}-{tally.next_seed}"
    folder.mkdir()
    begun = time.monotonic()
    with watched() as seen:
        try:
            done = tally.fault.round(tally.next_seed, folder)
        except Exception:  # say, what was waited for never came
            done = seen()
            done += Round(int(not done.injected), wrong=[traceback.format_exc()])
        except Interrupted:
            if (done := seen()).wrong:
                _add(tally, done, begun)
            raise
    _add(tally, done, begun)
    shutil.rmtree(folder, ignore_errors=True)


def _add(tally: Tally, done: Round, begun: float) -> None:
    known = len(tally.wrong)
    tally.add(done, time.monotonic() - begun)
    for what in tally.wrong[known:]:
        print(f"VIOLATED {tally.fault.name}: {what}", flush=True)


@contextmanager
def home(wanted: str | None = None) -> Iterator[Path]:
    """A folder in memory where there is one: a kill loses nothing that was written, so no disk is needed."""
    memory = Path("/dev/shm")
    roomy = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 256 << 20
    parent = wanted or (memory if roomy else None)
    with tempfile.TemporaryDirectory(prefix="harness-", dir=parent) as folder:
        yield Path(folder)


def _most(fault: Fault, place: Path, options: argparse.Namespace) -> float:
    if options.every:
        return fault.whole(place) if fault.whole else options.rounds
    return options.faults[fault.name] or options.rounds or float("inf")


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.harness", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--seconds",
        type=float,
        default=0.0,
        help="how long in all (30, unless --rounds, --kills or --every)",
    )
    parser.add_argument("--rounds", type=int, default=0, help="how many rounds of each fault")
    parser.add_argument(
        "--kills", type=int, default=0, help="until each fault was injected so many times"
    )
    parser.add_argument(
        "--every", action="store_true", help="every point of those faults that have them"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=1,
        help="of the first round; the next has the seed plus the stride",
    )
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument(
        "--faults",
        default=",".join(FAULTS),
        help=f"some of {', '.join(FAULTS)}; NAME:ROUNDS for so many",
    )
    parser.add_argument("--place", help="the folder for all roots (default: in memory)")
    parser.add_argument(
        "--table", action="store_true", help="write the figures into docs/reliability.md"
    )
    options = parser.parse_args(arguments)
    named = [word.partition(":") for word in options.faults.split(",")]
    options.faults = {name: int(rounds or 0) for name, _, rounds in named}
    if unknown := options.faults.keys() - FAULTS.keys():
        parser.error(f"--faults: must be some of {', '.join(FAULTS)}, got {', '.join(unknown)}")
    ends = (options.seconds, options.rounds, options.kills, options.every, *options.faults.values())
    if not any(ends):
        options.seconds = 30.0
    return options


if __name__ == "__main__":
    shim.restart_with_shim("tests.harness")
    sys.exit(main(sys.argv[1:]))
