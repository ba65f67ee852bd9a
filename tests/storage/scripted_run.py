"""A short life of a root with a scripted trainer: everything that lasts, nothing that computes.

Rules. `prepare` makes a root with files in two inboxes; `run` is a daemon's life until nothing is left to do, and may be
killed anywhere and run again; `snapshot` is everything that must then be as if nothing had happened. The trainer adds
up numbers, row by row. What the files exercise: resume points, rotation, a name that meets another in done/, a refused
file, a duplicate, a file that is deleted after training, odd bytes in a name. When all are learnt, some are taken back, tried
again, and taken back to the very first: each step is told by what the journal says, so that a life goes on where one ended.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from service.core.errors import Refusal
from service.core.layout import Layout, shown
from service.storage import checkpoints, units
from service.storage.archive import look_at
from service.storage.completion import Keep
from service.storage.journal import Journal
from service.storage.naming import Named
from service.storage.recovery import recover
from service.storage.retraction import planning, refuse_lost, retraction
from service.storage.retrial import retrial
from service.storage.root import RootLock, prepare_root
from service.storage.tables import After, Digests, Entry, FileRow, FileState
from service.storage.units import Progress, perform

AFTER: dict[str, After] = {"archived": "archive", "deleted": "delete"}
LOGS = ("metrics.jsonl", "samples.jsonl")
KEEP = Keep(rotate_bytes=500, segments=0, models=3)
LISTING = 3  # names admitted at once
COMMIT_ROWS = 4


def prepare(root: Path) -> None:
    layout = Layout(root)
    prepare_root(layout, AFTER)
    _drop(layout, "archived", b"a.csv", range(9))
    _drop(layout, "archived", b"b.csv", range(9))  # a's rows again: a duplicate
    _drop(layout, "archived", b"c.csv.txt", range(5, 10))
    _drop(layout, "archived", b"d\n\xff.csv", ["1", "two", "3"])  # refused
    _drop(layout, "archived", b"e.csv", range(20, 28))
    _drop(layout, "archived", b"f.csv", range(30, 33))
    (layout.done("archived") / "c.csv.txt").write_text("somebody's\n")
    (layout.failed("archived") / "unrelated.csv").write_text("somebody's\n")
    _drop(layout, "deleted", b"x.csv", range(3))
    _drop(layout, "deleted", b"y.csv", range(40, 46))


def run(root: Path) -> None:
    layout = Layout(root)
    with RootLock(layout.state):
        prepare_root(layout, AFTER)
        journal = Journal(layout.journal)
        recover(layout, journal, AFTER, keep=KEEP)
        for job in AFTER:
            _finish_job(layout, journal, job)
        journal.close()


def snapshot(root: Path) -> dict[str, str]:
    """Every file's bytes by path, links by target, and the journal's rows less what only clocks and disks decide."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = shown(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file() and "journal.sqlite" not in name and path.name != "lock":
            found[name] = path.read_bytes().decode("latin-1")
    found["journal"] = _dump(root)
    return found


def _dump(root: Path) -> str:
    connection = sqlite3.connect(Layout(root).journal)
    lines = []
    for table in ("settings", "jobs", "files", "commits", "spools", "logs"):
        cursor = connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2")
        columns = [column[0] for column in cursor.description]
        for values in cursor:
            row = dict(zip(columns, values, strict=True))
            for clock in ("admitted_at", "inode", "mtime_ns"):
                row.pop(clock, None)
            lines.append(f"{table} {row}")
    connection.close()
    return "\n".join(lines)


def _drop(layout: Layout, job: str, name: bytes, rows: object) -> None:
    path = layout.inbox(job) / name.decode("utf-8", "surrogateescape")
    path.write_text("".join(f"{row}\n" for row in rows))  # type: ignore[attr-defined]


def _finish_job(layout: Layout, journal: Journal, job: str) -> None:
    while True:
        for file in journal.unfinished(job):
            _learn(layout, journal, file)
        names = sorted(path.name for path in layout.inbox(job).iterdir())[:LISTING]
        if not names:
            if job == "archived" and _ask(layout, journal, job):
                continue
            return
        entries = [_entry(layout.inbox(job) / name) for name in names]
        unit = units.admission(
            layout, job, entries, settings=("digest", "{}"), after=AFTER[job], at=0.0
        )
        perform(journal, unit)


def _ask(layout: Layout, journal: Journal, job: str) -> bool:
    """The next thing that somebody asks of the job; False when nobody wants anything any more.

    e.csv goes: a checkpoint is kept before it, and f.csv came after. It and d.csv are tried again. Then a.csv goes, the first.
    """
    first, refused, middle = (journal.file(job, number) for number in (1, 4, 5))
    if middle.state is FileState.ACCEPTED:
        _retract(layout, journal, job, "e.csv")
    elif middle.state is FileState.RETRACTED:
        files = [Named(shown(middle.settled_as or b""), ""), Named(os.fsdecode(refused.name), "")]
        perform(journal, retrial(layout, job, files))
    elif first.state is FileState.ACCEPTED:
        _retract(layout, journal, job, "a.csv")
    else:
        return False
    return True


def _retract(layout: Layout, journal: Journal, job: str, name: str) -> None:
    plan = perform(journal, planning(layout, job, [Named(name, "")]))
    found = look_at(layout, plan.files)
    refuse_lost(layout, plan, found)
    perform(journal, units.drop_private(layout, job))
    unit = retraction(layout, plan, found, rotate_bytes=KEEP.rotate_bytes)
    assert perform(journal, unit).vanished == ()


def _entry(path: Path) -> Entry:
    found = path.lstat()
    name = path.name.encode("utf-8", "surrogateescape")
    return Entry(name, found.st_size, found.st_mtime_ns, found.st_ino)


def _learn(layout: Layout, journal: Journal, file: FileRow) -> None:
    job, number = file.job, file.admission
    data = layout.work_file(job, number).read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    same = journal.find_same(job, size=file.size, sha256=sha256, before=number)
    if same and not file.revision:
        perform(journal, units.duplicate(layout, job, number, sha256=sha256))
        return
    rows = data.decode().split()
    wrong = [index for index, row in enumerate(rows) if not row.isdigit()]
    if wrong:
        place = f"row {wrong[0]}"
        refusal = Refusal("must be digits", place, rows[wrong[0]], "write a number")
        perform(journal, units.refusal(layout, job, number, refusal))
        return
    _Training.begin(layout, journal, file).learn(rows, sha256)


@dataclass
class _Training:
    layout: Layout
    journal: Journal
    file: FileRow
    sequence: int
    version: int
    row: int
    total: np.ndarray

    @classmethod
    def begin(cls, layout: Layout, journal: Journal, file: FileRow) -> _Training:
        """From the file's resume point, or the job's newest model, or nothing."""
        public, private = journal.commit(file.job, "public"), journal.commit(file.job, "private")
        sequence = (public.sequence if public else 0) + 1
        training = cls(layout, journal, file, sequence, 0, 0, np.zeros(2))
        directory = layout.private(file.job) if private else layout.models(file.job)
        commit = private or public
        if commit:
            model = checkpoints.read(directory / commit.model, commit.model_sha256)
            training.version, training.total = commit.version, model.tensors["total"].copy()
            training.row = private.row if private else 0
        return training

    def learn(self, rows: list[str], sha256: str) -> None:
        job, number = self.file.job, self.file.admission
        mode = "ab" if self.row else "wb"
        spools = {log: self.layout.spool(job, number, log).open(mode) for log in LOGS}
        while self.row < len(rows):
            self.total += [int(rows[self.row]), 1]
            self.row, self.version = self.row + 1, self.version + 1
            name, total = shown(self.file.name), float(self.total[0])
            sample = {"file": name, "row": self.row, "total": total, "version": self.version}
            sample["revision"] = self.file.revision
            spools["samples.jsonl"].write(json.dumps(sample).encode() + b"\n")
            if self.row % COMMIT_ROWS == 0 and self.row < len(rows):
                perform(self.journal, units.private_commit(self.layout, self._progress(spools)))
        record = {"kind": "file", "file": shown(self.file.name), "sequence": self.sequence}
        spools["metrics.jsonl"].write(json.dumps(record).encode() + b"\n")
        progress = self._progress(spools)
        for spool in spools.values():
            spool.close()
        accepted = perform(
            self.journal,
            units.acceptance(self.layout, progress, Digests(sha256, "records", "print"), keep=KEEP),
        )
        assert accepted.renewed == ()

    def _progress(self, spools: dict[str, object]) -> Progress:
        lengths = {}
        for log, spool in spools.items():
            spool.flush()  # type: ignore[attr-defined]
            lengths[log] = spool.tell()  # type: ignore[attr-defined]
        header = {"version": self.version, "sequence": self.sequence}
        return Progress(
            self.file.job,
            self.file.admission,
            self.row,
            self.version,
            self.sequence,
            {"total": self.total},
            header,
            lengths,
        )
