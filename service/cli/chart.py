"""Charts: small line charts of Braille dots, side by side, each on its own axes.

Rules: a chart is text and needs no library; a character is a grid of 2 × 4 dots. Each curve has a chart of its own, for
losses of different jobs have different units, and squeezing them onto one axis would say something that isn't so.

      log loss
     2.6 ⢣
         ⠈⢆
         ⠀⠈⠢⣀⣀
     0.1 ⠀⠀⠀⠀⠀⠉⠉⠒⠒
         0       1797 rows
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.text import Text

WIDTH, HEIGHT = 28, 6
"""Characters of the area that dots are drawn in."""
POINTS = 28
"""The points of a curve at most: more are averaged, since the eye wants the trend."""
_AXIS = 8  # characters for the numbers at the left
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # Unicode's bits, row by column


@dataclass(frozen=True, slots=True)
class Curve:
    """A line: what it is, the unit of its height, how far it goes, and its points (x growing)."""

    title: str
    unit: str
    span: str
    points: Sequence[tuple[float, float]]


def charts(curves: Sequence[Curve], style: str = "cyan") -> RenderableType:
    """All curves, as many side by side as there is room for."""
    return Columns([chart(curve, style) for curve in curves], padding=(1, 3))


def chart(curve: Curve, style: str = "cyan") -> RenderableType:
    """One curve with its axes; without points it says so."""
    title = Text(f"{curve.title}: {curve.unit}"[: _AXIS + 1 + WIDTH], style="bold")
    if not curve.points:
        return Group(title, Text("nothing to draw"))
    points = averaged(curve.points, POINTS)
    heights = [height for _, height in points]
    lowest, highest = min(heights), max(heights)
    lines = [Text(), *_drawn(points, lowest, highest, style)]
    marks = {1: f"{highest:.4g}", HEIGHT: f"{lowest:.4g}"}
    body = [Text(f"{marks.get(row, ''):>{_AXIS}} ") + line for row, line in enumerate(lines) if row]
    foot = Text(f"{'':{_AXIS}} 0{curve.span:>{WIDTH - 1}}", style="dim")
    return Group(title, *body, foot)


def averaged(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """The means of `most` runs of neighbouring points, or the points themselves where they are few."""
    if len(points) <= most:
        return list(points)
    edges = [round(i * len(points) / most) for i in range(most + 1)]
    runs = [points[start:stop] for start, stop in pairwise(edges)]
    return [(sum(x for x, _ in run) / len(run), sum(y for _, y in run) / len(run)) for run in runs]


def _drawn(
    points: Sequence[tuple[float, float]], lowest: float, highest: float, style: str
) -> list[Text]:
    """Lines of Braille, from the top."""
    cells = [[0x2800] * WIDTH for _ in range(HEIGHT)]
    first, last = points[0][0], points[-1][0]
    dots = [
        (
            round(_share(x, first, last) * (2 * WIDTH - 1)),
            round((1 - _share(y, lowest, highest)) * (4 * HEIGHT - 1)),
        )
        for x, y in points
    ]
    for left, right in pairwise(dots if len(dots) > 1 else [*dots, (2 * WIDTH - 1, dots[0][1])]):
        for column, row in _between(left, right):
            cells[row // 4][column // 2] |= _DOTS[row % 4][column % 2]
    return [Text("".join(map(chr, line)), style=style) for line in cells]


def _share(value: float, low: float, high: float) -> float:
    """Where a value lies between two, from 0 to 1; in the middle where they are the same."""
    return (value - low) / (high - low) if high > low else 0.5


def _between(left: tuple[int, int], right: tuple[int, int]) -> list[tuple[int, int]]:
    """The dots of a straight line from one dot to another."""
    steps = max(abs(right[0] - left[0]), abs(right[1] - left[1]), 1)
    return [
        (
            round(left[0] + (right[0] - left[0]) * i / steps),
            round(left[1] + (right[1] - left[1]) * i / steps),
        )
        for i in range(steps + 1)
    ]
