"""Charts: small line charts of Braille dots, side by side, each on its own axes.

Rules: a chart is text and needs no library; a character is a grid of 2 × 4 dots. Each curve has a chart of its own, for
losses of different jobs have different units, and squeezing them onto one axis would say something that isn't so.

      log loss
     2.6 ⢣
         ⠈⢆
         ⠀⠈⠢⣀⣀
       0 ⠀⠀⠀⠀⠀⠉⠉⠒⠒
         0       1797 rows
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from service.cli.terminal import figure

WIDTH, HEIGHT = 28, 6
"""Characters of the area that dots are drawn in."""
GAP = 2
_AXIS = 8  # characters for the numbers at the left
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # Unicode's bits, row by column


@dataclass(frozen=True, slots=True)
class Curve:
    """A line: what it is, the unit of its height, how far it goes, and its points (x growing, heights from 0)."""

    title: str
    unit: str
    span: str
    points: Sequence[tuple[float, float]]


def charts(curves: Sequence[Curve], columns: int, style: str = "cyan") -> RenderableType:
    """All curves, in rows of four, two or one, as `columns` characters have room."""
    beside = next((n for n in (4, 2) if n * (_AXIS + 1 + WIDTH + GAP) <= columns), 1)
    grid = Table.grid(padding=(0, GAP, 0, 0))
    for row in _rows_of(curves, beside):
        grid.add_row(*(chart(curve, style) for curve in row))
    return grid


def chart(curve: Curve, style: str = "cyan") -> RenderableType:
    """One curve with its axes; without points it says so."""
    title = Text(f"{curve.title}: {curve.unit}"[: _AXIS + 1 + WIDTH], style="bold")
    if not curve.points:
        return Group(title, Text("nothing to draw"))
    highest = max(height for _, height in curve.points)
    marks = [figure(highest), *[""] * (HEIGHT - 2), "0"]
    lines = [
        Text(f"{mark:>{_AXIS}} ").append(line, style)
        for mark, line in zip(marks, drawn(curve.points, highest), strict=True)
    ]
    foot = Text(f"{'':{_AXIS}} 0{curve.span:>{WIDTH - 1}}", style="dim")
    return Group(title, *lines, foot, Text())


def drawn(points: Sequence[tuple[float, float]], highest: float) -> list[str]:
    """Lines of Braille, from the top, for heights from 0 to `highest`; a single point becomes a level line."""
    cells = [[0x2800] * WIDTH for _ in range(HEIGHT)]
    first, last = points[0][0], points[-1][0]
    dots = [
        (
            round(_share(x - first, last - first) * (2 * WIDTH - 1)),
            round((1 - _share(y, highest)) * (4 * HEIGHT - 1)),
        )
        for x, y in points
    ]
    for left, right in pairwise(dots if len(dots) > 1 else [*dots, (2 * WIDTH - 1, dots[0][1])]):
        for column, row in _between(left, right):
            cells[row // 4][column // 2] |= _DOTS[row % 4][column % 2]
    return ["".join(map(chr, line)) for line in cells]


def _rows_of(curves: Sequence[Curve], size: int) -> list[Sequence[Curve]]:
    """Runs of `size` curves; the last may be short."""
    return [curves[start : start + size] for start in range(0, len(curves), size)]


def _share(value: float, whole: float) -> float:
    return value / whole if whole > 0 else 0.0


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
