"""Result logs: append-only files that are never shortened, in segments, and the spools that feed them.

Rules. A log grows only by whole spools, one per acceptance, each at the place that the accepting transaction recorded:
doing it again writes the same bytes at the same place. A file's records are never split over segments, and where a segment
ends does not depend on how many files were accepted together. The newest segment bears the log's plain name; older ones carry their number:

    samples.000001.jsonl   samples.000002.jsonl   samples.jsonl (segment 3)

A log that is neither as long as the journal says nor absent stops the daemon: lines were lost, or are not ours. A log
that is absent was taken away by the operator, who may: the next file begins a new segment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from service.core.errors import StorageDamaged
from service.core.layout import shown
from service.storage.disk import fsync, fsync_directory, names, storage_border, write_at
from service.storage.tables import LogState, Position

_ARCHIVED = re.compile(r"(?P<stem>.+)\.(?P<number>[0-9]{6,})(?P<suffix>\.[^.]+)")
_COPY_BYTES = 1024 * 1024
_REMEDY = "move it to another folder, and a new segment begins"


class LogGone(StorageDamaged):
    """The operator took the log away between the commit that planned for it and its publication."""


def plan(
    end: LogState, length: int, rotate_bytes: int, *, renew: bool = False
) -> tuple[Position, LogState]:
    """Where `length` bytes go in a log that ends at `end`, and its end after them.

    A segment of `rotate_bytes` or more is full (0: never). `renew` begins a new one because the old one is gone.
    """
    full = 0 < rotate_bytes <= end.length
    if renew or full:
        end = LogState(end.segment + 1, 0)
    position = Position(end.segment, end.length, rotates=full and not renew)
    return position, LogState(end.segment, end.length + length)


def together(
    ends: Mapping[str, LogState], spools: Sequence[Mapping[str, int]], rotate_bytes: int
) -> int:
    """How many files, from the first on, may have their records put into the logs in one piece, so that these come to lie
    as if they came one after the other: no log becomes full before the last of them."""
    lengths = {log: end.length for log, end in ends.items()}
    for place, spool in enumerate(spools):
        full = {log for log in spool if 0 < rotate_bytes <= lengths.get(log, 0)}
        if full and place:
            return place
        for log, length in spool.items():
            lengths[log] = length + (0 if log in full else lengths.get(log, 0))
    return len(spools)


def publish(directory: Path, log: str, position: Position, spool: Path, length: int) -> None:
    """Puts the spool's first `length` bytes into the log at `position`, durably; rotates first where that is due.

    May be called again with the same arguments. A spool that is gone has been published: it is deleted after that.
    Raises LogGone where the log was taken away since it was planned for, StorageDamaged where log or spool are short.
    """
    spooled = _length(spool)
    path = _rotated(directory, log, position)
    if spooled is None or path is None:
        return
    if spooled < length:
        raise StorageDamaged(_too_short(spool, length, spooled))
    found = _length(path)
    if found is None and position.offset > 0:
        raise LogGone(f"{shown(path)}: must have at least {position.offset} bytes, got no file")
    if (found or 0) < position.offset:
        raise StorageDamaged(_too_short(path, position.offset, found or 0))
    with storage_border("write", path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            _copy(spool, descriptor, position.offset, length)
            fsync(descriptor, path)
        finally:
            os.close(descriptor)
    if found is None:
        fsync_directory(directory)


def is_gone(directory: Path, log: str, end: LogState) -> bool:
    """Has the operator taken away the log that ends at `end`? StorageDamaged where it has another length.

    For a log whose publications are all made.
    """
    found = _length(directory / log)
    if found is None:
        return end.length > 0
    if found != end.length:
        raise StorageDamaged(_wrong_length(directory / log, end.length, found))
    return False


def flush_spool(path: Path, length: int) -> None:
    """A spool's first `length` bytes reach the disk; flushing the directory is the caller's, once for all spools."""
    with storage_border("open", path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        found = os.fstat(descriptor).st_size
        if found < length:
            raise StorageDamaged(_too_short(path, length, found))
        fsync(descriptor, path)
    finally:
        os.close(descriptor)


def truncate_spool(path: Path, length: int) -> None:
    """Cuts a spool back to its committed bytes; StorageDamaged where it has fewer."""
    found = _length(path) or 0
    if found < length:
        raise StorageDamaged(_too_short(path, length, found))
    if found > length:
        with storage_border("truncate", path):
            os.truncate(path, length)


def segments(directory: Path, log: str) -> list[Path]:
    """The log's files, oldest first: in this order they are one stream of records."""
    archived = [_archived(directory, log, number) for number in _numbers(directory, log)]
    return archived + ([directory / log] if os.path.lexists(directory / log) else [])


def prune(directory: Path, keep: int) -> list[str]:
    """Deletes the archived segments of every log but the `keep` newest of each (0 keeps all); says which.

    The newest archived one always stays: its number tells recovery which segment the plain name is.
    """
    if keep == 0:
        return []
    archived: dict[str, list[tuple[int, str]]] = {}
    for name in names(directory):
        if match := _ARCHIVED.fullmatch(name):
            numbered = archived.setdefault(match["stem"] + match["suffix"], [])
            numbered.append((int(match["number"]), name))
    pruned = [name for numbered in archived.values() for _, name in sorted(numbered)[:-keep]]
    for name in pruned:
        with storage_border("delete", directory / name):
            (directory / name).unlink(missing_ok=True)
    return pruned


def _rotated(directory: Path, log: str, position: Position) -> Path | None:
    """The file of the position's segment, once the segment before it has its number; None: it is no longer kept."""
    segment, current = position.segment, directory / log
    newest = max(_numbers(directory, log), default=0)
    if newest >= segment:
        archived = _archived(directory, log, segment)
        return archived if os.path.lexists(archived) else None
    if position.rotates and newest < segment - 1 and os.path.lexists(current):
        with storage_border("rotate", current):
            os.rename(current, _archived(directory, log, segment - 1))
        fsync_directory(directory)
    return current


def _numbers(directory: Path, log: str) -> list[int]:
    """The numbers of the log's archived segments, in order."""
    split = os.path.splitext(log)
    matches = [_ARCHIVED.fullmatch(name) for name in names(directory)]
    ours = [match for match in matches if match and (match["stem"], match["suffix"]) == split]
    return sorted(int(match["number"]) for match in ours)


def _archived(directory: Path, log: str, segment: int) -> Path:
    stem, suffix = os.path.splitext(log)
    return directory / f"{stem}.{segment:06d}{suffix}"


def _copy(spool: Path, target: int, offset: int, length: int) -> None:
    with open(spool, "rb") as source:
        done = 0
        while done < length:
            piece = source.read(min(_COPY_BYTES, length - done))
            if not piece:  # shorter than a moment ago: somebody else writes in state/
                raise StorageDamaged(_too_short(spool, length, done))
            write_at(target, piece, offset + done)
            done += len(piece)


def _length(path: Path) -> int | None:
    with storage_border("look at", path):
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return None


def _too_short(path: Path, expected: int, found: int) -> str:
    return (
        f"{shown(path)}: must have at least {expected} bytes, got {found}; restore it, or {_REMEDY}"
    )


def _wrong_length(path: Path, expected: int, found: int) -> str:
    if found > expected:
        return (
            f"{shown(path)}: must have {expected} bytes, as the journal says, got {found}; if nobody has written to it, the"
            " journal is older than the log (restored alone, or without its -wal): restore the whole root. If somebody has,"
            f" {_REMEDY}"
        )
    return f"{shown(path)}: must have {expected} bytes, got {found}; {_REMEDY}"
