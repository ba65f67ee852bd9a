"""Records: one JSON object a line, and whose they are.

Rules: a record holds no clock, pid or attempt. NaN and infinity are null; the keys stand in the order
in which they were put in.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from service.core.sent import sent

Record = dict[str, Any]
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


@sent
@dataclass(frozen=True, slots=True)
class Subject:
    """Whose records these are, and which are asked for: the same for a whole file."""

    job: str
    file: str
    sequence: int
    epoch: int
    classes: tuple[str | float, ...] | None
    every_rows: int
    steps: bool
    samples: str
    samples_format: str
    is_clustering: bool = False
    revision: int = 0

    def head(self, kind: str) -> Record:
        head: Record = {"kind": kind, "job": self.job, "file": self.file, "sequence": self.sequence}
        return head | {"revision": self.revision} if self.revision else head


def chained(before: str, text_sha256: str) -> str:
    """The digest of a file's records, with one more report's text after those `before` (at first "")."""
    return hashlib.sha256((before + text_sha256).encode("ascii")).hexdigest()


def json_line(record: Record) -> bytes:
    """One record as a line of JSON: UTF-8, NaN and infinity as null."""
    try:
        text = _ENCODER.encode(record)
    except ValueError:  # seldom: to look at each value first would cost half as much again
        text = _ENCODER.encode(_finite(record))
    return text.encode() + b"\n"


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A bad row, as it is listed: where in the file, which rule it broke, with which value, and the remedy."""

    row: int
    line: int | None
    column: str | None
    rule: str
    value: str
    remedy: str


def rejected_rows(
    file: str, admission: int | None, rows: Sequence[RejectedRow], rejected: int
) -> bytes:
    """The list of a file's bad rows, a record each; a last one says how many of the `rejected` more there are. A file to
    predict has no `admission`."""
    head: Record = {"file": file, "admission": admission}
    lines = [json_line(head | asdict(row)) for row in rows]
    if rejected > len(rows):
        lines.append(json_line(head | {"more": rejected - len(rows)}))
    return b"".join(lines)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
