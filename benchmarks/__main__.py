"""`python -m benchmarks`: all contestants in turns, the medians in a table, and the table in RESULTS.md.

Rules: rounds go through all contestants one after the other, so that a slow minute of the machine meets them all. Ratios count, not
seconds; they are against the first contestant.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.case import Case, make
from benchmarks.contestants import CONTESTANTS, Contestant, Run
from service import __version__

RESULTS = Path(__file__).with_name("RESULTS.md")
PACKAGES = ("numpy", "numba", "polars", "scikit-learn", "pyarrow")


def main() -> None:
    options = _options()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        print(f"{options.rows:,} rows × {options.features} features, {options.rounds} rounds")
        case = make(Path(folder), options.rows, options.features)
        present = [c for c in CONTESTANTS if c.missing() is None]
        absent = [f"{c.name}: left out, {c.missing()}" for c in CONTESTANTS if c.missing()]
        runs = _compete(case, present, options.rounds)
    lines = [*_table(case, present, runs), "", *absent]
    print("\n".join(lines))
    if not options.dry:
        RESULTS.write_text(
            "\n".join([*_heading(case, options.rounds, load), *lines]).strip() + "\n"
        )
        print(f"written to {RESULTS}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--features", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dry", action="store_true", help="leave RESULTS.md as it is")
    return parser.parse_args()


def _compete(case: Case, present: list[Contestant], rounds: int) -> dict[str, list[Run]]:
    runs: dict[str, list[Run]] = {contestant.name: [] for contestant in present}
    for number in range(1, rounds + 1):
        for contestant in present:
            run = contestant.run(case)
            runs[contestant.name].append(run)
            print(f"  round {number}: {contestant.name}: {run.seconds:.2f} s", flush=True)
    return runs


def _table(case: Case, present: list[Contestant], runs: dict[str, list[Run]]) -> list[str]:
    """Markdown: medians, the spread, and the ratio of each one's time to the first one's."""
    medians = {
        name: statistics.median(run.seconds for run in found) for name, found in runs.items()
    }
    first = medians[present[0].name]
    lines = [
        "| | seconds (least to most) | rows/s | time against the first | log loss | what is timed |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for contestant in present:
        name, found = contestant.name, runs[contestant.name]
        seconds = sorted(run.seconds for run in found)
        loss = "" if found[0].loss is None else f"{found[0].loss:.4f}"
        lines.append(
            f"| {name} | {medians[name]:.2f} ({seconds[0]:.2f} to {seconds[-1]:.2f}) "
            f"| {case.rows / medians[name]:,.0f} | {medians[name] / first:.2f} | {loss} "
            f"| {contestant.what} |"
        )
    return lines


def _heading(case: Case, rounds: int, load: float) -> list[str]:
    versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    return [
        "# Results",
        "",
        "Written by `make bench`. Ratios count, not seconds: another machine, other seconds.",
        "",
        f"- case: {case.rows:,} rows × {case.features} features, CSV, two classes, one pass; medians of {rounds} rounds",
        f"- machine: {_cpu()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        f"- versions: headrace {__version__}, Python {platform.python_version()}, {versions}",
        f"- load of the machine at the start: {load:.2f} (above 0.5 others were at work: run it again)",
        f"- date: {datetime.now(UTC):%Y-%m-%d}",
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
