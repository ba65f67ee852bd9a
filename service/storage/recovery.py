"""Before anything else runs: what the newest transaction implies is finished, and what it does not name is cleared away.

Rules. Everything here is idempotent: a crash during recovery is followed by the same recovery. Only the jobs asked for are
touched. Nothing is guessed: what the journal recorded and the disk contradicts stops the daemon with StorageDamaged, with
one exception: a damaged resume point is dropped, since its file can be trained from its first row to the same bits.

    per job    temporary files · publications · current model · decided files to their places · admitted files into
               work/ · the resume point and its spools · stale spools, models and work files · lengths of the logs
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from service.core.errors import StorageDamaged
from service.core.layout import Layout, shown
from service.storage import checkpoints, completion, failed, logs
from service.storage.completion import Keep
from service.storage.disk import is_temporary, names, storage_border
from service.storage.journal import Journal
from service.storage.root import prepare_root
from service.storage.tables import Commit, FileRow, Publication

_SCRATCH = re.compile(r"[0-9]{10}\..*|.*\.unpacked")  # Layout.scratch, and what predictions unpack


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that recovery did, for the service log: a few words, and to what."""

    job: str
    what: str
    subject: str


@dataclass(frozen=True, slots=True)
class Report:
    """What recovery did, in order; nothing after a clean end."""

    actions: tuple[Action, ...]


def recover(
    layout: Layout, journal: Journal, jobs: Iterable[str] | None = None, *, keep: Keep
) -> Report:
    """Brings the disk to what the journal says, for these jobs or all that it knows.

    Raises StorageDamaged where they contradict each other, DiskFull, StorageError.
    """
    recovered = sorted(journal.jobs() if jobs is None else set(jobs))
    prepare_root(layout, recovered)
    actions: list[Action] = []
    for directory in (layout.root, layout.state, layout.root / "logs"):
        _remove_temporary(directory)
    for job in recovered:
        _Recovery(layout, journal, job, keep, actions).run()
    return Report(tuple(actions))


@dataclass(frozen=True, slots=True)
class _Recovery:
    """The recovery of one job."""

    layout: Layout
    journal: Journal
    job: str
    keep: Keep
    actions: list[Action]

    def run(self) -> None:
        for directory in self.layout.folders(self.job):
            _remove_temporary(directory)
        if self.job not in self.journal.jobs():
            self._refuse_to_forget()
        self._publish()
        self._point_current()
        self._settle()
        self._take()
        self._resume_point()
        self._clear()
        self._check_logs()

    def _refuse_to_forget(self) -> None:
        """Models without a journal that knows their job: the journal was lost, and clearing away would finish it off."""
        for directory in (self.layout.models(self.job), self.layout.logs(self.job)):
            if names(directory):
                raise StorageDamaged(
                    f"{shown(self.layout.journal)}: must know the job {self.job}, whose files are in"
                    f" {shown(directory)}; restore the journal, or move that folder away to begin again"
                )

    def _publish(self) -> None:
        publications = self.journal.publications(self.job)
        for position, publication in enumerate(publications):
            try:
                completion.publish(self.layout, [publication])
            except logs.LogGone:
                self._renew(publications[position:], publication.log)
                return self._publish()
            self._note("published", f"{publication.admission} {publication.log}")
        with self.journal.transaction():
            for publication in publications:
                self.journal.published(self.job, publication.admission)

    def _renew(self, publications: list[Publication], log: str) -> None:
        """The log was taken away: what was to go to its end goes to a new segment."""
        end, renew = self.journal.log_end(self.job, log), True
        with self.journal.transaction():
            for publication in publications:
                if publication.log == log:
                    position, end = logs.plan(end, publication.length, 0, renew=renew)
                    self.journal.replan(replace(publication, position=position))
                    renew = False
            self.journal.set_log_end(self.job, log, end)
        self._note("began a new segment, the log was taken away", log)

    def _point_current(self) -> None:
        models, link = self.layout.models(self.job), self.layout.current(self.job)
        public = self.journal.commit(self.job, "public")
        if public is not None:
            self._verify(models / public.model, public)
        target = os.readlink(link) if link.is_symlink() else None
        wanted = public.model if public else None
        if target != wanted or (wanted is None and os.path.lexists(link)):
            checkpoints.point_current(models, wanted)
            self._note("pointed current", wanted or "nowhere")

    def _verify(self, path: Path, commit: Commit) -> None:
        try:
            checkpoints.verify(path, commit.model_sha256)
        except StorageDamaged as error:
            remedy = f"restore the file from a copy, or run `headrace reset --job {self.job}` and train again"
            raise StorageDamaged(f"{error}; {remedy}") from error

    def _settle(self) -> None:
        for file in self.journal.unsettled(self.job):
            settled_as = completion.settle(self.layout, file)
            self._mark(file, settled_as)
            self._note(f"settled as {file.state}", shown(file.name))

    def _take(self) -> None:
        files = self.journal.unfinished(self.job)
        found = completion.take_admitted(self.layout, files)
        completion.flush_admitted(self.layout, files)
        for file, taken in zip(files, found, strict=True):
            if not taken:
                with self.journal.transaction():
                    self.journal.withdraw(self.job, file.admission)
                    self.journal.settled(self.job, file.admission, None)
                self._note("withdrew, it vanished or changed", shown(file.name))

    def _resume_point(self) -> None:
        commit = self.journal.commit(self.job, "private")
        if commit is None:
            return
        try:
            checkpoints.verify(self.layout.private(self.job) / commit.model, commit.model_sha256)
            for log, length in self.journal.spool_lengths(self.job, commit.admission).items():
                logs.truncate_spool(self.layout.spool(self.job, commit.admission, log), length)
        except StorageDamaged as error:
            with self.journal.transaction():
                self.journal.drop_private(self.job)
            self._note("dropped a resume point, its file starts again", str(error))

    def _clear(self) -> None:
        """What the journal does not name: leftovers of what was not committed, and of what is finished."""
        commit = self.journal.commit(self.job, "private")
        lengths = self.journal.spool_lengths(self.job, commit.admission) if commit else {}
        spools = self.layout.spools(self.job)
        named = {self._spool(commit, log) for log in lengths} if commit else set()
        for name in names(spools):
            if name not in named:
                _unlink(spools / name)
                self._note("deleted a spool", name)
        resume_points = {commit.model} if commit else set()
        for name in checkpoints.prune(self.layout.private(self.job), resume_points):
            self._note("deleted a resume point", name)
        models = [name for name, _ in self.journal.models(self.job, self.keep.models)]
        for name in completion.prune(self.layout, self.job, models, self.keep):
            self._note("deleted a model", name)
        self._clear_work()

    def _spool(self, commit: Commit, log: str) -> str:
        return self.layout.spool(self.job, commit.admission, log).name

    def _clear_work(self) -> None:
        """A work file that the journal does not know goes to failed/, for its owner to judge."""
        work = self.layout.work(self.job)
        admitted = {
            self.layout.work_file(self.job, f.admission).name
            for f in self.journal.unfinished(self.job)
        }
        for name in names(work):
            if _SCRATCH.fullmatch(name):
                _unlink(work / name)
            elif name not in admitted:
                place = {"place": f"work/{self.job}/{shown(name)}"}
                failed.reject(
                    self.layout,
                    self.job,
                    work / name,
                    os.fsencode(name),
                    failed.UNKNOWN | place,
                )
                self._note("moved an unknown work file to failed", shown(name))

    def _check_logs(self) -> None:
        for log, end in self.journal.log_ends(self.job).items():
            if logs.is_gone(self.layout.logs(self.job), log, end):
                self._note("found a log taken away, the next file begins a new segment", log)

    def _mark(self, file: FileRow, settled_as: bytes | None) -> None:
        with self.journal.transaction():
            self.journal.settled(self.job, file.admission, settled_as)

    def _note(self, what: str, subject: str) -> None:
        self.actions.append(Action(self.job, what, subject))


def _remove_temporary(directory: Path) -> None:
    for name in names(directory):
        if is_temporary(name):
            _unlink(directory / name)


def _unlink(path: Path) -> None:
    with storage_border("delete", path):
        path.unlink(missing_ok=True)
