"""Where everything lies below the root: every path of the service is spelt here, and nowhere else.

Paths only: nothing here looks at a disk. A job's name is checked by the settings, so it is safe in a path; a sample
file's name is bytes and never joined into a path here. An admission number is written with ten digits, so that a
listing shows files in their order.

    inbox/<job>/  work/<job>/  done/<job>/  failed/<job>/  predict/<job>/  predictions/<job>/
    logs/service.jsonl   logs/<job>/metrics.jsonl  samples.jsonl
    models/<job>/        current.safetensors -> 00000007-v1200.safetensors
    state/               journal.sqlite  lock  status.json  socket  spool/<job>/  private/<job>/
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

# Folders that hold one folder per job, in the order of a file's life.
JOB_FOLDERS = ("inbox", "work", "done", "failed", "predict", "predictions", "logs", "models")
STATE_JOB_FOLDERS = ("spool", "private")
CURRENT = "current.safetensors"


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths below one root."""

    root: Path

    def inbox(self, job: str) -> Path:
        return self.root / "inbox" / job

    def work(self, job: str) -> Path:
        return self.root / "work" / job

    def done(self, job: str) -> Path:
        return self.root / "done" / job

    def failed(self, job: str) -> Path:
        return self.root / "failed" / job

    def predict(self, job: str) -> Path:
        return self.root / "predict" / job

    def predictions(self, job: str) -> Path:
        return self.root / "predictions" / job

    def logs(self, job: str) -> Path:
        return self.root / "logs" / job

    def models(self, job: str) -> Path:
        return self.root / "models" / job

    def current(self, job: str) -> Path:
        """The link to the newest model that is whole."""
        return self.models(job) / CURRENT

    @property
    def service_log(self) -> Path:
        return self.root / "logs" / "service.jsonl"

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def journal(self) -> Path:
        return self.state / "journal.sqlite"

    @property
    def status(self) -> Path:
        return self.state / "status.json"

    @property
    def socket(self) -> Path:
        return self.state / "socket"

    def private(self, job: str) -> Path:
        """Models that serve only to resume the file in progress."""
        return self.state / "private" / job

    def spools(self, job: str) -> Path:
        return self.state / "spool" / job

    def spool(self, job: str, admission: int, log: str) -> Path:
        """The results of one file for one log (`metrics.jsonl`) until the file is whole."""
        return self.spools(job) / f"{admission:010d}.{log}"

    def rejected(self, job: str, admission: int) -> Path:
        """The list of a file's bad rows, from before its fate is decided until it lies in failed/."""
        return self.spools(job) / self.rejected_name(admission)

    @staticmethod
    def rejected_name(admission: int) -> str:
        """The name of that list in its job's folder."""
        return f"{admission:010d}.rows.jsonl"

    def work_file(self, job: str, admission: int) -> Path:
        """A taken file; its own name stays in the journal."""
        return self.work(job) / self.work_name(admission)

    @staticmethod
    def work_name(admission: int) -> str:
        """A taken file's name in its job's folder."""
        return f"{admission:010d}"

    def scratch(self, job: str, admission: int) -> Path:
        """What a taken file is unpacked into; made again when it is missing, deleted by recovery."""
        return self.work(job) / self.scratch_name(admission)

    @staticmethod
    def scratch_name(admission: int) -> str:
        """Its name in its job's folder."""
        return f"{admission:010d}.unpacked"

    def folders(self, job: str) -> tuple[Path, ...]:
        """Every folder that the job needs."""
        own = tuple(self.root / folder / job for folder in JOB_FOLDERS)
        return own + tuple(self.state / folder / job for folder in STATE_JOB_FOLDERS)


def shown(name: bytes | str | Path) -> str:
    r"""A file's name as records and the terminal show it: printable, on one line, and unambiguous.

    Bytes that are not UTF-8 become `\xff`, control, bidirectional and other unprintable characters `\n`, `\u202e`, and
    a backslash is doubled, so that two different names never look the same. Spaces inside stay.
    """
    text = os.fsencode(name).decode("utf-8", "surrogateescape")
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(map(_shown_character, text))


def _shown_character(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if "\udc80" <= character <= "\udcff":  # a byte that was not UTF-8 (PEP 383)
        return f"\\x{ord(character) - 0xDC00:02x}"
    if character.isprintable():
        return character
    escaped = character.encode("unicode_escape").decode("ascii")
    # `unicode_escape` writes U+0085 as \x85, the form kept for odd bytes.
    return f"\\u{ord(character):04x}" if escaped.startswith("\\x") else escaped
