"""The system under the ledger's programs: a root, its journal, its units, and crashes at any call of them.

Rules. There is no trainer: a file's records are its content. A crash is a child of this process that is killed at one of
its calls; a recovery follows, which may be killed, too, and then one that is not.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from service.core.layout import Layout
from service.core.ledger import Undecided
from service.runtime.inbox import Inbox
from service.stages.identity import Same, same_as
from service.storage import logs, units
from service.storage.completion import Keep
from service.storage.journal import Journal
from service.storage.recovery import recover
from service.storage.root import prepare_root
from service.storage.tables import Entry, FileRow
from service.storage.units import Progress, perform
from service.storage.writer import Unit
from tests.harness import oracle, shim
from tests.harness.children import in_child
from tests.harness.shim import Action, Plan

JOB, LOG = "j", "samples.jsonl"
KEEP = Keep(rotate_bytes=40, segments=0, models=2)

Make = Callable[[], Unit[Any, Any, Any]]


class Waits(Exception):
    """Nothing can be said of a file before another one is decided."""


class LedgerRoot:
    """One root with one job, in one thread."""

    def __init__(self, place: Path) -> None:
        self.layout = Layout(place / "root")
        prepare_root(self.layout, [JOB])
        self.journal = Journal(self.layout.journal)
        self.crashes = 0

    def close(self) -> None:
        self.journal.close()

    def do(self, unit: Make, crash: int) -> None:
        """Carries out a unit; with a crash it is cut short at that call, and recovery follows."""
        if not crash or shim.loaded() is None:
            perform(self.journal, unit())
            return
        self.crashes += 1
        self.journal.close()
        self._in_child(lambda journal: perform(journal, unit()), crash)
        self._in_child(
            lambda journal: recover(self.layout, journal, [JOB], keep=KEEP), crash * 7 % 50
        )
        self.journal = Journal(self.layout.journal)
        recover(self.layout, self.journal, [JOB], keep=KEEP)

    def _in_child(self, work: Callable[[Journal], object], call: int) -> None:
        def life() -> None:
            watched = shim.loaded()
            assert watched is not None
            watched.watch(self.layout.root, Plan(Action.KILL, call) if call else shim.NOTHING)
            journal = Journal(self.layout.journal)
            work(journal)
            journal.close()

        in_child(life)

    # --- what can be done

    def admission(self, entries: list[Entry]) -> Unit[Any, Any, Any]:
        terms = ("d", "{}")
        return units.admission(self.layout, JOB, entries, settings=terms, after="archive", at=0.0)

    def progress(self, admission: int, records: str, *, private: bool) -> Progress:
        """The file with its records in the spool; half of them where it is only a resume point."""
        text = records.encode()
        text = text[: len(text) // 2] if private else text
        self.layout.spool(JOB, admission, LOG).write_bytes(text)
        public = self.journal.commit(JOB, "public")
        sequence = (public.sequence if public else 0) + (not private)
        row = len(text)
        tensors = {"w": np.array([float(admission), float(row)])}
        version = 100 * admission + row
        return Progress(JOB, admission, row, version, sequence, tensors, {}, {LOG: row})

    def look(self) -> list[Entry]:
        look = Inbox(self.layout.inbox(JOB), ["*"], [], 0.0).look({}, True)
        return [Entry(f.name, f.size, f.mtime_ns, f.inode) for f in look.ready]

    def same(self, admission: int, still_open: list[int]) -> Same | None:
        """The stage's own judgement, with a line that has nothing but what it asks for; or Waits."""

        async def ask(question: Callable[[Journal], Any]) -> Any:
            return question(self.journal)

        async def news() -> None:
            raise Waits

        undecided = Undecided(dict.fromkeys(still_open))
        line: Any = SimpleNamespace(
            conduct=SimpleNamespace(identity="content"), ask=ask, news=news, undecided=undecided
        )
        path = self.layout.work_file(JOB, admission)
        sample: Any = SimpleNamespace(row=self.row(admission), path=path)
        return asyncio.run(same_as(line, sample, None))

    # --- what can be seen

    def rows(self) -> list[dict[str, Any]]:
        return oracle.rows(self.layout.root, "files")

    def row(self, admission: int) -> FileRow:
        return self.journal.file(JOB, admission)

    def contents(self, folder: str) -> dict[str, str]:
        below = self.layout.root / folder / JOB
        return {name: (below / name).read_text() for name in os.listdir(below)}

    def log(self) -> str:
        segments = logs.segments(self.layout.logs(JOB), LOG)
        return "".join(path.read_text() for path in segments)
