"""What the journal keeps: its tables, and their rows as frozen values.

Rules. A table is written only by journal.py. A file's state moves along these arrows only. `NULL` means "not known
yet". Names and paths of sample files are bytes, as the file system has them.

    admitted ──▶ accepted | refused | duplicate | withdrawn
    accepted, admitted ──▶ retracted      taken back; what was learnt after it ──▶ admitted, with the next revision
    refused, retracted ──▶ withdrawn      tried again: back to the inbox

A file is *settled* when its bytes lie where its state says (done/, failed/, deleted); a publication is *pending* until
the spool's bytes are in the log. Both are finished after the commit that decided them, again by recovery if need be.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

APPLICATION_ID = 0x48656164  # "Head": tells our journal from any other SQLite file
FORMAT_VERSION = 3  # pages with checksums

CONTENT_INDEX = (
    "CREATE INDEX IF NOT EXISTS files_by_content ON files (job, sha256, size, admission)"
    " WHERE sha256 IS NOT NULL;"
)
"""Files are often of one size, and each is looked for among all before it. Journals of before get it when they are opened."""

SCHEMA = f"""
CREATE TABLE settings (          -- what a file is trained with, canonical JSON
    digest TEXT PRIMARY KEY,
    body   TEXT NOT NULL
) STRICT;

CREATE TABLE jobs (
    name       TEXT PRIMARY KEY,
    generation INTEGER NOT NULL, -- counts resets
    admissions INTEGER NOT NULL  -- the next admission number
) STRICT;

CREATE TABLE files (
    job TEXT NOT NULL REFERENCES jobs(name),
    admission    INTEGER NOT NULL,
    generation   INTEGER NOT NULL,
    name         BLOB NOT NULL,
    path         BLOB,           -- of a file named on the command line, which is never moved
    epoch        INTEGER NOT NULL,
    revision     INTEGER NOT NULL, -- how often it was learnt anew, since a file before it was taken back
    size         INTEGER NOT NULL,
    mtime_ns     INTEGER NOT NULL,
    inode        INTEGER NOT NULL,
    settings     TEXT NOT NULL REFERENCES settings(digest),
    after        TEXT NOT NULL CHECK (after IN ('archive', 'delete')),
    admitted_at  REAL NOT NULL,  -- seconds since 1970; for people, never for decisions
    state        TEXT NOT NULL
                 CHECK (state IN
                        ('admitted', 'accepted', 'refused', 'duplicate', 'withdrawn', 'retracted')),
    sequence     INTEGER,
    sha256       TEXT,
    rows         INTEGER,
    version      INTEGER,
    model        TEXT,
    model_sha256 TEXT,
    records_sha256 TEXT,         -- of the file's records, report by report
    fingerprint  TEXT,           -- digest of the versions and the CPU that it was learnt with
    deaths       INTEGER NOT NULL DEFAULT 0,
    refusal      TEXT,
    settled      INTEGER NOT NULL DEFAULT 0,
    settled_as   BLOB,           -- its name in done/ or failed/; admitted again: where it comes back from
    PRIMARY KEY (job, admission)
) STRICT;
CREATE INDEX files_open ON files (job, admission) WHERE state = 'admitted';
CREATE INDEX files_unsettled ON files (job, admission) WHERE settled = 0;
CREATE INDEX files_by_size ON files (job, size, admission);
CREATE INDEX files_by_name ON files (job, name, admission);
{CONTENT_INDEX}
CREATE INDEX files_by_state ON files (job, state, admission);

CREATE TABLE commits (           -- public: the newest whole model; private: the resume point inside a file
    job TEXT NOT NULL REFERENCES jobs(name),
    scope        TEXT NOT NULL CHECK (scope IN ('public', 'private')),
    admission    INTEGER NOT NULL,
    row          INTEGER NOT NULL,
    version      INTEGER NOT NULL,
    model        TEXT NOT NULL,
    model_sha256 TEXT NOT NULL,
    sequence     INTEGER NOT NULL,
    extra        TEXT NOT NULL,
    PRIMARY KEY (job, scope),
    FOREIGN KEY (job, admission) REFERENCES files(job, admission)
) STRICT;

CREATE TABLE spools (            -- segment and offset: where an accepted file's spool goes in its log
    job TEXT NOT NULL,
    admission INTEGER NOT NULL,
    log       TEXT NOT NULL,
    length    INTEGER NOT NULL,
    segment   INTEGER,
    offset    INTEGER,
    rotates   INTEGER,
    PRIMARY KEY (job, admission, log),
    FOREIGN KEY (job, admission) REFERENCES files(job, admission)
) STRICT;

CREATE TABLE logs (              -- the committed end of each result log
    job TEXT NOT NULL REFERENCES jobs(name),
    log     TEXT NOT NULL,
    segment INTEGER NOT NULL,
    length  INTEGER NOT NULL,
    PRIMARY KEY (job, log)
) STRICT;
"""

After = Literal["archive", "delete"]
Scope = Literal["public", "private"]


class FileState(StrEnum):
    """Where a file stands."""

    ADMITTED = "admitted"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    DUPLICATE = "duplicate"
    WITHDRAWN = "withdrawn"
    RETRACTED = "retracted"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file to admit: what its directory entry said. `path` is absolute, of a file that stays where it is."""

    name: bytes
    size: int
    mtime_ns: int
    inode: int
    path: bytes | None = None
    epoch: int = 1
    revision: int = 0


@dataclass(frozen=True, slots=True)
class FileRow:
    """One admission of one sample file. `settings` is the digest of the settings that it is trained with."""

    job: str
    admission: int
    generation: int
    name: bytes
    path: bytes | None
    epoch: int
    revision: int
    size: int
    mtime_ns: int
    inode: int
    settings: str
    after: After
    admitted_at: float
    state: FileState
    sequence: int | None
    sha256: str | None
    rows: int | None
    version: int | None
    model: str | None
    model_sha256: str | None
    records_sha256: str | None
    fingerprint: str | None
    deaths: int
    refusal: dict[str, Any] | None
    settled: bool
    settled_as: bytes | None


@dataclass(frozen=True, slots=True)
class Digests:
    """What a learnt file can be held against later, in hex: of its bytes, of its records, of what they were computed with."""

    sha256: str
    records: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Commit:
    """A point to which everything durable agrees: the model, and the row of the file that it stands at.

    `row` counts the file's data rows that are in the model (public: all of them); `sequence` counts the job's accepted
    files (private: those before the file in progress). `extra` is the caller's, JSON.
    """

    job: str
    scope: Scope
    admission: int
    row: int
    version: int
    model: str
    model_sha256: str
    sequence: int
    extra: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LogState:
    """The committed end of a result log: its current segment (from 1) and that segment's bytes."""

    segment: int = 1
    length: int = 0


@dataclass(frozen=True, slots=True)
class Position:
    """Where a file's records begin: a segment and the byte in it; `rotates`: the segment before is to be put away."""

    segment: int
    offset: int
    rotates: bool = False


@dataclass(frozen=True, slots=True)
class Publication:
    """A spool of an accepted file on its way to the end of its log."""

    job: str
    admission: int
    log: str
    length: int
    position: Position
