"""A configuration of two small jobs, and a root in which they have been trained."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from cli_calls import CONFIG, drop, headrace, plane, side


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "headrace.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root in which nobody runs: two models, one refused file. Not to be changed by a test."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "headrace.toml").write_text(CONFIG)
    root = folder / "root"
    drop(root, "plane", "plane-1.csv", plane(300))
    drop(root, "plane", "plane-2.csv", b"a,b,z\n1,x,2\n")
    drop(root, "side", "side-1.csv", side(300))
    run = headrace("run", "-c", folder / "headrace.toml", "--root", root, "--once")
    assert run.returncode == 0, run.stderr
    return root
