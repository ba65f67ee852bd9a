"""The benchmarks run, and compare what can be compared."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def printed() -> str:
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks",
            "--rows",
            "4000",
            "--rounds",
            "1",
            "--dry",
            "--measures",
            "--growth",
        ],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_every_contestant_is_in_the_table_or_left_out_with_a_word(printed: str) -> None:
    sys.path.append(str(CHECKOUT))
    from benchmarks.contestants import CONTESTANTS

    for contestant in CONTESTANTS:
        assert f"| {contestant.name} |" in printed or f"{contestant.name}: left out" in printed


def test_a_dry_run_leaves_the_results_alone(printed: str) -> None:
    assert "written to" not in printed


def test_a_case_is_the_same_each_time(tmp_path: Path) -> None:
    sys.path.append(str(CHECKOUT))
    from benchmarks.case import make

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = make(tmp_path / "a", 500, 4), make(tmp_path / "b", 500, 4)
    assert first.path.read_bytes() == second.path.read_bytes()
    frame = pl.read_csv(first.path)
    assert frame.shape == (500, 5)
    assert 0.3 < frame["y"].mean() < 0.7


def test_how_the_cost_grows_is_measured_or_left_out_with_a_word(tmp_path: Path) -> None:
    sys.path.append(str(CHECKOUT))
    from benchmarks.growth import Point, measured

    one, *others = measured("files", 0.0, tmp_path)
    assert isinstance(one, Point)
    assert (one.size, one.rows) == (1, 100)
    assert one.peak.resident_bytes > 1e7
    assert one.peak.descriptors > 10
    assert others[0] == "100 files: left out, it would take longer than 0 s"


def test_the_same_rows_are_written_in_other_formats(tmp_path: Path) -> None:
    sys.path.append(str(CHECKOUT))
    from benchmarks.case import make

    case = make(tmp_path, 20, 2)
    table = pl.read_csv(case.path)
    assert pl.read_parquet(case.in_format(".parquet")).equals(table)
    label, text = case.in_format(".vw").read_text().splitlines()[3].split(" | ")
    assert label == ("1" if table["y"][3] else "-1")
    assert text == f"x0:{table['x0'][3]} x1:{table['x1'][3]}"
