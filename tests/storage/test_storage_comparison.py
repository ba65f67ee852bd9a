"""Where a file's records part: the last run of its lines counts, others' lines don't."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.storage.comparison import Learnt, first_difference
from service.storage.tables import FileRow


def _sample(row: int, loss: float, version: int = 4, file: str = "a", **more: Any) -> str:
    return json.dumps({"file": file, "row": row, "version": version, "loss": loss} | more) + "\n"


@pytest.fixture
def file(hand: Any) -> FileRow:
    (row,) = hand.admit("a")
    return replace(row, version=5, sequence=2)


def _learnt(folder: Path, file: FileRow, samples: str, metrics: str = "") -> Learnt:
    folder.mkdir()
    (folder / "samples.jsonl").write_text(samples)
    (folder / "metrics.jsonl").write_text(metrics)
    return Learnt(folder, file, since=4)


@pytest.mark.parametrize(
    ("was", "where"),
    [
        (_sample(0, 1.0) + _sample(1, 2.0), None),
        (_sample(0, 1.0) + _sample(1, 9.0), "row 1, version 4"),
        (_sample(0, 1.0), "row 1, version 4"),
        (_sample(0, 1.0) + _sample(1, 2.0) + _sample(2, 3.0), "row 2, version 4"),
        (_sample(0, 7.0) + _sample(0, 1.0) + _sample(1, 2.0), None),  # a run that was taken back
        (_sample(0, 1.0) + _sample(1, 2.0) + _sample(0, 7.0), "row 0, version 4"),
        (_sample(0, 7.0, 3) + _sample(0, 7.0, 5) + _sample(0, 7.0, revision=1), None),
        (_sample(0, 7.0, file="b") + "no json\n", None),
        ("", None),
    ],
)
def test_the_first_sample_that_differs_is_found(
    tmp_path: Path, file: FileRow, was: str, where: str | None
) -> None:
    original = _learnt(tmp_path / "was", file, was)
    again = _learnt(tmp_path / "now", file, _sample(0, 1.0) + _sample(1, 2.0))
    found = first_difference(original, again)
    assert (found.where if found else None) == where


def test_without_samples_the_metrics_are_compared(tmp_path: Path, file: FileRow) -> None:
    head = {"kind": "progress", "file": "a", "sequence": 2, "rows_from": 0, "rows_to": 9}
    lines = [json.dumps(head | {"version": 5, "loss": loss}) + "\n" for loss in (1.0, 2.0)]
    found = first_difference(
        _learnt(tmp_path / "was", file, "", lines[0]), _learnt(tmp_path / "now", file, "", lines[1])
    )
    assert found is not None
    assert found.where == "progress record of rows 0 to 9, version 5"
    assert (found.was, found.now) == (lines[0].strip(), lines[1].strip())
