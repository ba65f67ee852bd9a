"""`state/status.json`: what the daemon shows of itself, replaced whole several times a second.

Rules: it is for looking, so it is renamed into place and never flushed; a disk that can't take it
is reported where it matters.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiofiles

EVERY_SECONDS = 0.5


class StatusFile:
    """The file at `path`, which says what `status` gives."""

    def __init__(self, path: Path, status: Callable[[], dict[str, Any]]) -> None:
        self._path = path
        self._status = status
        self._writing = asyncio.Lock()

    async def keep_written(self) -> None:
        """Writes it until it is cancelled; what is being written then is written to its end, so that no file stays open."""
        while True:
            writing = asyncio.ensure_future(self.write())
            try:
                await asyncio.shield(writing)
            except asyncio.CancelledError:
                await asyncio.wait([writing])
                raise
            await asyncio.sleep(EVERY_SECONDS)

    async def write(self) -> None:
        """Replaces the file whole; where the disk can't take it, it stays as it was."""
        fresh = self._path.with_name(f".{self._path.name}.part")
        async with self._writing:
            with suppress(OSError):
                async with aiofiles.open(fresh, "w") as file:
                    await file.write(json.dumps(self._status()) + "\n")
                await asyncio.to_thread(os.replace, fresh, self._path)
