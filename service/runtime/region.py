"""A region of the arena as a process sees it: numpy arrays on memory that others see too.

Rules: any process of this machine that may look at the arena's owner can view a region. It maps the
arena's whole file once, without its path being a name that could be left behind (`/proc/PID/fd/N`).
Workers use this module: it imports neither asyncio nor anything that does.
"""

from __future__ import annotations

import errno
import math
import mmap
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.core.errors import ArenaFull
from service.core.sent import sent

Layout = Mapping[str, tuple[tuple[int, ...], str]]
"""Shape and dtype of named arrays, in the order in which they lie in memory."""

ALIGNMENT_BYTES = 64  # a cache line, and the widest vector
MAPPINGS_KEPT = 4  # one arena a daemon; tests have a few
LAYOUTS_KEPT = 256  # a small file's arrays are made in the time that its layouts would take


@sent
@dataclass(frozen=True, slots=True)
class Region:
    """`length` bytes of an arena at `offset`: what a sub-task is told instead of the bytes.

    `path` opens the arena's file from any process of this machine that may look at its owner;
    `inode` tells it from a later file under the same descriptor.
    """

    path: str
    inode: int
    offset: int
    length: int


def view(region: Region) -> NDArray[np.uint8]:
    """The region's bytes, (length,) uint8, shared with every process that views it.

    Raises OSError when the arena is gone: closed, or its process ended.
    """
    try:
        whole = _mapping(region.path, region.inode)
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
        return _window(region)
    return whole[region.offset : region.offset + region.length]


def back(region: Region, nbytes: int) -> None:
    """Makes sure that the first `nbytes` of a region have memory, before they are written.

    Cheap where they have it already. Raises ArenaFull when the machine has none to give: writing
    to the pages would be a SIGBUS then.
    """
    if nbytes > region.length:
        raise ValueError(
            f"arena: what is written fits its region of {region.length} bytes, got {nbytes} bytes"
        )
    fd = _opened(region.path, region.inode)
    try:
        os.posix_fallocate(fd, region.offset, max(nbytes, 1))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.ENOMEM, errno.EFBIG):
            raise
        raise ArenaFull(
            f"arena: the machine has memory for {nbytes} bytes of a region, got {error.strerror}"
        ) from error
    finally:
        os.close(fd)


def back_all(pieces: Sequence[Region]) -> None:
    """Makes sure that regions have memory which lie one behind the other, as `pieces` cuts them."""
    if pieces:
        whole = _around(pieces)
        back(whole, whole.length)


def arrays(region: Region, layout: Layout) -> dict[str, NDArray[Any]]:
    """Named C-order arrays on the region's bytes, each aligned to 64 bytes; nothing is cleared.

    Raises ValueError when the layout is larger than the region.
    """
    places, needed = _places(tuple(layout.items()))
    if needed > region.length:
        raise ValueError(
            f"arena: a layout fits its region of {region.length} bytes, got {needed} bytes"
        )
    memory = view(region)
    # Made so in half the time that cutting and viewing takes.
    return {name: np.ndarray(shape, dtype, memory, start) for name, shape, dtype, start in places}


def table(pieces: Sequence[Region], layout: Layout) -> NDArray[np.uint8]:
    """The bytes of regions of one layout, which lie one behind the other as `pieces` cuts them: a row each."""
    if not pieces:
        return np.empty((0, size_of(layout)), np.uint8)
    return view(_around(pieces)).reshape(len(pieces), -1)


def columns(rows: NDArray[np.uint8], layout: Layout) -> dict[str, NDArray[Any]]:
    """The arrays of a `table`, as views: of each the numbers of a region in a row."""
    places, _ = _places(tuple(layout.items()))
    return {
        name: rows[:, start : start + math.prod(shape) * dtype.itemsize].view(dtype)
        for name, shape, dtype, start in places
    }


def size_of(layout: Layout) -> int:
    """How many bytes `arrays` needs for a layout."""
    return _places(tuple(layout.items()))[1]


def cut(region: Region, nbytes: int) -> tuple[Region, Region]:
    """The region's first `nbytes`, and the rest from the next multiple of 64 bytes on; the rest may be empty."""
    start = min(round_up(nbytes, ALIGNMENT_BYTES), region.length)
    return (
        replace(region, length=nbytes),
        replace(region, offset=region.offset + start, length=region.length - start),
    )


def pieces(region: Region, sizes: Iterable[int]) -> list[Region]:
    """The region cut into pieces of these sizes, one behind the other; see `room_for`."""
    found, start = [], region.offset
    for nbytes in sizes:
        found.append(Region(region.path, region.inode, start, nbytes))
        start += round_up(nbytes, ALIGNMENT_BYTES)
    return found


def room_for(sizes: Iterable[int]) -> int:
    """How long a region must be to be cut into pieces of these sizes."""
    return sum(round_up(nbytes, ALIGNMENT_BYTES) for nbytes in sizes)


def _around(pieces: Sequence[Region]) -> Region:
    end = pieces[-1].offset + pieces[-1].length
    return replace(pieces[0], length=end - pieces[0].offset)


def forget() -> None:
    """Unmaps what this process has mapped, as soon as no array is left on it."""
    _mapping.cache_clear()


@lru_cache(maxsize=MAPPINGS_KEPT)
def _mapping(path: str, inode: int) -> NDArray[np.uint8]:
    """The whole file: mapped once a process, so that each page is touched first only once."""
    return _map(path, inode, 0, None)


def _window(region: Region) -> NDArray[np.uint8]:
    """The region alone, for a process whose address space is limited (RLIMIT_AS)."""
    return _map(region.path, region.inode, region.offset, region.length)


def _map(path: str, inode: int, offset: int, length: int | None) -> NDArray[np.uint8]:
    fd = _opened(path, inode)
    try:
        size = os.fstat(fd).st_size if length is None else length
        memory = mmap.mmap(fd, max(size, 1), offset=offset)
    finally:
        os.close(fd)
    memory.madvise(mmap.MADV_DONTDUMP)  # a worker's core file would hold the whole arena
    return np.frombuffer(memory, np.uint8)[:size]


def _opened(path: str, inode: int) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    if os.fstat(fd).st_ino != inode:
        os.close(fd)
        raise OSError(errno.ESTALE, f"arena: {path} is the file of its regions, got another")
    return fd


_Place = tuple[str, tuple[int, ...], np.dtype[Any], int]


@lru_cache(maxsize=LAYOUTS_KEPT)
def _places(
    layout: tuple[tuple[str, tuple[tuple[int, ...], str]], ...],
) -> tuple[list[_Place], int]:
    """Where each array of a layout begins, and how many bytes they need together."""
    places: list[_Place] = []
    start = 0
    for name, (shape, spelling) in layout:
        dtype = np.dtype(spelling)
        if dtype.hasobject:
            raise ValueError(f"arena: an array holds plain numbers, got dtype {spelling}")
        places.append((name, shape, dtype, start))
        start += round_up(math.prod(shape) * dtype.itemsize, ALIGNMENT_BYTES)
    return places, start


def round_up(nbytes: int, multiple: int) -> int:
    """The least multiple that is not below."""
    return -(-nbytes // multiple) * multiple
