"""The operational log: what the daemon did and when, as JSON lines; and for people, on stderr.

Rules: `write` never waits; a coroutine of its own writes to the disk and the terminal, in a thread. Events that no disk can take are
dropped and counted, since this log tells of the work and is no part of it. It is rotated by size. A line that a crash or a
full disk cut off stays as it is, and the next event begins on a line of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

MOST_WAITING = 10_000
_ENCODER = json.JSONEncoder(default=str)


class ServiceLog:
    """`logs/service.jsonl`."""

    def __init__(
        self, path: Path, *, rotate_bytes: int, keep: int, people: TextIO | None = sys.stderr
    ) -> None:
        self._path = path
        self._rotate_bytes = rotate_bytes
        self._keep = keep
        self._people = people
        self._waiting: deque[tuple[dict[str, Any], str]] = deque(maxlen=MOST_WAITING)
        self._something = asyncio.Event()
        self._closing = False
        self._may_be_torn = True  # by the life before
        self.dropped = 0

    def write(self, event: str, **facts: Any) -> None:
        """Notes an event with what belongs to it."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if len(self._waiting) == MOST_WAITING:
            self.dropped += 1
        told = "" if self._people is None else _told(event, facts)
        self._waiting.append(({"time": now, "event": event, **facts}, told))
        self._something.set()

    async def run(self) -> None:
        """Writes until `close`; call it once."""
        while not (self._closing and not self._waiting):
            await self._something.wait()
            self._something.clear()
            events = [self._waiting.popleft() for _ in range(len(self._waiting))]
            lines = "".join([_ENCODER.encode(event) + "\n" for event, _ in events])
            told = "".join([told for _, told in events])
            try:
                await asyncio.to_thread(self._put_out, lines.encode(), told)
            except OSError:
                self.dropped += lines.count("\n")
                self._may_be_torn = True

    def close(self) -> None:
        """Lets `run` end once everything is written."""
        self._closing = True
        self._something.set()

    def _put_out(self, data: bytes, told: str) -> None:
        try:
            self._append(data)
        finally:
            if self._people is not None and told:
                with suppress(OSError, ValueError):  # nobody listens any more
                    self._people.write(told)
                    self._people.flush()

    def _append(self, data: bytes) -> None:
        if not data:
            return
        with self._path.open("ab+") as file:
            if self._may_be_torn and file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                data = data if file.read(1) == b"\n" else b"\n" + data
            file.write(data)
            file.flush()
            self._may_be_torn = False
            size = file.tell()
        if size >= self._rotate_bytes:
            self._rotate()

    def _rotate(self) -> None:
        """service.jsonl becomes service.1.jsonl, that service.2.jsonl, and so on; the oldest goes."""
        older = [self._path.with_suffix(f".{n}.jsonl") for n in range(1, self._keep + 1)]
        for source, target in zip([*older[-2::-1], self._path], older[::-1], strict=True):
            if source.exists():
                source.replace(target)


def _told(event: str, facts: dict[str, Any]) -> str:
    """An event in one line, for people."""
    told = [
        f"{key}={value:.6g}" if type(value) is float else f"{key}={value}"
        for key, value in facts.items()
        if value is not None and key != "trace"
    ]
    return f"{time.strftime('%H:%M:%S')} {event}: {' '.join(told)}".rstrip(": ") + "\n"
