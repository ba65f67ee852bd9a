"""What a decision of the journal implies on the disk, done after the commit, and again by recovery.

Rules. Every function here may be called again after a crash at any point of it, and then finishes the same thing. What
has happened is told from the disk: the work file is gone, the spool is gone, the note is there. Order: records are
published, then `current` moves, then the sample file, then old things are deleted.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from service.core.layout import Layout
from service.storage import checkpoints, failed, logs, moves
from service.storage.disk import fsync_directory, names, opened_folder, storage_border
from service.storage.moves import Was
from service.storage.tables import FileRow, FileState, Publication


@dataclass(frozen=True, slots=True)
class Keep:
    """What stays: log segments of `rotate_bytes` (0: never full), that many archived (0: all), and models (from 1)."""

    rotate_bytes: int
    segments: int
    models: int

    def __post_init__(self) -> None:
        if self.models < 1:
            raise ValueError(f"keep: at least 1 model must stay, got {self.models}")


def publish(layout: Layout, publications: Sequence[Publication]) -> None:
    """Brings the spools' records into their logs, durably."""
    for p in publications:
        spool = layout.spool(p.job, p.admission, p.log)
        logs.publish(layout.logs(p.job), p.log, p.position, spool, p.length)


def settle(layout: Layout, file: FileRow) -> bytes | None:
    """Brings a decided file to where its state says, durably; says its name there, None where it has none.

    A file named on the command line stays where it is, without a note. The list of bad rows follows the file.
    """
    settled_as = _placed(layout, file)
    if file.state in (FileState.ACCEPTED, FileState.REFUSED):
        beside = settled_as if file.state is FileState.REFUSED else None
        failed.list_rejected(layout, file, beside)
    return settled_as


def _placed(layout: Layout, file: FileRow) -> bytes | None:
    work = layout.work_file(file.job, file.admission)
    if file.path is not None:
        return None
    match file.state:
        case FileState.REFUSED:
            return failed.refuse(layout, file, work, _was(file))
        case FileState.RETRACTED:
            return _take_back(layout, file, work)
        case FileState.ACCEPTED | FileState.DUPLICATE if file.after == "delete":
            moves.discard(work)
            return None
        case FileState.ACCEPTED | FileState.DUPLICATE:
            return _to_done(layout, file, is_flushed=True)
        case FileState.WITHDRAWN if file.settled_as is not None:
            return _try_again(layout, file, file.settled_as)
        case FileState.WITHDRAWN:
            return give_back(layout, file)
    raise RuntimeError(f"job {file.job}, admission {file.admission}: must be decided to be settled")


def settle_all(layout: Layout, files: Sequence[FileRow]) -> dict[int, bytes | None]:
    """Settles accepted files; their folders are flushed once for all. Says each one's name there, by admission."""
    archived = [file for file in files if file.path is None and file.after == "archive"]
    found: dict[int, bytes | None] = {}
    for job in sorted({file.job for file in archived}):
        own = [file for file in archived if file.job == job]
        found |= _all_to_done(layout, job, own)
        fsync_directory(layout.done(job))
        fsync_directory(layout.work(job))
        failed.list_all_rejected(layout, job, own)
    for file in files:
        if file.admission not in found:
            found[file.admission] = settle(layout, file)
    return found


def _all_to_done(layout: Layout, job: str, files: Sequence[FileRow]) -> dict[int, bytes | None]:
    """The names that files get in done/, by admission; not flushed."""
    work, done, found = layout.work(job), layout.done(job), {}
    with ExitStack() as opened:
        with storage_border("open", work):
            work_fd = opened.enter_context(opened_folder(work))
        with storage_border("open", done):
            done_fd = opened.enter_context(opened_folder(done))
        for file in files:
            work_name = layout.work_name(file.admission)
            name = moves.settle_plainly(work_fd, work_name, done_fd, file.name)
            found[file.admission] = name or _to_done(layout, file, is_flushed=False)
    return found


def _to_done(layout: Layout, file: FileRow, *, is_flushed: bool) -> bytes | None:
    work, done = layout.work_file(file.job, file.admission), layout.done(file.job)
    return moves.settle(work, done, file.name, was=_was(file), is_flushed=is_flushed)


def _was(file: FileRow) -> Was:
    return Was(file.inode, file.size, file.mtime_ns, file.sha256)


def take_admitted(layout: Layout, files: Sequence[FileRow]) -> list[bool]:
    """Moves admitted files from the inbox into work/; False for one that vanished or changed. See `flush_admitted`.

    What was taken under a file's name but is not what was admitted goes back to the inbox. A file that is admitted
    again comes back from done/, or stays there where it is not what was learnt.
    """
    taken: dict[int, bool] = {}
    for job, ours in _by_job(files):
        with _way(layout, job) as way:
            taken |= {file.admission: _take(way, file) for file in ours}
    return [taken.get(file.admission, True) for file in files]


def flush_admitted(layout: Layout, files: Sequence[FileRow]) -> None:
    """Makes the moves of `take_admitted` last: before any of the files is decided."""
    for job, ours in _by_job(files):
        fsync_directory(layout.work(job))
        if layout.inbox(job).is_dir():  # somebody may have taken the whole folder away
            fsync_directory(layout.inbox(job))
        if any(file.settled_as is not None for file in ours):
            fsync_directory(layout.done(job))


def _by_job(files: Sequence[FileRow]) -> Iterator[tuple[str, list[FileRow]]]:
    """The files that are ours to move, job by job."""
    ours = [file for file in files if file.path is None]
    for job in sorted({file.job for file in ours}):
        yield job, [file for file in ours if file.job == job]


def give_back(layout: Layout, file: FileRow) -> bytes | None:
    """Moves a work file back into the inbox; says under which name, None where there is none to move."""
    work, inbox = layout.work_file(file.job, file.admission), layout.inbox(file.job)
    if not os.path.lexists(work):
        return None
    with storage_border("make the folder", inbox):
        inbox.mkdir(exist_ok=True)
    return moves.settle(work, inbox, file.name)


def prune(
    layout: Layout, job: str, models: Collection[str], keep: Keep, *, up_to: str | None = None
) -> list[str]:
    """Deletes the job's public models but these (up to one of them), and old segments of its logs; says which models."""
    logs.prune(layout.logs(job), keep.segments)
    return checkpoints.prune(layout.models(job), models, up_to=up_to)


def clear(layout: Layout, job: str, admissions: Collection[int]) -> None:
    """Deletes what the progress of files has left: spools, unpacked bytes, resume points.

    For files whose records are published, or that have none. Not flushed: recovery would delete them again.
    """
    numbered = tuple(f"{admission:010d}." for admission in admissions)
    _remove(layout.spools(job), numbered)
    _remove(layout.work(job), numbered)
    _remove(layout.private(job), tuple(checkpoints.private_stem(a, "") for a in admissions))


def _remove(directory: Path, prefixes: tuple[str, ...]) -> None:
    for name in names(directory):
        if name.startswith(prefixes):
            with storage_border("delete", directory / name):
                (directory / name).unlink(missing_ok=True)


def _take_back(layout: Layout, file: FileRow, work: Path) -> bytes | None:
    """From its place in done/, or from work/ where it waited to be learnt again."""
    name = file.settled_as
    source = work if name is None else layout.done(file.job) / os.fsdecode(name)
    return failed.refuse(layout, file, source, _was(file))


def _try_again(layout: Layout, file: FileRow, name: bytes) -> bytes | None:
    """From failed/ to the inbox; the note goes last, for until then it says why the file lies there."""
    inbox, source = layout.inbox(file.job), layout.failed(file.job) / os.fsdecode(name)
    with storage_border("make the folder", inbox):
        inbox.mkdir(exist_ok=True)
    settled_as = moves.settle(source, inbox, file.name, was=_was(file))
    failed.forget(layout, file, name)
    return settled_as


@dataclass(frozen=True, slots=True)
class _Way:
    """From a job's inbox, which somebody may have taken away, into work/."""

    layout: Layout
    inbox_fd: int | None
    work_fd: int
    there: frozenset[str]
    """What lies in work/."""


@contextmanager
def _way(layout: Layout, job: str) -> Iterator[_Way]:
    inbox, work = layout.inbox(job), layout.work(job)
    with ExitStack() as opened:
        inbox_fd = None
        with storage_border("open", inbox), suppress(FileNotFoundError, NotADirectoryError):
            inbox_fd = opened.enter_context(opened_folder(inbox, os.O_NOFOLLOW))
        with storage_border("open", work):
            work_fd = opened.enter_context(opened_folder(work))
        yield _Way(layout, inbox_fd, work_fd, frozenset(names(work)))


def _take(way: _Way, file: FileRow) -> bool:
    there = _taken(way, file)
    if there is None and file.settled_as is not None:
        return _comes_back(way, file, file.settled_as)
    if there is None:
        there = _moved(way, file)
        admitted = there is not None and there.st_ino == file.inode
    else:
        admitted = (
            True  # taken before a crash: the number of its inode may be another in a restored copy
        )
        if there.st_nlink > 1:  # the crash may have come between link and unlink: see moves.py
            _moved(way, file)
    if there is None:
        return False
    if admitted and (there.st_size, there.st_mtime_ns) == (file.size, file.mtime_ns):
        return True  # a link or a FIFO, too: decode refuses it with a note
    give_back(way.layout, file)
    return False


def _taken(way: _Way, file: FileRow) -> os.stat_result | None:
    """What lies in work/ under the file's number; None where nothing does."""
    name = way.layout.work_name(file.admission)
    if name not in way.there:
        return None
    with storage_border("look at", name), suppress(FileNotFoundError):
        return os.stat(name, dir_fd=way.work_fd, follow_symlinks=False)
    return None


def _comes_back(way: _Way, file: FileRow, name: bytes) -> bool:
    """Takes a file that is learnt again out of done/; its inode may have another number in a restored copy."""
    done = way.layout.done(file.job)
    with (
        storage_border("take", done / os.fsdecode(name)),
        suppress(FileNotFoundError),
        opened_folder(done) as done_fd,
    ):
        seen = os.stat(name, dir_fd=done_fd, follow_symlinks=False)
        if (seen.st_size, seen.st_mtime_ns) != (file.size, file.mtime_ns):
            return False
        moves.take(done_fd, name, way.work_fd, way.layout.work_name(file.admission))
        return True
    return False


def _moved(way: _Way, file: FileRow) -> os.stat_result | None:
    """Takes the file out of the inbox; None where it is gone, or where its name is another file's by now."""
    if way.inbox_fd is None:
        return None
    work_name = way.layout.work_name(file.admission)
    with storage_border("take", os.fsdecode(file.name)), suppress(FileNotFoundError):
        if os.stat(file.name, dir_fd=way.inbox_fd, follow_symlinks=False).st_ino == file.inode:
            return moves.take(way.inbox_fd, file.name, way.work_fd, work_name)
    return None
