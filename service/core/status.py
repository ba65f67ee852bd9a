"""What the daemon shows of itself: the values behind `state/status.json` and the progress bars.

Rules: the stages write here as they go, on the loop; nothing reads it to decide anything. Losses and
versions are of what is committed, but for the file in progress.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class FileStatus:
    """The file in progress."""

    name: str
    bytes: int
    epoch: int = 1
    rows: int = 0
    share: float = 0.0
    loss: float | None = None
    started: float = 0.0

    def shown(self, now: float) -> dict[str, Any]:
        """As status.json has it: with the seconds since it was begun."""
        table = asdict(self)
        table["seconds"] = max(0.0, now - table.pop("started"))
        return table


@dataclass(slots=True)
class ModelStatus:
    """The newest whole model."""

    version: int
    sha256: str
    file: str
    rows: int | None = None
    loss: float | None = None


@dataclass(slots=True)
class JobStatus:
    """One job. `state`: starting, waiting, training, failed (with `reason`), stopped.

    `in_inbox`: the files in the inbox that will be taken, and are not admitted yet. `admitted`: when those were admitted whose fate is open, by
    admission. While `pauses` stages wait for something scarce (`reason`), it is shown as paused, whatever it is at.
    `gone`: what to do about each watched directory that is not there; the reason, where there is no other.
    """

    state: str = "starting"
    reason: str | None = None
    pauses: int = 0
    gone: dict[str, str] = field(default_factory=dict)
    in_inbox: int = 0
    admitted: dict[int, float] = field(default_factory=dict)
    done: int = 0
    failed: int = 0
    duplicates: int = 0
    file: FileStatus | None = None
    model: ModelStatus | None = None

    def shown(self, now: float, held_up: str = "") -> dict[str, Any]:
        """As status.json has it. `waiting` is how many files have come whose fate is open, the one in progress among them;
        `lag_seconds`, how long the oldest of those admitted has been here.

        `held_up`: what all commits wait for, and so every job that is at something.
        """
        is_paused = self.pauses or (held_up and self.state == "training")
        reason = (self.reason or held_up) if is_paused else self.reason
        oldest = min(self.admitted.values(), default=None)
        return {
            "state": "paused" if is_paused else self.state,
            "reason": reason or "; ".join(self.gone.values()) or None,
            "done": self.done,
            "failed": self.failed,
            "duplicates": self.duplicates,
            "file": None if self.file is None else self.file.shown(now),
            "model": None if self.model is None else asdict(self.model),
            "waiting": self.in_inbox + len(self.admitted),
            "lag_seconds": None if oldest is None else max(0.0, now - oldest),
        }
