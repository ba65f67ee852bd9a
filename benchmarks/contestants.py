"""Who takes part: each learns a case once, and says its time and its progressive loss.

Rules: a contestant is timed from the file to the last thing that it promises. The loss is progressive (each row or batch is
scored before it is learnt), so that nobody is fast by learning less. Who is not installed says so and is left out. To add
one: a function in peers.py and its line in CONTESTANTS.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from benchmarks.case import DIGITS, PIXELS, Case
from benchmarks.daemon import HANG_SECONDS, Daemon, configuration
from service import __version__

PEERS = Path(__file__).with_name("peers.py")
OWN_PLACE = Path(__file__).parents[1] / ".venv-peers" / "bin" / "python"
WARM_BYTES = 200 * 1000
WARM_ROWS = 4096
JOBS = ("bench", "warm")
CORES = os.cpu_count() or 1
FROM_RENAME = "from the rename to durable records, model and done/"

# An MLP with plain steps and no penalty, on rows as they are: what both sides call by the same names, and mean by it the same.
LAYERS = """
[[jobs]]
name = "{job}"
label = {label}
model = {{ kernel = "mlp", hidden = [128], classes = {digits}, l2 = 0.0 }}
optimizer = {{ name = "sgd", learning_rate = 0.1 }}
scaling.standardise = false
training = {{ {training} }}
output.samples = "off"
"""
NUMERIC = ("OPENBLAS_", "OMP_", "MKL_", "NUMBA_", "POLARS_")


class Run(NamedTuple):
    """What one run took, and the mean log loss of the rows before each was learnt (None: not scored)."""

    seconds: float
    loss: float | None
    version: str


class Missing(Exception):
    """A contestant that can't take part; the text says what is not installed."""


class Contestant(Protocol):
    """Learns a case, once a run."""

    @property
    def name(self) -> str:
        """For the table."""

    @property
    def what(self) -> str:
        """What is timed."""

    def run(self, case: Case) -> Run:
        """Learns the case once; raises Missing."""


@dataclass(frozen=True, slots=True)
class Headrace:
    """The whole daemon, already running."""

    name: str
    samples: str = "off"
    suffix: str = ".csv"
    workers: int = 0
    what: str = FROM_RENAME

    def run(self, case: Case) -> Run:
        sections = f"[service]\nworkers = {self.workers}\n"
        config = configuration(JOBS, self.samples, sections)
        return _learnt(case.in_format(self.suffix), config, case.head(WARM_BYTES), ".csv")


@dataclass(frozen=True, slots=True)
class Layers:
    """The whole daemon with an MLP on images; `training` is its section, of so many lanes as there are cores."""

    name: str
    training: str
    what: str = FROM_RENAME

    def run(self, case: Case) -> Run:
        few = io.BytesIO()
        np.save(few, np.load(case.path, mmap_mode="r")[:WARM_ROWS])
        training = self.training.format(lanes=CORES, part=1024 // CORES)
        config = "".join(
            LAYERS.format(job=job, digits=DIGITS, label=PIXELS, training=training) for job in JOBS
        )
        return _learnt(case.path, config, few.getvalue(), ".npy")


def _learnt(path: Path, config: str, few: bytes, suffix: str) -> Run:
    """What a daemon with this configuration of JOBS takes to learn a file; a `few` rows, a file of this suffix, warm it.

    They go to a job of their own: a model that had seen them would have the smaller loss.
    """
    with (
        tempfile.TemporaryDirectory(prefix="headrace-bench-", dir=path.parent) as folder,
        Daemon(Path(folder), config, JOBS) as daemon,
    ):
        daemon.warm(few, suffix, JOBS[1:])
        seconds = daemon.learn([daemon.hide(path, f"rows{path.suffix}")])
        return Run(seconds, float(daemon.records()[-1]["loss"]), f"headrace {__version__}")


@dataclass(frozen=True, slots=True)
class Peer:
    """A program of peers.py, in a process of its own: timed after its imports; nothing is recorded or durable.

    `remedy` says how what is missing comes there, where `make bench` doesn't see to it.
    """

    name: str
    key: str
    what: str
    suffix: str = ".csv"
    remedy: str = ""

    def run(self, case: Case) -> Run:
        missing: dict[str, None] = {}  # each once, in order
        for python in (str(OWN_PLACE), sys.executable):
            if os.path.exists(python):
                answer = self._asked(python, case.in_format(self.suffix))
                if "missing" not in answer:
                    loss = answer["loss"]
                    return Run(
                        float(answer["seconds"]),
                        None if loss is None else float(loss),
                        answer["version"],
                    )
                missing[answer["missing"]] = None
        raise Missing(f"{' or '.join(missing)} is not installed{self.remedy}")

    def _asked(self, python: str, path: Path) -> dict[str, str]:
        # As the daemon's workers do, peers choose their own threads and BLAS kernels, whatever this shell has set.
        environment = {k: v for k, v in os.environ.items() if not k.startswith(NUMERIC)}
        done = subprocess.run(
            [python, str(PEERS), self.key, str(path)],
            env=environment,
            stdout=subprocess.PIPE,
            timeout=HANG_SECONDS,
            check=False,
        )
        if done.returncode not in (0, 3):
            raise RuntimeError(f"{self.name}: must end well, got exit status {done.returncode}")
        found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
        return found


_SPARK = " (500 MB: `.venv-peers/bin/python -m pip install pyspark`, and Java on the path)"
_BATCHES = "partial_fit by 1000 rows behind a StandardScaler"

CONTESTANTS: tuple[Contestant, ...] = (
    Headrace("headrace"),
    Headrace("headrace, a record per sample", samples="norms"),
    Headrace("headrace, two workers", workers=2),
    Headrace("headrace, one worker", workers=1),
    Headrace("headrace, Parquet", suffix=".parquet"),
    Peer("Vowpal Wabbit", "vowpal-wabbit", "its own text format, its defaults", ".vw"),
    Peer("scikit-learn, pyarrow", "scikit-learn-pyarrow", _BATCHES),
    Peer("scikit-learn, pandas", "scikit-learn-pandas", _BATCHES),
    Peer("torch", "torch", "Adam by 1000 rows, read by polars, scaled as it goes"),
    Peer(
        "Spark",
        "spark",
        "structured streaming, at most 50 steps over all rows behind a StandardScaler; the JVM runs and is warm",
        remedy=_SPARK,
    ),
    Peer("River", "river", "row by row behind a StandardScaler"),
    Peer("polars alone", "polars-alone", "decoding to arrays on all cores; nothing is learnt"),
)

# The MLP 784-128-10 on `case.images`: batches of 1,024 rows, each one exact step, and of 32.
MLPS: tuple[Contestant, ...] = (
    Layers("headrace, MLP by 1024", "batch_rows = {part}, lanes = {lanes}, local_steps = 1"),
    Peer("torch, MLP by 1024", "torch-mlp-1024", "SGD, a thread per core", ".npy"),
    Layers("headrace, MLP by 32, local SGD", "batch_rows = 32, lanes = {lanes}"),
    Peer("torch, MLP by 32", "torch-mlp-32", "SGD, a thread per core", ".npy"),
)
