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


async def keep_written(path: Path, status: Callable[[], dict[str, Any]]) -> None:
    """Writes it until it is cancelled; what is being written then is written to its end, so that no file stays open."""
    while True:
        writing = asyncio.ensure_future(write(path, status()))
        with suppress(OSError):
            try:
                await asyncio.shield(writing)
            except asyncio.CancelledError:
                await asyncio.wait([writing])
                raise
        await asyncio.sleep(EVERY_SECONDS)


async def write(path: Path, status: dict[str, Any]) -> None:
    """Replaces the file whole; raises OSError."""
    fresh = path.with_name(f".{path.name}.part")
    async with aiofiles.open(fresh, "w") as file:
        await file.write(json.dumps(status) + "\n")
    await asyncio.to_thread(os.replace, fresh, path)
