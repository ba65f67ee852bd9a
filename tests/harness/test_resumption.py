"""A death at a point that random kills meet once in a thousand times, found by them and made again here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.daemon import sample_tables
from tests.daemon.daemon_root import Root, job, root_in, rounds
from tests.harness import shim
from tests.harness.shim import Action, Plan

MODEL = {"kernel": "mlp", "hidden": [6], "classes": 2}
FILE = sample_tables.csv(sample_tables.rows(90, 2))


def _dropped(root: Root) -> None:
    often = {"interval_seconds": 0.001}  # a private commit after every round
    root.configure(job(model=MODEL, training=rounds(8, 3, 2)), commit=often)
    root.drop("f.csv", FILE)


@pytest.mark.skipif(not shim.library(), reason="no C compiler for the shim")
def test_a_file_whose_rows_were_all_learnt_before_a_kill_has_the_same_last_records(
    tmp_path: Path,
) -> None:
    with root_in(tmp_path / "quiet") as quiet, root_in(tmp_path / "killed") as killed:
        _dropped(quiet)
        quiet.once()
        _dropped(killed)
        # Models of whole files are written after the last private commit, and before the file is accepted.
        whole = Plan(Action.KILL, 1, part="/models/j/")
        killed.environment = shim.environment(killed.path, whole)
        killed.once(expected=-9)
        killed.environment = {}
        life = killed.once()
        assert [e["resumed_at_row"] for e in life.events("started")] == [90]
        assert killed.outcome() == quiet.outcome()
