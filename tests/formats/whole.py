"""A sample file read whole, as the daemon reads it: prepare, survey, decode each chunk; and what must be equal of it.

Rules: `outcome` is the one judgement of a file that anybody may have written: it is read, or refused with a text that can be
shown, and nothing else is raised.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kernels.contract import Sparse
from kernels.sparse import joined
from service.core.errors import FileRefused
from service.formats import (
    Block,
    Fields,
    Limits,
    RowRules,
    Source,
    Survey,
    block_bytes,
    decode,
    prepare,
)
from service.formats.contract import Floats, Integers
from service.formats.wording import LONGEST

CHUNK_SIZES = (4 << 20, 1, 60)
REFUSED = "refused"


@dataclass(frozen=True)
class Whole:
    """All blocks of a file in one, rows counted from the file's start."""

    source: Source
    x: Floats
    y: Floats
    w: Floats | None
    row: Integers
    carried: dict[str, list[str | None]]
    rows_seen: int
    unlabelled: int
    rejected: int
    bad: list[tuple[int, str, str, str]]
    missing: dict[str, int]
    sha256: str | None
    offset: Floats | None = None
    sparse: Sparse | None = None

    def bits(self) -> tuple[object, ...]:
        """Everything that must be equal to the last bit, whatever the format or the chunks."""
        w, offset = (None if a is None else a.tobytes() for a in (self.w, self.offset))
        arrays = (self.x.shape, self.x.tobytes(), self.y.tobytes(), w, offset, self.row.tobytes())
        sparse = [part.tobytes() for part in self.sparse or ()]
        return (*arrays, *sparse, self.carried, self.rows_seen, self.unlabelled, self.rejected)


def whole(source: Source, fields: Fields, chunk_bytes: int) -> Whole:
    """The file's blocks in one. Raises FileRefused; AssertionError for a block that breaks its contract."""
    survey = Survey(source, chunk_bytes)
    blocks: list[Block] = []
    rows, bad = [np.empty(0, np.int64)], []
    seen = 0
    for chunk in survey:
        block = decode(source, chunk, fields, RowRules(notes=100))
        bad += [(seen + b.row, b.column, b.rule, b.value) for b in block.first_bad]
        rows.append(block.row + seen)
        seen += block.rows_seen
        blocks.append(block)
        assert block.rows_seen == len(block.y) + block.unlabelled + block.rejected
        assert block.x.flags.c_contiguous
        assert block.x.dtype == block.y.dtype == np.float64
        assert np.isfinite(block.x).all() or fields.gaps.fill == "mean"
        assert not np.isinf(block.x).any()
        assert _array_bytes(block) <= block_bytes(source, chunk, fields)
    weights = [b.w for b in blocks if b.w is not None]
    offsets = [b.offset for b in blocks if b.offset is not None]
    sparse = [b.sparse for b in blocks if b.sparse is not None]
    names = [key for key, name in (("id", fields.id), ("time", fields.time)) if name is not None]
    return Whole(
        source,
        np.concatenate([b.x for b in blocks]),
        np.concatenate([b.y for b in blocks]),
        np.concatenate(weights) if weights else None,
        np.concatenate(rows),
        {n: [v for b in blocks for v in (b.carried or {})[n].to_list()] for n in names},
        seen,
        sum(b.unlabelled for b in blocks),
        sum(b.rejected for b in blocks),
        bad,
        dict(sum((Counter(b.missing) for b in blocks), Counter())),
        survey.sha256,
        np.concatenate(offsets) if offsets else None,
        joined(sparse) if sparse else None,
    )


def _array_bytes(block: Block) -> int:
    """What `block_bytes` is a bound of."""
    arrays = (block.x, block.y, block.w, block.offset, block.row, *(block.sparse or ()))
    return sum(array.nbytes for array in arrays if array is not None)


def outcome(path: Path, name: str, fields: Fields, chunk_bytes: int, limits: Limits) -> object:
    """All that is to be equal of a file, or REFUSED. Nothing but FileRefused may be raised, with a text that can be shown.

    The file's scratch is made beside it.
    """
    try:
        source = prepare(path, name, path.with_name("scratch"), fields, limits)
        got = whole(source, fields, chunk_bytes)
    except FileRefused as caught:
        refusal = caught.refusal
    else:
        return (*got.bits(), got.bad)
    for text in (str(refusal), refusal.remedy):
        assert text.isprintable(), ascii(text)
    assert len(refusal.value) <= LONGEST, refusal.value
    assert refusal.rule
    assert refusal.remedy
    return REFUSED
