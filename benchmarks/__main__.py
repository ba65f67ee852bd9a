"""`python -m benchmarks`: is each target reached? Contestants in turns, the daemon's own measures, and how its cost grows.

Rules: rounds go through all contestants one after the other, so that a slow minute of the machine meets them all. A target's two
sides are measured in the same run. RESULTS.md is written when all is measured.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks import golang, growth, measures, picture, results
from benchmarks.case import Case, images, make
from benchmarks.contestants import CONTESTANTS, MLPS, Contestant, Missing, Run
from benchmarks.growth import Point

RESULTS = Path(__file__).with_name("RESULTS.md")
PICTURE = RESULTS.with_suffix(".svg")
TURNS = 3  # rounds of the daemon's own measures, at most

Found = dict[str, float]


def main() -> None:
    options = _options()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="headrace-bench-", dir=options.place) as place:
        folder = Path(place)
        case = make(folder, options.rows, options.features)
        print(f"{case.rows:,} rows × {case.features} features, {options.rounds} rounds", flush=True)
        absent: list[str] = []
        runs = _compete(CONTESTANTS, case, options.rounds, absent)
        pictures = images(folder, max(1, options.rows // 4))
        layered = _compete(MLPS, pictures, options.rounds, absent)
        pictures.path.unlink()
        found: Found = {**results.rates(case, runs), **results.rates(pictures, layered)}
        found |= _measured(options.measures, case, min(options.rounds, TURNS), absent)
        found |= _large(case, options.large, absent)
        points = [*_grown(options.growth, options.limit, folder)]
        found |= _sizes(points)
    lines = [
        *results.aims(found, absent),
        *results.heading(case, options.rounds, load, _versions(found, {**runs, **layered})),
        *results.race("A linear model", case, runs),
        *results.race(f"An MLP 784-128-10, {pictures.rows:,} images, one pass", pictures, layered),
        *results.growths(points),
    ]
    print("\n".join(lines), flush=True)
    if not options.dry:
        RESULTS.write_text("\n".join(lines).strip() + "\n")
        title = f"Rows a second, {case.rows:,} rows × {case.features} features, one pass"
        PICTURE.write_text(picture.svg(title, [*results.rates(case, runs).items()]))
        print(f"written to {RESULTS} and {PICTURE}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--features", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--measures",
        nargs="*",
        choices=[*measures.MEASURES],
        default=[*measures.MEASURES],
        metavar="NAME",
        help=f"beside the races: {', '.join(measures.MEASURES)}; default: all; without a name: none",
    )
    parser.add_argument(
        "--growth",
        nargs="*",
        choices=[*growth.GROWTHS],
        default=[*growth.GROWTHS],
        metavar="WHAT",
        help=f"how the cost grows over {', '.join(growth.GROWTHS)}; default: all; without a name: none",
    )
    parser.add_argument(
        "--limit", type=float, default=300.0, help="seconds that a point of it may take"
    )
    parser.add_argument(
        "--large", type=float, metavar="GB", help="a file of so many GB, too; 10 take some minutes"
    )
    parser.add_argument("--place", type=Path, help="where the files go; default: the system's")
    parser.add_argument("--dry", action="store_true", help="leave RESULTS.md as it is")
    return parser.parse_args()


def _compete(
    contestants: Sequence[Contestant], case: Case, rounds: int, absent: list[str]
) -> dict[str, tuple[Contestant, list[Run]]]:
    """All runs by contestant; to `absent` comes a word for each that can't take part."""
    runs: dict[str, tuple[Contestant, list[Run]]] = {}
    taking_part = [*contestants]
    for number in range(1, rounds + 1):
        for contestant in [*taking_part]:
            try:
                run = contestant.run(case)
            except Missing as missing:
                taking_part.remove(contestant)
                absent.append(f"{contestant.name}: left out, {missing}")
                continue
            runs.setdefault(contestant.name, (contestant, []))[1].append(run)
            print(f"  round {number}: {contestant.name}: {run.seconds:.2f} s", flush=True)
    return runs


def _measured(names: Sequence[str], case: Case, rounds: int, absent: list[str]) -> Found:
    """The daemon's own measures, and its rivals': medians of so many rounds; to `absent` comes a word for each that can't be taken."""
    turns: dict[str, list[float]] = {}
    taken = [*names]
    for _ in range(rounds):
        for measure in [*taken]:
            try:
                said = _once(measures.MEASURES[measure], case)
            except Missing as missing:
                taken.remove(measure)
                absent.append(f"{measure}: left out, {missing}")
                continue
            for name, value in said.items():
                turns.setdefault(name, []).append(value)
    return {name: statistics.median(values) for name, values in turns.items()}


def _large(case: Case, gigabytes: float | None, absent: list[str]) -> Found:
    """The large file's measure, where one is asked for and the disk holds it."""
    if gigabytes is None:
        absent.append("a large file: left out, it takes minutes (`--large 10`)")
        return {}
    try:
        return _once(partial(measures.large, gigabytes=gigabytes), case)
    except Missing as missing:
        absent.append(f"a large file: left out, {missing}")
        return {}


def _once(measure: Callable[[Path, Case], Mapping[str, float]], case: Case) -> Found:
    with tempfile.TemporaryDirectory(prefix="headrace-bench-", dir=case.path.parent) as place:
        found = measure(Path(place), case)
    for name, value in found.items():
        print(f"  {name}: {value:,.5g}", flush=True)
    return {**found}


def _grown(
    growths: Sequence[str], limit_seconds: float, folder: Path
) -> Iterator[tuple[str, Point | str]]:
    """The points of each growth, with its name; a text for each that is left out."""
    for what in growths:
        for point in growth.measured(what, limit_seconds, folder):
            if isinstance(point, Point):
                print(f"  {point.size:,} {what}: {point.seconds:.3f} s", flush=True)
            yield what, point


def _versions(found: Found, runs: results.Runs) -> Iterator[str]:
    """Of all that took part."""
    for _, ran in runs.values():
        yield from ran[0].version.split(", ")
    if "Go" in found:
        yield golang.version()


def _sizes(points: Sequence[tuple[str, Point | str]]) -> Found:
    """What all processes had with so many small files, for the targets."""
    files = [p for what, p in points if what == "files" and isinstance(p, Point)]
    return {f"MB at {p.size:,} files": p.peak.resident_bytes / 1e6 for p in files} | {
        f"descriptors at {p.size:,} files": float(p.peak.descriptors) for p in files
    }


if __name__ == "__main__":
    main()
