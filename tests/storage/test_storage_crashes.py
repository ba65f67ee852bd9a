"""A scripted life of a root, killed or failed at its state-changing system calls, ends as if nothing had happened.

A sample of the points by default; HEADRACE_SWEEP=full tries every one (some minutes), HEADRACE_SEED another sample.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
KINDS = "write,pwrite64,fsync,fdatasync,ftruncate,truncate,rename,renameat2,unlink,symlink,mkdir"
CALLS = 800  # more than the run makes of any one kind
FULL = os.environ.get("HEADRACE_SWEEP") == "full"
SEED = os.environ.get("HEADRACE_SEED", "1")


@pytest.fixture
def fast(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: a kill loses nothing that was written, so no disk is needed."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or shutil.disk_usage(memory).free < 64 * 1024 * 1024:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as directory:
        yield Path(directory)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace does the killing")
@pytest.mark.parametrize(
    ("fault", "nested", "step"),
    [
        ("signal=SIGKILL", "once", 40),
        ("signal=SIGKILL", "nested", 80),
        ("error=ENOSPC", "once", 120),
        ("error=EIO", "nested", 120),
    ],
)
def test_a_disturbed_run_ends_as_if_undisturbed(
    fast: Path, fault: str, nested: str, step: int
) -> None:
    command = ["strace", "-f", "-qq", "-o", os.devnull, "-e", f"trace={KINDS}"]
    command += ["-e", f"inject={KINDS}:{fault}:when={CALLS}"]
    sweep = [str(HERE / "crash_sweep.py"), str(fast), str(CALLS), SEED, str(1 if FULL else step)]
    done = subprocess.run(
        [*command, sys.executable, *sweep, nested],
        env=os.environ | {"PYTHONPATH": str(HERE.parents[1]), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0 and "ptrace" in done.stderr.lower():
        pytest.skip("strace may not trace here")
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["wrong"] == []
    assert result["points"] >= (500 if FULL else 10)
