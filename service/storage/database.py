"""The journal's SQLite file: opened, checked, and its errors translated; what is in it is journal.py's.

Rules. One connection, exclusive: whoever else has it open is refused. A commit returns
when the WAL is flushed (`synchronous = FULL`). The WAL is moved into the file by `fold`, never by SQLite on its own:
the automatic way hides its errors, and a failed fsync must be seen. Each page ends with a checksum, by SQLite's own
`cksumvfs`, which is held against it whenever the page is read: a bit that flips on the disk is damage, never a decision.

    SQLITE_FULL, a write for which the system says so            DiskFull        the transaction is rolled back
    SQLITE_CANTOPEN, when no descriptor is to be had             TooManyFiles    the same
    SQLITE_CORRUPT, SQLITE_NOTADB, a page's checksum,
    another program's file                                       StorageDamaged
    every other error of the disk                                StorageError    fatal
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import apsw
import apsw.sqlite_extra

from service.core.errors import (
    DiskFull,
    HeadraceError,
    StorageDamaged,
    StorageError,
    TooManyFiles,
)
from service.core.layout import shown
from service.storage.disk import fsync_directory, scarcity, storage_border
from service.storage.tables import APPLICATION_ID, CONTENT_INDEX, FORMAT_VERSION, SCHEMA

WAL_BYTES = 4 * 1024 * 1024  # folded into the file above this: about SQLite's own 1000 pages
_OTHER_SUM = "a page with another checksum: damaged, or written by another program (sqlite3 does so even when it only looks, after a crash)"
_CHECKSUM_BYTES = 8  # at the end of each page; what tells cksumvfs that there is a checksum
_REMEDY = "restore it from a copy, or move the whole root away and begin again"
_RESEALED = (
    "restore it from a copy; if nothing but another program did this, `headrace reseal` accepts it"
)


class Database:
    """One open SQLite file; errors leave it translated. Not `is_sealed`, its pages' checksums are not looked at."""

    def __init__(self, path: Path, *, is_sealed: bool = True) -> None:
        self.path = path
        self._abandoned = False
        if not _size(path) and _size(self._wal):  # SQLite would delete what is there
            raise StorageDamaged(
                f"{shown(path)}: must be a whole journal, got nothing beside a write-ahead log; {_REMEDY}"
            )
        self._connection = _open(path)
        try:
            with self._border():
                _prepare(self._connection, path, is_sealed=is_sealed)
        except BaseException:
            self._connection.close()
            raise

    def execute(self, sql: str, *arguments: Any) -> int:
        """One statement; says how many rows it changed."""
        with self._border():
            self._connection.execute(sql, arguments).fetchall()
            return self._connection.changes()

    def execute_each(self, sql: str, rows: Iterable[Sequence[Any]]) -> int:
        """One statement for each row of arguments; says how many rows all of them changed."""
        with self._border():
            before = self._connection.total_changes()
            self._connection.executemany(sql, rows).fetchall()
            return self._connection.total_changes() - before

    def fetch(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """All rows that a query finds."""
        with self._border():
            return self._connection.execute(sql, arguments).fetchall()

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """BEGIN IMMEDIATE to COMMIT; whatever leaves the block or the commit rolls back."""
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        self.fold(WAL_BYTES)

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """A part of a transaction that can fail alone."""
        self.execute("SAVEPOINT part")
        try:
            yield
        except BaseException:
            if self._connection.in_transaction:  # a full disk has already rolled all of it back
                self.execute("ROLLBACK TO part")
                self.execute("RELEASE part")
            raise
        self.execute("RELEASE part")

    def copy_to(self, path: Path) -> None:
        """A copy of what is committed, in a file of its own, which nobody has open then.

        What fails here is the copy's affair and not this file's: a HeadraceError that is no StorageError.
        """
        try:
            with (
                closing(_connection(path)) as copy,
                copy.backup("main", self._connection, "main") as backup,
            ):
                backup.step()
        except apsw.Error as error:
            path.unlink(missing_ok=True)
            is_full = isinstance(error, apsw.FullError)
            remedy = f"; {DiskFull.remedy}, then ask again" if is_full else ""
            raise HeadraceError(
                f"{shown(path)}: must be a copy of the journal, got {error}{remedy}"
            ) from error

    def fold(self, above_bytes: int = 0) -> None:
        """Moves the WAL into the file when it is longer; a full disk leaves it for the next time."""
        if _size(self._wal) <= above_bytes:
            return
        try:
            self.fetch("PRAGMA wal_checkpoint(TRUNCATE)")
        except DiskFull:
            return

    def close(self) -> None:
        """Closes the file; an open transaction is rolled back. Idempotent."""
        if not self._abandoned:
            with self._border():
                self._connection.close()

    def abandon(self) -> None:
        """Leaves the file as a crash would, for the next start to recover; after a fatal error.

        Closing would fold the WAL once more, and so repeat an fsync that has failed.
        """
        if not self._abandoned:
            self._abandoned = True
            self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            self._connection.close()

    @property
    def _wal(self) -> Path:
        return self.path.with_name(self.path.name + "-wal")

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self.execute("ROLLBACK")

    @contextmanager
    def _border(self) -> Iterator[None]:
        try:
            yield
        except apsw.Error as error:
            raise self._translated(error) from error

    def _translated(self, error: apsw.Error) -> Exception:
        """The error of ours for SQLite's; a wrong statement of ours stays what it is, a bug."""
        code: int | None = getattr(error, "extendedresult", None)
        told = OSError(number := self._connection.system_errno, os.strerror(number))
        where = f"{shown(self.path)}:"
        match error:
            case apsw.FullError():
                return DiskFull(f"{where} cannot write, got {error}")
            case apsw.CorruptError() | apsw.NotADBError():
                return StorageDamaged(f"{where} must be a whole journal, got {error}; {_REMEDY}")
            case apsw.IOError() if code == apsw.SQLITE_IOERR_DATA:
                return StorageDamaged(
                    f"{where} must be a whole journal, got {_OTHER_SUM}; {_RESEALED}"
                )
            case apsw.IOError() if code == apsw.SQLITE_IOERR_WRITE and scarcity(told) is DiskFull:
                return DiskFull(f"{where} cannot write, got {told.strerror}")
            case apsw.CantOpenError() if scarcity(told) is TooManyFiles:
                return TooManyFiles(f"{where} cannot open, got {told.strerror}")
            case apsw.BusyError() | apsw.LockedError():
                return StorageError(
                    f"{where} must be open once, got another process that has it open"
                )
            case (
                apsw.IOError()
                | apsw.CantOpenError()
                | apsw.ReadOnlyError()
                | apsw.PermissionsError()
            ):
                why = f": {told.strerror}" if number else ""
                return StorageError(f"{where} cannot be read or written, got {error}{why}")
        return error


def reseal(path: Path) -> None:
    """Writes all pages anew with the checksums of what they hold, whoever wrote that, if SQLite finds the file whole.

    Raises StorageDamaged where it doesn't, StorageError, DiskFull.
    """
    database = Database(path, is_sealed=False)
    try:
        database.execute("VACUUM")
        database.fetch("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        database.close()


def _open(path: Path) -> apsw.Connection:
    try:
        return _connection(path)
    except apsw.Error as error:
        raise StorageError(f"{shown(path)}: cannot be opened, got {error}") from error


def _connection(path: Path) -> apsw.Connection:
    """A connection that keeps checksums where the file has them; it waits for nobody."""
    _load_checksums()
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI
    # As a URI, since a name that is not UTF-8 can't be said otherwise.
    return apsw.Connection(path.absolute().as_uri(), flags=flags)


@functools.cache
def _load_checksums() -> None:
    """From here on all files of this process are opened by way of `cksumvfs`."""
    with closing(apsw.Connection(":memory:")) as connection:
        apsw.sqlite_extra.load(connection, "cksumvfs")


def _prepare(connection: apsw.Connection, path: Path, *, is_sealed: bool) -> None:
    """Settings of the connection, the checks, and in a new file the tables."""
    connection.execute(f"PRAGMA checksum_verification = {is_sealed:d}")  # first: any other reads
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA temp_store = MEMORY")
    application = connection.pragma("application_id")
    version = connection.pragma("user_version")
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()[0]
    new = (application, version, tables) == (0, 0, 0)
    if new:
        connection.reserve_bytes("main", _CHECKSUM_BYTES)
    else:
        _check(connection, path, application, version, is_sealed=is_sealed)
    # Not before the checks: it writes into the file. An error of the disk shows only in the answer.
    mode = connection.pragma("journal_mode", "WAL")
    if mode != "wal":
        raise StorageError(f"{shown(path)}: must be in WAL mode, got {mode}")
    # Before the first commit: SQLite flushes the directory too, but makes light of it when that fails.
    fsync_directory(path.parent)
    if new:
        connection.execute(
            f"BEGIN IMMEDIATE; {SCHEMA}"
            f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT_VERSION}; COMMIT;"
        )
    else:
        connection.execute(CONTENT_INDEX)


def _check(
    connection: apsw.Connection, path: Path, application: int, version: int, *, is_sealed: bool
) -> None:
    if application != APPLICATION_ID:
        raise StorageDamaged(
            f"{shown(path)}: must be a journal of headrace, got another program's file; {_REMEDY}"
        )
    if version != FORMAT_VERSION:
        raise StorageDamaged(
            f"{shown(path)}: the journal's format must be {FORMAT_VERSION}, got {version}; "
            "run the headrace that wrote it, or move the whole root away and begin again"
        )
    # What no checksum vouches for is held against its indices, too.
    found = connection.pragma("quick_check" if is_sealed else "integrity_check", 1)
    if found != "ok":
        is_sum = f"error code={apsw.SQLITE_IOERR_DATA}" in found
        what, remedy = (_OTHER_SUM, _RESEALED) if is_sum else (found, _REMEDY)
        raise StorageDamaged(f"{shown(path)}: must be a whole journal, got {what}; {remedy}")


def _size(path: Path) -> int:
    with storage_border("look at", path):
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return 0
