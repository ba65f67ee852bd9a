"""What a fault is, and what comes of injecting it: the common shape of everything that the harness does.

Rules. A round is a function of its seed and of nothing else that it can help (a process killed "after 0.31 s" meets what
it meets). The seeds of a run are its first one, and those that follow by `stride`; so `--seed` of a violation and
`--rounds 1` repeat it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

MOST_SHOWN = 4  # of what one round found wrong
_begun: list[
    Round
] = []  # since a round is watched: it may be cut off before it can return what it saw


@dataclass(slots=True)
class Round:
    """What one round did: how many faults were injected, how many of them met a daemon that was ready, and what the oracle
    found wrong."""

    injected: int = 0
    ready: int = 0
    wrong: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        _begun.append(self)

    def __add__(self, other: Round) -> Round:
        return Round(
            self.injected + other.injected,
            self.ready + other.ready,
            self.wrong + other.wrong,
            self.notes + other.notes,
        )


@contextmanager
def watched() -> Iterator[Callable[[], Round]]:
    """A round runs within; gives what it has seen so far, all its parts together."""
    _begun.clear()

    def seen() -> Round:
        return sum(_begun[:], start=Round())

    yield seen


@dataclass(frozen=True, slots=True)
class Fault:
    """One way of disturbing. `round(seed, place)` does it once, in an empty folder of its own.

    `whole`: after how many seeds in a row every point has been tried, where there is such a number. `needs`: a word on
    what is missing here, empty where it can be done.
    """

    name: str
    what: str
    round: Callable[[int, Path], Round]
    whole: Callable[[Path], int] | None = None
    needs: Callable[[], str] = lambda: ""


@dataclass(slots=True)
class Tally:
    """A fault's rounds so far."""

    fault: Fault
    first_seed: int
    stride: int = 1
    rounds: int = 0
    injected: int = 0
    ready: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    @property
    def next_seed(self) -> int:
        return self.first_seed + self.rounds * self.stride

    def add(self, done: Round, seconds: float) -> None:
        seed = self.next_seed
        self.rounds += 1
        self.injected += done.injected
        self.ready += done.ready
        self.seconds += seconds
        if done.wrong:
            shown = done.wrong[:MOST_SHOWN] + [f"and {len(done.wrong) - MOST_SHOWN} more"] * (
                len(done.wrong) > MOST_SHOWN
            )
            again = f"again: {command(self.fault.name, seed, 1)}"
            self.wrong.append("\n    ".join([*done.notes, *shown, again]))


def command(fault: str, seed: int, rounds: int, stride: int = 1) -> str:
    """What makes it again."""
    step = f" --stride {stride}" if stride != 1 else ""
    return f"python -m tests.harness --faults {fault} --seed {seed} --rounds {rounds}{step}"
