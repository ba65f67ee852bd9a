"""A short life of a root with a scripted trainer: everything that lasts, nothing that computes.

Rules. `prepare` makes a root with files in two inboxes; `run` is a daemon's life until nothing is left to do, and may be
killed anywhere and run again. The trainer adds up numbers, row by row. What the files exercise: resume points, rotation,
a name that meets another in done/, a refused file, lists of bad rows, a duplicate, a file that is deleted after training, odd bytes in a
name, files that are accepted together. When all are learnt, some are taken back, tried again, and taken back to the very first: each step is told by what the
journal says, so that a life goes on where one ended. Units are carried out here and now (`by_hand`), or by the daemon's own thread, which waits for room on a full disk
(`by_writer`).
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from service.core.errors import DiskFull, Refusal
from service.core.layout import Layout, shown
from service.storage import checkpoints, logs, units, writer
from service.storage.archive import look_at
from service.storage.completion import Keep
from service.storage.disk import storage_border, write_at
from service.storage.journal import Journal
from service.storage.naming import Named
from service.storage.recovery import recover
from service.storage.retraction import planning, refuse_lost, retraction
from service.storage.retrial import retrial
from service.storage.root import RootLock, prepare_root
from service.storage.tables import After, Digests, Entry, FileRow, FileState
from service.storage.units import Progress, Whole, perform
from service.storage.writer import Unit, Writer

Does = Callable[[Unit[Any, Any, Any]], Any]
Hands = Callable[[Journal], AbstractContextManager[tuple[Journal, Does]]]

AFTER: dict[str, After] = {"archived": "archive", "bundled": "archive", "deleted": "delete"}
LOGS = ("metrics.jsonl", "samples.jsonl")
KEEP = Keep(rotate_bytes=500, segments=0, models=3)
LISTING = 3  # names admitted at once
COMMIT_ROWS = 4
FULL_SECONDS = 0.0005  # how long to wait for room on a disk that is only said to be full


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
    for number, name in enumerate((b"p.csv", b"q.csv", b"r.csv"), 50):
        _drop(layout, "bundled", name, [number, number])
    (layout.done("bundled") / "q.csv").write_text("somebody's\n")
    _drop(layout, "deleted", b"x.csv", range(3))
    _drop(layout, "deleted", b"y.csv", range(40, 46))


@contextmanager
def by_hand(journal: Journal) -> Iterator[tuple[Journal, Does]]:
    """Every unit at once, in this thread: the same calls in the same order each time."""
    yield journal, lambda unit: perform(journal, unit)


@dataclass(frozen=True, slots=True)
class _Asked:
    """The journal as others than its thread may ask it."""

    journal: Journal
    thread: Writer

    def __getattr__(self, name: str) -> Callable[..., Any]:
        question = getattr(self.journal, name)
        return lambda *args, **named: self.thread.run(lambda: question(*args, **named)).result()


@contextmanager
def by_writer(journal: Journal) -> Iterator[tuple[Journal, Does]]:
    """Every unit in the daemon's thread, and every question; a unit that the full disk rolled back is handed in again, as
    the stages do."""
    writer.RETRY_SECONDS = FULL_SECONDS
    fatal: list[BaseException] = []
    thread = Writer(journal, on_fatal=fatal.append)
    try:
        asked = cast(Journal, _Asked(journal, thread))
        yield asked, lambda unit: _patiently(lambda: thread.submit(unit).result())
    finally:
        thread.close()
    for error in fatal:  # the daemon's status is 1 then, also where nothing was left to be done
        raise error


def run(
    root: Path,
    hands: Hands = by_hand,
    *,
    ready: Callable[[], object] = lambda: None,
    closing: Callable[[], object] = lambda: None,
    said: Callable[[str], object] = lambda text: None,
) -> None:
    """One life. `ready` is called when recovery is through, `closing` when all is done but the journal's closing;
    `said` with what has been decided, once it is durable.
    """
    layout = Layout(root)
    with RootLock(layout.state):
        prepare_root(layout, AFTER)
        journal = Journal(layout.journal)
        recover(layout, journal, AFTER, keep=KEEP)
        ready()
        with hands(journal) as (asked, does):
            for job in AFTER:
                _Job(layout, asked, job, does, said).finish()
        closing()
        journal.close()


def _drop(layout: Layout, job: str, name: bytes, rows: Iterable[object]) -> None:
    path = layout.inbox(job) / name.decode("utf-8", "surrogateescape")
    path.write_text("".join(f"{row}\n" for row in rows))


@dataclass(frozen=True)
class _Job:
    layout: Layout
    journal: Journal
    name: str
    does: Does
    said: Callable[[str], object]

    def finish(self) -> None:
        while True:
            unfinished = self.journal.unfinished(self.name)
            if self.name == "bundled" and unfinished:
                self._learn_together(unfinished)
                continue
            for file in unfinished:
                self._learn(file)
            inbox = self.layout.inbox(self.name)
            names = sorted(path.name for path in inbox.iterdir())[:LISTING]
            if not names:
                if self.name == "archived" and self._ask():
                    continue
                return
            entries = [_entry(inbox / name) for name in names]
            after = AFTER[self.name]
            unit = units.admission(
                self.layout, self.name, entries, settings=("digest", "{}"), after=after, at=0.0
            )
            for file in filter(None, self.does(unit)):
                self._say(FileState.ADMITTED, file)

    def _say(self, state: FileState, file: FileRow) -> None:
        self.said(f"{state} {file.job} {file.admission} {file.revision}")

    def _ask(self) -> bool:
        """The next thing that somebody asks of the job; False when nobody wants anything any more.

        e.csv goes: a checkpoint is kept before it, and f.csv came after. It and d.csv are tried again. Then a.csv goes, the first.
        """
        first, refused, middle = (self.journal.file(self.name, number) for number in (1, 4, 5))
        if middle.state is FileState.ACCEPTED:
            self._retract("e.csv")
        elif middle.state is FileState.RETRACTED:
            names = shown(middle.settled_as or b""), os.fsdecode(refused.name)
            self.does(retrial(self.layout, self.name, [Named(name, "") for name in names]))
            for file in (middle, refused):
                self._say(FileState.WITHDRAWN, file)
        elif first.state is FileState.ACCEPTED:
            self._retract("a.csv")
        else:
            return False
        return True

    def _retract(self, name: str) -> None:
        plan = self.does(planning(self.layout, self.name, [Named(name, "")]))
        found = look_at(self.layout, plan.files)
        refuse_lost(self.layout, plan, found)
        self.does(units.drop_private(self.layout, self.name))
        unit = retraction(self.layout, plan, found, rotate_bytes=KEEP.rotate_bytes)
        assert self.does(unit).vanished == ()
        for file in plan.taken:
            self._say(FileState.RETRACTED, file)

    def _learn(self, file: FileRow) -> None:
        where = (self.layout, file.job, file.admission)
        data = self.layout.work_file(file.job, file.admission).read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        rows = data.decode().split()
        wrong = [index for index, row in enumerate(rows) if not row.isdigit()]
        same = self.journal.find_same(
            file.job, size=file.size, sha256=sha256, before=file.admission
        )
        if same and not file.revision:
            self.does(units.duplicate(*where, sha256=sha256))
            self._say(FileState.DUPLICATE, file)
        elif wrong:
            place = f"row {wrong[0]}"
            refusal = Refusal("must be digits", place, rows[wrong[0]], "write a number")
            self.does(units.refusal(*where, refusal, partial(_bad_rows, file)))
            self._say(FileState.REFUSED, file)
        else:
            _Training.begin(self.layout, self.journal, file, self.does).learn(rows, sha256)
            self._say(FileState.ACCEPTED, file)

    def _learn_together(self, files: list[FileRow]) -> None:
        """Several files and one acceptance; their records lie in the first one's spools."""
        training = _Training.begin(self.layout, self.journal, files[0], self.does)
        spools, wholes = training.open(), []
        for file in files:
            data = self.layout.work_file(file.job, file.admission).read_bytes()
            lengths = {log: spool.length for log, spool in spools.items()}
            training.read(data.decode().split(), spools)
            wholes.append(training.whole(spools, hashlib.sha256(data).hexdigest(), lengths))
            training = training.next(file=files[min(len(wholes), len(files) - 1)])
        ends = self.journal.log_ends(self.name)
        parts = [whole.progress.spools for whole in wholes]
        assert logs.together(ends, parts, KEEP.rotate_bytes) == len(files)
        accepted = self.does(units.acceptance(self.layout, wholes, keep=KEEP))
        _close(spools)
        assert accepted.renewed == ()
        for file in files:
            self._say(FileState.ACCEPTED, file)


def _entry(path: Path) -> Entry:
    found = path.lstat()
    name = path.name.encode("utf-8", "surrogateescape")
    return Entry(name, found.st_size, found.st_mtime_ns, found.st_ino)


@dataclass
class _Spool:
    """A spool as the record stage writes it: at a length that is known, again where a full disk cut it short."""

    path: Path
    length: int
    descriptor: int = -1

    def open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | (0 if self.length else os.O_TRUNC) | os.O_CLOEXEC
        with storage_border("open", self.path):
            self.descriptor = os.open(self.path, flags, 0o644)

    def append(self, record: object) -> None:
        line = json.dumps(record).encode() + b"\n"
        with storage_border("write", self.path):
            write_at(self.descriptor, line, self.length)
        self.length += len(line)


@dataclass
class _Training:
    layout: Layout
    file: FileRow
    does: Does
    sequence: int
    version: int = 0
    row: int = 0
    total: np.ndarray[Any, Any] = field(default_factory=lambda: np.zeros(2))
    lengths: dict[str, int] = field(default_factory=dict)

    @classmethod
    def begin(cls, layout: Layout, journal: Journal, file: FileRow, does: Does) -> _Training:
        """From the file's resume point, or the job's newest model, or nothing."""
        public, private = journal.commit(file.job, "public"), journal.commit(file.job, "private")
        training = cls(layout, file, does, (public.sequence if public else 0) + 1)
        directory = layout.private(file.job) if private else layout.models(file.job)
        commit = private or public
        if commit:
            model = checkpoints.read(directory / commit.model, commit.model_sha256)
            training.version, training.total = commit.version, model.tensors["total"].copy()
            training.row = private.row if private else 0
        if private:
            training.lengths = journal.spool_lengths(file.job, private.admission)
        return training

    def learn(self, rows: list[str], sha256: str) -> None:
        spools = self.open()
        self.read(rows, spools)
        unit = units.acceptance(self.layout, [self.whole(spools, sha256, {})], keep=KEEP)
        accepted = self.does(unit)
        _close(spools)
        assert accepted.renewed == ()

    def next(self, file: FileRow) -> _Training:
        """Goes on with another file from here."""
        return replace(self, file=file, sequence=self.sequence + 1, row=0, lengths={})

    def open(self) -> dict[str, _Spool]:
        spools = {log: self._spool(log) for log in LOGS}
        for spool in spools.values():
            _patiently(spool.open)
        return spools

    def read(self, rows: list[str], spools: dict[str, _Spool]) -> None:
        """Learns the rows that are left, and writes their records and the file's own."""
        samples, metrics, name = (
            spools["samples.jsonl"],
            spools["metrics.jsonl"],
            shown(self.file.name),
        )
        while self.row < len(rows):
            self.total += [int(rows[self.row]), 1]
            self.row, self.version = self.row + 1, self.version + 1
            row = {"file": name, "row": self.row, "total": float(self.total[0])}
            row |= {"version": self.version, "revision": self.file.revision}
            _patiently(lambda row=row: samples.append(row))  # type: ignore[misc]
            if self.row % COMMIT_ROWS == 0 and self.row < len(rows):
                self.does(units.private_commit(self.layout, self._progress(spools)))
        record = {"kind": "file", "file": name, "sequence": self.sequence}
        _patiently(lambda: metrics.append(record))

    def whole(self, spools: dict[str, _Spool], sha256: str, before: Mapping[str, int]) -> Whole:
        """The file as it is to be accepted; its part of the spools begins at these lengths."""
        progress = self._progress(spools)
        own = {log: length - before.get(log, 0) for log, length in progress.spools.items()}
        has_bad_rows = self.file.admission % 2 and not self.file.revision
        bad = partial(_bad_rows, self.file) if has_bad_rows else bytes
        digests = Digests(sha256, "records", "print")
        return Whole(replace(progress, spools=own), digests, rejected=bad)

    def _spool(self, log: str) -> _Spool:
        path = self.layout.spool(self.file.job, self.file.admission, log)
        return _Spool(path, self.lengths.get(log, 0))

    def _progress(self, spools: dict[str, _Spool]) -> Progress:
        return Progress(
            self.file.job,
            self.file.admission,
            self.row,
            self.version,
            self.sequence,
            {"total": self.total.copy()},
            {"version": self.version, "sequence": self.sequence},
            {log: spool.length for log, spool in spools.items()},
        )


def _close(spools: dict[str, _Spool]) -> None:
    for spool in spools.values():
        os.close(spool.descriptor)


def _bad_rows(file: FileRow) -> bytes:
    return b'{"admission":%d,"row":1}\n' % file.admission


def _patiently(act: Callable[[], Any]) -> Any:
    while True:
        try:
            return act()
        except DiskFull:
            time.sleep(FULL_SECONDS)
