"""Real commands on real roots: a caller, a small job, and a daemon that surely ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

CHECKOUT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 120.0  # a bound for hangs, far beyond what anything takes

CONFIG = """\
[service]
workers = 1

[intake]
rescan_seconds = 0.2

[[jobs]]
name = "plane"
label = "z"

[jobs.model]
kernel = "linear"

[[jobs]]
name = "side"
label = "over"

[jobs.model]
kernel = "logistic"
positive = "yes"
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def headrace(
    *arguments: object,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stdout: IO[bytes] | int = subprocess.PIPE,
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end, as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "service", *map(str, arguments)],
        cwd=cwd,
        env=_environment() | dict(environment or {}),
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(CHECKOUT), "COLUMNS": "", "NO_COLOR": "1"}


def plane(rows: int, start: int = 0) -> bytes:
    """z = 2a - b + 3, on a grid."""
    pairs = [((i * 7) % 11, (i * 5) % 13) for i in range(start, start + rows)]
    return b"a,b,z\n" + b"".join(b"%d,%d,%d\n" % (a, b, 2 * a - b + 3) for a, b in pairs)


def side(rows: int) -> bytes:
    """Which side of a line: by name."""
    pairs = [((i * 7) % 11, (i * 5) % 13) for i in range(rows)]
    names = [b"yes" if a > b else b"no" for a, b in pairs]
    lines = [b"%d,%d,%s\n" % (a, b, n) for (a, b), n in zip(pairs, names, strict=True)]
    return b"a,b,over\n" + b"".join(lines)


def wait_until(true: Callable[[], Any], what: str) -> None:
    """By condition, never by a time that is hoped to be enough."""
    end = time.monotonic() + DEADLINE_SECONDS
    while not true():
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(0.02)


def drop(root: Path, job: str, name: str, content: bytes, folder: str = "inbox") -> None:
    target = root / folder / job / name
    target.parent.mkdir(parents=True, exist_ok=True)
    hidden = target.with_name(f".{name}")
    hidden.write_bytes(content)
    hidden.rename(target)


def status(root: Path) -> dict[str, Any]:
    path = root / "state" / "status.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"state": "absent"}
    return found


@contextmanager
def daemon(root: Path, config: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon that is ready; it is ended afterwards, whatever happens."""
    with (root.parent / "daemon.txt").open("ab") as words:
        process = subprocess.Popen(
            [sys.executable, "-m", "service", "run", "-c", str(config), "--root", str(root)],
            env=_environment(),
            stdout=words,
            stderr=words,
        )
    try:

        def ready() -> bool:
            assert process.poll() is None, (root.parent / "daemon.txt").read_text()
            now = status(root)
            return (now["state"], now.get("pid")) == ("running", process.pid)

        wait_until(ready, "the start of the daemon")
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(DEADLINE_SECONDS)
            finally:
                process.kill()
        process.wait()
