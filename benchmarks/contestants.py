"""Who takes part: each learns a case once, row after row or in small batches, and says its time and its progressive loss.

Rules: a contestant is timed from the file to the last thing that it promises. The loss is progressive (each batch is scored before
it is learnt), so that nobody is fast by learning less. Who is not installed says so and is left out. To add one: a class
with `name`, `what`, `missing` and `run`, and its line in CONTESTANTS.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl

from benchmarks.case import Case

BATCH_ROWS = 1000
LOOK_SECONDS = 0.002
HANG_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Run:
    """What one run took, and the mean log loss of the rows before each was learnt (None: not scored)."""

    seconds: float
    loss: float | None


class Contestant(Protocol):
    """Learns a case, once a run."""

    @property
    def name(self) -> str:
        """For the table."""

    @property
    def what(self) -> str:
        """What is timed."""

    def missing(self) -> str | None:
        """What is not installed; None when it can take part."""

    def run(self, case: Case) -> Run:
        """Learns the case once."""


def _lacks(*modules: str) -> str | None:
    absent = [name for name in modules if importlib.util.find_spec(name) is None]
    return f"{', '.join(absent)} not installed" if absent else None


# Headrace


@dataclass(frozen=True, slots=True)
class Headrace:
    """The whole daemon, already running: from the rename into the inbox until the file lies in done/, its records durable before."""

    samples: str
    name: str = "headrace"
    what: str = "from rename to durable records, model and done/"

    def missing(self) -> str | None:
        return None

    def run(self, case: Case) -> Run:
        with tempfile.TemporaryDirectory(prefix="headrace-bench-", dir=case.path.parent) as folder:
            root = Path(folder) / "root"
            process = self._start(Path(folder), root)
            try:
                self._drop(
                    root, case.path.read_bytes()[: 200 * 1000].rpartition(b"\n")[0], "warm.csv"
                )
                hidden = root / "inbox" / "bench" / ".rows"
                shutil.copyfile(case.path, hidden)
                begun = time.perf_counter()
                hidden.rename(hidden.with_name("rows.csv"))
                _wait(lambda: (root / "done" / "bench" / "rows.csv").exists(), process)
                seconds = time.perf_counter() - begun
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(HANG_SECONDS)
            return Run(seconds, self._loss(root))

    def _start(self, folder: Path, root: Path) -> subprocess.Popen[bytes]:
        config = folder / "bench.toml"
        config.write_text(
            '[[jobs]]\nname = "bench"\nlabel = "y"\nmodel.kernel = "logistic"\n'
            f'output.samples = "{self.samples}"\n'
        )
        command = [sys.executable, "-m", "service", "run", "-c", str(config), "--root", str(root)]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        status = root / "state" / "status.json"
        _wait(
            lambda: status.exists() and json.loads(status.read_text())["state"] == "running",
            process,
        )
        return process

    def _drop(self, root: Path, content: bytes, name: str) -> None:
        """A small file first: what is imported and compiled once is not what is measured."""
        (hidden := root / "inbox" / "bench" / f".{name}").write_bytes(content)
        hidden.rename(hidden.with_name(name))
        end = time.monotonic() + HANG_SECONDS
        while not (root / "done" / "bench" / name).exists():
            if time.monotonic() > end:
                raise TimeoutError(f"{name}: must be done within {HANG_SECONDS:g} s")
            time.sleep(LOOK_SECONDS)

    def _loss(self, root: Path) -> float:
        *_, last = (root / "logs" / "bench" / "metrics.jsonl").read_text().splitlines()
        return float(json.loads(last)["loss"])


def _wait(true: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + HANG_SECONDS
    while not true():
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"headrace: must run, got exit status {process.poll()}")
        time.sleep(LOOK_SECONDS)


# scikit-learn


@dataclass(frozen=True, slots=True)
class Sklearn:
    """SGDClassifier.partial_fit with an online StandardScaler, by batches; in memory, nothing is recorded."""

    reader: str
    batches: Callable[[Case], Iterator[tuple[np.ndarray, np.ndarray]]]
    what: str = f"partial_fit by {BATCH_ROWS} rows, with its defaults; no records, nothing durable"

    @property
    def name(self) -> str:
        return f"scikit-learn, {self.reader}"

    def missing(self) -> str | None:
        return _lacks("sklearn", self.reader)

    def run(self, case: Case) -> Run:
        from sklearn.linear_model import SGDClassifier  # type: ignore[import-untyped]
        from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]

        scaler, model = StandardScaler(), SGDClassifier(loss="log_loss", random_state=0)
        begun, loss, learnt = time.perf_counter(), 0.0, False
        for x, y in self.batches(case):
            z = scaler.partial_fit(x).transform(x)
            loss += _log_loss(model.decision_function(z) if learnt else np.zeros(len(y)), y)
            model.partial_fit(z, y, classes=[0, 1])
            learnt = True
        return Run(time.perf_counter() - begun, loss / case.rows)


def _log_loss(output: np.ndarray, y: np.ndarray) -> float:
    return float((np.logaddexp(0.0, output) - y * output).sum())


def polars_batches(case: Case) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The file decoded as a whole, on all cores, and handed out in slices."""
    frame = pl.read_csv(case.path)
    x, y = frame.drop("y").to_numpy(order="c"), frame["y"].to_numpy()
    for start in range(0, len(y), BATCH_ROWS):
        yield x[start : start + BATCH_ROWS], y[start : start + BATCH_ROWS]


def pyarrow_batches(case: Case) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The file streamed block by block, each handed out in slices."""
    from pyarrow import csv  # type: ignore[import-untyped]

    with csv.open_csv(case.path) as reader:
        for block in reader:
            columns = {
                name: block.column(i).to_numpy() for i, name in enumerate(block.schema.names)
            }
            y = columns.pop("y")
            x = np.column_stack(list(columns.values()))
            for start in range(0, len(y), BATCH_ROWS):
                yield x[start : start + BATCH_ROWS], y[start : start + BATCH_ROWS]


# What nobody who reads the file through polars can beat


@dataclass(frozen=True, slots=True)
class DecodingAlone:
    """polars decodes the file; nothing is learnt."""

    name: str = "polars alone"
    what: str = f"decoding to arrays on {os.cpu_count()} threads; nothing is learnt"

    def missing(self) -> str | None:
        return None

    def run(self, case: Case) -> Run:
        begun = time.perf_counter()
        for _ in polars_batches(case):
            pass
        return Run(time.perf_counter() - begun, None)


CONTESTANTS: tuple[Contestant, ...] = (
    Headrace("norms", "headrace, a record per sample"),
    Headrace("off", "headrace, no sample records"),
    Sklearn("polars", polars_batches),
    Sklearn("pyarrow", pyarrow_batches),
    DecodingAlone(),
)
