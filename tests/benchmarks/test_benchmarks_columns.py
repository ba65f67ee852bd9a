"""The race of lanes and columns prints what docs/learning.md shows: filling in is copying."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def _importable() -> None:
    sys.path.append(str(CHECKOUT))


def test_the_page_has_the_table_that_is_printed() -> None:
    from benchmarks import columns

    page = (CHECKOUT / "docs" / "learning.md").read_text("utf-8")
    rows = page.partition(f"{columns.HEADING}\n")[2].partition("\n\n")[0].splitlines()
    expected = [(kernel, f"{width:,}") for kernel in columns.KERNELS for width in columns.WIDTHS]
    assert [tuple(row.strip("| ").split(" | ")[:2]) for row in rows] == expected


@pytest.mark.parametrize("kernel", ["logistic", "mlp"])
def test_a_row_has_a_figure_for_each_way(kernel: str) -> None:
    from benchmarks import columns

    row = columns.line(kernel, 20, columns.STEP_ROWS, 1)
    assert re.fullmatch(rf"\| {kernel} \| 20 (\| [0-9,]+ ){{{len(columns.WAYS)}}}\|", row), row
