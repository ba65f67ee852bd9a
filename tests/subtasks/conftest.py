"""A bench for each test, and the way to the module that the tests share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.core.records import Subject
from service.formats.contract import Fields
from service.runtime.arena import Arena

sys.path.append(str(Path(__file__).parent))

from subtask_bench import FIELDS, SUBJECT, Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Arena() as arena:
        yield Bench(arena, tmp_path)


@pytest.fixture
def fields() -> Fields:
    """Those of the file that `table` gives: classes 0 and 1 in the column y."""
    return FIELDS


@pytest.fixture
def subject() -> Subject:
    return SUBJECT


@pytest.fixture
def table() -> bytes:
    """A hundred rows of a, b and y."""
    rows = (f"{i * 37 % 101},{(i * 53 % 89) / 8},{i % 2}" for i in range(100))
    return ("a,b,y\n" + "\n".join(rows) + "\n").encode()
