"""`python -m benchmarks.quality`: one pass with defaults over every set, a table and a picture.

Rules: a stream is cut in ten files. *Progressive* is the score of predictions made before each row was
learnt; *before* that of predictions by the model as it was at the beginning of the row's file, over the
last nine files. Headrace runs as its users run it; peers are called as theirs call them. What is absent
is skipped with a word.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from benchmarks.quality import headrace, peers, picture, scores, sets
from benchmarks.quality.limits import offline
from service import __version__

RESULTS = Path(__file__).parents[1] / "QUALITY.md"
PICTURE = RESULTS.with_suffix(".svg")
MODULES = {"Vowpal Wabbit": "vowpalwabbit", "River": "river", "scikit-learn": "sklearn"}
OURS = "Headrace"


class Pair(NamedTuple):
    """A contestant's two figures for one set."""

    progressive: float
    before: float


class Row(NamedTuple):
    """One set's line: the figures by contestant, and the offline limit."""

    data: str
    problem: str
    rows: int
    pairs: dict[str, Pair]
    limit: float

    def ratio(self, which: int) -> float:
        """Ours over the best of the peers'."""
        best = min(pair[which] for name, pair in self.pairs.items() if name != OURS)
        return self.pairs[OURS][which] / best


def main() -> None:
    options = _options()
    present = {name: run for name, run in peers.PEERS.items() if find_spec(MODULES[name])}
    for name in peers.PEERS.keys() - present.keys():
        print(f"{name}: left out, {MODULES[name]} is not installed")
    rows = []
    for data in sets.all_sets(options.data):
        if isinstance(data, str):
            print(data)
        elif not options.only or data.name in options.only:
            rows.append(_compete(data, present))
            print("\n".join(_lines(rows[-1:])[2:]), flush=True)
    lines = [*_lines(rows), "", *_summary(rows)]
    print("\n".join(_summary(rows)))
    if not options.dry:
        RESULTS.write_text("\n".join([*_heading(present), *lines]).strip() + "\n")
        PICTURE.write_text(picture.svg([(row.data, row.ratio(0), row.ratio(1)) for row in rows]))
        print(f"written to {RESULTS} and {PICTURE}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of the real sets (a9a, elec2, ...)")
    parser.add_argument("--only", nargs="*", default=[], help="names of sets")
    parser.add_argument("--dry", action="store_true", help="leave QUALITY.md as it is")
    return parser.parse_args()


def _compete(data: sets.Set, present: dict[str, list[peers.Variant]]) -> Row:
    files = list(peers.files_of(len(data.y)))
    found = {OURS: _scored(data, headrace.run(data, files), files)}
    for name, variants in present.items():
        tried = [_scored(data, peers.run(make, data, files), files) for make in variants]
        found[name] = min(tried)
    return Row(data.name, data.problem, len(data.y), found, offline(data))


def _scored(data: sets.Set, found: peers.Predictions, files: list[range]) -> Pair:
    later = slice(files[1].start, None)
    return Pair(scores.score(data, found.progressive), scores.score(data, found.before, later))


def _lines(rows: list[Row]) -> list[str]:
    names = list(rows[0].pairs) if rows else []
    heads = ["set", "rows", "score", *names, "ratio", "limit"]
    lines = [_line(heads), _line(["---"] * 3 + ["---:"] * (len(heads) - 3))]
    for row in rows:
        cells = [f"{_number(p.progressive)} / {_number(p.before)}" for p in row.pairs.values()]
        ratio = f"{row.ratio(0):.3f} / {row.ratio(1):.3f}"
        unit = scores.UNITS[row.problem]
        lines.append(_line([row.data, f"{row.rows:,}", unit, *cells, ratio, _number(row.limit)]))
    return lines


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _number(value: float) -> str:
    return f"{value:.4f}" if value < 1000 else f"{value:.1e}"


def _summary(rows: list[Row]) -> list[str]:
    lines = []
    for which, word in enumerate(("progressive", "before")):
        ratios = [row.ratio(which) for row in rows]
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        better = sum(ratio < 1 for ratio in ratios)
        worse = sum(ratio > 1.02 for ratio in ratios)
        lines.append(
            f"{word}: {mean:.3f} of the best peer's loss (geometric mean of {len(ratios)} sets), better on "
            f"{better}, worse by more than 2 % on {worse}, {max(ratios):.3f} at worst"
        )
    return lines


def _heading(present: dict[str, list[peers.Variant]]) -> list[str]:
    versions = [f"Headrace {__version__}"]
    for name in present:
        try:
            versions.append(f"{name} {version(name.lower().replace(' ', ''))}")
        except PackageNotFoundError:
            versions.append(name)
    day = datetime.fromtimestamp(time.time(), UTC).date()
    return [
        "# What one pass learns",
        "",
        "One pass over each stream with default settings; written by `make bench-quality`. Each cell has the score of",
        "predictions made before a row was learnt, and of those by the model as it was when the row's file began (ten files).",
        "Lower is better. *ratio* is ours over the best of the others; *limit* is the best linear model that stays the same,",
        "fitted to the whole stream: where things drift, one that follows can be better than that.",
        "",
        f"{day}, {os.cpu_count()} cores; {', '.join(versions)}. A peer's figure is that of its better variant, with and without",
        "a scaler that goes along, by the progressive score.",
        "",
        "![Ours over the best of the others](QUALITY.svg)",
        "",
    ]


if __name__ == "__main__":
    main()
