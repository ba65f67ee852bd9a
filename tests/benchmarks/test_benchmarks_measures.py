"""Each measure runs to its end, and the targets know it by its name."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def _importable() -> None:
    sys.path.append(str(CHECKOUT))


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from benchmarks.case import make

    return make(tmp_path_factory.mktemp("case"), 4000, 5)


def test_each_target_is_about_something_that_is_measured(case: Any, tmp_path: Path) -> None:
    from benchmarks import measures
    from benchmarks.contestants import CONTESTANTS, MLPS, Missing
    from benchmarks.targets import TARGETS

    found = {contestant.name for contestant in (*CONTESTANTS, *MLPS)}
    small: dict[str, dict[str, int]] = {
        "small-files": {"count": 3},
        "crowd": {"jobs": 4},
        "latency": {"drops": 3},
    }
    for name, measure in measures.MEASURES.items():
        (folder := tmp_path / name).mkdir()
        try:
            said = measure(folder, case, **small.get(name, {}))
        except Missing:
            assert name == "article-go"
            said = {"Go": 0.0}
        assert all(math.isfinite(value) and value >= 0 for value in said.values()), name
        found |= said.keys()
    (folder := tmp_path / "large").mkdir()
    said = measures.large(folder, case, 0.001)
    assert 50 < said["large file, MiB"] < 4096
    found |= said.keys()
    files = {f"{what} at {n} files" for what in ("MB", "descriptors") for n in ("1,000", "100,000")}
    sides = {side for target in TARGETS for side in (target.measured, target.against) if side}
    assert sides <= found | files


def test_a_file_that_the_disk_can_not_hold_is_left_out(case: Any, tmp_path: Path) -> None:
    from benchmarks.contestants import Missing
    from benchmarks.measures import large

    with pytest.raises(Missing, match=r"of which [0-9]+ are free"):
        large(tmp_path, case, 1e9)
    assert not [*tmp_path.iterdir()]


def test_equal_shares_serve_all_until_the_shortest_is_done() -> None:
    from benchmarks.measures import equal_shares

    # three at a third of 10 rows/s each until the first is done, then two at a half, then one alone
    assert equal_shares([10, 20, 40], 10.0) == [3.0, 5.0, 7.0]
    assert equal_shares([5, 5], 1.0) == [10.0, 10.0]
