"""What a sample file must be, whatever its format: plain, of one name, small enough, and unchanged.

Rules: everything here looks at the disk, and runs in a thread.
"""

from __future__ import annotations

import stat
from pathlib import Path

from service.core.errors import FileRefused
from service.storage.tables import FileRow


class Changed(Exception):
    """The file is not what it was when it was admitted."""


def must_be_admissible(path: Path, row: FileRow, most_bytes: int) -> int:
    """Raises FileRefused for what is no plain file of ours alone, or too large; FileNotFoundError.

    Returns its ctime (ns) for `must_be_unchanged`.

    A file that the command line named may be a link, and have other names: it stays where it is.
    """
    taken = row.path is None
    seen = path.lstat() if taken else path.stat()
    if not stat.S_ISREG(seen.st_mode):
        raise FileRefused(
            "a sample file is a plain file",
            place="the file itself",
            value=_kind(seen.st_mode),
            remedy="copy the content",
        )
    if taken and seen.st_nlink > 1:
        raise FileRefused(
            "a sample file has one name only (it could change elsewhere)",
            place="the file itself",
            value=f"{seen.st_nlink} hard links",
            remedy="copy it, or remove its other names, then drop it again",
        )
    if seen.st_size > most_bytes and not row.revision:  # what was learnt is learnt again
        raise FileRefused(
            f"a sample file has at most {most_bytes} bytes (intake.max_file_bytes)",
            place="the file itself",
            value=f"{seen.st_size} bytes",
            remedy="split it, or raise intake.max_file_bytes",
        )
    return seen.st_ctime_ns


def must_be_unchanged(path: Path, row: FileRow, ctime_ns: int) -> None:
    """Raises Changed when somebody wrote to the file after it was admitted, or took it away.

    An mtime can be set back by whoever writes; a ctime can't, but taking the file gave it a new one.
    """
    try:
        seen = path.stat()
    except FileNotFoundError:
        raise Changed from None
    if (seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns) != (row.size, row.mtime_ns, ctime_ns):
        raise Changed


def must_be_what_was_learnt(row: FileRow, name: str, sha256: str) -> None:
    """Raises FileRefused where a file that is learnt again is not, to the byte, what was learnt before."""
    if row.revision and row.sha256 not in (None, sha256):  # `headrace verify` compares afterwards
        raise FileRefused(
            "a file that is learnt again has the content that was learnt before",
            place=name,
            value=f"sha256 {sha256} for {row.sha256}",
            remedy="drop the right file again: it is then learnt as a new one",
        )


def unreadable(error: OSError) -> FileRefused:
    """The refusal of a file that the disk, or its permissions, don't let us read."""
    return FileRefused(
        "a sample file can be read to its end",
        place="the file itself",
        value=error.strerror or str(error),
        remedy="see to its permissions and to the disk, then drop it again",
    )


def _kind(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "a link"
    if stat.S_ISFIFO(mode):
        return "a FIFO"
    return "a directory" if stat.S_ISDIR(mode) else "a device or socket"
