"""A scratch root in which a job's files are to be learnt once more, and what it came to, held against the original.

    journal of the root ─▶ originals ─▶ rehearse: a new journal that admits the same files ─▶ (the engine) ─▶ parting

Rules. The files are admitted in the order in which they are in the model, each with its own terms, name, pass and revision, and
with the place where its bytes lie now as its path: nothing of the original is moved or written to. What the journal says of a
file's records does not need the logs, so rotation doesn't matter.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from service.core.errors import StorageDamaged
from service.core.layout import Layout, shown
from service.storage import checkpoints
from service.storage.archive import Kept
from service.storage.journal import Journal
from service.storage.tables import Entry, FileRow, FileState


@dataclass(frozen=True, slots=True)
class Original:
    """What a job has learnt: its accepted files in order, and the bodies of their settings by digest."""

    job: str
    files: tuple[FileRow, ...]
    settings: Mapping[str, str]

    @property
    def settled(self) -> bool:
        """Whether every file lies where its row says; else it is on its way there."""
        return all(file.settled for file in self.files)


def originals(journal: Journal) -> dict[str, Original]:
    """Every job that the journal knows."""
    found = {}
    for job in journal.jobs():
        files = [f for f in journal.standing(job) if f.state is FileState.ACCEPTED]
        digests = {file.settings for file in files}
        settings = {digest: journal.settings_body(digest) for digest in digests}
        found[job] = Original(job, tuple(files), settings)
    return found


def rehearse(journal: Journal, original: Original, kept: Mapping[int, Kept]) -> None:
    """Admits the files in a journal that doesn't know the job; there their numbers are 1, 2, 3, ..."""
    with journal.transaction():
        for digest, files in groupby(original.files, lambda file: file.settings):
            journal.admit(
                original.job,
                [_entry(file, kept[file.admission]) for file in files],
                settings=(digest, original.settings[digest]),
                after="archive",
                at=0.0,
            )


def parting(original: FileRow, again: FileRow) -> str | None:
    """What is not the same of a file that was learnt once more; None where all is.

    The model file names the versions and the CPU: with others it is another file, and only the records can tell.
    """
    if again.state is not FileState.ACCEPTED:
        return f"it is {_end(again)} now"
    if again.sha256 != original.sha256:
        return "its content changed while it was read"
    if again.records_sha256 != original.records_sha256:
        return "its records are others"
    if again.fingerprint == original.fingerprint and again.model_sha256 != original.model_sha256:
        return "the model after it is another"
    return None


def damage(layout: Layout, newest: FileRow) -> str | None:
    """What is wrong with the newest model file, if it still is there: another may have come meanwhile."""
    assert newest.model is not None
    assert newest.model_sha256 is not None
    path = layout.models(newest.job) / newest.model
    found = _sha256(path)
    if found in (None, newest.model_sha256):
        return None
    return f"{shown(path)}: must have the sha256 {newest.model_sha256}, got {found}"


def fingerprint_of(layout: Layout, file: FileRow) -> dict[str, str]:
    """The versions and the CPU that the model after a file was made with; nothing where it is no longer kept."""
    try:
        path = layout.models(file.job) / str(file.model)
        found: dict[str, str] = checkpoints.read(path, None).header.get("fingerprint", {})
    except StorageDamaged:
        return {}
    return found


def same_but_fingerprint(one: Path, other: Path) -> bool:
    """Whether two model files hold the same, to the last bit, but for what they were made with."""
    contents = []
    for path in (one, other):
        model = checkpoints.read(path, None)
        tensors = {
            name: (array.dtype.str, array.shape, array.tobytes())
            for name, array in model.tensors.items()
        }
        header = {key: value for key, value in model.header.items() if key != "fingerprint"}
        contents.append((tensors, header))
    return contents[0] == contents[1]


def judged(
    originals: Sequence[FileRow], again: Iterator[FileRow]
) -> Iterator[tuple[FileRow, FileRow, str | None]]:
    """Each file that has been learnt once more, in order, with what is not the same; up to the first that is open."""
    for original in originals:
        row = next(again)
        if row.state is FileState.ADMITTED:
            return
        yield original, row, parting(original, row)


def _entry(file: FileRow, kept: Kept) -> Entry:
    path = os.fsencode(kept.path)
    return Entry(file.name, file.size, kept.mtime_ns, kept.inode, path, file.epoch, file.revision)


def _end(file: FileRow) -> str:
    if file.refusal is not None:
        got = f", got {file.refusal['value']}" if file.refusal.get("value") else ""
        return f"refused ({file.refusal['place']}: {file.refusal['rule']}{got})"
    return f"{file.state}"


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except FileNotFoundError:
        return None
