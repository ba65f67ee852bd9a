"""A user of the pages: who has the command on the path, and runs an example of theirs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from cli_calls import DEADLINE_SECONDS
from marked_blocks import CHECKOUT


def at_home(folder: Path) -> None:
    """The command on the path, and the docs beside."""
    command = folder / "bin" / "headrace"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m service "$@"\n')
    command.chmod(0o755)
    (folder / "docs").symlink_to(CHECKOUT / "docs")


def runs(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The script's end, in a folder where a user is at home."""
    path = f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    extra = {"PATH": path, "PYTHONPATH": str(CHECKOUT), "HEADRACE": str(CHECKOUT)}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=os.environ | extra,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
