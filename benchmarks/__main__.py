"""`python -m benchmarks`: all contestants in turns, the medians in a table and a picture; then how the daemon's cost grows.

Rules: rounds go through all contestants one after the other, so that a slow minute of the machine meets them all. Ratios
count, not seconds; they are against the first contestant.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks import growth, picture
from benchmarks.case import Case, make
from benchmarks.contestants import CONTESTANTS, Contestant, Missing, Run

RESULTS = Path(__file__).with_name("RESULTS.md")
PICTURE = RESULTS.with_suffix(".svg")
PACKAGES = ("numpy", "numba", "polars")
STARTS = 5


def main() -> None:
    options = _options()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="headrace-bench-", dir=options.place) as folder:
        print(f"{options.rows:,} rows × {options.features} features, {options.rounds} rounds")
        case = make(Path(folder), options.rows, options.features)
        runs, absent = _compete(case, options.rounds)
        lines = [*_heading(case, options.rounds, load, runs), *_table(case, runs), "", *absent]
        print("\n".join(lines), flush=True)
        if options.growth:
            lines += _grown(options, Path(folder))
    if not options.dry:
        RESULTS.write_text("\n".join(lines).strip() + "\n")
        PICTURE.write_text(picture.svg(_title(case), _rates(case, runs)))
        print(f"written to {RESULTS} and {PICTURE}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--features", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--growth",
        nargs="*",
        choices=[*growth.GROWTHS],
        default=(),
        metavar="WHAT",
        help=f"how the cost grows over {', '.join(growth.GROWTHS)}",
    )
    parser.add_argument(
        "--limit", type=float, default=300.0, help="seconds that a point of it may take"
    )
    parser.add_argument("--place", type=Path, help="where the files go; default: the system's")
    parser.add_argument("--dry", action="store_true", help="leave RESULTS.md as it is")
    return parser.parse_args()


def _compete(case: Case, rounds: int) -> tuple[dict[str, tuple[Contestant, list[Run]]], list[str]]:
    """All runs by contestant, and a word for each that can't take part."""
    runs: dict[str, tuple[Contestant, list[Run]]] = {}
    absent: dict[str, str] = {}
    for number in range(1, rounds + 1):
        for contestant in CONTESTANTS:
            if contestant.name in absent:
                continue
            try:
                run = contestant.run(case)
            except Missing as missing:
                absent[contestant.name] = f"{contestant.name}: left out, {missing}"
                continue
            runs.setdefault(contestant.name, (contestant, []))[1].append(run)
            print(f"  round {number}: {contestant.name}: {run.seconds:.2f} s", flush=True)
    return runs, list(absent.values())


def _table(case: Case, runs: dict[str, tuple[Contestant, list[Run]]]) -> Iterator[str]:
    """Markdown: medians, the spread, and each one's rows a second over the first one's."""
    rates = dict(_rates(case, runs))
    first = next(iter(rates.values()))
    yield "| | seconds (least to most) | rows/s | the first one's speed over it | log loss | what is timed |"
    yield "| --- | --- | ---: | ---: | ---: | --- |"
    for name, (contestant, found) in runs.items():
        seconds = sorted(run.seconds for run in found)
        loss = "" if found[0].loss is None else f"{found[0].loss:.4f}"
        yield (
            f"| {name} | {statistics.median(seconds):.2f} ({seconds[0]:.2f} to {seconds[-1]:.2f}) "
            f"| {rates[name]:,.0f} | {first / rates[name]:.2f} | {loss} | {contestant.what} |"
        )


def _rates(
    case: Case, runs: dict[str, tuple[Contestant, list[Run]]]
) -> Sequence[tuple[str, float]]:
    return [
        (name, case.rows / statistics.median(run.seconds for run in found))
        for name, (_, found) in runs.items()
    ]


def _grown(options: argparse.Namespace, folder: Path) -> list[str]:
    """Markdown: how the cost of the daemon grows, its latency and its start."""
    lines = ["", "## How the cost grows", ""]
    lines += [
        "| | seconds | rows/s | MB of memory, all processes |",
        "| --- | ---: | ---: | ---: |",
    ]
    left_out = []
    for what in options.growth:
        for point in growth.measured(what, options.limit, folder):
            if isinstance(point, str):
                left_out.append(point)
                continue
            lines.append(
                f"| {point.size:,} {what} | {point.seconds:.3f} | {point.rows_per_second:,.0f} "
                f"| {point.resident_bytes / 1e6:,.0f} |"
            )
            print(lines[-1], flush=True)
    (folder / "latency").mkdir()
    median, late = growth.latencies(folder / "latency")
    starts = growth.start_seconds(folder, STARTS)
    said = [
        f"A file of {growth.SMALL_ROWS} rows, the daemon idle, {growth.DROPS} times: from its rename to done/ in {median * 1e3:.1f} ms "
        f"(median), {late * 1e3:.1f} ms (99th percentile).",
        f"From the command to a status that says `running`: {statistics.median(starts):.2f} s (median of {STARTS}).",
    ]
    print("\n".join(said), flush=True)
    return [*lines, "", *left_out, *said]


def _title(case: Case) -> str:
    return f"Rows a second, {case.rows:,} rows × {case.features} features, one pass"


def _heading(
    case: Case, rounds: int, load: float, runs: dict[str, tuple[Contestant, list[Run]]]
) -> list[str]:
    ours = [f"Python {platform.python_version()}", *(f"{n} {_version(n)}" for n in PACKAGES)]
    theirs = [one for _, found in runs.values() for one in found[0].version.split(", ")]
    return [
        "# Results",
        "",
        "Written by `make bench`. Ratios count, not seconds: another machine, other seconds.",
        "",
        f"- case: {case.rows:,} rows × {case.features} features, two classes, one pass; medians of {rounds} rounds in turns",
        f"- machine: {_cpu()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        f"- versions: {', '.join(dict.fromkeys([*ours, *theirs]))}",
        f"- load of the machine at the start: {load:.2f} (above 0.5 others were at work: run it again)",
        f"- date: {datetime.now(UTC):%Y-%m-%d}",
        "",
        "![rows a second](RESULTS.svg)",
        "",
    ]


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


if __name__ == "__main__":
    main()
