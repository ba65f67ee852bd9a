"""`python -m benchmarks.budget`: where the processor's time of a row, and of a small file, goes.

    in this process   the sub-tasks themselves: decode, learn, report of a long file; read, learn, account of a bundle
    a whole daemon    what its threads and its workers take while they learn the same

Rules: seconds of the processor, not of the clock, so that a busy machine tells nearly the same as a quiet one. What the daemon takes beside
the sub-tasks is what they don't explain.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from benchmarks.case import Case, make
from benchmarks.daemon import Daemon, configuration
from service import formats
from service.core import resolution
from service.core.records import Subject
from service.core.settings import parse
from service.formats.contract import Fields, Limits, RowRules, Source
from service.runtime.arena import Arena
from service.runtime.region import pieces, room_for
from service.subtasks import blocks, bundles, learn, report
from service.subtasks.bundles import Account, Paper
from service.subtasks.judging import RoundResults
from service.subtasks.learn import Shape
from service.subtasks.report import Books, Ending, Segment

R = TypeVar("R")
SMALL_ROWS = 100
FILES = 64
CHUNK_BYTES = 1 << 22
TURNS = 5
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Clock:
    """Adds up the processor's time by name."""

    seconds: dict[str, float]

    def of(self, name: str, act: Callable[[], R]) -> R:
        before = time.process_time()
        result = act()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - before
        return result


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.budget", description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--features", type=int, default=30)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--samples", default="off", help='jobs.output.samples; default: "off"')
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headrace-budget-") as place:
        case = make(Path(place), options.rows, options.features)
        print(f"a row of {options.features} features, in ns of the processor")
        _print(_rows(case, options.samples), 1e9)
        _print(
            _daemon(case.path.parent, [case.path.read_bytes()], options.samples), 1e9 / case.rows
        )
        small = [*_small(case, options.files)]
        print(f"a file of {SMALL_ROWS} rows, in ms of the processor")
        _print(_files(Path(place), case, small[:FILES], options.samples), 1e3)
        _print(_daemon(Path(place), small, options.samples), 1e3 / len(small))


def _print(found: dict[str, float], scale: float) -> None:
    for name, seconds in found.items():
        print(f"  {name:<28} {seconds * scale:10.2f}")


def _spec(case: Case, samples: str) -> str:
    job = resolution.resolve(parse(configuration(samples=samples), "budget").jobs[0])
    return resolution.spec(job, case.features, (0.0, 1.0)).to_json()


def _fields(case: Case) -> Fields:
    return Fields("y", tuple(case.feature_names), labels="class", classes=(0.0, 1.0))


def _subject(samples: str) -> Subject:
    return Subject(
        job="bench", file="rows.csv", sequence=1, epoch=1, classes=(0.0, 1.0), every_rows=1000,
        steps=False, samples=samples, samples_format="jsonl", is_clustering=False,
    )  # fmt: skip


def _rows(case: Case, samples: str) -> dict[str, float]:
    """Seconds a row of each sub-task, over the whole file; the first turn compiles, and does not count."""
    spec, clock = _spec(case, samples), Clock({})
    source = formats.prepare(case.path, "rows.csv", case.path.with_suffix(".tmp"), _fields(case))
    with Arena() as arena:
        for turn in range(2):
            survey = formats.Survey(source, CHUNK_BYTES)
            _long(arena, spec, case, source, survey, samples, clock)
            if not turn:
                clock.seconds.clear()
    return {name: seconds / case.rows for name, seconds in clock.seconds.items()}


def _long(
    arena: Arena,
    spec: str,
    case: Case,
    source: Source,
    survey: formats.Survey,
    samples: str,
    clock: Clock,
) -> None:
    shape, fields, subject = learn.shape(spec), _fields(case), _subject(samples)
    room = [shape.state_bytes, shape.state_bytes, shape.scores_bytes, shape.scores_bytes]
    regions = [arena.reserve(size) for size in (*room, *[1 << 27] * 3)]
    state, after, scores, scored, slot, results, text = regions
    learn.start(spec, state, scores)
    while (chunk := clock.of("survey and digest", lambda: next(survey, None))) is not None:
        block = clock.of("decode", partial(blocks.decode, source, chunk, fields, RowRules(), slot))
        part = blocks.Part(slot, block.layout, 0, block.rows, 0)
        clock.of("learn", partial(learn.run, spec, state, after, [part], 1, results, ""))
        done = RoundResults((part,), ((results, block.rows),), "", 0, 1, 0.1)
        books = Books(spec, state, scores, scored, text)
        clock.of("report", partial(report.report, subject, done, books, Segment()))
        state, after = after, state
    for region in regions:
        arena.release(region)


def _small(case: Case, count: int) -> Iterator[bytes]:
    """Small files of the case's rows, none like another."""
    head, *lines = case.head(1 << 22).splitlines(keepends=True)
    for number in range(count):
        start = number * 7 % (len(lines) - SMALL_ROWS)
        first = b"%d.5,%s" % (number, lines[start].partition(b",")[2])
        yield head + first + b"".join(lines[start + 1 : start + SMALL_ROWS])


def _files(folder: Path, case: Case, contents: Sequence[bytes], samples: str) -> dict[str, float]:
    """Seconds a file of each sub-task of a bundle; the first turn compiles, and does not count."""
    spec, fields, clock = _spec(case, samples), _fields(case), Clock({})
    papers = []
    for number, content in enumerate(contents):
        (path := folder / f"{number}.csv").write_bytes(content)
        papers.append(Paper(str(path), path.name, str(path.with_suffix(".scratch"))))
    shape, size = learn.shape(spec), sum(bundles.room(len(content)) for content in contents)
    with Arena() as arena:
        for turn in range(TURNS + 1):
            _bundle(arena, spec, shape, fields, papers, size, samples, clock)
            if not turn:
                clock.seconds.clear()
    return {name: seconds / len(papers) / TURNS for name, seconds in clock.seconds.items()}


def _bundle(
    arena: Arena,
    spec: str,
    shape: Shape,
    fields: Fields,
    papers: Sequence[Paper],
    size: int,
    samples: str,
    clock: Clock,
) -> None:
    count = len(papers)
    slot, text = arena.reserve(size), arena.reserve(1 << 25)
    states = _each(arena, shape.state_bytes, count + 1)
    scores, after = _each(arena, shape.scores_bytes, 2)
    lasting = _each(arena, shape.lasting_bytes, count)
    results = _each(arena, shape.results_bytes(SMALL_ROWS, ""), count)
    learn.start(spec, states[0], scores)
    clean = clock.of("read", lambda: bundles.read(papers, fields, Limits(), CHUNK_BYTES, slot))
    parts = [
        blocks.Part(one.stored.region, one.stored.layout, 0, one.stored.rows, 0)
        for one in clean
        if one is not None
    ]
    clock.of("learn", lambda: bundles.run(spec, states[0], states[1:], parts, 1, results, ""))
    accounts = [
        Account(
            _subject(samples),
            RoundResults((part,), ((result, part.rows),), "", 0, 1, 0.1),
            Ending(1, part.rows, 0, 0, {}, 1, "", 0.1),
            before,
        )
        for part, result, (before, _) in zip(parts, results, pairwise(states), strict=True)
    ]
    clock.of("account", lambda: bundles.account(spec, accounts, scores, after, lasting, text))


def _each(arena: Arena, size: int, count: int) -> list[bundles.Region]:
    return pieces(arena.reserve(room_for([size] * count)), [size] * count)


def _daemon(folder: Path, contents: Sequence[bytes], samples: str) -> dict[str, float]:
    """Seconds in all of a daemon's threads and of its workers, from the renames to done/."""
    with (
        tempfile.TemporaryDirectory(dir=folder) as place,
        Daemon(Path(place), configuration(samples=samples)) as daemon,
    ):
        daemon.warm(contents[0][: 1 << 16].rpartition(b"\n")[0] + b"\n")
        hidden = [daemon.hide(content, f"{n:06}.csv") for n, content in enumerate(contents)]
        before = _threads(daemon.process.pid)
        seconds = daemon.learn(hidden)
        after = _threads(daemon.process.pid)
    found = {name: after[name] - before.get(name, 0.0) for name in after}
    return {**found, "by the clock": seconds}


def _threads(pid: int) -> dict[str, float]:
    """Seconds of the processor that the loop, the daemon's other threads and all workers have taken."""
    process = Path(f"/proc/{pid}")
    loop = _seconds(process / "task" / str(pid))
    return {
        "daemon: loop": loop,
        "daemon: other threads": _seconds(process) - loop,  # those that have ended are in it
        "workers": sum(_seconds(Path(f"/proc/{child}")) for child in _children(process)),
    }


def _children(process: Path) -> list[str]:
    """The processes that any of its threads has started."""
    found: list[str] = []
    for task in (process / "task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            found += (task / "children").read_text().split()
    return found


def _seconds(folder: Path) -> float:
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


if __name__ == "__main__":
    main()
