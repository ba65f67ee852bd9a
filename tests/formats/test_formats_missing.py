"""Missing features: what counts as one, what it becomes, and that no format or chunk knows better."""

from __future__ import annotations

import io

import numpy as np
import polars as pl
import pytest

from service.formats import Fields, Gaps, Survey, labels, prepare
from service.formats.contract import Dialect

pytestmark = pytest.mark.usefixtures("as_few_and_many")
NAMES = ("NA", "?", "-200")
ZERO = Fields("y", gaps=Gaps("zero", NAMES))


def csv(*rows: str) -> bytes:
    return "\n".join(("a,b,y", *rows)).encode()


def parquet(frame: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    frame.write_parquet(out)
    return out.getvalue()


@pytest.mark.parametrize(
    "cell", ["", " ", '""', "NaN", "-nan", "NA", " na ", "?", "-200", "-2e2", " -200.0"]
)
def test_a_cell_of_nothing_or_of_a_value_that_is_named_is_missing(read, cell):
    got = read(csv("1,2,0", f"{cell},4,1"), "t.csv", ZERO)
    assert got.x.tolist() == [[1, 2], [0, 4]]
    assert got.missing == {"a": 1}
    assert got.rejected == 0


@pytest.mark.parametrize("cell", ["NAN0", "N A", "-201", "inf", "-inf", "1e400", "x", "??"])
def test_any_other_cell_is_a_number_or_makes_its_row_a_bad_one(read, cell):
    got = read(csv("1,2,0", f"{cell},4,1", ",6,1"), "t.csv", ZERO)
    assert got.missing == {"a": 1}
    assert got.x[:, 1].tolist() == ([2, 4, 6] if cell == "-201" else [2, 6])


@pytest.mark.parametrize("cell", ["", "NA", "-200", "nan"])
def test_without_a_fill_a_missing_feature_makes_its_row_a_bad_one(read, cell):
    got = read(csv("1,2,0", f"3,{cell},1"), "t.csv", Fields("y", gaps=Gaps("none", NAMES)))
    ((row, column, rule, value),) = got.bad
    assert (row, column, rule) == (1, "b", "a feature has a value in every row")
    assert value == (cell or "nothing")
    assert got.missing == {}


@pytest.mark.parametrize("named", ["-999,9", "-9,999e2", "-999.9"])
@pytest.mark.parametrize("cell", ["-999,9", "-9999e-1", '"-999,90"', "-999,9x"])
def test_a_value_may_be_named_as_the_files_spell_it(read, named, cell):
    fields = Fields("y", gaps=Gaps("zero", (named,)), dialect=Dialect(decimal=","))
    got = read(f"a;b;y\n1,5;2;0\n{cell};4;1\n".encode(), "t.csv", fields)
    assert got.missing == ({} if cell.endswith("x") else {"a": 1})
    assert got.rejected == cell.endswith("x")


def test_rows_that_are_left_out_are_not_among_the_missing(read):
    got = read(csv(",x,0", ",1,", ",2,1"), "t.csv", ZERO)
    assert (got.rejected, got.unlabelled, got.missing) == (1, 1, {"a": 1})


@pytest.mark.parametrize("cell", ["NA", " na ", "?", "-200", "-2e2"])
def test_a_label_that_is_a_missing_value_is_none(read, cell):
    got = read(csv("1,2,0", f"3,4,{cell}"), "t.csv", ZERO)
    assert (got.y.tolist(), got.unlabelled, got.rejected) == ([0], 1, 0)
    fields = Fields("y", gaps=ZERO.gaps, labels="class", classes=("p", "q"))
    got = read(csv("1,2,q", f"3,4,{cell}"), "t.csv", fields)
    assert (got.y.tolist(), got.unlabelled, got.rejected) == ([1], 1, 0)
    fields = Fields("y", gaps=ZERO.gaps, labels="class", classes=(0, 1))
    got = read(csv("1,2,1", f"3,4,{cell}"), "t.csv", fields)
    assert (got.y.tolist(), got.unlabelled, got.rejected) == ([1], 1, 0)


def test_a_label_that_is_a_missing_value_is_none_to_predictions(read):
    fields = Fields("y", gaps=ZERO.gaps, unlabelled="keep")
    got = read(csv("1,2,0", "3,4,-200", "5,6,NA"), "t.csv", fields)
    np.testing.assert_array_equal(got.y, [0, np.nan, np.nan])


def test_a_class_may_be_called_like_a_missing_value_and_ids_are_no_more_than_text(read):
    fields = Fields("y", id="a", gaps=Gaps("zero", NAMES), labels="class", classes=("NA", "x"))
    got = read(csv("?,1,NA", "NA,2,x", "3,3,na"), "t.csv", fields)
    assert (got.y.tolist(), got.unlabelled) == ([0, 1], 1)
    assert got.carried["id"] == ["?", "NA"]
    fields = Fields("y", gaps=Gaps("zero", NAMES), labels="class", classes=(1, -200))
    got = read(csv("1,1,-200.0", "2,2,1", "3,3,NA"), "t.csv", fields)
    assert (got.y.tolist(), got.unlabelled) == ([1, 0], 1)


def test_no_class_is_learnt_of_missing_values(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(csv("1,1,q", "1,1,NA", "1,1,?", "1,1,p", "1,1,-200", "1,1,", ""))
    fields = Fields("y", gaps=ZERO.gaps, labels="class")
    source = prepare(path, "t.csv", tmp_path / "scratch", fields)
    (chunk,) = Survey(source, 1 << 20)
    assert tuple(labels(source, chunk, fields)) == ("q", "p")


@pytest.mark.parametrize("chunk_bytes", [1, 40, 4 << 20])
def test_every_format_has_the_same_gaps_for_every_chunk_size(read, chunk_bytes):
    a = [1.5, None, -200.0, 4.0, float("nan"), 6.0] * 5
    b = [None, 2.0, 3.0, -200.0, 5.0, 6.0] * 5
    frame = pl.DataFrame({"a": a, "b": b, "y": [0.0, 1.0] * 15}, strict=False)
    whole = frame.with_columns(pl.all().fill_nan(None))
    files = {
        "t.csv": frame.write_csv().encode(),
        "t.jsonl": whole.write_ndjson().encode(),
        "t.parquet": parquet(frame),
    }
    plain = read(files["t.csv"], "t.csv", ZERO, 4 << 20)
    assert plain.missing == {"a": 15, "b": 10}
    for name, content in files.items():
        got = read(content, name, ZERO, chunk_bytes)
        assert (got.bits(), got.missing) == (plain.bits(), plain.missing), name


def test_text_in_json_lines_is_missing_only_where_it_is_named(read):
    lines = b'{"a": "NA", "y": 1}\n{"a": "abc", "y": 1}\n{"a": 3, "y": 0}\n{"y": 0}\n'
    got = read(lines, "t.jsonl", ZERO)
    assert got.x[:, 0].tolist() == [0, 3, 0]
    assert [bad[3] for bad in got.bad] == ["abc"]
    assert got.missing == {"a": 2}


def test_arrays_have_gaps_where_they_hold_nan_or_a_number_that_is_named(read):
    out = io.BytesIO()
    np.save(out, np.array([[1.0, np.nan, 0], [-200, 2, 1]]))
    got = read(out.getvalue(), "t.npy", Fields(2, gaps=Gaps("zero", NAMES)))
    assert got.x.tolist() == [[1, 0], [0, 2]]
    assert got.missing == {"0": 1, "1": 1}


def test_what_is_to_be_filled_with_the_mean_stays_open(read):
    fields = Fields("y", gaps=Gaps("mean", NAMES))
    got = read(csv("1,2,0", "NA,4,1", "3,,1", "x,6,1"), "t.csv", fields)
    np.testing.assert_array_equal(got.x, [[1, 2], [np.nan, 4], [3, np.nan]])
    assert (got.missing, got.rejected) == ({"a": 1, "b": 1}, 1)


@pytest.mark.parametrize("chunk_bytes", [1, 4 << 20])
@pytest.mark.parametrize("fill", ["zero", "mean"])
def test_an_indicator_is_a_column_behind_all_features(read, fill, chunk_bytes):
    fields = Fields("y", gaps=Gaps(fill, NAMES, indicators=("b", "a")))
    rows = ("1,2,0", "NA,4,1", "x,1,1", "3,,1", "?,?,", "5,6,0")
    got = read(csv(*rows), "t.csv", fields, chunk_bytes)
    gap = 0 if fill == "zero" else np.nan
    expected = [[1, 2, 0, 0], [gap, 4, 0, 1], [3, gap, 1, 0], [5, 6, 0, 0]]
    np.testing.assert_array_equal(got.x, expected)
    whole = read(csv("1,2,0", "5,6,0"), "t.csv", fields)
    np.testing.assert_array_equal(whole.x, [expected[0], expected[3]])


def test_a_column_that_is_called_as_an_indicator_will_be_refuses_the_file(refused):
    fields = Fields("y", gaps=Gaps("zero", NAMES, indicators=("a",)))
    refusal = refused(b"a,a is missing,y\n1,2,0\n", "t.csv", fields).refusal
    assert (refusal.rule, refusal.value) == (
        "no feature has the name that an indicator gets",
        "a is missing",
    )
    assert "rename the column" in refusal.remedy


def test_an_indicator_of_what_is_no_feature_refuses_the_file(refused):
    fields = Fields("y", id="a", gaps=Gaps("zero", NAMES, indicators=("b", "a")))
    refusal = refused(csv("1,2,0"), "t.csv", fields).refusal
    assert (refusal.rule, refusal.value) == ("an indicator is one of a feature", "a")
