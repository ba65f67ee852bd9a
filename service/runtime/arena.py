"""The memory that the daemon and its workers share: regions of one sparse, nameless file.

    daemon   reserve ──▶ Region (small, picklable) ──▶ sub-task ──▶ release
    worker                 └─▶ view / arrays: numpy arrays on the same pages

The sub-task's side, `Region`, `view` and `arrays`, is in region.py and given out here too.

Rules: memory is reserved before it is used (`posix_fallocate`), so a full machine is an `ArenaFull`
here and never a SIGBUS in a worker. The file is a memfd: it has no name, lives as long as somebody
has it open or mapped, and a killed daemon leaves nothing behind. It never shrinks under a mapping:
memory is given back by punching holes. What a region holds at first is unspecified: zeros, or what
its last user left. Releasing a region while a worker may still write to it is the caller's bug.

Workers use this module too: it imports neither asyncio nor anything that does.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
from types import TracebackType

from service.core.errors import ArenaFull
from service.runtime.extents import Extents
from service.runtime.region import Layout, Region, arrays, back, forget, round_up, size_of, view

__all__ = ["Arena", "Layout", "Region", "arrays", "back", "size_of", "view"]

PAGE_BYTES = 4096
VIRTUAL_BYTES = 1 << 38  # address space only; halved until the machine grants it
LEAST_VIRTUAL_BYTES = 1 << 30
KEEP_BYTES = 1 << 28


class Arena:
    """Reserves and releases regions; any thread may call. Close it, or leave its `with`.

    `limit_bytes` bounds what is reserved and kept together (None: only the machine does; a memfd
    may then use all memory, so a daemon should give a limit). Up to `keep_bytes` of what was
    released stay allocated for the next one, since fresh pages are the costly part: a MiB takes
    0.3 to 2 ms to allocate, and as long again for each process to touch first; used again, nothing.
    """

    def __init__(self, limit_bytes: int | None = None, keep_bytes: int = KEEP_BYTES) -> None:
        self._fd = os.memfd_create("headrace-arena", os.MFD_CLOEXEC)
        try:
            size = _grow(self._fd)
        except BaseException:
            os.close(self._fd)
            raise
        self._path = f"/proc/{os.readlink('/proc/self')}/fd/{self._fd}"
        self._inode = os.fstat(self._fd).st_ino
        self._limit = size if limit_bytes is None else limit_bytes
        self._keep = keep_bytes
        self._lock = threading.Lock()
        self._reserved: dict[int, int] = {}  # offset -> whole pages, in bytes
        self._reserved_bytes = 0
        self._kept = Extents()  # not reserved; allocated as far as it was backed
        self._free = Extents()  # holes
        self._free.add(0, size)
        self._closed = False

    @property
    def reserved_bytes(self) -> int:
        """Whole pages of the regions that are reserved now."""
        return self._reserved_bytes

    @property
    def kept_bytes(self) -> int:
        """What stays beyond that for the next regions, allocated as far as it was ever backed."""
        return self._kept.total

    def reserve(self, nbytes: int, *, backed: bool = True) -> Region:
        """A region of `nbytes`, at a multiple of 4096; raises `ArenaFull`.

        Backed, its memory is there when this returns, which takes a while (40 us a MiB where kept
        pages serve): nothing for an event loop to wait for. Not `backed`, it is address space only,
        and instant: the process that writes it calls `back` first, for as much as it writes.
        """
        offset = self._take(round_up(max(nbytes, 1), PAGE_BYTES))
        region = Region(self._path, self._inode, offset, nbytes)
        if backed:
            self._back(region)
        return region

    def release(self, region: Region) -> None:
        """Gives a region back; raises ValueError for one that isn't reserved (a second release)."""
        with self._lock:
            self._check_open()
            if not self._owns(region):
                raise ValueError(f"arena: a region is reserved when it is released, got {region}")
            self._kept.add(region.offset, self._leave(region.offset))
        piece = PAGE_BYTES
        while (surplus := self._surplus()) > 0:
            self._give_back(max(surplus, piece))
            piece *= 4  # what goes first may have no memory

    def close(self) -> None:
        """Gives all memory back at once, also what is reserved or mapped elsewhere; idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            _punch(self._fd, 0, os.fstat(self._fd).st_size)
            os.close(self._fd)
        forget()

    def __enter__(self) -> Arena:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = ", closed" if self._closed else ""
        return f"<Arena reserved={self.reserved_bytes} kept={self.kept_bytes}{state}>"

    def _take(self, length: int) -> int:
        """Finds room: what is kept first, then a hole; what is kept gives way to either need."""
        offset = self._take_kept(length)
        if offset is not None:
            return offset
        self._give_back(self.reserved_bytes + self.kept_bytes + length - self._limit)
        try:
            return self._take_hole(length)
        except ArenaFull:
            if not self._give_back(self.kept_bytes):
                raise
        return self._take_hole(length)

    def _take_kept(self, length: int) -> int | None:
        with self._lock:
            self._check_open()
            offset = self._kept.take_first(length)
            if offset is not None:
                self._enter(offset, length)
            return offset

    def _take_hole(self, length: int) -> int:
        with self._lock:
            self._check_open()
            used = self._reserved_bytes + self._kept.total
            offset = self._free.take_first(length) if used + length <= self._limit else None
            if offset is None:
                raise ArenaFull(
                    f"arena: regions fit its limit of {self._limit} bytes,"
                    f" got {length} more on {used}"
                )
            self._enter(offset, length)
            return offset

    def _back(self, region: Region) -> None:
        """Gives a region memory, outside the lock; what is kept gives way to a full machine."""
        try:
            try:
                back(region, region.length)
            except ArenaFull:
                if not self._give_back(self.kept_bytes):
                    raise
                back(region, region.length)
        except BaseException:
            self._drop(region.offset)
            raise

    def _drop(self, offset: int) -> None:
        with self._lock:
            length = self._leave(offset)
        _punch(self._fd, offset, length)
        with self._lock:
            self._free.add(offset, length)

    def _give_back(self, nbytes: int) -> bool:
        """Punches holes into at least `nbytes` of what is kept, as far as it goes; True if any."""
        any_given = False
        while nbytes > 0:
            with self._lock:
                extent = self._kept.take_last(round_up(nbytes, PAGE_BYTES))
            if extent is None:
                break
            _punch(self._fd, *extent)
            with self._lock:
                self._free.add(*extent)
            nbytes -= extent[1]
            any_given = True
        return any_given

    def _surplus(self) -> int:
        """By how many bytes more is kept than should be; most of a region may never have been backed."""
        with self._lock:
            if self._closed or self._kept.total <= self._keep:
                return 0
            allocated = os.fstat(self._fd).st_blocks * 512
            return min(self._kept.total, allocated - self._reserved_bytes) - self._keep

    def _enter(self, offset: int, length: int) -> None:
        self._reserved[offset] = length
        self._reserved_bytes += length

    def _leave(self, offset: int) -> int:
        length = self._reserved.pop(offset)
        self._reserved_bytes -= length
        return length

    def _owns(self, region: Region) -> bool:
        ours = (region.path, region.inode) == (self._path, self._inode)
        return ours and region.offset in self._reserved

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("arena: it is open while it is used, got a closed one")


# --- the file ------------------------------------------------------------------------------------

_LIBC = ctypes.CDLL(None, use_errno=True)
_KEEP_SIZE_AND_PUNCH_HOLE = 0x01 | 0x02  # linux/falloc.h


def _grow(fd: int) -> int:
    """Makes the file as large as this machine lets a process map; returns its size."""
    size = VIRTUAL_BYTES
    while True:
        try:
            os.ftruncate(fd, size)
            mmap.mmap(fd, size).close()
            return size
        except OSError as error:
            size //= 2
            if size < LEAST_VIRTUAL_BYTES:
                raise ArenaFull(
                    f"arena: a process may map {LEAST_VIRTUAL_BYTES} bytes, got {error.strerror};"
                    " raise the limits of a file's size and of address space (ulimit -f, ulimit -v)"
                ) from error


def _punch(fd: int, offset: int, length: int) -> None:
    """Gives the pages back to the machine and keeps the file's size."""
    wide = ctypes.c_longlong
    if _LIBC.fallocate(fd, _KEEP_SIZE_AND_PUNCH_HOLE, wide(offset), wide(length)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
