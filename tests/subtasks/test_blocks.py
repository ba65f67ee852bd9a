"""Chunks become blocks in the arena, and parts of them become rows again."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from service.core.errors import FileRefused
from service.formats.contract import Fields
from service.subtasks import blocks


@pytest.mark.parametrize("chunk_bytes", [256, 300, 1 << 20])
def test_parts_give_the_rows_whatever_blocks_hold_them(
    bench: Any, table: bytes, chunk_bytes: int
) -> None:
    (whole,) = bench.decoded(table)
    parts = bench.decoded(table, chunk_bytes=chunk_bytes)
    rows = blocks.rows_of(parts)
    assert rows.x.tobytes() == blocks.rows_of([whole]).x.tobytes()
    assert rows.y.tolist() == [0.0, 1.0] * 50
    assert rows.w.tolist() == [1.0] * 100
    assert blocks.file_rows(parts).tolist() == list(range(100))
    assert blocks.weights(parts) is None


def test_one_part_is_read_without_a_copy(bench: Any, table: bytes) -> None:
    (part,) = bench.decoded(table)
    some = blocks.rows_of([replace(part, start=10, stop=20)])
    assert some.x.base is not None
    assert np.array_equal(some.x, blocks.rows_of([part]).x[10:20])


def test_carried_columns_come_with_their_rows(bench: Any, fields: Fields) -> None:
    lines = "".join(f"é{i},{i},{i % 2},t{i}\n" for i in range(60))
    data = ("key,a,y,when\n" + lines).encode()
    parts = bench.decoded(data, replace(fields, id="key", time="when"), chunk_bytes=256)
    assert len(parts) > 1
    cut = [replace(parts[0], start=3), *parts[1:-1], replace(parts[-1], stop=2)]
    found = blocks.carried(cut)
    rows = blocks.file_rows(cut).tolist()
    assert found["id"].to_list() == [f"é{row}" for row in rows]
    assert found["time"].to_list() == [f"t{row}" for row in rows]
    assert blocks.carried(bench.decoded(b"a,y\n1,0\n")).columns == []


def test_weights_are_the_columns(bench: Any, fields: Fields) -> None:
    parts = bench.decoded(b"a,w,y\n1,2,0\n3,0.5,1\n", replace(fields, weight="w"))
    assert blocks.rows_of(parts).w.tolist() == [2.0, 0.5]
    assert blocks.weights(parts).tolist() == [2.0, 0.5]
    assert blocks.rows_of(parts).x.tolist() == [[1.0], [3.0]]


def test_carried_text_beyond_its_bound_is_refused(
    bench: Any, fields: Fields, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "CARRIED_BYTES", 1000)
    table, buffer = {"key": ["k" * 900] * 9, "a": [1.0] * 9, "y": [0] * 9}, io.BytesIO()
    pl.DataFrame(table).write_parquet(buffer)
    with pytest.raises(FileRefused, match="id, time and text"):
        bench.decoded(buffer.getvalue(), replace(fields, id="key"), name="f.parquet")


@pytest.mark.parametrize("name", ["f.csv", "f.jsonl"])
def test_the_room_is_enough_for_the_shortest_rows(bench: Any, fields: Fields, name: str) -> None:
    count = 2000
    data = b"a,y\n" + b"1,0\n" * count if name == "f.csv" else b'{"a":1,"y":0}\n' * count
    for chunk_bytes in (256, 1 << 20):
        parts = bench.decoded(data, fields, chunk_bytes=chunk_bytes, name=name)
        assert sum(part.rows for part in parts) == count
