"""Reads whole files through the formats, as the daemon does: prepare, survey, decode each chunk."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from service.core.errors import FileRefused
from service.formats import (
    Fields,
    Limits,
    RowRules,
    Source,
    Survey,
    decode,
    frames,
    placed,
    prepare,
)
from service.formats.contract import BadRow
from tests.formats.whole import Whole, whole


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


@pytest.fixture(scope="module", params=["few", "many"])
def as_few_and_many(request: pytest.FixtureRequest) -> Iterator[None]:
    """Runs a module's tests twice: its small files as they are read, and as if they had many cells."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "many":
            patch.setattr(frames, "FEW_CELLS", -1)
        yield


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


@pytest.fixture
def refused_at_first(tmp_path: Path) -> Callable[[bytes, str, Fields], BadRow]:
    """refused_at_first(content, name, fields) -> the first bad row of a file's first chunk."""

    def first(content: bytes, name: str, fields: Fields) -> BadRow:
        path = tmp_path / "0000000002"
        path.write_bytes(content)
        source = prepare(path, name, tmp_path / "scratch", fields)
        with closing(Survey(source, 4 << 20)) as survey:
            return decode(source, next(survey), fields).first_bad[0]

    return first
