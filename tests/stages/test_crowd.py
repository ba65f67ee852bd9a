"""Where a hundred jobs take turns at the workers, a file's first chunk is larger: each chunk is one more turn."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from service.formats import Fields, prepare
from service.stages import decode


@pytest.mark.parametrize(("is_crowded", "first_bytes"), [(False, 1 << 16), (True, 1 << 20)])
def test_the_first_chunk_goes_by_how_many_jobs_there_are(
    tmp_path: Path, is_crowded: bool, first_bytes: int
) -> None:
    (tmp_path / "t.csv").write_bytes(b"a,y\n" + b"1234567,1\n" * 200_000)
    source = prepare(tmp_path / "t.csv", "t.csv", tmp_path / "scratch", Fields("y"))
    file = object.__new__(decode._File)  # what it surveys with is all that it needs here
    file.line = SimpleNamespace(conduct=SimpleNamespace(chunk_bytes=4 << 20))  # type: ignore[assignment]
    file.dispatcher = SimpleNamespace(is_crowded=is_crowded)  # type: ignore[assignment]
    survey = file._survey(source)
    chunk = next(survey)
    survey.close()
    assert first_bytes - 10 < chunk.stop - chunk.start <= first_bytes
