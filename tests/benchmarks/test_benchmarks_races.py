"""The races: both sides learn the same file, and say how well, from nothing."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def _importable() -> None:
    sys.path.append(str(CHECKOUT))


def test_an_mlp_learns_the_same_images_as_torch(tmp_path: Path) -> None:
    from benchmarks.case import images
    from benchmarks.contestants import MLPS

    case = images(tmp_path, 2000)
    assert np.load(case.path).shape == (2000, 785)
    losses = {mlp.name: mlp.run(case).loss for mlp in MLPS}
    guess = math.log(10)
    # sixty steps learn something, two do not yet: nobody may be fast by leaving rows out
    assert losses["headrace, MLP by 32, local SGD"] < guess
    assert losses["torch, MLP by 32"] < guess
    assert all(loss is not None and loss < 2 * guess for loss in losses.values()), losses


def test_what_warms_the_daemon_does_not_change_its_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import contestants
    from benchmarks.case import make

    case = make(tmp_path, 1000, 5)
    daemon, losses = contestants.Headrace("headrace"), []
    for warm_bytes in (2000, 20_000):
        monkeypatch.setattr(contestants, "WARM_BYTES", warm_bytes)
        losses.append(daemon.run(case).loss)
    assert losses[0] == losses[1]
