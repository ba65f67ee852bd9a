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
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

LOOK_SECONDS = 0.002
LOOK_SHARE = 10  # a pause between two looks is at least so many times as long as a look
WATCH_SECONDS = 0.5
HANG_SECONDS = 3600.0
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Peak:
    """The most that all processes of a daemon had at once: memory (PSS: what they share is counted once), descriptors."""

    resident_bytes: int = 0
    descriptors: int = 0


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

    def warm(self, content: bytes, suffix: str = ".csv", jobs: Sequence[str] = ()) -> None:
        """A small file for these jobs, or for all, first: what is imported and compiled once is not what is measured."""
        self.learn([self.hide(content, f"warm{suffix}", job) for job in jobs or self._jobs])

    def records(self, job: str = "bench") -> list[dict[str, Any]]:
        """The file records."""
        lines = (self.root / "logs" / job / "metrics.jsonl").read_text().splitlines()
        return [record for line in lines if (record := json.loads(line))["kind"] == "file"]

    def status(self) -> dict[str, Any]:
        """What status.json says."""
        found: dict[str, Any] = json.loads((self.root / "state" / "status.json").read_text())
        return found

    def next_status(self) -> dict[str, Any]:
        """What status.json says when it is written next."""
        now = time.time()
        self.await_true(lambda: self.status()["time"] > now)
        return self.status()

    @contextmanager
    def watched(self) -> Iterator[Peak]:
        """Looks at all processes twice a second and at the block's end; whole when the block has ended."""
        peak, ended = Peak(), threading.Event()

        def watch() -> None:
            over = False
            while not over:
                over = ended.wait(WATCH_SECONDS)
                self._look(peak)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield peak
        finally:
            ended.set()
            watcher.join()

    def processor_seconds(self) -> tuple[float, float]:
        """What the daemon's own process has taken of the processor so far, and what its workers have together."""
        own, *others = map(_processor_seconds, self._processes())
        return own, sum(others)

    def await_true(self, true: Callable[[], bool]) -> None:
        """Looks again and again; RuntimeError when the daemon has ended."""
        begun = looked = time.monotonic()
        while not true():
            now = time.monotonic()
            if self.process.poll() is not None or now > begun + HANG_SECONDS:
                raise RuntimeError(f"headrace: must run, got exit status {self.process.poll()}")
            # A hundred thousand files take long to list: looking must not take the processor from who is looked at.
            time.sleep(max(LOOK_SECONDS, LOOK_SHARE * (now - looked)))
            looked = time.monotonic()

    def _look(self, peak: Peak) -> None:
        resident, descriptors = 0, 0
        for process in self._processes():
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                resident += _resident_bytes(process)
                descriptors += len(os.listdir(process / "fd"))
        peak.resident_bytes = max(peak.resident_bytes, resident)
        peak.descriptors = max(peak.descriptors, descriptors)

    def _processes(self) -> Iterator[Path]:
        """The daemon's folder below /proc, then those of all that descend from it."""
        waiting = [str(self.process.pid)]
        while waiting:
            process = Path("/proc", waiting.pop())
            yield process
            for task in (process / "task").glob("*/children"):
                with suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
                    waiting += task.read_text().split()

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


def _resident_bytes(process: Path) -> int:
    lines = (process / "smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _processor_seconds(process: Path) -> float:
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
