"""RESULTS.md in text: the targets first, then the run, the races, and how the cost grows. Everything here is Markdown.

Rules: ratios count, not seconds; a race's are against its first contestant.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks import targets
from benchmarks.case import Case
from benchmarks.contestants import Contestant, Run
from benchmarks.growth import Point

PACKAGES = ("numpy", "numba", "polars")
Runs = Mapping[str, tuple[Contestant, Sequence[Run]]]


def rates(case: Case, runs: Runs) -> dict[str, float]:
    """Rows a second by contestant, of its median run."""
    return {
        name: case.rows / statistics.median(run.seconds for run in found)
        for name, (_, found) in runs.items()
    }


def aims(found: Mapping[str, float], absent: Iterable[str]) -> Iterator[str]:
    """The targets, and a word for each thing that could not be measured."""
    yield from ("# Results", "", "Written by `make bench`. Ratios count, not seconds: another machine, other seconds.", "")  # fmt: skip
    yield from ("## Targets, for two cores", "", *targets.table(found), "")
    for word in absent:
        yield f"- {word}"


def heading(case: Case, rounds: int, load: float, versions: Iterable[str]) -> Iterator[str]:
    """What was run, where, and with what."""
    ours = [f"Python {platform.python_version()}", *(f"{n} {_version(n)}" for n in PACKAGES)]
    yield from ("", "## The run", "")
    yield f"- case: {case.rows:,} rows × {case.features} features, two classes, one pass; medians of {rounds} rounds in turns"
    yield f"- machine: {_cpu()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"
    yield f"- versions: {', '.join(dict.fromkeys([*ours, *versions]))}"
    yield f"- load of the machine at the start: {load:.2f} (above 0.5 others were at work: run it again)"
    yield f"- date: {datetime.now(UTC):%Y-%m-%d}"
    yield from ("", "![rows a second](RESULTS.svg)")


def race(title: str, case: Case, runs: Runs) -> Iterator[str]:
    """Medians, the spread, the loss, and each one's rows a second under the first one's."""
    found = rates(case, runs)
    first = next(iter(found.values()))
    yield from ("", f"## {title}", "")
    yield "| | seconds (least to most) | rows/s | the first one's speed over it | log loss | what is timed |"
    yield "| --- | --- | ---: | ---: | ---: | --- |"
    for name, (contestant, ran) in runs.items():
        seconds = sorted(run.seconds for run in ran)
        loss = "" if ran[0].loss is None else f"{ran[0].loss:.4f}"
        yield (
            f"| {name} | {statistics.median(seconds):.2f} ({seconds[0]:.2f} to {seconds[-1]:.2f}) "
            f"| {found[name]:,.0f} | {first / found[name]:.2f} | {loss} | {contestant.what} |"
        )


def growths(points: Iterable[tuple[str, Point | str]]) -> Iterator[str]:
    """How the cost of the daemon grows; the points that were left out, with their words."""
    left_out = []
    yield from ("", "## How the cost grows", "")
    yield "| | seconds | rows/s | MB of memory, all processes, at most | descriptors, at most |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for what, point in points:
        if isinstance(point, str):
            left_out.append(f"- {point}")
            continue
        yield (
            f"| {point.size:,} {what} | {point.seconds:.3f} | {point.rows_per_second:,.0f} "
            f"| {point.peak.resident_bytes / 1e6:,.0f} | {point.peak.descriptors} |"
        )
    yield from ("", *left_out)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
