"""What docs/files.md says of Parquet's types is so."""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl
import pytest

from service.formats import Fields

PARQUET: list[tuple[str, pl.Series, bool]] = [
    ("integers", pl.Series([1, 2]), True),
    ("decimals", pl.Series(["1.5", "2"]).cast(pl.Decimal(5, 2)), True),
    ("booleans", pl.Series([True, False]), True),
    ("dictionaries", pl.Series(["1", "2"]).cast(pl.Categorical), True),
    ("dates", pl.Series(["2024-05-01", "2024-05-02"]).str.to_date(), False),
    ("durations", pl.Series([1, 2]).cast(pl.Duration), False),
    ("lists", pl.Series([[1], [2]]), False),
    ("structs", pl.Series([{"a": 1}, {"a": 2}]), False),
    ("binary", pl.Series([b"1", b"2"]), False),
]


@pytest.mark.parametrize(
    ("kind", "cells", "is_taken"), PARQUET, ids=lambda x: x if isinstance(x, str) else ""
)
def test_what_the_page_says_of_parquets_types_is_so(
    kind: str, cells: pl.Series, is_taken: bool, read, refused
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "files.md").read_text("utf-8")
    assert kind in page.partition("## Parquet")[2].partition("## Arrays")[0]
    out = io.BytesIO()
    pl.DataFrame({"x": cells, "z": [3, 4], "y": [1, 2]}).write_parquet(out)
    if is_taken:
        assert read(out.getvalue(), "t.parquet", Fields("y")).rejected == 0
    else:
        assert "`features`" in refused(out.getvalue(), "t.parquet", Fields("y")).refusal.remedy
        assert read(out.getvalue(), "t.parquet", Fields("y", ("z",))).rejected == 0
