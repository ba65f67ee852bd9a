"""How the cost grows: the daemon alone, over sizes from the smallest to the largest that anybody has.

Rules: each point has a root and a daemon of its own, with defaults and no sample records. A point that would take longer
than a limit, going by the one before it, is left out with a word.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.case import make
from benchmarks.daemon import Daemon, Peak, configuration

FEATURES = 10
CELLS = 5_000_000
SMALL_ROWS = 100


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement: `size` of what grows, rows learnt in so many seconds, and the most that all processes had meanwhile."""

    size: int
    rows: int
    seconds: float
    peak: Peak

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds


def rows(folder: Path, count: int) -> Point:
    """One file of so many rows."""
    case = make(folder, count, FEATURES)
    with Daemon(folder, configuration()) as daemon:
        daemon.warm(make(folder, 500, FEATURES).path.read_bytes())
        return _point(count, count, daemon, [daemon.hide(case.path, "rows.csv")])


def columns(folder: Path, count: int) -> Point:
    """One file of so many columns, and always as many cells."""
    case = make(folder, CELLS // count, count)
    with Daemon(folder, configuration()) as daemon:
        daemon.warm(make(folder, 500, count).path.read_bytes())
        return _point(count, case.rows, daemon, [daemon.hide(case.path, "rows.csv")])


def files(folder: Path, count: int) -> Point:
    """So many small files at once."""
    lines = small_files(folder, count)
    with Daemon(folder, configuration()) as daemon:
        daemon.warm(next(lines))
        hidden = [daemon.hide(next(lines), f"{n:06}.csv") for n in range(count)]
        return _point(count, count * SMALL_ROWS, daemon, hidden)


def workers(folder: Path, count: int) -> Point:
    """The same file with so many workers."""
    case = make(folder, CELLS // FEATURES, FEATURES)
    sections = f"[service]\nworkers = {count}\n"
    with Daemon(folder, configuration(sections=sections)) as daemon:
        daemon.warm(make(folder, 500, FEATURES).path.read_bytes())
        return _point(count, case.rows, daemon, [daemon.hide(case.path, "rows.csv")])


def jobs(folder: Path, count: int) -> Point:
    """So many jobs, each with a file of its own, and always as many rows in all."""
    case = make(folder, CELLS // FEATURES // count, FEATURES)
    names = [f"job{n}" for n in range(count)]
    with Daemon(folder, configuration(names), names) as daemon:
        daemon.warm(make(folder, 500, FEATURES).path.read_bytes())
        hidden = [daemon.hide(case.path, "rows.csv", name) for name in names]
        return _point(count, case.rows * count, daemon, hidden)


GROWTHS: dict[str, tuple[Callable[[Path, int], Point], tuple[int, ...]]] = {
    "rows": (rows, (1, 1000, 100_000, 1_000_000, 10_000_000)),
    "columns": (columns, (1, 10, 100, 1000)),
    "files": (files, (1, 100, 1000, 10_000, 100_000)),
    "workers": (workers, tuple(2**n for n in range((os.cpu_count() or 1).bit_length()))),
    "jobs": (jobs, (1, 10, 100)),
}


def measured(what: str, limit_seconds: float, folder: Path) -> Iterator[Point | str]:
    """The points of one growth; a text for each that is left out."""
    measure, sizes = GROWTHS[what]
    last: Point | None = None
    for size in sizes:
        if last is not None and last.seconds * _times(what, size / last.size) > limit_seconds:
            yield f"{size:,} {what}: left out, it would take longer than {limit_seconds:g} s"
            continue
        with tempfile.TemporaryDirectory(prefix="headrace-bench-", dir=folder) as place:
            last = measure(Path(place), size)
        yield last


def small_files(folder: Path, count: int) -> Iterator[bytes]:
    """What so many small files hold, and one more to warm up with; each has rows of its own."""
    case = make(folder, min((count + 1) * SMALL_ROWS, 1_000_000), FEATURES)
    head, *rest = case.path.read_bytes().splitlines(keepends=True)
    number = 0
    while True:
        start = number * SMALL_ROWS % len(rest)
        own = b"%d.5,%s" % (number, rest[start].partition(b",")[2])  # no file is another's copy
        yield head + own + b"".join(rest[start + 1 : start + SMALL_ROWS])
        number += 1


def _times(what: str, ratio: float) -> float:
    """How many times as long the next point takes: where the rows in all stay the same, about as long."""
    return ratio if what in ("rows", "files") else 1.0


def _point(size: int, rows: int, daemon: Daemon, hidden: Sequence[Path]) -> Point:
    """What it takes to learn what is hidden, watched meanwhile."""
    with daemon.watched() as peak:
        seconds = daemon.learn(hidden)
    return Point(size, rows, seconds, peak)
