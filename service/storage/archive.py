"""Where the bytes of learnt files lie now, and whether they are still those that were learnt.

Rules. Nothing is moved or changed here. A file lies under its name in done/, or where the command line named it; one that
is to be learnt again lies in work/. Whoever has another file put in its place, or has deleted it, has lost the way back.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from service.core.layout import Layout, shown
from service.storage.tables import FileRow, FileState

READERS = 4  # digests are taken in threads: hashing lets the interpreter go


@dataclass(frozen=True, slots=True)
class Kept:
    """A file that is as it was when it was learnt: what its directory entry says now."""

    path: Path
    mtime_ns: int
    inode: int
    links: int


@dataclass(frozen=True, slots=True)
class Lost:
    """A file that can't be learnt again, and why, in one line."""

    why: str


def place(layout: Layout, file: FileRow) -> Path | None:
    """Where the file's bytes lie; None where they were deleted."""
    if file.path is not None:
        return Path(os.fsdecode(file.path))
    if file.state is FileState.ADMITTED:
        return layout.work_file(file.job, file.admission)
    if file.settled_as is not None:
        return layout.done(file.job) / os.fsdecode(file.settled_as)
    return None


def look(layout: Layout, file: FileRow) -> Kept | Lost:
    """Reads the file from end to end."""
    path = place(layout, file)
    if path is None:
        why = "deleted after it was learnt (intake.after)"
        if file.after == "archive":
            why = "it was taken away before it lay in done/ for good"
        return Lost(f"{shown(file.name)}: {why}")
    try:
        seen = path.stat() if file.path is not None else path.lstat()
        if not stat.S_ISREG(seen.st_mode):
            return Lost(f"{shown(path)}: must be a plain file")
        if seen.st_size != file.size:
            return Lost(f"{shown(path)}: must have {file.size} bytes, got {seen.st_size}")
        with path.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        return Lost(f"{shown(path)}: {(error.strerror or str(error)).lower()}")
    if found != file.sha256:
        return Lost(f"{shown(path)}: must have the sha256 {file.sha256}, got {found}")
    return Kept(path, seen.st_mtime_ns, seen.st_ino, seen.st_nlink)


def look_at(
    layout: Layout, files: Iterable[FileRow], known: Collection[int] = ()
) -> dict[int, Kept | Lost]:
    """What became of each file that is not `known`, by admission; may read for long."""
    unknown = [file for file in files if file.admission not in known]
    with ThreadPoolExecutor(READERS) as readers:
        found = readers.map(lambda file: look(layout, file), unknown)
        return {file.admission: one for file, one in zip(unknown, found, strict=True)}
