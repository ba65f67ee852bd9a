"""Dates and times become the numbers, or the names, of the parts that the settings ask for."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from service.core.errors import FileRefused
from service.formats import (
    Block,
    Fields,
    RowRules,
    Survey,
    decode,
    features_of,
    placed,
    prepare,
    refusal,
)
from service.formats.contract import Gaps, Hashed
from service.formats.hashing import hash_of

TIMES = (("at", ("year", "hour", "weekday")),)
TEXT = b"""y,at,a
1,2011-01-01,3
0,2012-02-29 23:15,4
1, 2012-12-31T00:00:09.5Z ,5
0,2024-05-01 13:00:00+02:00,6
"""
PARTS = [[2011, 0, 6], [2012, 23, 3], [2012, 0, 1], [2024, 13, 3]]


def _block(tmp_path: Path, content: bytes, fields: Fields, name: str = "t.csv") -> Block:
    (tmp_path / "file").write_bytes(content)
    source = prepare(tmp_path / "file", name, tmp_path / "scratch", fields)
    (block,) = [decode(source, chunk, fields, RowRules()) for chunk in Survey(source, 1 << 20)]
    if block.first_bad:
        raise refusal(source, placed(source, block.first_bad[0], 0, 0))
    return block


def _fields(**parts: object) -> Fields:
    return Fields(label="y", times=TIMES, **parts)  # type: ignore[arg-type]


def test_parts_stand_where_their_column_stood(tmp_path: Path) -> None:
    block = _block(tmp_path, TEXT, _fields())
    assert block.x[:, :3].tolist() == PARTS
    assert block.x[:, 3].tolist() == [3, 4, 5, 6]
    source = prepare(tmp_path / "file", "t.csv", tmp_path / "scratch", _fields())
    names = ("at year", "at hour", "at weekday", "a")
    assert features_of(source, _fields()) == names
    learnt = _block(tmp_path, TEXT, _fields(features=names))
    assert learnt.x.tobytes() == block.x.tobytes()
    chosen = _block(tmp_path, TEXT, _fields(features=("a", "at")))
    assert chosen.x[:, 0].tolist() == [3, 4, 5, 6]


def test_a_column_of_times_may_be_the_rows_time_too(tmp_path: Path) -> None:
    block = _block(tmp_path, TEXT, _fields(time="at"))
    assert block.x[:, :3].tolist() == PARTS
    assert (block.carried or {})["time"][0] == "2011-01-01"


def test_dates_of_a_parquet_file_are_the_same(tmp_path: Path) -> None:
    days = [datetime.datetime(2011, 1, 1), datetime.datetime(2012, 2, 29, 23, 15)]
    pl.DataFrame({"y": [1.0, 0.0], "at": days, "a": [3, 4]}).write_parquet(tmp_path / "p")
    block = _block(tmp_path, (tmp_path / "p").read_bytes(), _fields(), "t.parquet")
    assert block.x[:, :3].tolist() == PARTS[:2]


def test_a_missing_time_is_a_gap_in_each_part(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match="a feature has a value in every row"):
        _block(tmp_path, TEXT + b"1,,7\n", _fields())
    block = _block(tmp_path, TEXT + b"1,,7\n", _fields(gaps=Gaps("mean")))
    assert np.isnan(block.x[4]).tolist() == [True, True, True, False]
    assert block.missing == {"at year": 1, "at hour": 1, "at weekday": 1}


@pytest.mark.parametrize("value", [b"yesterday", b"2011.02.30", b"2011-01-01 2", b"7"])
def test_what_is_no_time_refuses_with_its_row(tmp_path: Path, value: bytes) -> None:
    with pytest.raises(FileRefused) as caught:
        _block(tmp_path, TEXT + b"1," + value + b",7\n", _fields())
    why = caught.value.refusal
    assert (why.rule, why.value) == (
        "a time is written as 2024-05-01, or 2024-05-01 13:30:00",
        value.decode(),
    )
    assert "row 4, column at" in why.place


def test_parts_may_be_names(tmp_path: Path) -> None:
    fields = _fields(hashed=Hashed(18, ("at weekday",)))
    block = _block(tmp_path, TEXT, fields)
    assert block.x[:, :2].tolist() == [part[:2] for part in PARTS]
    assert block.sparse is not None
    expected = [hash_of(str(part[2]), hash_of("at weekday")) % 2**18 for part in PARTS]
    assert block.sparse.slots.tolist() == expected


def test_a_file_without_the_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match="timed column at"):
        _block(tmp_path, b"y,a\n1,2\n", _fields())
