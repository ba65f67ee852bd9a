"""A chunk of a sample file becomes a block: arrays in the arena that every worker can read.

Rules: the region is reserved by the daemon for the largest block that the chunk can give, and backed
by memory here for what the block really needs. Parts of blocks are gathered without a copy when
one block holds them all.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from kernels.contract import Array, Layout, Sparse
from kernels.learner import Rows
from kernels.sparse import joined
from service import formats
from service.core.errors import FileRefused
from service.core.sent import sent
from service.formats.contract import BadRow, Block, Chunk, Fields, RowRules, Source
from service.formats.frames import pl
from service.runtime.arena import Region, arrays, back, size_of


@sent
@dataclass(frozen=True, slots=True)
class StoredBlock:
    """A decoded chunk in the arena, and what became of the chunk's rows."""

    region: Region
    layout: Layout
    rows: int
    rows_seen: int
    unlabelled: int
    rejected: int
    first_bad: tuple[BadRow, ...]
    lines: int
    missing: Mapping[str, int]


class Packed(NamedTuple):
    """A block on its way into the arena: its arrays, and the bytes that they need there."""

    block: Block
    stored: Mapping[str, Array]
    layout: Layout
    size: int


@sent
@dataclass(frozen=True, slots=True)
class Part:
    """Rows [start, stop) of a stored block; `first_row` is the file's number of its chunk's first row."""

    region: Region
    layout: Layout
    start: int
    stop: int
    first_row: int

    @property
    def rows(self) -> int:
        return self.stop - self.start


CARRIED_BYTES = 64 << 20
"""The most that the columns of id, time and text of one chunk may hold, as text or as its words' slots."""
_BY_ROW = ("x", "y", "w", "offset")


def room(source: Source, chunk: Chunk, fields: Fields) -> int:
    """Bytes that the chunk's block surely fits in; only what it needs is backed by memory."""
    carries = fields.id is not None or fields.time is not None or bool(fields.hashed.text)
    return formats.block_bytes(source, chunk, fields) + 64 * 6 + (CARRIED_BYTES if carries else 0)


def decode(
    source: Source, chunk: Chunk, fields: Fields, rules: RowRules, region: Region
) -> StoredBlock:
    """Decodes a chunk into `region`; raises FileRefused when the file's structure is broken."""
    return store(formats.decode(source, chunk, fields, rules), region, source.name, chunk.index)


def store(block: Block, region: Region, name: str, chunk: int = 0) -> StoredBlock:
    """Copies the block of a file's chunk into `region`; raises FileRefused where it is larger."""
    packed = pack(block)
    if packed.size > region.length:
        raise FileRefused(
            f"the columns of id, time and text hold at most {CARRIED_BYTES} bytes in a chunk",
            place=name,
            value=f"{packed.size} bytes with the rows of chunk {chunk}",
            remedy="leave them out, or shorten their values",
        )
    back(region, packed.size)
    return put(packed, region)


def pack(block: Block) -> Packed:
    """What is stored of a block, by the names that it has there."""
    stored: dict[str, Array] = {"x": block.x, "y": block.y, "row": block.row}
    if block.w is not None:
        stored["w"] = block.w
    if block.offset is not None:
        stored["offset"] = block.offset
    if block.sparse is not None:
        starts, slots, values = block.sparse
        stored |= {"starts": starts, "slots": slots, "values": values}
    if block.carried:
        stored["carried"] = _packed(pl.DataFrame(block.carried))
    layout = {name: (array.shape, array.dtype.str) for name, array in stored.items()}
    return Packed(block, stored, layout, size_of(layout))


def put(packed: Packed, region: Region) -> StoredBlock:
    """Copies a packed block into `region`, which has memory."""
    block = packed.block
    for name, place in arrays(region, packed.layout).items():
        place[...] = packed.stored[name]
    return StoredBlock(
        region=region,
        layout=packed.layout,
        rows=len(block.y),
        rows_seen=block.rows_seen,
        unlabelled=block.unlabelled,
        rejected=block.rejected,
        first_bad=block.first_bad,
        lines=block.lines,
        missing=block.missing,
    )


def rows_of(parts: Sequence[Part]) -> Rows:
    """The rows of consecutive parts; without such columns weights are 1 and offsets 0."""
    found = [
        {
            name: array[p.start : p.stop]
            for name, array in arrays(p.region, p.layout).items()
            if name in _BY_ROW
        }
        for p in parts
    ]
    if len(found) == 1:
        (columns,) = found
    else:
        columns = {name: np.concatenate([one[name] for one in found]) for name in found[0]}
    y, w, offset = columns["y"], columns.get("w"), columns.get("offset")
    w = np.ones(len(y)) if w is None else w
    offset = np.zeros(len(y)) if offset is None else offset
    return Rows(columns["x"], y, w, offset, _sparse(parts))


def entries(parts: Sequence[Part]) -> int:
    """A bound on the entries of sparse rows in these parts: those of their whole blocks."""
    return sum(p.layout["slots"][0][0] for p in parts if "slots" in p.layout)


def _sparse(parts: Sequence[Part]) -> Sparse | None:
    """What is sparse of consecutive parts; None where the job has no slots."""
    if "slots" not in parts[0].layout:
        return None
    found = []
    for p in parts:
        whole = arrays(p.region, p.layout)
        rows = Sparse(whole["starts"], whole["slots"], whole["values"])
        found.append(rows.slice(p.start, p.stop))
    return found[0] if len(found) == 1 else joined(found)


def weights(parts: Sequence[Part]) -> Array | None:
    """The weights of consecutive parts; None without a weight column."""
    return gather(parts, "w") if "w" in parts[0].layout else None


def offsets(parts: Sequence[Part]) -> Array | None:
    """The offsets of consecutive parts; None where the job has neither offset nor exposure."""
    return gather(parts, "offset") if "offset" in parts[0].layout else None


def gather(parts: Sequence[Part], name: str) -> Array:
    """One array of consecutive parts, a view when there is a single part."""
    views = [arrays(p.region, p.layout)[name][p.start : p.stop] for p in parts]
    return views[0] if len(views) == 1 else np.concatenate(views)


def file_rows(parts: Sequence[Part]) -> Array:
    """Which of the file's data rows these are, counted from 0."""
    rows = [arrays(p.region, p.layout)["row"][p.start : p.stop] + p.first_row for p in parts]
    return rows[0] if len(rows) == 1 else np.concatenate(rows)


def carried(parts: Sequence[Part]) -> pl.DataFrame:
    """The `id` and `time` columns of consecutive parts, as text; a frame without columns where there are none."""
    frames = [
        pl.read_ipc_stream(arrays(p.region, p.layout)["carried"].tobytes())[p.start : p.stop]
        for p in parts
        if "carried" in p.layout
    ]
    return pl.concat(frames) if frames else _nothing()


@cache
def _nothing() -> pl.DataFrame:
    """Made once: it takes as long as a small file's few rows."""
    return pl.DataFrame()


def _packed(frame: pl.DataFrame) -> Array:
    """As a stream of Arrow: what polars does for its file format first, it does with a plan and threads, thirty times as long."""
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer)
    return np.frombuffer(buffer.getvalue(), np.uint8)
