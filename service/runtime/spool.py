"""A spool being written: the records of one file for one log, invisible until the file is whole.

Rules: bytes are added at a length that we know and never behind it, so that what a full disk or a crash
cut short is written again at the same place. Errors of the disk are translated: DiskFull may be tried
again, a failed flush (StorageError) may not.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import aiofiles
from aiofiles.threadpool.binary import AsyncFileIO

from service.storage.disk import storage_border

WORTH_FLUSHING_BYTES = 1 << 20


class Spool:
    """The spool at `path`, of which `length` bytes count."""

    def __init__(self, path: Path, length: int) -> None:
        self.path = path
        self.length = length
        self._flushed = length
        self._file: AsyncFileIO | None = None

    async def open(self) -> None:
        """Opens it; what lies behind its length is cut off."""
        mode = "r+b" if self.length else "wb"
        with storage_border("open", self.path):
            self._file = await aiofiles.open(self.path, mode, buffering=0)
            await self._file.truncate(self.length)

    async def append(self, data: memoryview) -> None:
        """Adds bytes at the end; after DiskFull the spool is as long as before."""
        assert self._file is not None
        written = 0
        with storage_border("write", self.path):
            await self._file.seek(self.length)
            while written < len(data):
                written += await self._file.write(data[written:])
        self.length += written

    async def flush(self) -> None:
        """Brings a long spool to the disk, so that the commit that follows has little left to wait for."""
        assert self._file is not None
        if self.length - self._flushed < WORTH_FLUSHING_BYTES:
            return
        with storage_border("flush", self.path):
            await asyncio.to_thread(os.fsync, self._file.fileno())
        self._flushed = self.length

    async def close(self) -> None:
        """Closes it; the file stays."""
        if self._file is not None:
            await self._file.close()
