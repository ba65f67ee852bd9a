"""Charts: what is drawn is where it should be."""

from __future__ import annotations

import pytest
from rich.console import Console

from service.cli.chart import HEIGHT, WIDTH, Curve, chart, charts, drawn
from service.cli.terminal import figure

BLANK = "⠀"


def text(renderable: object, columns: int = 200) -> str:
    console = Console(width=columns, color_system=None)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def test_a_falling_line_goes_from_the_top_left_to_the_bottom_right() -> None:
    lines = drawn([(0, 1.0), (1, 0.0)], 1.0)
    assert len(lines) == HEIGHT
    assert {len(line) for line in lines} == {WIDTH}
    assert lines[0][0] != BLANK
    assert lines[-1][-1] != BLANK
    assert lines[0][-1] == lines[-1][0] == BLANK


def test_a_level_line_at_zero_touches_only_the_lowest_row() -> None:
    *above, lowest = drawn([(0, 0.0), (5, 0.0)], 0.0)
    assert set("".join(above)) == {BLANK}
    assert set(lowest) == {"⣀"}


def test_one_point_is_a_level_line() -> None:
    top, *below = drawn([(3, 2.0)], 2.0)
    assert set(top) == {"⠉"}
    assert set("".join(below)) == {BLANK}


def test_a_line_has_no_gaps() -> None:
    lines = drawn([(0, 0.0), (1, 9.0), (2, 3.0), (9, 4.0)], 9.0)
    columns = zip(*lines, strict=True)
    assert all(set(column) != {BLANK} for column in columns)


def test_axes_are_labelled() -> None:
    shown = text(chart(Curve("digits", "log loss", "1,797 rows", [(0, 2.5), (9, 0.5)])))
    title, top, *_, bottom, foot, _ = shown.splitlines()
    assert title.strip() == "digits: log loss"
    assert top.split()[0] == "2.5"
    assert bottom.split()[0] == "0"
    assert foot.split() == ["0", "1,797", "rows"]


def test_a_curve_without_points_says_so() -> None:
    assert "nothing to draw" in text(chart(Curve("a", "b", "c", [])))


@pytest.mark.parametrize(("columns", "beside"), [(40, 1), (80, 2), (120, 2), (160, 4)])
def test_charts_stand_side_by_side_as_there_is_room(columns: int, beside: int) -> None:
    curve = Curve("title", "unit", "9 rows", [(0, 1.0), (1, 0.5)])
    shown = text(charts([curve] * 4, columns), columns).splitlines()
    assert shown[0].count("title: unit") == beside
    assert max(map(len, shown)) <= columns


@pytest.mark.parametrize(
    ("value", "shown"),
    [(332833.5, "332,834"), (0.27870123, "0.2787"), (-4591.2, "-4,591"), (1e12, "1e+12"), (0, "0")],
)
def test_figures_are_read_by_people(value: float, shown: str) -> None:
    assert figure(value) == shown
