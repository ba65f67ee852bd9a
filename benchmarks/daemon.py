"""The daemon as its users run it, for as long as something is measured: it is dropped files, and asked by its folders.

Rules: what is measured begins with a rename into an inbox, and ends with what a user can see: the last file in done/, its
records durable before. Status is not polled meanwhile; a folder is listed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

LOOK_SECONDS = 0.002
HANG_SECONDS = 3600.0


class Daemon:
    """A process of `headrace run` below a folder; it ends with the `with` block."""

    def __init__(self, folder: Path, config: str, jobs: Sequence[str] = ("bench",)) -> None:
        self.root = folder / "root"
        self._jobs = jobs
        path = folder / "bench.toml"
        path.write_text(config)
        command = [sys.executable, "-m", "service", "run", "-c", str(path), "--root"]
        self._begun = time.perf_counter()
        self.process = subprocess.Popen([*command, str(self.root)], stderr=subprocess.DEVNULL)

    def __enter__(self) -> Daemon:
        try:
            self.await_true(self._runs)
        except BaseException:
            self.process.kill()
            raise
        self.start_seconds = time.perf_counter() - self._begun
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(HANG_SECONDS)

    def hide(self, content: bytes | Path, name: str, job: str = "bench") -> Path:
        """Lays a file into an inbox where the daemon doesn't see it; `show` renames it."""
        hidden = self.root / "inbox" / job / f".{name}"
        if isinstance(content, Path):
            shutil.copyfile(content, hidden)
        else:
            hidden.write_bytes(content)
        return hidden

    def learn(self, hidden: Sequence[Path]) -> float:
        """Renames what is hidden, and waits until all is in done/; in seconds."""
        before = self._done()
        begun = time.perf_counter()
        for path in hidden:
            path.rename(path.with_name(path.name[1:]))
        self.await_true(lambda: self._done() - before >= len(hidden))
        return time.perf_counter() - begun

    def warm(self, content: bytes, job: str = "bench", suffix: str = ".csv") -> None:
        """A small file first: what is imported and compiled once is not what is measured."""
        self.learn([self.hide(content, f"warm-{job}{suffix}", job)])

    def records(self, job: str = "bench") -> list[dict[str, Any]]:
        """The file records."""
        lines = (self.root / "logs" / job / "metrics.jsonl").read_text().splitlines()
        return [record for line in lines if (record := json.loads(line))["kind"] == "file"]

    def status(self) -> dict[str, Any]:
        """What status.json says."""
        found: dict[str, Any] = json.loads((self.root / "state" / "status.json").read_text())
        return found

    def resident_bytes(self) -> int:
        """Memory of all its processes; what they share is counted once (PSS)."""
        total, waiting = 0, [self.process.pid]
        while waiting:
            pid = waiting.pop()
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                waiting += map(int, task.read_text().split())
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        return total

    def await_true(self, true: Callable[[], bool]) -> None:
        """Looks again and again; RuntimeError when the daemon has ended."""
        end = time.monotonic() + HANG_SECONDS
        while not true():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"headrace: must run, got exit status {self.process.poll()}")
            time.sleep(LOOK_SECONDS)

    def _runs(self) -> bool:
        try:
            return bool(self.status()["state"] == "running")
        except FileNotFoundError:
            return False

    def _done(self) -> int:
        return sum(len(os.listdir(self.root / "done" / job)) for job in self._jobs)


def configuration(
    jobs: Sequence[str] = ("bench",), samples: str = "off", sections: str = "", model: str = ""
) -> str:
    """A configuration of logistic jobs with the defaults, and some sections before them."""
    each = (
        f'[[jobs]]\nname = "{job}"\nlabel = "y"\nmodel.kernel = "logistic"\n{model}'
        f'output.samples = "{samples}"\n'
        for job in jobs
    )
    return "\n".join([sections, *each])
