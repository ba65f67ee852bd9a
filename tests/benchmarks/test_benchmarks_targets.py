"""The table of the targets says what was measured, what was not, and what is enough."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def _importable() -> None:
    sys.path.append(str(CHECKOUT))


def _line(found: dict[str, float], what: str) -> str:
    from benchmarks.targets import table

    (line,) = (line for line in table(found) if line.startswith(f"| {what}:"))
    return line


def test_a_ratio_that_comes_far_enough_is_reached() -> None:
    found = {"headrace, Parquet": 900.0, "Vowpal Wabbit": 300.0}
    assert _line(found, "Parquet, over Vowpal Wabbit").endswith(
        "at least 3 × | 3 × (900 / 300) | yes |"
    )
    found["Vowpal Wabbit"] = 301.0
    assert _line(found, "Parquet, over Vowpal Wabbit").endswith("| no |")


def test_what_must_be_small_is_reached_from_below() -> None:
    what = "the loop's longest pause while all cores train"
    assert _line({"pause": 20.0}, what).endswith("at most 20 ms | 20 ms | yes |")
    assert _line({"pause": 20.1}, what).endswith("| no |")


def test_a_side_that_is_missing_leaves_a_target_open() -> None:
    what = "the article's job, every line written, over its Go program"
    assert _line({}, what).endswith("| not measured |  |")
    assert _line({"the article": 5e5}, what).endswith("| not measured (500,000 / Go: missing) |  |")
    assert _line({"the article": 5e5, "Go": 0.0}, what).endswith("|  |")
