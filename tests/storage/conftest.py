"""A root in a temporary folder, a journal in it, and Python programs run under faults."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.core.layout import Layout
from service.storage import logs, units
from service.storage.completion import Keep
from service.storage.journal import Journal
from service.storage.recovery import recover
from service.storage.root import prepare_root
from service.storage.tables import After, Digests, Entry, FileRow
from service.storage.units import Accepted, Progress, Whole, perform
from service.storage.writer import Unit

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


@dataclass
class Hand:
    """Does by hand, in one thread and for job `j`, what the stages do."""

    layout: Layout
    journal: Journal
    keep: Keep = field(default=Keep(rotate_bytes=0, segments=0, models=3))

    def drop(self, name: str, text: str = "1\n") -> Entry:
        path = self.layout.inbox("j") / name
        path.write_text(text)
        found = path.stat()
        return Entry(os.fsencode(name), found.st_size, found.st_mtime_ns, found.st_ino)

    def admission(self, *entries: Entry, after: After = "archive") -> Unit[Any, Any, Any]:
        settings = ("d", "{}")
        return units.admission(self.layout, "j", entries, settings=settings, after=after, at=0.0)

    def admit(self, *names: str, after: After = "archive") -> list[FileRow]:
        """Drops files of these names and takes them."""
        entries = [self.drop(name) for name in names]
        return list(perform(self.journal, self.admission(*entries, after=after)))

    def progress(self, file: FileRow, sequence: int, row: int = 1, **spools: bytes) -> Progress:
        """A model of one tensor, and spools with these bytes: samples=b"..." is samples.jsonl."""
        lengths = {}
        for stem, data in spools.items():
            log = f"{stem}.jsonl"
            self.layout.spool("j", file.admission, log).write_bytes(data)
            lengths[log] = len(data)
        tensors = {"w": np.array([float(sequence), float(row)])}
        return Progress(
            "j", file.admission, row, 10 * sequence + row, sequence, tensors, {}, lengths
        )

    def accepting(
        self, file: FileRow, sequence: int, rejected: Callable[[], bytes] = bytes, **spools: bytes
    ) -> Unit[Any, Any, Accepted]:
        progress = self.progress(file, sequence, **spools)
        digests = Digests(_sha256(file), f"records {sequence}", "print")
        whole = Whole(progress, digests, rejected=rejected)
        return units.acceptance(self.layout, [whole], keep=self.keep)

    def accept(self, file: FileRow, sequence: int, **spools: bytes) -> Accepted:
        return perform(self.journal, self.accepting(file, sequence, **spools))

    def commit(self, unit: Unit[Any, Any, Any]) -> Any:
        """As far as the transaction, and then a crash."""
        prepared = unit.prepare()
        with self.journal.transaction():
            return unit.apply(self.journal, prepared)

    def recover(self) -> list[str]:
        report = recover(self.layout, self.journal, ["j"], keep=self.keep)
        return [f"{action.what}: {action.subject}" for action in report.actions]

    def log(self, name: str = "samples.jsonl") -> bytes:
        return b"".join(path.read_bytes() for path in logs.segments(self.layout.logs("j"), name))

    def names(self, folder: str) -> list[str]:
        return sorted(os.listdir(self.layout.root / folder / "j"))


def _sha256(file: FileRow) -> str:
    """As if the file's text were "1", which is what `drop` writes unless told otherwise."""
    return hashlib.sha256(b"1\n").hexdigest()


@pytest.fixture
def hand(layout: Layout, journal: Journal) -> Hand:
    return Hand(layout, journal)
