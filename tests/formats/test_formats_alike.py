"""Small CSV files that begin alike, read as one, give what each gives alone; and those that are odd are left."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.errors import FileRefused
from service.formats import (
    Block,
    Fields,
    Gaps,
    Limits,
    Read,
    Source,
    Survey,
    decode,
    prepare,
    read_alike,
    unused_of,
)
from service.formats.contract import Dialect

MOST_BYTES = 1 << 16
FIELDS = Fields("y", ("a", "b"), labels="class", classes=(0.0, 1.0))
PLAIN = b"a,b,y\n" + b"".join(b"%d.5,%d,%d\n" % (n, -n, n % 2) for n in range(9))
ALIKE = {
    "the same again": PLAIN,
    "one row": b"a,b,y\n1,2,1\n",
    "no label": PLAIN + b"1,2,\n3,4,nan\n",
    "returns in its rows": PLAIN + b"1,2,1\r\n",
    "blank lines at its end": PLAIN + b"\n\r\n",
    "quoted": PLAIN + b'"1",2,"1"\n',
    "spelled otherwise": PLAIN + b"1e-3,+4.0,1.0\n.5,5.,0\n",
}
"""Files that are read with others."""
ODD = {
    "a bad row": PLAIN + b"x,2,1\n",
    "spaces": PLAIN + b" 1 ,2,1\n",
    "an unknown class": PLAIN + b"1,2,7\n",
    "infinite": PLAIN + b"inf,2,1\n",
    "a gap": PLAIN + b",2,1\n",
    "short and long": PLAIN + b"1,2\n1,2,1,4\n",
    "short": PLAIN + b"1,2\n",
    "blank lines": PLAIN + b"\n\n1,2,1\n",
    "only delimiters": PLAIN + b",,\n",
    "other columns": PLAIN.replace(b"a,b,y", b"b,a,y"),
    "more columns": PLAIN.replace(b"\n", b",3\n").replace(b"y,3", b"y,z"),
    "a longer name": PLAIN.replace(b"a,b,y\n", b"a,b,y\n\n"),
    "too few": PLAIN.replace(b"b,", b"", 1),
    "marked": b"\xef\xbb\xbf" + PLAIN,
    "returns": PLAIN.replace(b"\n", b"\r\n"),
    "only returns": PLAIN.replace(b"\n", b"\r"),
    "utf-16": PLAIN.decode().encode("utf-16"),
    "latin-1": PLAIN + b"\xe9,2,1\n",
    "a NUL": PLAIN + b"1,2\0,1\n",
    "an open quote": PLAIN + b'"1,2,1\n',
    "a quote within": PLAIN + b'1"2,2,1\n',
    "no rows": b"a,b,y\n",
    "nothing": b"",
    "a blank line": b"\n",
    "another delimiter": PLAIN.replace(b",", b";"),
    "an array": b"\x93NUMPY\n",
    "too large": PLAIN + b"1,2,1\n" * (MOST_BYTES // 6),
}
"""Files that are read alone, if only because no other begins as they do."""


class Folder:
    """Writes files, and reads them with each other and alone."""

    def __init__(self, path: Path, fields: Fields, suffix: str = ".csv") -> None:
        self.path = path
        self.fields = fields
        self.suffix = suffix

    def together(self, contents: list[bytes]) -> list[Read | None]:
        paths = [str(self._write(number, data)) for number, data in enumerate(contents)]
        names = [f"{number}{self.suffix}" for number in range(len(contents))]
        return read_alike(
            paths, names, self.fields, MOST_BYTES, lambda number: self._prepared(number)
        )

    def alone(self, number: int) -> tuple[Source, str | None, list[Block]]:
        source = self._prepared(number)
        survey = Survey(source, 1 << 20)
        blocks = [decode(source, chunk, self.fields) for chunk in survey]
        return source, survey.sha256, blocks

    def _write(self, number: int, data: bytes) -> Path:
        path = self.path / str(number)
        path.write_bytes(data)
        return path

    def _prepared(self, number: int) -> Source:
        name, scratch = f"{number}{self.suffix}", self.path / f"{number}.scratch"
        return prepare(self.path / str(number), name, scratch, self.fields, Limits())


def _joined(blocks: list[Block]) -> Block:
    """A file's last row without a line break is a chunk of its own."""
    if len(blocks) == 1:
        return blocks[0]
    first, last = blocks
    assert not first.rejected + last.rejected

    def both(name: str) -> Any:
        arrays = [getattr(block, name) for block in blocks]
        return None if arrays[0] is None else np.concatenate(arrays)

    return replace(
        first,
        **{name: both(name) for name in ("x", "y", "w", "offset")},
        row=np.concatenate([first.row, last.row + first.rows_seen]),
        carried=first.carried
        and {name: pl.concat([c, (last.carried or {})[name]]) for name, c in first.carried.items()},
        rows_seen=first.rows_seen + last.rows_seen,
        unlabelled=first.unlabelled + last.unlabelled,
        lines=first.lines + last.lines,
        gaps={
            name: np.concatenate(
                [block.gaps.get(name, np.zeros(len(block.y), bool)) for block in blocks]
            )
            for name in first.gaps | last.gaps
        },
    )


def _bits(block: Block) -> tuple[object, ...]:
    """All of a block."""
    columns = block.carried and {name: c.to_list() for name, c in block.carried.items()}
    arrays = [
        None if a is None else (a.shape, a.dtype, a.tobytes(), a.flags.c_contiguous)
        for a in (block.x, block.y, block.w, block.offset, block.row)
    ]
    counts = (block.rows_seen, block.unlabelled, block.rejected, block.lines, block.missing)
    return (*arrays, columns, *counts, block.first_bad, block.sparse)


def _same(folder: Folder, contents: list[bytes]) -> list[bool]:
    """Which files were read together; whatever was is what it is alone."""
    found = folder.together(contents)
    for number, read in enumerate(found):
        if read is not None:
            source, sha256, blocks = folder.alone(number)
            block = _joined(blocks)
            assert _bits(read.block) == _bits(block), contents[number]
            assert read.sha256 == sha256
            assert read.columns_unused == unused_of(source, folder.fields)
            assert not block.rejected
            assert len(block.y)
    return [read is not None for read in found]


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Folder]:
    return lambda fields=FIELDS, suffix=".csv": Folder(tmp_path, fields, suffix)


def test_what_is_read_with_others_is_what_it_is_alone(folder: Callable[..., Folder]) -> None:
    assert all(_same(folder(), list(ALIKE.values())))


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_file_is_left_and_costs_its_neighbours_nothing(
    folder: Callable[..., Folder], odd: str
) -> None:
    many = list(ALIKE.values()) * 4
    for place in (0, 5, 24):
        together = _same(folder(), [*many[:place], ODD[odd], *many[place:]])
        assert not together.pop(place)
        assert sum(together) >= len(many) // 2


@pytest.mark.parametrize("kind", ["returns", "marked"])
def test_files_with_line_ends_or_marks_of_their_own_go_together(
    folder: Callable[..., Folder], kind: str
) -> None:
    assert _same(folder(), [ODD[kind], PLAIN, ODD[kind], PLAIN]) == [True] * 4


@pytest.mark.parametrize("row", [b"", b'"1",2,1\n', b"1,,1\n", b"1,2,1\r\n"])
def test_a_last_row_without_its_line_break_is_a_row(
    folder: Callable[..., Folder], row: bytes
) -> None:
    fields = replace(FIELDS, gaps=Gaps("mean"))
    assert all(_same(folder(fields), [PLAIN + row + b"3,4,0", PLAIN, (PLAIN + row)[:-1]]))


def test_files_of_other_formats_are_left(folder: Callable[..., Folder], tmp_path: Path) -> None:
    packed = gzip.compress(PLAIN)
    assert not any(_same(folder(suffix=".csv.gz"), [packed, packed]))
    assert not any(_same(folder(suffix=".jsonl"), [b'{"a":1,"b":2,"y":1}\n'] * 2))
    assert not any(_same(folder(replace(FIELDS, format="vw")), [b"1 | a\n"] * 2))
    assert not any(_same(folder(Fields(0)), [b"1,2\n3,4\n"] * 2))


def test_where_rows_have_a_say_in_the_delimiter_files_are_left(
    folder: Callable[..., Folder],
) -> None:
    fields = Fields("y", time="t,u,v,w")
    semicolons = b"y;x;t,u,v,w\n" + b"1;2;noon\n" * 9
    commas = b"y;x;t,u,v,w\n" + b"1;2;a,b,c,d\n" * 3  # alone it is refused: no column is called y
    assert not any(_same(folder(fields), [semicolons, commas, semicolons]))
    said = replace(fields, dialect=Dialect(delimiter=";"))
    assert all(_same(folder(said), [semicolons, commas, semicolons]))


def test_files_that_cannot_be_read_are_left(folder: Callable[..., Folder], tmp_path: Path) -> None:
    place = folder()
    place.together([PLAIN, PLAIN, PLAIN])
    paths = [str(tmp_path / name) for name in ("0", "gone", "2")]

    def prepared(number: int) -> Source:
        raise FileRefused("a rule", place="here", remedy="none")

    names = ["0.csv", "1.csv", "2.csv"]
    assert read_alike(paths, names, FIELDS, MOST_BYTES, prepared) == [None] * 3


CELLS = st.sampled_from(
    ["1", "2.5", "-0.1", "1e300", "nan", "", "?", " 3", "x", '"4"', "1,5", "inf", "0.1"]
)
HEADERS = st.sampled_from(["a,b,y", "b,a,y", "a,b,y,t,w", "t,a,w,b,y", "a,b,y,"])
OTHERS: list[Fields] = [
    replace(FIELDS, gaps=Gaps("mean", ("?",), ("a",))),
    replace(FIELDS, gaps=Gaps("zero"), time="t", weight="w"),
    Fields("y", unlabelled="keep", gaps=Gaps("mean")),
    Fields("y", id="t", offset="w", labels="class", classes=(1.0, "x", 2.5)),
    Fields(None, labels="none", dialect=Dialect(quote="")),
    Fields("y", dialect=Dialect(decimal=",", delimiter=";")),
]
ROWS = st.lists(st.lists(CELLS, min_size=2, max_size=5), min_size=1, max_size=4)


@given(
    st.sampled_from(OTHERS),
    st.lists(st.tuples(HEADERS, ROWS, st.booleans(), st.sampled_from(["\n", "\r\n"])), max_size=12),
)
def test_whatever_goes_together_is_what_it_is_alone(
    tmp_path_factory: pytest.TempPathFactory,
    fields: Fields,
    files: list[tuple[str, list[list[str]], bool, str]],
) -> None:
    mark = ";" if fields.dialect.delimiter == ";" else ","
    contents = []
    for head, rows, is_even, end in files:
        width = head.count(",") + 1
        cells = [(row * width)[:width] if is_even else row for row in rows]
        lines = [head.replace(",", mark), *(mark.join(row) for row in cells)]
        contents.append("".join(line + end for line in lines).encode())
    _same(Folder(tmp_path_factory.mktemp("files"), fields), contents)


def test_gaps_are_counted_for_each_file(folder: Callable[..., Folder]) -> None:
    fields = replace(FIELDS, gaps=Gaps("zero", (), ("b",)))
    contents = [PLAIN, PLAIN + b",2,1\n", PLAIN + b"1,,1\n,,1\n,2,\n"]
    assert all(_same(folder(fields), contents))
    found = folder(fields).together(contents)
    assert [read.block.missing for read in found if read] == [{}, {"a": 1}, {"a": 1, "b": 2}]


def test_files_whose_names_say_another_delimiter_are_a_group_of_their_own(tmp_path: Path) -> None:
    place = Folder(tmp_path, Fields("y"))
    contents = [b"y,a\n1,2\n"] * 3
    place.together(contents)
    paths, names = [str(tmp_path / str(number)) for number in range(3)], ["0.csv", "1.tsv", "2.csv"]
    found = read_alike(paths, names, Fields("y"), MOST_BYTES, place._prepared)
    assert [read is not None for read in found] == [True, False, True]


def test_a_file_without_a_label_in_any_row_is_left(folder: Callable[..., Folder]) -> None:
    assert _same(folder(), [PLAIN, b"a,b,y\n1,2,\n", PLAIN]) == [True, False, True]


def test_a_header_that_could_be_a_row_is_none(folder: Callable[..., Folder]) -> None:
    fields = Fields("3", ("1", "2"))
    long, short = b"1,2,3\n\n" + b"4,5,6\n" * 9, b"1,2,3\n" + b"4,5,6\n" * 3
    _same(folder(fields), [long, short, short, long])
    assert all(_same(folder(fields), [short, short]))


def test_a_file_that_is_too_large_is_left_where_ever_a_row_ends(
    folder: Callable[..., Folder],
) -> None:
    large = b"a,b,y\n" + b"10,2,1\n" * 5 + b"1,2,1\n" * MOST_BYTES
    assert large[: MOST_BYTES + 1].endswith(b"\n")
    assert _same(folder(), [PLAIN, large, PLAIN]) == [True, False, True]
