"""The targets: what is measured, by what it is divided, and how far it must come; and the table that says which are reached.

Rules: a measurement is a number with a name: of a contestant its rows a second, else what `measures` says. A ratio's two sides are of
the same run. What one side is missing for is not reached and not missed: the table says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """`measured`, over `against` where that is given, must be at least `least`, or at most `most`."""

    what: str
    measured: str
    against: str = ""
    least: float = 0.0
    most: float = 0.0
    unit: str = "×"

    def value(self, found: Mapping[str, float]) -> float | None:
        """What the target is about; None: not measured."""
        if self.measured not in found:
            return None
        if not self.against:
            return found[self.measured]
        under = found.get(self.against)
        return found[self.measured] / under if under else None  # 0: too short for the clock

    def reached(self, value: float | None) -> str:
        """Whether so much is enough: yes, no, or nothing where nothing is known."""
        if value is None:
            return ""
        return "yes" if (value <= self.most if self.most else value >= self.least) else "no"

    @property
    def goal(self) -> str:
        """In words, with its unit."""
        if self.most:
            return f"at most {_number(self.most)} {self.unit}"
        return f"at least {_number(self.least)} {self.unit}"


VW, POLARS = "Vowpal Wabbit", "polars alone"

TARGETS: tuple[Target, ...] = (
    Target("logistic, over Vowpal Wabbit", "headrace", VW, least=1.5),
    Target("logistic, the goal", "headrace", VW, least=2.0),
    Target("logistic, over polars that merely decodes", "headrace", POLARS, least=0.75),
    Target("a record per sample, over Vowpal Wabbit", "headrace, a record per sample", VW, least=1.1),
    Target("a record per sample, the goal", "headrace, a record per sample", VW, least=1.5),
    Target("Parquet, over Vowpal Wabbit", "headrace, Parquet", VW, least=3.0),
    Target("two workers, over one", "headrace, two workers", "headrace, one worker", least=1.7),
    Target("processor time of the daemon's own process, over a worker's", "own process", "a worker", most=0.2),
    Target("the article's job, every line written, over its Go program", "the article", "Go", least=4.0),
    Target("small files, a thousand at once, with records", "small files", least=2000, unit="files/s"),
    Target("memory at 100,000 small files, over at 1,000", "MB at 100,000 files", "MB at 1,000 files", most=1.1),
    Target("descriptors at 100,000 small files, over at 1,000", "descriptors at 100,000 files", "descriptors at 1,000 files", most=1.1),
    Target("from a rename to done/, median", "latency, median", most=10, unit="ms"),
    Target("from a rename to done/, 99th percentile", "latency, 99th percentile", most=30, unit="ms"),
    Target("MLP, steps of 1,024 rows in lanes, over torch", "headrace, MLP by 1024", "torch, MLP by 1024", least=1.2),
    Target("MLP, batches of 32 with local SGD, over torch", "headrace, MLP by 32, local SGD", "torch, MLP by 32", least=2.0),
    Target("a large file, memory of all processes", "large file, MiB", most=1024, unit="MiB"),
    Target("a large file, rows/s over a small one's", "large file", "headrace", least=0.9),
    Target("the loop's longest pause while all cores train", "pause", most=20, unit="ms"),
    Target("from the command to ready, kernels cached", "start", most=1.0, unit="s"),
    Target("100 jobs at once, rows/s over one job's", "many jobs", "one job", least=0.85),
    Target("100 jobs, the longest time to done/ over that of equal shares", "longest share", most=2.0),
)  # fmt: skip


def table(found: Mapping[str, float]) -> Iterator[str]:
    """Markdown: a line for each target, with the numbers that it divides."""
    yield "| target | measured | reached? |"
    yield "| --- | --- | --- |"
    for target in TARGETS:
        value = target.value(found)
        measured = f"{_number(value)} {target.unit}" if value is not None else "not measured"
        measured += _sides(target, found)
        yield f"| {target.what}: {target.goal} | {measured} | {target.reached(value)} |"


def _sides(target: Target, found: Mapping[str, float]) -> str:
    """Of a ratio: what it divides, as far as it is there."""
    names = [name for name in (target.measured, target.against) if target.against]
    if not any(name in found for name in names):
        return ""
    sides = [_number(found[name]) if name in found else f"{name}: missing" for name in names]
    return f" ({' / '.join(sides)})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
