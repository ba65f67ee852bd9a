"""A root in a temporary folder, a journal in it, and Python programs run under faults."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.core.layout import Layout
from service.storage.journal import Journal
from service.storage.root import prepare_root

ROOT = Path(__file__).resolve().parents[2]
Program = Callable[..., str]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "root")
    prepare_root(layout, ["j"])
    return layout


@pytest.fixture
def journal(layout: Layout) -> Iterator[Journal]:
    journal = Journal(layout.journal)
    yield journal
    journal.close()


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Runs Python text in a process of its own, in the test's folder; `inject` is strace's fault."""

    def run(text: str, inject: str | None = None) -> str:
        command = [sys.executable, "-W", "error", "-c", text]
        if inject is not None:
            if shutil.which("strace") is None:
                pytest.skip("strace injects the fault, and there is none here")
            command = ["strace", "-f", "-qq", "-o", os.devnull, "-e", f"inject={inject}", *command]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run
