"""The folder failed/: refused files, with a note each that says why, and the lists of bad rows.

Rules. The note comes before the file and goes after it. Names are told apart as those of files are; whose a note or a list is,
its content says. Every function here may be called again after a crash, as those of completion.py.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from service.core.layout import Layout, shown
from service.storage import moves
from service.storage.disk import fsync_directory, names, replace_file, storage_border, temporary
from service.storage.moves import NOTHING, Was
from service.storage.tables import FileRow

NOTE_SUFFIX = ".error.json"
PREDICT = "predict"
"""What the note of a refused file from there has as its `folder`."""
LONGEST_RECORD = 1 << 16
"""Bytes of a list's record at most: its texts are bounded."""
ROWS_SUFFIX = ".rows.jsonl"  # as long as the note's: what leaves room for one leaves it for both

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


def refuse(layout: Layout, file: FileRow, source: Path, was: Was) -> bytes | None:
    """Moves a refused file to failed/, with its note; says its name there."""
    return _to_failed(layout.failed(file.job), source, file.name, note(file), was)


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


def list_rejected(layout: Layout, file: FileRow, beside: bytes | None) -> None:
    """Moves the list of bad rows to failed/, told apart from others': under the name of the refused file that lies
    `beside`, or else one that no refused file has. Where that has happened there is nothing to move any more."""
    rejected = layout.rejected(file.job, file.admission)
    if os.path.lexists(rejected):
        name = file.name if beside is None else beside
        _settle_list(rejected, layout.failed(file.job), name, is_beside=beside is not None)


def list_all_rejected(layout: Layout, job: str, files: Sequence[FileRow]) -> None:
    """As `list_rejected`, for files of a job that don't lie in failed/: one look for all tells which have a list."""
    there = set(names(layout.spools(job)))
    for file in files:
        if layout.rejected_name(file.admission) in there:
            list_rejected(layout, file, None)


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


def forget(layout: Layout, file: FileRow, name: bytes) -> None:
    """Deletes the note and the list of a file that lay in failed/ under this name, where they are still its own."""
    folder = layout.failed(file.job)
    remark = folder / os.fsdecode(name + NOTE_SUFFIX.encode())
    with storage_border("delete", remark):
        if remark.is_file() and remark.read_bytes() == note(file):
            remark.unlink()
    listed = folder / os.fsdecode(name + ROWS_SUFFIX.encode())
    with storage_border("delete", listed):
        if listed.is_file() and _is_list_of(listed, file.admission):
            listed.unlink()
    fsync_directory(folder)  # else a power cut could bring the note back, beside no file


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
