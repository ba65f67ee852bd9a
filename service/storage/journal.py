"""The journal: where every file stands, what is committed, and where results go; a few lines of SQL a question.

Rules. One connection, in one thread at a time. Every write happens inside `with journal.transaction():`, opened by the
caller, so that what belongs together is decided together. A file's state is left only from `admitted`: a second decision
is a bug and raises. The journal decides nothing on its own and looks at no file but its own.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields
from pathlib import Path
from typing import Any

from service.storage.database import Database
from service.storage.tables import (
    After,
    Commit,
    Digests,
    Entry,
    FileRow,
    FileState,
    LogState,
    Position,
    Publication,
    Scope,
)

_FILE_NAMES = [field.name for field in fields(FileRow)]
_STATE, _REFUSAL, _SETTLED = map(_FILE_NAMES.index, ("state", "refusal", "settled"))
_LEARNT = ("sequence", "rows", "version", "model", "model_sha256", "records_sha256", "fingerprint")
_COMMIT_NAMES = [field.name for field in fields(Commit)]
_SELECT_COMMITS = f"SELECT {', '.join(_COMMIT_NAMES)} FROM commits "
_SELECT_FILES = f"SELECT {', '.join(_FILE_NAMES)} FROM files WHERE "

_IN_MODEL = "state IN ('admitted', 'accepted') AND generation = (SELECT generation FROM jobs WHERE name = job)"


class Journal:
    """The journal of one root, open until `close`. Raises DiskFull, StorageDamaged and StorageError."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path)

    def close(self) -> None:
        self._database.close()

    def abandon(self) -> None:
        """After a fatal error: leaves the file as a crash would; `close` then does nothing."""
        self._database.abandon()

    def copy_to(self, path: Path) -> None:
        """Writes a copy of the whole journal, for others to read; HeadraceError where it can't be written."""
        self._database.copy_to(path)

    def transaction(self) -> AbstractContextManager[None]:
        """All writes inside are committed together, durably, when the block is left; an exception takes all back."""
        return self._database.transaction()

    def savepoint(self) -> AbstractContextManager[None]:
        """Inside a transaction: the block's writes are taken back alone when it raises."""
        return self._database.savepoint()

    # Files, from their admission to their end

    def admit(
        self,
        job: str,
        entries: Sequence[Entry],
        *,
        settings: tuple[str, str],
        after: After,
        at: float,
    ) -> list[int]:
        """Numbers the files in the order given. `settings` is (digest, body); `at` is seconds since 1970."""
        digest, body = settings
        self._write("INSERT OR IGNORE INTO settings VALUES (?, ?)", digest, body)
        self._write("INSERT OR IGNORE INTO jobs VALUES (?, 0, 1)", job)
        first, generation = self._one("SELECT admissions, generation FROM jobs WHERE name = ?", job)
        self._write_each(
            "INSERT INTO files (job, admission, generation, name, path, epoch, revision, size, mtime_ns, inode,"
            " settings, after, admitted_at, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'admitted')",
            [
                (
                    *(job, number, generation, entry.name, entry.path, entry.epoch, entry.revision),
                    *(entry.size, entry.mtime_ns, entry.inode, digest, after, at),
                )
                for number, entry in enumerate(entries, first)
            ],
        )
        self._write("UPDATE jobs SET admissions = ? WHERE name = ?", first + len(entries), job)
        return list(range(first, first + len(entries)))

    def withdraw(self, job: str, admission: int) -> None:
        """The file vanished or changed before it was learnt from: the admission counts for nothing."""
        self._decide(job, [admission], FileState.WITHDRAWN)
        self._forget_progress(job, [admission])

    def refuse(self, job: str, admission: int, refusal: Mapping[str, Any]) -> None:
        """The file broke a rule; its spools and its resume point are forgotten."""
        self._decide(job, [admission], FileState.REFUSED)
        self._update_file(job, admission, refusal=_json(refusal))
        self._forget_progress(job, [admission])

    def duplicate(self, job: str, admission: int, *, sha256: str | None) -> None:
        """The file's content (or name, by the job's identity) is already in the model."""
        self._decide(job, [admission], FileState.DUPLICATE)
        if sha256 is not None:
            self.note_sha256(job, admission, sha256)
        self._forget_progress(job, [admission])

    def note_sha256(self, job: str, admission: int, sha256: str) -> None:
        self._update_file(job, admission, sha256=sha256)

    def set_deaths(self, job: str, admission: int, deaths: int) -> None:
        """So many lives have ended with this file since its last progress, should this one end now."""
        self._update_file(job, admission, deaths=deaths)

    def limit_deaths(self, job: str, admission: int, most: int) -> None:
        """No more than so many lives have; what progress has forgiven stays forgiven."""
        self._write(
            "UPDATE files SET deaths = min(deaths, ?) WHERE job = ? AND admission = ?",
            *(most, job, admission),
        )

    def retract(
        self,
        job: str,
        taken: Sequence[FileRow],
        again: Sequence[FileRow],
        *,
        refusal: Mapping[str, Any],
        public: Commit | None,
    ) -> None:
        """`taken` leave the model, `again` are admitted once more under their numbers, `public` is the model until then.

        The rows say what lies on the disk now: where, with which time and inode.
        """
        self.drop_private(job)
        for file in taken:
            self._leave(file, FileState.RETRACTED, (FileState.ACCEPTED, FileState.ADMITTED))
            self._update_file(job, file.admission, refusal=_json(refusal), inode=file.inode)
        for file in again:
            self._leave(file, FileState.ADMITTED, (FileState.ACCEPTED,))
            unknown = dict.fromkeys(_LEARNT)
            self._update_file(
                job,
                file.admission,
                revision=file.revision + 1,
                mtime_ns=file.mtime_ns,
                inode=file.inode,
                **unknown,
            )
        self._write("DELETE FROM commits WHERE job = ? AND scope = 'public'", job)
        if public is not None:
            self._set_commit(public)

    def retry(self, file: FileRow) -> None:
        """A file in failed/ goes back to the inbox, to be admitted as a new one."""
        self._leave(file, FileState.WITHDRAWN, (FileState.REFUSED, FileState.RETRACTED))
        self._update_file(file.job, file.admission, inode=file.inode)

    # Commits

    def commit_private(self, commit: Commit, spools: Mapping[str, int]) -> None:
        """A resume point inside the file in progress, with its spools' lengths in bytes; deaths count from 0 again."""
        self._set_commit(commit)
        for log, length in spools.items():
            self._write(
                "INSERT OR REPLACE INTO spools VALUES (?, ?, ?, ?, NULL, NULL, NULL)",
                *(commit.job, commit.admission, log, length),
            )
        self._update_file(commit.job, commit.admission, deaths=0)

    def accept(self, files: Sequence[tuple[Commit, Digests]]) -> None:
        """Files of one job, in order, are in the model: the last one's commit becomes the public one. Where their records go
        is for `plan`.

        `Commit.row` is the file's number of rows. A sequence number that does not follow the last one is a bug.
        """
        commits = [commit for commit, _ in files]
        job, admissions = commits[0].job, [commit.admission for commit in commits]
        last = self.commit(job, "public")
        for expected, commit in enumerate(commits, (last.sequence if last else 0) + 1):
            if commit.sequence != expected:
                raise RuntimeError(
                    f"job {job}: the next sequence must be {expected}, got {commit.sequence}"
                )
        self._decide(job, admissions, FileState.ACCEPTED)
        self._write_each(
            "UPDATE files SET sequence = ?, rows = ?, version = ?, model = ?, model_sha256 = ?, sha256 = ?,"
            " records_sha256 = ?, fingerprint = ?, deaths = 0 WHERE job = ? AND admission = ?",
            [
                (
                    *(c.sequence, c.row, c.version, c.model, c.model_sha256),
                    *(digests.sha256, digests.records, digests.fingerprint, job, c.admission),
                )
                for c, digests in files
            ],
        )
        self._forget_progress(job, admissions)
        self._set_commit(commits[-1])

    def plan(
        self, job: str, publications: Sequence[Publication], ends: Mapping[str, LogState]
    ) -> None:
        """The places of spools that are now to be published, and the ends of the logs after them."""
        for p in publications:
            self._write(
                "INSERT INTO spools VALUES (?, ?, ?, ?, ?, ?, ?)",
                *(p.job, p.admission, p.log, p.length),
                *(p.position.segment, p.position.offset, p.position.rotates),
            )
        for log, end in ends.items():
            self.set_log_end(job, log, end)

    def set_log_end(self, job: str, log: str, end: LogState) -> None:
        self._write(
            "INSERT OR REPLACE INTO logs VALUES (?, ?, ?, ?)", job, log, end.segment, end.length
        )

    def drop_private(self, job: str) -> None:
        """The file in progress will be trained from its first row."""
        commit = self.commit(job, "private")
        if commit is not None:
            self._forget_progress(job, [commit.admission])

    def reset(self, job: str) -> int:
        """Forgets the job's model; says the new generation. Files that wait are trained from nothing."""
        self.drop_private(job)
        self._write("DELETE FROM commits WHERE job = ?", job)
        self._write("UPDATE jobs SET generation = generation + 1 WHERE name = ?", job)
        generation = self.generation(job)
        self._write(
            "UPDATE files SET generation = ?, deaths = 0 WHERE job = ? AND state = 'admitted'",
            generation,
            job,
        )
        return generation

    # What follows a decision

    def published(self, job: str, admission: int) -> None:
        """The file's records are in the logs, durably."""
        self._write(
            "DELETE FROM spools WHERE job = ? AND admission = ? AND segment IS NOT NULL",
            job,
            admission,
        )

    def settled(self, job: str, admission: int, settled_as: bytes | None) -> None:
        """The file lies where its state says, under that name; None: it was deleted, or was never ours to move."""
        self.settled_all(job, {admission: settled_as})

    def settled_all(self, job: str, settled_as: Mapping[int, bytes | None]) -> None:
        """As `settled`, for several files by their admissions."""
        changed = self._write_each(
            "UPDATE files SET settled = 1, settled_as = ? WHERE job = ? AND admission = ?",
            [(name, job, admission) for admission, name in settled_as.items()],
        )
        if changed != len(settled_as):
            raise KeyError((job, *settled_as))

    def replan(self, publication: Publication) -> None:
        """A pending publication goes elsewhere: the operator took the log away."""
        p = publication
        self._write(
            "UPDATE spools SET segment = ?, offset = ?, rotates = ? WHERE job = ? AND admission = ? AND log = ?",
            *(p.position.segment, p.position.offset, p.position.rotates, p.job, p.admission, p.log),
        )

    # Questions

    def jobs(self) -> list[str]:
        return [row[0] for row in self._all("SELECT name FROM jobs ORDER BY name")]

    def generation(self, job: str) -> int:
        """How often the job was reset; 0 for a job that the journal does not know."""
        rows = self._all("SELECT generation FROM jobs WHERE name = ?", job)
        return int(rows[0][0]) if rows else 0

    def file(self, job: str, admission: int) -> FileRow:
        """One admission; KeyError where there is none."""
        rows = self._files("job = ? AND admission = ?", job, admission)
        if not rows:
            raise KeyError((job, admission))
        return rows[0]

    def those(self, job: str, admissions: Sequence[int]) -> list[FileRow]:
        """Some admissions, in the order given; KeyError where one is none."""
        where = "job = ? AND admission BETWEEN ? AND ?"
        ends = (min(admissions), max(admissions)) if admissions else (0, -1)
        found = {file.admission: file for file in self._files(where, job, *ends)}
        return [found[admission] for admission in admissions]

    def files(self, job: str) -> list[FileRow]:
        """All files of the job's present generation, in order, whatever became of them."""
        return self._files(
            "job = ? AND generation = (SELECT generation FROM jobs WHERE name = job)"
            " ORDER BY admission",
            job,
        )

    def unfinished(self, job: str) -> list[FileRow]:
        """Files that are to be trained, in order."""
        return self._files("job = ? AND state = 'admitted' ORDER BY admission", job)

    def unsettled(self, job: str) -> list[FileRow]:
        """Decided files that do not yet lie where they should, in order."""
        return self._files(
            "job = ? AND settled = 0 AND state != 'admitted' ORDER BY admission", job
        )

    def standing(self, job: str) -> list[FileRow]:
        """The files that are, or are to be, in the job's present model, in order."""
        return self._files(
            f"job = ? AND {_IN_MODEL} ORDER BY admission",
            job,
        )

    def failed(self, job: str) -> list[FileRow]:
        """The files that were put into failed/, in order."""
        return self._files(
            "job = ? AND state IN ('refused', 'retracted') AND settled = 1 AND settled_as NOT NULL"
            " ORDER BY admission",
            job,
        )

    def settings_body(self, digest: str) -> str:
        return str(self._one("SELECT body FROM settings WHERE digest = ?", digest)[0])

    def commit(self, job: str, scope: Scope) -> Commit | None:
        rows = self._all(_SELECT_COMMITS + "WHERE job = ? AND scope = ?", job, scope)
        return _commit(rows[0]) if rows else None

    def commits(self) -> list[Commit]:
        """All commits, by job, private before public."""
        return [_commit(row) for row in self._all(_SELECT_COMMITS + "ORDER BY job, scope")]

    def models(self, job: str, keep: int | None = None) -> list[tuple[str, str]]:
        """(file name, sha256) of the generation's public models, newest first, the `keep` newest or all."""
        return [
            (row[0], row[1])
            for row in self._all(
                "SELECT model, model_sha256 FROM files WHERE job = ? AND state = 'accepted' AND generation ="
                " (SELECT generation FROM jobs WHERE name = ?) ORDER BY admission DESC LIMIT ?",
                *(job, job, -1 if keep is None else keep),
            )
        ]

    def spool_lengths(self, job: str, admission: int) -> dict[str, int]:
        """The committed bytes of each spool of the file in progress."""
        rows = self._all(
            "SELECT log, length FROM spools WHERE job = ? AND admission = ? AND segment IS NULL ORDER BY log",
            *(job, admission),
        )
        return {row[0]: row[1] for row in rows}

    def publications(self, job: str) -> list[Publication]:
        """Pending publications, in the order in which they must be made."""
        rows = self._all(
            "SELECT * FROM spools WHERE job = ? AND segment IS NOT NULL ORDER BY admission, log",
            job,
        )
        return [_publication(row) for row in rows]

    def log_end(self, job: str, log: str) -> LogState:
        """The committed end of a log; a log that nothing was written to stands at segment 1, byte 0."""
        return self.log_ends(job).get(log, LogState())

    def log_ends(self, job: str) -> dict[str, LogState]:
        rows = self._all("SELECT log, segment, length FROM logs WHERE job = ? ORDER BY log", job)
        return {row[0]: LogState(row[1], row[2]) for row in rows}

    def find_same(
        self, job: str, *, size: int, sha256: str | None, before: int, epoch: int = 1
    ) -> FileRow | None:
        """The first file that is or will be in the job's model, admitted before `before`, of that size and digest.

        Without a digest, of that size: if there is none, the content need not be hashed first.
        """
        digest = "" if sha256 is None else " AND sha256 = ?"
        arguments = () if sha256 is None else (sha256,)
        return self._first("size = ?" + digest, job, before, epoch, size, *arguments)

    def first_of_each(self, job: str, digests: Collection[str]) -> dict[tuple[int, str], int]:
        """As `find_same`, whenever admitted: the first admission of each content among these, by its size and digest."""
        rows = self._all(
            "SELECT size, sha256, min(admission) FROM files WHERE job = ? AND sha256 IN (SELECT value FROM json_each(?))"
            f" AND epoch = 1 AND {_IN_MODEL} GROUP BY size, sha256",
            *(job, json.dumps(list(digests))),
        )
        return {(size, sha256): admission for size, sha256, admission in rows}

    def find_named(self, job: str, *, name: bytes, before: int, epoch: int = 1) -> FileRow | None:
        """The first file of that name that is or will be in the job's model, admitted before `before`."""
        return self._first("name = ?", job, before, epoch, name)

    def counts(self, job: str) -> dict[FileState, int]:
        """How many admissions stand where, over all generations."""
        rows = self._all("SELECT state, count(*) FROM files WHERE job = ? GROUP BY state", job)
        found = {row[0]: row[1] for row in rows}
        return {state: found.get(state.value, 0) for state in FileState}

    # The SQL underneath

    def _first(
        self, where: str, job: str, before: int, epoch: int, *arguments: object
    ) -> FileRow | None:
        rows = self._files(
            f"{where} AND job = ? AND admission < ? AND epoch = ? AND {_IN_MODEL} ORDER BY admission LIMIT 1",
            *(*arguments, job, before, epoch),
        )
        return rows[0] if rows else None

    def _files(self, where: str, *arguments: object) -> list[FileRow]:
        return [_file(row) for row in self._all(_SELECT_FILES + where, *arguments)]

    def _decide(self, job: str, admissions: Sequence[int], state: FileState) -> None:
        changed = self._write_each(
            "UPDATE files SET state = ?, settled_as = NULL"
            " WHERE job = ? AND admission = ? AND state = 'admitted'",
            [(state.value, job, admission) for admission in admissions],
        )
        if changed != len(admissions):
            raise RuntimeError(
                f"job {job}, admission {', '.join(map(str, admissions))}: must be admitted to become {state.value}"
            )

    def _leave(
        self,
        file: FileRow,
        state: FileState,
        before: tuple[FileState, FileState] | tuple[FileState],
    ) -> None:
        """A decided file is decided otherwise, and is to be brought from where the row says that it lies."""
        marks = ", ".join("?" * len(before))
        changed = self._write(
            "UPDATE files SET state = ?, settled = 0, settled_as = ? WHERE job = ? AND admission = ?"
            f" AND state IN ({marks})",
            *(state.value, file.settled_as, file.job, file.admission),
            *(old.value for old in before),
        )
        if changed != 1:
            raise RuntimeError(
                f"job {file.job}, admission {file.admission}: must be {' or '.join(before)} to become {state.value}"
            )

    def _forget_progress(self, job: str, admissions: Sequence[int]) -> None:
        files = [(job, admission) for admission in admissions]
        self._write_each(
            "DELETE FROM commits WHERE job = ? AND scope = 'private' AND admission = ?", files
        )
        self._write_each(
            "DELETE FROM spools WHERE job = ? AND admission = ? AND segment IS NULL", files
        )

    def _set_commit(self, c: Commit) -> None:
        self._write(
            "INSERT OR REPLACE INTO commits VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            *(c.job, c.scope, c.admission, c.row, c.version, c.model, c.model_sha256, c.sequence),
            _json(c.extra),
        )

    def _update_file(self, job: str, admission: int, **columns: object) -> None:
        assignments = ", ".join(f"{column} = ?" for column in columns)
        changed = self._write(
            f"UPDATE files SET {assignments} WHERE job = ? AND admission = ?",
            *columns.values(),
            job,
            admission,
        )
        if changed != 1:
            raise KeyError((job, admission))

    def _write(self, sql: str, *arguments: object) -> int:
        """One statement inside the caller's transaction; says how many rows it changed."""
        if not self._database.in_transaction:
            raise RuntimeError("journal: a write must stand inside a transaction")
        return self._database.execute(sql, *arguments)

    def _write_each(self, sql: str, rows: Sequence[Sequence[object]]) -> int:
        """As `_write`, once for each row of arguments; says how many rows all of them changed."""
        if not self._database.in_transaction:
            raise RuntimeError("journal: a write must stand inside a transaction")
        return self._database.execute_each(sql, rows)

    def _all(self, sql: str, *arguments: object) -> list[tuple[Any, ...]]:
        return self._database.fetch(sql, *arguments)

    def _one(self, sql: str, *arguments: object) -> tuple[Any, ...]:
        return self._all(sql, *arguments)[0]


def _file(row: tuple[Any, ...]) -> FileRow:
    values = list(row)
    values[_STATE] = FileState(values[_STATE])
    values[_REFUSAL] = json.loads(values[_REFUSAL]) if values[_REFUSAL] else None
    values[_SETTLED] = bool(values[_SETTLED])
    return FileRow(*values)


def _commit(row: tuple[Any, ...]) -> Commit:
    values = dict(zip(_COMMIT_NAMES, row, strict=True))
    return Commit(**{**values, "extra": json.loads(values["extra"])})


def _publication(row: tuple[Any, ...]) -> Publication:
    job, admission, log, length, segment, offset, rotates = row
    return Publication(job, admission, log, length, Position(segment, offset, bool(rotates)))


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
