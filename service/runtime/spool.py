"""A spool being written: the records of one file for one log, invisible until the file is whole.

Rules: bytes are added at a length that we know and never behind it, so that what a full disk or a crash
cut short is written again at the same place. Errors of the disk are translated: DiskFull may be tried
again, a failed flush (StorageError) may not.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from service.storage.disk import storage_border

WORTH_FLUSHING_BYTES = 1 << 20


class Spool:
    """The spool at `path`, of which `length` bytes count. Each call is one trip to a thread: a small file feels them."""

    def __init__(self, path: Path, length: int) -> None:
        self.path = path
        self.length = length
        self._flushed = length
        self._fd: int | None = None

    async def open(self) -> None:
        """Opens it; what lies behind its length is cut off."""
        await asyncio.to_thread(self._open)

    async def append(self, data: memoryview) -> None:
        """Adds bytes at the end; after DiskFull the spool is as long as before."""
        await asyncio.to_thread(self._append, data)

    async def write(self, data: memoryview) -> None:
        """Opens it, adds bytes at the end, and closes it."""
        await asyncio.to_thread(self._write, data)

    async def flush(self) -> None:
        """Brings a long spool to the disk, so that the commit that follows has little left to wait for."""
        assert self._fd is not None
        if self.length - self._flushed < WORTH_FLUSHING_BYTES:
            return
        with storage_border("flush", self.path):
            await asyncio.to_thread(os.fsync, self._fd)
        self._flushed = self.length

    async def close(self) -> None:
        """Closes it; the file stays."""
        await asyncio.to_thread(self._close)

    # The trips

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_CLOEXEC | (0 if self.length else os.O_CREAT)
        with storage_border("open", self.path):
            self._fd = os.open(self.path, flags, 0o666)
            os.ftruncate(self._fd, self.length)

    def _append(self, data: memoryview) -> None:
        assert self._fd is not None
        written = 0
        with storage_border("write", self.path):
            while written < len(data):
                written += os.pwrite(self._fd, data[written:], self.length + written)
        self.length += written

    def _write(self, data: memoryview) -> None:
        try:
            self._open()
            self._append(data)
        finally:
            self._close()

    def _close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)
