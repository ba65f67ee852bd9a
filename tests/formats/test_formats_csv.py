"""CSV and TSV, rule by rule."""

from __future__ import annotations

import csv
import io
import random
from dataclasses import replace

import numpy as np
import pytest

from service.core.errors import FileRefused
from service.formats import (
    Chunk,
    Fields,
    Gaps,
    Limits,
    Survey,
    block_bytes,
    decode,
    features_of,
    labels,
    prepare,
    unused_of,
)
from service.formats.contract import Hashed

pytestmark = pytest.mark.usefixtures("as_few_and_many")
Y = Fields("y")
CHUNKS = (1, 7, 64, 4 << 20)


@pytest.mark.parametrize("chunk_bytes", CHUNKS)
def test_a_mark_of_byte_order_within_the_file_is_part_of_its_cell(read, chunk_bytes):
    text = "a,k,y\n1,p,2\n\ufeff3,q,4\n5,\ufeffr,6\n\ufeff"
    got = read(text.encode(), "t.csv", Fields("y", ("a",), id="k"), chunk_bytes)
    assert got.carried == {"id": ["p", "\ufeffr"]}
    assert [bad[0] for bad in got.bad] == [1, 3]
    assert got.bad[0][1:] == ("a", "a feature is a number", "\\ufeff3")


def test_rows_come_out_as_the_csv_module_reads_them(read):
    rows = [["a", "y"], ["1.5", "2"], ["-0.0", "3e-3"], ['"1"', "4"]]
    text = "\n".join(",".join(r) for r in rows)
    expected = np.array([[float(c) for c in r] for r in list(csv.reader(io.StringIO(text)))[1:]])
    got = read(text.encode(), "t.csv", Y)
    assert np.array_equal(got.x[:, 0], expected[:, 0])
    assert np.signbit(got.x[1, 0])
    assert np.array_equal(got.y, expected[:, 1])


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize("chunk_bytes", CHUNKS)
def test_line_ends_and_the_final_one_make_no_difference(read, end, final, chunk_bytes):
    data = end.join([b"a,b,y", b"1,2,0", b"3,4,1"]) + (end if final else b"")
    got = read(data, "t.csv", Y, chunk_bytes)
    assert got.x.tolist() == [[1, 2], [3, 4]]
    assert got.y.tolist() == [0, 1]


def test_a_last_line_that_ends_with_half_a_line_end_is_whole(read):
    got = read(b"a,y\r\n1,UP\r\n2,UP\r", "t.csv", Fields("y", labels="class", classes=("UP",)))
    assert got.y.tolist() == [0, 0]


def test_the_byte_order_mark_is_no_part_of_the_first_name(read):
    got = read(b"\xef\xbb\xbfa,y\n1,2\n", "t.csv", Y)
    assert got.source.columns == ("a", "y")
    assert got.source.notes == ("utf-8 bom",)


@pytest.mark.parametrize("chunk_bytes", CHUNKS)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_blank_lines_are_no_rows(read, chunk_bytes, end):
    data = end.join([b"", b"", b"a,y", b"", b"1,2", b"", b"", b"3,4", b"", b""])
    got = read(data, "t.csv", Y, chunk_bytes)
    assert (got.rows_seen, got.row.tolist(), got.y.tolist()) == (2, [0, 1], [2, 4])


@pytest.mark.parametrize("chunk_bytes", CHUNKS)
def test_blank_lines_are_no_rows_in_a_file_of_one_column(read, chunk_bytes):
    got = read(b"a\n1\n\n2\n\n", "t.csv", Fields(None, unlabelled="keep"), chunk_bytes)
    assert got.x.tolist() == [[1], [2]]
    assert np.isnan(got.y).all()


@pytest.mark.parametrize("chunk_bytes", CHUNKS)
def test_quoted_fields_may_hold_line_breaks_delimiters_and_quotes(read, chunk_bytes):
    rows = [["a", "note", "y"]] + [
        [str(i), note, str(i * 2)]
        for i, note in enumerate(
            ["x\ny", "p,q", 'say ""no""'.replace('""', '"'), "\n\n", "", "é\r\n"]
        )
    ]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    fields = Fields("y", features=("a",), id="note")
    got = read(text.getvalue().encode(), "t.csv", fields, chunk_bytes)
    assert got.carried["id"] == [r[1] or None for r in rows[1:]]
    assert got.y.tolist() == [0, 2, 4, 6, 8, 10]


@pytest.mark.parametrize("chunk_bytes", CHUNKS)
def test_quoted_numbers_are_numbers(read, chunk_bytes):
    got = read(b'"a","y"\n"1.5","2"\n" 2 ","3"\n', "t.csv", Y, chunk_bytes)
    assert got.x.tolist() == [[1.5], [2]]


@pytest.mark.parametrize(("name", "mark"), [("t.tsv", "\t"), ("t.csv", ";"), ("t.tab", "\t")])
def test_the_delimiter_is_that_of_the_name_or_of_the_first_line(read, name, mark):
    got = read(f"a{mark}y\n1{mark}2\n".encode(), name, Y)
    assert got.x.tolist() == [[1]]


def test_without_a_header_columns_are_numbers_and_no_row_is_lost(read):
    got = read(b"1,2,3\n4,5,6\n", "t.csv", Fields(1))
    assert got.source.columns == ("0", "1", "2")
    assert got.x.tolist() == [[1, 3], [4, 6]]
    assert got.y.tolist() == [2, 5]
    assert features_of(got.source, Fields(1)) == ("0", "2")


def test_features_stand_in_the_order_in_which_they_are_named(read):
    fields = Fields("y", features=("b", "a"))
    one = read(b"a,b,y\n1,2,3\n", "t.csv", fields)
    other = read(b"y,c,b,a\n3,x,2,1\n", "t.csv", fields)
    assert one.x.tolist() == other.x.tolist() == [[2, 1]]


def test_features_are_by_default_every_column_without_another_role(read):
    fields = Fields("y", id="i", weight="w", time="t")
    got = read(b"i,a,w,b,t,y\nk1,1,0.5,2,2026-01-01,3\n", "t.csv", fields)
    assert got.x.tolist() == [[1, 2]]
    assert got.w is not None
    assert got.w.tolist() == [0.5]
    assert got.carried == {"id": ["k1"], "time": ["2026-01-01"]}


@pytest.mark.parametrize("chunk_bytes", CHUNKS)
@pytest.mark.parametrize("row", ["1,x,2,3,u,v,4", "1,5,2,3,6,7,4", '1,"",2,3,"7",,4'])
def test_columns_without_a_part_may_share_a_name_or_have_none(read, row, chunk_bytes):
    fields = Fields("y", features=("a", "b"), id="k")
    data = f"a,z,b,k,z,,y\n{row}\n\n{row}\n".encode()
    for header, extra in ((data, 3), (data.replace(b",z,,y", b",,,y"), 3)):
        got = read(header, "t.csv", fields, chunk_bytes)
        assert (got.x.tolist(), got.y.tolist()) == ([[1, 2]] * 2, [4, 4])
        assert got.carried == {"id": ["3", "3"]}
        assert unused_of(got.source, fields) == extra
        numbers = read(header, "t.csv", Fields("y", ("b",)), chunk_bytes)
        assert numbers.x.tolist() == [[2]] * 2


@pytest.mark.parametrize("twice", ["a", "y", "k"])
def test_a_column_that_has_a_part_is_named_once(refused, twice):
    fields = Fields("y", features=("a",), id="k")
    refusal = refused(f"a,y,k,{twice}\n1,2,3,4\n".encode(), "t.csv", fields).refusal
    assert (refusal.rule, refusal.value) == (
        "a header names each column once that has a part",
        twice,
    )


BAD_ROWS = [
    (b"1\n", "", "fields", "1 field: 1"),
    (b"1,2,3\n", "", "fields", "3 fields: 1,2,3"),
    (b",2\n", "a", "has a value", "nothing"),
    (b'"",2\n', "a", "has a value", "nothing"),
    (b"  ,2\n", "a", "has a value", "nothing"),
    (b"x1,2\n", "a", "is a number", "x1"),
    (b'"1,5",2\n', "a", "is a number", "1,5"),
    (b"1_000,2\n", "a", "is a number", "1_000"),
    (b"truer,2\n", "a", "is a number", "truer"),
    (b"nan,2\n", "a", "in every row", "nan"),
    (b"-inf,2\n", "a", "finite", "-inf"),
    (b"1e400,2\n", "a", "finite", "1e400"),
    (b"1,two\n", "y", "label is a number", "two"),
    (b"1,inf\n", "y", "finite", "inf"),
    (b"\x1b[31m,2\n", "a", "is a number", r"\x1b[31m"),
    (b"\xc3\xa9" * 200 + b",2\n", "a", "is a number", "é" * 79 + "…"),
]


@pytest.mark.parametrize("chunk_bytes", CHUNKS)
@pytest.mark.parametrize(("line", "column", "rule", "value"), BAD_ROWS)
def test_a_bad_row_is_left_out_counted_and_described(read, line, column, rule, value, chunk_bytes):
    got = read(b"a,y\n5,6\n" + line + b"7,8\n", "t.csv", Y, chunk_bytes)
    assert got.x.tolist() == [[5], [7]]
    assert (got.rows_seen, got.rejected, got.unlabelled) == (3, 1, 0)
    assert got.row.tolist() == [0, 2]
    ((row, where, why, what),) = got.bad
    assert (row, where) == (1, column)
    assert rule in why
    assert what.startswith(value)
    assert len(what) <= 80


def test_extremes_of_float64_are_read_exactly(read):
    values = [5e-324, 1.7976931348623157e308, 2.2250738585072014e-308, 9007199254740993, 0.1]
    lines = "".join(f"{v!r},1\n" for v in values)
    got = read(b"a,y\n" + lines.encode(), "t.csv", Y)
    assert got.x[:, 0].tolist() == [float(v) for v in values]


def test_a_row_without_a_label_is_counted_and_not_learnt_from(read):
    got = read(b'a,y\n1,\n2,3\n4,nan\n5,""\n', "t.csv", Y)
    assert (got.x.tolist(), got.unlabelled, got.rejected) == ([[2]], 3, 0)


def test_for_predictions_rows_without_a_label_stay(read):
    fields = Fields("y", unlabelled="keep")
    got = read(b"a,y\n1,\n2,3\n", "t.csv", fields)
    assert got.x.tolist() == [[1], [2]]
    assert np.isnan(got.y[0])
    absent = read(b"a\n1\n", "t.csv", fields)
    assert np.isnan(absent.y).all()


PREDICTED = [("t.csv", b"a,y\n1,1\n2,x\n3,1e999\n4,7\n")]
PREDICTED += [("t.jsonl", b'{"a":1,"y":1}\n{"a":2,"y":"x"}\n{"a":3,"y":1e999}\n{"a":4,"y":7}\n')]


@pytest.mark.parametrize(("name", "data"), PREDICTED)
@pytest.mark.parametrize("chunk_bytes", CHUNKS)
def test_for_predictions_an_unknown_label_is_none(read, name, data, chunk_bytes):
    def known(**fields):
        fields = Fields("y", features=("a",), unlabelled="keep", **fields)
        got = read(data, name, fields, chunk_bytes)
        assert (got.x[:, 0].tolist(), got.rejected, got.bad) == ([1, 2, 3, 4], 0, [])
        return [None if np.isnan(y) else y for y in got.y.tolist()]

    assert known() == [1, None, None, 7]
    assert known(labels="class", classes=(0.0, 1.0)) == [1, None, None, None]
    assert known(labels="class", classes=("no", "x")) == [None, 1, None, None]


@pytest.mark.parametrize("label", ["number", "class"])
@pytest.mark.parametrize(
    ("name", "data"), [("t.csv", b"a\n1\n2\n"), ("t.jsonl", b'{"a":1}\n{"a":2}\n')]
)
def test_for_predictions_the_id_and_the_label_may_be_absent(read, name, data, label):
    fields = Fields("y", ("a",), id="k", labels=label, classes=("no", "yes"), unlabelled="keep")
    got = read(data, name, fields)
    assert (got.x[:, 0].tolist(), got.carried) == ([1, 2], {"id": [None, None]})


def test_a_class_is_spelt_as_files_spell_it_in_a_note(read):
    got = read(b"a,y\n1,7\n", "t.csv", Fields("y", labels="class", classes=(0.0, 1.0, 2.5)))
    assert got.bad == [(0, "y", "a label is one of the classes 0, 1, 2.5", "7")]


def test_a_note_on_too_many_classes_spells_them_as_files_do(tmp_path):
    path = tmp_path / "1"
    path.write_bytes(b"a,y\n" + b"".join(b"1,%d\n" % i for i in range(1001)))
    fields = Fields("y", labels="class")
    source = prepare(path, "t.csv", tmp_path / "scratch", fields, Limits())
    with pytest.raises(FileRefused, match="got 1001: 0, 1, 10, 100, "):
        labels(source, Chunk(0, source.data_start, source.size), fields)


def test_weights_are_finite_and_not_negative(read):
    fields = Fields("y", weight="w")
    got = read(b"a,w,y\n1,0,1\n1,-1,1\n1,inf,1\n1,,1\n1,x,1\n1,2.5,1\n", "t.csv", fields)
    assert got.w is not None
    assert got.w.tolist() == [0, 2.5]
    assert got.rejected == 4
    assert {column for _, column, _, _ in got.bad} == {"w"}


def test_the_first_column_at_fault_is_named(read):
    got = read(b"a,b,y\n1,x,z\nu,v,1\n", "t.csv", Y)
    assert [(row, column) for row, column, _, _ in got.bad] == [(0, "b"), (1, "a")]


REFUSALS = [
    (b"", "holds rows", "an empty file"),
    (b"\n\r\n \t\n", "holds rows", "only blank lines"),
    (b"a,y\n", "below its header", "a header only"),
    (b"a,y\n\n\n", "below its header", "a header only"),
    (b"a,b\n1,2\n", "label column y", "columns a, b"),
    (b"a,a,y\n1,2,3\n", "each column once", "a"),
    (b"a,,y\n1,2,3\n", "has a name", "column 1 without one"),
    (b"a,,,y\n1,2,3,4\n", "has a name", "column 1 without one"),
    (b"y\n1\n", "columns besides", "y"),
    (b"a,y\n1,2\n3,\xff\n", "UTF-8", "\\xff"),
    (b"a,y\n1,2\n3,\0\n", "NUL", "3,\\x00"),
    (b'a,y\n1,"2\n3,4\n', "close", "a quote without an end"),
    (b'a,"y\n1,2\n3,4\n', "close", "a quote without an end"),
    (b'a,y\n1,5"x"\n', "enclose whole fields", '1,5"x"'),
    (b'a,y\n1,"5"x\n', "enclose whole fields", '1,"5"x'),
    (b'{"a": 1, "y": 2}\n', "CSV", '{"a"'),
    (b"PAR1....", "what the name says", "parquet"),
    (b"\x1f\x8b\x08\x00....", "what the name says", "gzip"),
    (b"\xff\xfe\0\0a\0\0\0", "UTF-8 or UTF-16", "utf-32"),
]


@pytest.mark.parametrize(("data", "rule", "value"), REFUSALS)
@pytest.mark.parametrize("chunk_bytes", [1, 4 << 20])
def test_a_broken_file_is_refused(refused, data, rule, value, chunk_bytes):
    refusal = refused(data, "t.csv", Y, chunk_bytes).refusal
    assert rule in refusal.rule
    assert refusal.value.startswith(value)
    assert refusal.place.startswith("t.csv")


def test_the_place_of_an_unclosed_quote_is_its_line(refused):
    data = b"a,y\n" + b"1,2\n" * 50 + b'1,"2\n' + b"3,4\n" * 10
    assert refused(data, "t.csv", Y, 20).refusal.place == "t.csv:52"


@pytest.mark.parametrize("chunk_bytes", [10, 100, 1 << 20])
def test_a_row_that_is_too_long_is_refused(refused, chunk_bytes):
    data = b"a,y\n1,2\n" + b"1" * 200 + b",2\n3,4\n"
    refusal = refused(data, "t.csv", Y, chunk_bytes, Limits(max_row_bytes=100)).refusal
    assert "at most 100 bytes" in refusal.rule
    assert refusal.place == "t.csv:3"


def test_a_row_of_just_the_longest_length_is_read(read):
    row = b"1" * 96 + b",20\n"
    got = read(b"a,y\n1,2\n" + row + row, "t.csv", Y, 10, Limits(max_row_bytes=100))
    assert got.rows_seen == 3


def test_too_many_columns_are_refused(refused):
    data = b",".join(b"c%d" % i for i in range(20)) + b"\n" + b"1," * 19 + b"1\n"
    refusal = refused(data, "t.csv", Fields("c0"), limits=Limits(max_columns=10)).refusal
    assert "at most 10 columns" in refusal.rule


class Looked(tuple[str, ...]):
    """Columns among which nobody searches for a name: each search is as long as there are columns."""

    __slots__ = ()

    def __contains__(self, name: object) -> bool:
        raise AssertionError(name)


def test_no_column_is_searched_for_among_all_columns(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"a,b,c,d,y\n1,2,3,4,5\n")
    hashed = Hashed(8, ("c",), (), 1, (("a", "b"),))
    fields = Fields("y", Looked(("a", "b", "c")), hashed=hashed, gaps=Gaps("mean", (), ("a",)))
    source = prepare(path, "t.csv", tmp_path / "s", fields)
    source = replace(source, columns=Looked(source.columns))
    (chunk,) = Survey(source, 1 << 20)
    assert decode(source, chunk, fields).y.tolist() == [5]
    assert unused_of(source, fields) == 1
    assert block_bytes(source, chunk, fields) > 0


def test_names_in_messages_are_escaped(refused):
    refusal = refused(b"a\x1b[2J,b\n1,2\n", "t\n\x1b.csv", Y).refusal
    assert refusal.place == r"t\n\x1b.csv:1"
    assert "\x1b" not in refusal.value


def test_a_name_without_a_known_suffix_is_refused(refused):
    for name in ("t", "t.txt", "t.csv.bz2", "t.gz", "t.parquet.gz", "t.csv.gz.gz"):
        assert "a name ends with" in refused(b"a,y\n1,2\n", name, Y).refusal.rule


@pytest.mark.parametrize("seed", range(20))
def test_good_and_bad_rows_come_out_the_same_for_every_chunk_size(read, seed):
    choose = random.Random(seed)
    cells = [
        "1",
        "2.5",
        " 3",
        "4 ",
        '"5"',
        "",
        "x",
        "1e400",
        '"a\nb"',
        "nan",
        "-0",
        '"1,2"',
        '""',
        "\t7",
    ]
    lines = ["a,b,n,y"]
    for _ in range(60):
        width = choose.choice([4, 4, 4, 4, 4, 4, 3, 5])
        good = choose.random() < 0.6
        pool = ["1", "2.5", '"3"', "-4e2"] if good else cells
        lines.append(",".join(choose.choice(pool) for _ in range(width)))
        if choose.random() < 0.1:
            lines.append("")
    data = choose.choice(["\n", "\r\n"]).join(lines).encode()
    fields = Fields("y", features=("a", "b"), id="n")
    whole = read(data, "t.csv", fields)
    for chunk_bytes in (1, 13, 50, 200):
        part = read(data, "t.csv", fields, chunk_bytes)
        assert part.bits() == whole.bits()
        assert part.bad == whole.bad
    assert whole.rejected
    assert len(whole.y)
