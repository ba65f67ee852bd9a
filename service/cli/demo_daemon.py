"""The demo's daemon: the real one as a process of its own, watched through what it leaves for everybody.

Rules: the demo knows no more of it than a user does: `state/status.json` and `logs/service.jsonl`. It is asked to end by
SIGTERM, also when the demo itself is interrupted.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from service.core.errors import HeadraceError
from service.core.layout import Layout, shown

START_SECONDS = 300.0
"""The first start compiles the kernels, on a slow machine that others use as well."""
STOP_SECONDS = 60.0
LOOK_SECONDS = 0.1

Event = dict[str, Any]


class Demo:
    """A running daemon below a root; `with` starts it and stops it."""

    def __init__(self, config: Path, root: Path) -> None:
        self.layout = Layout(root)
        self.words = root / "daemon.txt"
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None
        self._read = 0
        self._rest = b""

    def __enter__(self) -> Demo:
        command = [sys.executable, "-m", "service", "run", "-c", str(self._config)]
        with self.words.open("wb") as words:
            self._process = subprocess.Popen(
                [*command, "--root", str(self.layout.root)],
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                start_new_session=True,  # a Ctrl-C is ours, and becomes one SIGTERM
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def stop(self) -> int:
        """Asks it to end and waits; returns its exit status. A second call only returns it."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self._process.wait()

    def wait_until(self, true: Callable[[], bool], seconds: float, what: str) -> None:
        """Looks again and again; raises HeadraceError when the time is over or the daemon has ended."""
        assert self._process is not None
        end = time.monotonic() + seconds
        while not true():
            status = self._process.poll()
            if status is not None:
                raise HeadraceError(f"{what}: the daemon must run, got {self._why(status)}")
            if time.monotonic() > end:
                raise HeadraceError(
                    f"{what}: must happen within {seconds:g} s, see {shown(self.words)}"
                )
            time.sleep(LOOK_SECONDS)

    def is_ready(self) -> bool:
        status = self.status()
        return status is not None and (status["state"], status["pid"]) == ("running", self.pid)

    def status(self) -> dict[str, Any] | None:
        """What status.json says now; None before there is one."""
        with suppress(FileNotFoundError):
            found: dict[str, Any] = json.loads(self.layout.status.read_text())
            return found
        return None

    def events(self) -> Iterator[Event]:
        """What was written to the service log since the last call."""
        with suppress(FileNotFoundError), self.layout.service_log.open("rb") as log:
            log.seek(self._read)
            fresh = log.read()
            self._read += len(fresh)
            *lines, self._rest = (self._rest + fresh).split(b"\n")
            yield from map(json.loads, lines)

    def _why(self, status: int) -> str:
        lines = self.words.read_text(errors="replace").splitlines()
        return lines[-1] if lines else f"exit status {status}"
