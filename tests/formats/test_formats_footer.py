"""The groups of a Parquet file: read where the footer says them, and no harm done where it doesn't."""

from __future__ import annotations

import io
import random
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.formats import Fields, Survey, decode, prepare
from service.formats.footer import group_rows

WIDE = {
    f"column {place}": [None if row % 7 == place else float(row * place) for row in range(100)]
    for place in range(20)
}
TABLE = pl.DataFrame({"a": range(100), "t": list("abcde" * 20), "y": [0.5] * 100} | WIDE)


def _parquet(group: int, **options: object) -> bytes:
    out = io.BytesIO()
    TABLE.write_parquet(out, row_group_size=group, **options)  # type: ignore[arg-type]
    return out.getvalue()


@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("pyarrow", [False, True])
def test_the_footer_says_the_rows_of_each_group(pyarrow: bool, statistics: bool) -> None:
    if pyarrow:
        pytest.importorskip("pyarrow")
    data = _parquet(30, use_pyarrow=pyarrow, statistics=statistics)
    assert group_rows(io.BytesIO(data), len(data)) == (30, 30, 30, 10)
    assert sum(group_rows(io.BytesIO(_parquet(1)), len(_parquet(1)))) == 100


def test_a_damaged_footer_says_something_or_nothing() -> None:
    chance, whole = random.Random(1), _parquet(30)
    said = set()
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            data[-chance.randrange(1, 3000)] = chance.randrange(256)
        said.add(group_rows(io.BytesIO(bytes(data)), len(data)))
    assert () in said
    for short in (b"", b"PAR1", b"PAR1\xff\xff\xff\xffPAR1", b"PAR1" * 3):
        assert group_rows(io.BytesIO(short), len(short)) == ()


@pytest.mark.parametrize(
    "endless",
    [b"\x19\xff" + b"\xff" * 8 + b"\x7f", b"\x49\xff\xff\xff\xff\x7f", b"\x1c" * 99, b"\x1b\x01"],
)
def test_a_footer_without_an_end_says_nothing(endless: bytes) -> None:
    data = b"PAR1" + endless + len(endless).to_bytes(4, "little") + b"PAR1"
    assert group_rows(io.BytesIO(data), len(data)) == ()


@given(st.lists(st.sampled_from([0, 1, 5, 9, 10, 14, 16, 40, 101]), min_size=1, max_size=8))
def test_chunks_keep_to_the_groups_and_leave_no_row_out(groups: list[int]) -> None:
    path = Path(__file__)  # its bytes are only counted
    source = replace(
        SOURCE, path=str(path), size=path.stat().st_size, rows=sum(groups), groups=tuple(groups)
    )
    step = 10
    chunks = [
        (chunk.start, chunk.stop) for chunk in Survey(source, 2 * step)
    ]  # 4 · 20 bytes: 10 numbers
    ends = [0, *(stop for _, stop in chunks)]
    assert [start for start, _ in chunks] == ends[:-1]
    assert ends[-1] == sum(groups)
    bounds = {sum(groups[:count]) for count in range(len(groups) + 1)}
    for start, stop in chunks:
        assert 0 < stop - start <= step + step // 2
        within = [bound for bound in bounds if start < bound < stop]
        assert not within or {start, stop} <= bounds  # several whole groups, or a part of one


def test_groups_of_fewer_than_no_rows_say_nothing() -> None:
    def footer(*groups: bytes) -> bytes:
        listed = b"".join(b"\x36" + rows + b"\0" for rows in groups)  # field 3, an i64
        thrift = b"\x49" + bytes([len(groups) << 4 | 12]) + listed + b"\0"  # field 4, of structs
        return b"PAR1" + thrift + len(thrift).to_bytes(4, "little") + b"PAR1"

    for groups, said in (((b"\x0a", b"\x02"), (5, 1)), ((b"\x0e", b"\x01"), ())):  # 7 and -1
        data = footer(*groups)
        assert group_rows(io.BytesIO(data), len(data)) == said


SOURCE = replace(
    prepare(Path(__file__), "t.py.csv", Path("never"), Fields(None, labels="none")),
    format="parquet",
    columns=("a",),
)


@pytest.mark.parametrize("group", [1, 7, 30, 100])
def test_the_rows_are_the_same_however_they_are_grouped(tmp_path: Path, group: int) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(_parquet(group))
    fields = Fields("y", ("a",))
    source = prepare(path, path.name, tmp_path / "s", fields)
    found = [
        x for chunk in Survey(source, 1200) for x in decode(source, chunk, fields).x[:, 0].tolist()
    ]
    assert found == list(range(100))
