"""Columns that are not numbers: each name, word and product in the slot that its hash says, whatever the format."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from kernels.sparse import joined
from service.core.errors import FileRefused
from service.formats import (
    Fields,
    RowRules,
    Survey,
    decode,
    features_of,
    names,
    placed,
    prepare,
    refusal,
    unused_of,
)
from service.formats.cells import cell_hashes
from service.formats.contract import Gaps, Hashed
from service.formats.hashing import hash_of

CHECKOUT = Path(__file__).parents[2]
BITS = 20
MASK = (1 << BITS) - 1
TABLE: dict[str, list[Any]] = {
    "y": [1.0, 0.0, 1.0, 0.0],
    "town": ["Ulm", " Bonn ", "", "Ulm"],
    "hour": [7, 23, 7, 0],
    "size": [1.5, 2.0, -0.5, 0.0],
    "note": ["Not good, NOT bad", "gut_so Äß", None, "-- !"],
}
HASHED = Hashed(BITS, ("town", "hour"), ("note",), 2, (("town", "hour"), ("size", "town")))
Read = Callable[..., list[dict[int, float]]]


def _csv(table: dict[str, list[Any]]) -> bytes:
    return pl.DataFrame(table).write_csv().encode()


def _jsonl(table: dict[str, list[Any]]) -> bytes:
    rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    return "\n".join(
        json.dumps(row, ensure_ascii=i % 2 == 0) for i, row in enumerate(rows)
    ).encode()


def _fields(hashed: Hashed = HASHED, **parts: Any) -> Fields:
    return Fields(label="y", hashed=hashed, **parts)


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """read(content, fields, name, chunk_bytes) -> the sparse rows; raises FileRefused for the first bad one."""

    def reads(
        content: bytes,
        fields: Fields | None = None,
        name: str = "t.csv",
        chunk_bytes: int = 1 << 20,
    ) -> list[dict[int, float]]:
        fields = fields or _fields()
        (tmp_path / "file").write_bytes(content)
        source = prepare(tmp_path / "file", name, tmp_path / "scratch", fields)
        blocks = [decode(source, c, fields, RowRules()) for c in Survey(source, chunk_bytes)]
        for block in blocks:
            for bad in block.first_bad:
                raise refusal(source, placed(source, bad, 0, 0))
        rows = joined([block.sparse for block in blocks if block.sparse is not None])
        return [
            dict(zip(rows.slots[a:b].tolist(), rows.values[a:b].tolist(), strict=True))
            for a, b in zip(rows.starts[:-1], rows.starts[1:], strict=True)
        ]

    return reads


def _of(column: str, *words: str) -> int:
    """The hash of a name or a run of words, from the formula."""
    found = hash_of(column)
    for word in words:
        found = hash_of(word, found)
    return found


def _pair(one: int, other: int) -> int:
    data = np.frombuffer(one.to_bytes(4, "little") + other.to_bytes(4, "little"), np.uint8)
    return int(cell_hashes(data, np.array([8]), 0)[0])


def _slots(entries: dict[int, float]) -> dict[int, float]:
    return {
        slot & MASK: value for slot, value in sorted(entries.items(), key=lambda e: e[0] & MASK)
    }


def test_names_words_and_products_have_the_slots_of_the_formula(read: Read) -> None:
    first, second, third, _ = read(_csv(TABLE))
    ulm, seven = _of("town", "Ulm"), _of("hour", "7")
    assert first == _slots(
        {
            ulm: 1.0,
            seven: 1.0,
            _pair(ulm, seven): 1.0,
            _pair(hash_of("size"), ulm): 1.5,
            _of("note", "not"): 2.0,
            _of("note", "good"): 1.0,
            _of("note", "bad"): 1.0,
            _of("note", "not", "good"): 1.0,
            _of("note", "good", "not"): 1.0,
            _of("note", "not", "bad"): 1.0,
        }
    )
    words = {_of("note", "gut_so"), _of("note", "Äß"), _of("note", "gut_so", "Äß")}
    assert {word & MASK for word in words} <= second.keys()
    assert _of("town", "Bonn") & MASK in second
    assert third[_of("town", "") & MASK] == 1.0


def test_a_product_that_is_0_takes_no_slot(read: Read) -> None:
    fourth = read(_csv(TABLE))[3]
    assert len(fourth) == 3  # two names and their pair: the size is 0, and the note has no word


@pytest.mark.parametrize("chunk_bytes", [1, 40])
def test_formats_chunks_and_the_order_of_columns_change_nothing(
    read: Read, tmp_path: Path, chunk_bytes: int
) -> None:
    expected = read(_csv(TABLE))
    turned = dict(reversed(TABLE.items()))
    pl.DataFrame(TABLE).write_parquet(tmp_path / "table.parquet")
    parquet = (tmp_path / "table.parquet").read_bytes()
    assert read(_csv(TABLE), chunk_bytes=chunk_bytes) == expected
    assert read(_csv(turned)) == expected
    assert read(_jsonl(TABLE), name="t.jsonl", chunk_bytes=chunk_bytes) == expected
    assert read(parquet, name="t.parquet", chunk_bytes=chunk_bytes) == expected


def test_the_features_that_hold_names_are_found_in_the_first_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"y,a,b,c,d\n1,2,x,NA,1e3\n0,?,3,,yes\n")
    fields = Fields(label="y", gaps=Gaps("zero", ("NA", "?")))
    source = prepare(path, "t.csv", tmp_path / "scratch", fields)
    assert names(source, fields) == ("b", "d")
    assert names(source, Fields(label="y", features=("a", "d"))) == ("a", "d")


@pytest.mark.parametrize(("odd", "found"), [(1, ()), (2, ("c",))])
def test_a_column_is_names_where_more_than_one_in_ten_values_are_no_numbers(
    tmp_path: Path, odd: int, found: tuple[str, ...]
) -> None:
    path = tmp_path / "file"
    cells = ["12.l"] * odd + ["1.5"] * (10 - odd) + [""] * 90
    path.write_text("y,c\n" + "".join(f"1,{cell}\n" for cell in cells))
    source = prepare(path, "t.csv", tmp_path / "scratch", Fields("y"))
    assert names(source, Fields("y")) == found


@pytest.mark.parametrize(("row", "found"), [(999, ("c",)), (1000, ())])
def test_the_first_thousand_rows_are_looked_at_however_long_they_are(
    tmp_path: Path, row: int, found: tuple[str, ...]
) -> None:
    path = tmp_path / "file"
    cells = ["1.5" if i == row else "" for i in range(1200)]
    path.write_text("y,c,note\n" + "".join(f"1,{c and 'x'},{'n' * 500}\n" for c in cells))
    source = prepare(path, "t.csv", tmp_path / "scratch", Fields("y"))
    assert names(source, Fields("y", features=("c",))) == found


@pytest.mark.parametrize(
    ("name", "content", "remedy"),
    [
        ("t.csv", "a;c;y\n0,5;n1;1\n1;n2;2\n1,5;n1;3\n", 'set csv.decimal = ","'),
        ("t.jsonl", '{"a":"0,5","c":"n","y":1}\n{"a":"1,5","c":"n","y":2}\n', "write it as 1234.5"),
    ],
)
def test_numbers_with_another_decimal_sign_are_no_names(
    tmp_path: Path, name: str, content: str, remedy: str
) -> None:
    path = tmp_path / "file"
    path.write_text(content)
    source = prepare(path, name, tmp_path / "scratch", Fields("y"))
    with pytest.raises(FileRefused, match="numbers with a comma") as caught:
        names(source, Fields("y"))
    assert caught.value.refusal.place == f"{name}: column a"
    assert caught.value.refusal.value == "0,5"
    assert caught.value.refusal.remedy.startswith(remedy)


MANY = range(1000, 1040)
DISGUISES = {
    "percent": ([f"{i}%" for i in MANY], "numbers that are written otherwise", "write it as 1234.5"),
    "thousands": (
        [f"{i // 1000},{i % 1000:03},000" for i in MANY], "numbers that are written otherwise", "write it as 1234.5, without anything between",
    ),
    "behind": ([f"0.{i}-" for i in MANY], "numbers that are written otherwise", "write a number below zero as -1234.5"),
    "money": ([f"$ {i}.5" for i in MANY], "numbers that are written otherwise", "write it as 1234.5"),
    "dates": ([f"2024-0{i % 9 + 1}-{i % 28 + 1:02}" for i in MANY], "dates and times", "name the column in `times`"),
    "few dates": (["2024-05-01", "2024-05-02", "2024-05-03"], "dates and times", "name the column in `times`"),
    "days": ([f"{i % 28 + 1}/{i % 9 + 1}/2024 12:30" for i in MANY], "dates and times", "write times as"),
    "marks": ([r"\N" if i % 4 == 0 else str(i) for i in MANY], "numbers, beside at most 3 words", "add it to missing.values"),
}  # fmt: skip


@pytest.mark.parametrize("called", DISGUISES)
def test_numbers_and_times_in_disguise_are_no_names_unless_the_settings_say_so(
    read: Read, tmp_path: Path, called: str
) -> None:
    cells, rule, remedy = DISGUISES[called]
    data = "y;c\n" + "".join(f'1;"{cell}"\n' for cell in cells)
    (tmp_path / "file").write_text(data)
    fields = Fields("y", gaps=Gaps("mean"))
    source = prepare(tmp_path / "file", "t.csv", tmp_path / "scratch", fields)
    with pytest.raises(FileRefused, match=rule) as caught:
        names(source, fields)
    assert caught.value.refusal.value == cells[0]
    assert caught.value.refusal.remedy.startswith(remedy)
    assert "hashing.categorical" in caught.value.refusal.remedy
    assert len(read(data.encode(), _fields(Hashed(BITS, ("c",))))) == len(cells)


@pytest.mark.parametrize(
    "cells",
    [
        ["5%", "10%", "5%", "20%"] * 20,
        ["2024-05-01", "2024-06-01"] * 20,
        [f"{i}" if i % 4 else f"PC {i}" for i in MANY],  # numbers of tickets
        [f"{i} AB" for i in MANY],
        [f"10.0.{i % 200}.{i % 7}" for i in MANY],
        ["1", "2", "3", "unknown"] * 10,
        [f"shop {i}" for i in MANY],
    ],
)
def test_codes_are_names_whatever_they_look_like(tmp_path: Path, cells: list[str]) -> None:
    (tmp_path / "file").write_text("y,c\n" + "".join(f"1,{cell}\n" for cell in cells))
    source = prepare(tmp_path / "file", "t.csv", tmp_path / "scratch", Fields("y"))
    assert names(source, Fields("y")) == ("c",)


def test_a_file_without_a_hashed_column_is_refused(read: Read) -> None:
    table = {name: cells for name, cells in TABLE.items() if name != "note"}
    with pytest.raises(FileRefused, match="hashed column note"):
        read(_csv(table))


def test_a_pair_of_an_unknown_column_is_refused(read: Read) -> None:
    hashed = Hashed(BITS, ("town",), ("note",), 1, (("town", "street"),))
    with pytest.raises(FileRefused, match="a pair is one of features"):
        read(_csv(TABLE), _fields(hashed))


def test_a_product_that_is_too_large_is_a_bad_row(read: Read) -> None:
    table = TABLE | {"size": [1.0, 1e39, 1.0, 1.0]}
    with pytest.raises(FileRefused, match="a product of features is a finite number"):
        read(_csv(table))


def test_a_missing_number_is_worth_nothing_in_a_product(read: Read) -> None:
    table = TABLE | {"size": ["1.5", "", "-0.5", "0"]}
    rows = read(_csv(table), _fields(gaps=Gaps("mean")))
    assert _pair(hash_of("size"), _of("town", "Bonn")) & MASK not in rows[1]
    assert rows[0] == read(_csv(TABLE))[0]


def test_only_columns_without_a_part_are_counted_as_unused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"y,town,at,note,size,more\n1,Ulm,2024-05-01,x,2,3\n")
    times, hashed = (("at", ("hour",)),), Hashed(BITS, ("town", "at hour"), ("note",))
    fields = _fields(hashed, features=("town", "note", "at", "size"), times=times)
    source = prepare(tmp_path / "file", "t.csv", tmp_path / "scratch", fields)
    assert features_of(source, fields) == ("size",)
    assert unused_of(source, fields) == 1


LONG = """
import resource, sys
from service.formats import Fields, Survey, decode, prepare
from service.formats import cells
from service.formats.contract import Hashed
import polars
fields = Fields("y", hashed=Hashed(20, tuple(sys.argv[2:3]), tuple(sys.argv[3:])))
source = prepare(sys.argv[1], "t.parquet", "unused", fields)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
(chunk,) = Survey(source, 4 << 20)
assert len(decode(source, chunk, fields).sparse.slots) == 2 * 30
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before >> 10)
"""


def test_text_that_many_rows_share_is_never_copied_for_all_of_them(tmp_path: Path) -> None:
    texts = pl.Series(["q" * (7 << 20)]).new_from_index(0, 30)
    path = tmp_path / "t.parquet"
    pl.DataFrame({"y": [1.0] * 30, "a": texts, "b": texts}).write_parquet(path)
    assert path.stat().st_size < 1 << 20
    command = [sys.executable, "-c", LONG, str(path), "a", "b"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=CHECKOUT)
    assert int(run.stdout) < 300  # MB, where the rows hold 420 of text


@pytest.mark.parametrize("used", [Hashed(BITS, ("a",)), Hashed(BITS, (), ("a",)), Hashed()])
def test_a_row_of_parquet_has_as_much_text_as_any_other(
    read: Read, tmp_path: Path, used: Hashed
) -> None:
    texts = ["q" * (9 << 20), "q" * 10]
    frame = pl.DataFrame({"y": [1.0, 2.0], "a": texts, "b": texts[::-1], "k": texts})
    frame.write_parquet(tmp_path / "t")
    data = (tmp_path / "t").read_bytes()
    with pytest.raises(FileRefused, match="a row has at most 16777216 bytes"):
        read(data, _fields(used, features=("a",), id="k"), "t.parquet")
