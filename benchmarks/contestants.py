"""Who takes part: each learns a case once, and says its time and its progressive loss.

Rules: a contestant is timed from the file to the last thing that it promises. The loss is progressive (each row or batch is
scored before it is learnt), so that nobody is fast by learning less. Who is not installed says so and is left out. To add
one: a function in peers.py and its line in CONTESTANTS.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from benchmarks.case import Case
from benchmarks.daemon import HANG_SECONDS, Daemon, configuration
from service import __version__

PEERS = Path(__file__).with_name("peers.py")
OWN_PLACE = Path(__file__).parents[1] / ".venv-peers" / "bin" / "python"
WARM_BYTES = 200 * 1000


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
    samples: str
    suffix: str = ".csv"
    workers: int = 0
    what: str = "from the rename to durable records, model and done/"

    def run(self, case: Case) -> Run:
        sections = f"[service]\nworkers = {self.workers}\n"
        config = configuration(samples=self.samples, sections=sections)
        with (
            tempfile.TemporaryDirectory(prefix="headrace-bench-", dir=case.path.parent) as folder,
            Daemon(Path(folder), config) as daemon,
        ):
            daemon.warm(case.head(WARM_BYTES))
            seconds = daemon.learn([daemon.hide(case.in_format(self.suffix), f"rows{self.suffix}")])
            return Run(seconds, float(daemon.records()[-1]["loss"]), f"headrace {__version__}")


@dataclass(frozen=True, slots=True)
class Peer:
    """A program of peers.py, in a process of its own: timed after its imports; nothing is recorded or durable."""

    name: str
    key: str
    what: str
    suffix: str = ".csv"

    def run(self, case: Case) -> Run:
        answer: dict[str, str] = {}
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
        raise Missing(f"{answer.get('missing')} is not installed")

    def _asked(self, python: str, path: Path) -> dict[str, str]:
        done = subprocess.run(
            [python, str(PEERS), self.key, str(path)],
            stdout=subprocess.PIPE,
            timeout=HANG_SECONDS,
            check=False,
        )
        if done.returncode not in (0, 3):
            raise RuntimeError(f"{self.name}: must end well, got exit status {done.returncode}")
        found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
        return found


_BATCHES = "partial_fit by 1000 rows behind a StandardScaler"

CONTESTANTS: tuple[Contestant, ...] = (
    Headrace("headrace", "off"),
    Headrace("headrace, a record per sample", "norms"),
    Headrace("headrace, one worker", "off", workers=1),
    Headrace("headrace, Parquet", "off", ".parquet"),
    Peer("Vowpal Wabbit", "vowpal-wabbit", "its own text format, its defaults", ".vw"),
    Peer("scikit-learn, pyarrow", "scikit-learn-pyarrow", _BATCHES),
    Peer("scikit-learn, pandas", "scikit-learn-pandas", _BATCHES),
    Peer("torch", "torch", "Adam by 1000 rows, read by polars, scaled as it goes"),
    Peer("River", "river", "row by row behind a StandardScaler"),
    Peer("polars alone", "polars-alone", "decoding to arrays on all cores; nothing is learnt"),
)
