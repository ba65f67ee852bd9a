"""Reads whole files through the formats, as the daemon does: prepare, survey, decode each chunk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from service.core.errors import FileRefused
from service.formats import Block, Fields, Limits, RowRules, Source, Survey, decode, placed, prepare
from service.formats.contract import Floats, Integers


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

    def bits(self) -> tuple[object, ...]:
        """Everything that must be equal to the last bit, whatever the format or the chunks."""
        w = None if self.w is None else self.w.tobytes()
        arrays = (self.x.shape, self.x.tobytes(), self.y.tobytes(), w, self.row.tobytes())
        return (*arrays, self.carried, self.rows_seen, self.unlabelled, self.rejected)


def whole(source: Source, fields: Fields, chunk_bytes: int) -> Whole:
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
    weights = [b.w for b in blocks if b.w is not None]
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
    )


@pytest.fixture(scope="session")
def read_whole() -> Callable[[Source, Fields, int], Whole]:
    """read_whole(source, fields, chunk_bytes) -> Whole, of a prepared source."""
    return whole


@pytest.fixture(scope="session")
def lines_of_bad_rows() -> Callable[[Source, Fields, int], list[int | None]]:
    """lines_of_bad_rows(source, fields, chunk_bytes) -> the file's line of each bad row."""

    def lines_of(source: Source, fields: Fields, chunk_bytes: int) -> list[int | None]:
        found, rows, lines = [], 0, 0
        for chunk in Survey(source, chunk_bytes):
            block = decode(source, chunk, fields, RowRules(notes=100))
            found += [placed(source, bad, rows, lines) for bad in block.first_bad]
            rows, lines = rows + block.rows_seen, lines + block.lines
        return [bad.line for bad in found]

    return lines_of


Read = Callable[..., Whole]
Refused = Callable[..., FileRefused]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """read(content, name, fields, chunk_bytes=4 MiB) -> Whole; content may be a path."""

    def reads(
        content: bytes | Path,
        name: str,
        fields: Fields,
        chunk_bytes: int = 4 << 20,
        limits: Limits | None = None,
    ) -> Whole:
        path = tmp_path / "0000000001"
        path = content if isinstance(content, Path) else path
        if isinstance(content, bytes):
            path.write_bytes(content)
        source = prepare(path, name, tmp_path / "scratch", fields, limits or Limits())
        return whole(source, fields, chunk_bytes)

    return reads


@pytest.fixture
def refused(read: Read) -> Refused:
    """refused(content, name, fields, ...) -> the FileRefused that reading raises; its texts are checked to be safe."""

    def refuses(*args: object, **kwargs: object) -> FileRefused:
        with pytest.raises(FileRefused) as caught:
            read(*args, **kwargs)
        for text in (caught.value.refusal.value, str(caught.value)):
            assert text.isprintable()
        assert len(caught.value.refusal.value) <= 80
        assert caught.value.refusal.remedy
        return caught.value

    return refuses
