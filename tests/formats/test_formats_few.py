"""Few cells are looked at one by one, many by polars: what comes of them is the same."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.core.errors import FileRefused
from service.formats import Fields, Gaps, Limits, RowRules, Survey, decode, frames, prepare, values
from service.formats.contract import Dialect
from service.formats.features import numbers_or_gaps
from tests.formats.damage import SEEDS, SPARSE_SEEDS, fields_of, mutated, renumbered

COUNT = int(os.environ.get("HEADRACE_MUTATIONS", "150"))
FILES = [name for name in SEEDS | SPARSE_SEEDS if name != "t.parquet"]


@contextmanager
def _cells_by_polars() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "FEW_CELLS", -1)
        yield


def _alike(told: Callable[[], object]) -> object:
    """What is told of few cells, which is told of many."""
    few = told()
    with _cells_by_polars():
        many = told()
    assert few == many
    return few


def _all_that_is_told(path: Path, name: str, fields: Fields) -> str:
    """Every bit of a file's blocks, and every word of its notes."""
    told: list[Any] = []
    try:
        source = prepare(path, name, path.with_name("scratch"), fields, Limits())
        for chunk in Survey(source, 4 << 20):
            block = decode(source, chunk, fields, RowRules(notes=100))
            arrays = (block.x, block.y, block.w, block.offset, block.row, *(block.sparse or ()))
            told += [None if a is None else (a.shape, a.tobytes()) for a in arrays]
            told += [(key, cells.to_list()) for key, cells in (block.carried or {}).items()]
            told += [block.rows_seen, block.unlabelled, block.rejected, block.first_bad]
            told += [block.lines, block.missing]
    except FileRefused as refused:
        told.append(refused.refusal)
    return repr(told)


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_told_alike(tmp_path, name):
    path = tmp_path / "1"
    for seed in range(COUNT):
        chance = random.Random(f"{name} few {seed}")
        data = (SEEDS | SPARSE_SEEDS)[name]
        data = data if name.endswith(".npz") else renumbered(data, chance)
        data = mutated(data, chance)
        path.write_bytes(data)
        _alike(lambda: _all_that_is_told(path, name, fields_of(name)))


PIECES = ["1", "-2.5", "1,5", "1e999", "nan", "٣", "é", "K", "p", "TRUE", "NA", " ", "\t", "\r"]
MARKS = {"t.csv": [",", ",", "\n", "\n", '"', '""', '"a"', '"a,b"', '"\n"', "\r\n", "\ufeff"]}
MARKS["t.jsonl"] = [
    "{",
    "}",
    "\n",
    "[",
    '"',
    ":",
    ",",
    '"a":1',
    '{"a":1.0,"k":"x","y":2}\n',
    "\\",
    "\ufeff",
]
BEGINS = {"t.csv": "a,k,y\n", "t.jsonl": '{"a":5,"k":"p","y":6}\n'}


@pytest.mark.parametrize("name", BEGINS)
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_text_of_any_kind_is_told_alike(tmp_path_factory, name, data):
    pieces = data.draw(st.lists(st.sampled_from(PIECES + MARKS[name]), max_size=30))
    gaps = data.draw(st.sampled_from([Gaps(), Gaps("zero", ("na", "5"))]))
    dialect = data.draw(st.sampled_from([Dialect(), Dialect(quote=""), Dialect(";", decimal=",")]))
    begin = BEGINS[name].replace(",", ";") if dialect.decimal == "," else BEGINS[name]
    text = "".join(pieces).replace(",", ";") if data.draw(st.booleans()) else "".join(pieces)
    path = tmp_path_factory.getbasetemp() / "few"
    path.write_bytes((begin + text).encode())
    fields = Fields("y", id="k", gaps=gaps, dialect=dialect)
    _alike(lambda: _all_that_is_told(path, name, fields))


ROWS = st.lists(
    st.lists(st.text(st.sampled_from('ab1., \n"é\r\ufeff'), max_size=4), min_size=3, max_size=3),
    min_size=1,
    max_size=8,
)


@settings(max_examples=300, deadline=None)
@given(ROWS, st.booleans(), st.sampled_from(["\n", "\r\n"]), st.sampled_from(["", ",", ",,", "\r"]))
@example([["\ufeff1", "x", "2"]], False, "\n", "")
def test_cells_of_csv_are_cut_alike(tmp_path_factory, rows, is_quoted, end, trailing):
    def cell(text: str) -> str:
        quoted = is_quoted or any(mark in text for mark in ',"\n\r')
        return '"' + text.replace('"', '""') + '"' if quoted else text

    lines = [",".join(map(cell, row)) + trailing for row in rows]
    path = tmp_path_factory.getbasetemp() / "few"
    path.write_bytes(f"a,k,y{end}{end.join(lines)}".encode())
    fields = Fields("y", ("a",), id="k", labels="class", classes=("a", "b", 1))
    _alike(lambda: _all_that_is_told(path, "t.csv", fields))


NUMBERS = ["1", "+1.", ".5e3", "1_0", "0x1", "inf", "-Infinity", "NaN", "٣", "1e", "1\t", "1,5"]
WORDS = ["", " ", "TRUE", "False ", "None", "\u212a", "İ", "ſ", "n/a", "N/A", "\xa01", "é"]
CELLS = st.none() | st.sampled_from([*NUMBERS, *WORDS]) | st.text(max_size=3)


@settings(max_examples=300, deadline=None)
@given(st.lists(CELLS, max_size=12), st.sampled_from([(), ("n/a", "k", "1", "é")]))
def test_a_column_of_text_is_judged_alike(cells, missing):
    column = pl.Series("^a.*$", cells, dtype=pl.String)
    fields = Fields("y", gaps=Gaps("zero", missing))

    def told() -> object:
        found, gap, no_number = numbers_or_gaps(column, fields)
        numbers = values.numbers(column)
        names, which = values.told_apart(column)
        places = np.flatnonzero(~values.absent(column))
        return (
            [a.tobytes() for a in (found, gap, no_number, *numbers)],
            [names[place] for place in which.tolist()],
            values.label_keys(column.alias("").drop_nulls()),
            values.stripped(column).to_list(),
            values.or_null(column).to_list(),
            values.absent(column).tolist(),
            values.words_at(column, places).to_list(),
        )

    _alike(told)
