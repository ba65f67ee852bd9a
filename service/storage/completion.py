"""What a decision of the journal implies on the disk, done after the commit, and again by recovery.

Rules. Every function here may be called again after a crash at any point of it, and then finishes the same thing. What
has happened is told from the disk: the work file is gone, the spool is gone, the note is there. Order: records are
published, then `current` moves, then the sample file, then old things are deleted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from service.core.layout import Layout, shown
from service.storage import checkpoints, logs, moves
from service.storage.disk import (
    fsync_directory,
    names,
    opened_folder,
    replace_file,
    storage_border,
    temporary,
)
from service.storage.moves import NOTHING, Was
from service.storage.tables import FileRow, FileState, Publication

NOTE_SUFFIX = ".error.json"
PREDICT = "predict"
"""What the note of a refused file from there has as its `folder`."""
LONGEST_RECORD = 1 << 16
"""Bytes of a list's record at most: its texts are bounded."""
ROWS_SUFFIX = ".rows.jsonl"  # as long as the note's: what leaves room for one leaves it for both


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
        _list_rejected(layout, file, beside)
    return settled_as


def _placed(layout: Layout, file: FileRow) -> bytes | None:
    work = layout.work_file(file.job, file.admission)
    if file.path is not None:
        return None
    match file.state:
        case FileState.REFUSED:
            return _refuse(layout, file, work)
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


def settle_all(layout: Layout, files: Sequence[FileRow]) -> tuple[FileRow, ...]:
    """Settles accepted files; their folders are flushed once for all. Says each with its name there."""
    archived = [file for file in files if file.path is None and file.after == "archive"]
    found: dict[int, bytes | None] = {}
    for job in sorted({file.job for file in archived}):
        own = [file for file in archived if file.job == job]
        found |= _all_to_done(layout, job, own)
        fsync_directory(layout.done(job))
        fsync_directory(layout.work(job))
    for file in archived:
        _list_rejected(layout, file, None)
    for file in files:
        if file.admission not in found:
            found[file.admission] = settle(layout, file)
    return tuple(replace(file, settled_as=found[file.admission]) for file in files)


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


UNKNOWN = {
    "rule": "a file in work/ must be known to the journal",
    "remedy": "move it to the inbox to have it trained",
}


def reject(
    layout: Layout, job: str, path: Path, name: bytes, refusal: Mapping[str, Any]
) -> bytes | None:
    """Moves a file that the journal does not know to failed/, with its note, under `name` if that is free. The note of one
    from predict/ says so."""
    text = _note(name, job, refusal, was_to_predict=path.parent == layout.predict(job))
    return _to_failed(layout.failed(job), path, name, text)


def note(file: FileRow) -> bytes:
    """The error note of a refused file: pretty JSON, the same bytes for the same refusal."""
    return _note(file.name, file.job, file.refusal or {}, file.admission, file.sha256)


def _note(
    name: bytes,
    job: str,
    refusal: Mapping[str, Any],
    admission: int | None = None,
    sha256: str | None = None,
    *,
    was_to_predict: bool = False,
) -> bytes:
    content: dict[str, Any] = {"file": shown(name), "job": job}
    content |= {key: refusal.get(key, "") for key in ("rule", "place", "value", "remedy")}
    content |= {"admission": admission, "sha256": sha256}
    if was_to_predict:
        content["folder"] = PREDICT
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


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


def _list_rejected(layout: Layout, file: FileRow, beside: bytes | None) -> None:
    """Moves the list of bad rows to failed/, told apart from others': under the name of the refused file that lies
    `beside`, or else one that no refused file has. Where that has happened there is nothing to move any more."""
    rejected = layout.rejected(file.job, file.admission)
    if os.path.lexists(rejected):
        name = file.name if beside is None else beside
        _settle_list(rejected, layout.failed(file.job), name, is_beside=beside is not None)


def list_predicted(layout: Layout, job: str, name: bytes, text: bytes, *, is_beside: bool) -> None:
    """Lists the bad rows of a file to predict in failed/, as those of a sample file are."""
    rejected = temporary(layout.predictions(job))
    replace_file(rejected, text)
    _settle_list(rejected, layout.failed(job), name, is_beside=is_beside)


def _settle_list(rejected: Path, failed: Path, name: bytes, *, is_beside: bool) -> None:
    def is_free(candidate: bytes) -> bool:
        other = candidate.removesuffix(ROWS_SUFFIX.encode())
        taken = (other, other + NOTE_SUFFIX.encode())
        return is_beside or not any(os.path.lexists(failed / os.fsdecode(name)) for name in taken)

    moves.settle(rejected, failed, name + ROWS_SUFFIX.encode(), announce=is_free)


def _refuse(layout: Layout, file: FileRow, source: Path) -> bytes | None:
    where = layout.failed(file.job), source, file.name
    return _to_failed(*where, note(file), _was(file))


def _to_failed(
    failed: Path,
    work: Path,
    name: bytes,
    text: bytes,
    was: Was = NOTHING,
) -> bytes | None:
    """The note first: a file in failed/ without its reason would be a riddle."""

    def announce(candidate: bytes) -> bool:
        path = failed / os.fsdecode(candidate + NOTE_SUFFIX.encode())
        with storage_border("read", path):
            if os.path.lexists(path):
                return path.is_file() and path.read_bytes() == text
        replace_file(path, text)
        return True

    return moves.settle(
        work,
        failed,
        name,
        was=was,
        reserve=len(NOTE_SUFFIX),
        announce=announce,
    )


def _take_back(layout: Layout, file: FileRow, work: Path) -> bytes | None:
    """From its place in done/, or from work/ where it waited to be learnt again."""
    name = file.settled_as
    source = work if name is None else layout.done(file.job) / os.fsdecode(name)
    return _refuse(layout, file, source)


def _try_again(layout: Layout, file: FileRow, name: bytes) -> bytes | None:
    """From failed/ to the inbox; the note goes last, for until then it says why the file lies there."""
    failed, inbox = layout.failed(file.job), layout.inbox(file.job)
    with storage_border("make the folder", inbox):
        inbox.mkdir(exist_ok=True)
    source = failed / os.fsdecode(name)
    settled_as = moves.settle(source, inbox, file.name, was=_was(file))
    remark = failed / os.fsdecode(name + NOTE_SUFFIX.encode())
    with storage_border("delete", remark):
        if remark.is_file() and remark.read_bytes() == note(file):
            remark.unlink()
    listed = failed / os.fsdecode(name + ROWS_SUFFIX.encode())
    with storage_border("delete", listed):
        if listed.is_file() and _is_list_of(listed, file.admission):
            listed.unlink()
    fsync_directory(failed)  # else a power cut could bring the note back, beside no file
    return settled_as


def _is_list_of(path: Path, admission: int | None) -> bool:
    """Whether a list of bad rows is this admission's: names alone may be those of others."""
    with path.open("rb") as lines:
        first = lines.readline(LONGEST_RECORD)
    try:
        return bool(json.loads(first)["admission"] == admission)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False  # somebody has written there


def was_to_predict(layout: Layout, job: str, name: str) -> bool:
    """Whether a file lies in failed/ that was refused in predict/: its note says so."""
    path = layout.failed(job) / name
    remark = path.with_name(name + NOTE_SUFFIX)
    with storage_border("read", remark):
        if not (os.path.lexists(path) and remark.is_file()):
            return False
        with remark.open("rb") as text:
            told = text.read(LONGEST_RECORD)
    try:
        return bool(json.loads(told)["folder"] == PREDICT)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False  # another's note


def predict_again(layout: Layout, job: str, name: str) -> bytes | None:
    """Brings a file that `was_to_predict` from failed/ back to predict/; its note and its list go last. Its name there."""
    failed, predict = layout.failed(job), layout.predict(job)
    with storage_border("make the folder", predict):
        predict.mkdir(exist_ok=True)
    settled_as = moves.settle(failed / name, predict, os.fsencode(name))
    listed = failed / (name + ROWS_SUFFIX)
    with storage_border("delete", listed):
        (failed / (name + NOTE_SUFFIX)).unlink(missing_ok=True)
        if listed.is_file() and _is_list_of(listed, None):
            listed.unlink()
    fsync_directory(failed)
    return settled_as


@dataclass(frozen=True, slots=True)
class _Way:
    """From a job's inbox, which somebody may have taken away, into work/."""

    layout: Layout
    inbox_fd: int | None
    work_fd: int


@contextmanager
def _way(layout: Layout, job: str) -> Iterator[_Way]:
    inbox, work = layout.inbox(job), layout.work(job)
    with ExitStack() as opened:
        inbox_fd = None
        with storage_border("open", inbox), suppress(FileNotFoundError, NotADirectoryError):
            inbox_fd = opened.enter_context(opened_folder(inbox, os.O_NOFOLLOW))
        with storage_border("open", work):
            work_fd = opened.enter_context(opened_folder(work))
        yield _Way(layout, inbox_fd, work_fd)


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
    with storage_border("take", shown(file.name)), suppress(FileNotFoundError):
        if os.stat(file.name, dir_fd=way.inbox_fd, follow_symlinks=False).st_ino == file.inode:
            return moves.take(way.inbox_fd, file.name, way.work_fd, work_name)
    return None
