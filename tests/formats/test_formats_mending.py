"""A cell that is no number is told a remedy that fits what it looks like, and that works when it is followed."""

from __future__ import annotations

import datetime
import io
import shutil
import subprocess
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from service.core.errors import FileRefused
from service.formats import Fields, Gaps, Survey, labels, names, prepare
from service.formats.contract import Dialect, Hashed

COMMA = Fields("y", dialect=Dialect(decimal=","))
DATES: dict[str, Any] = {"times": (("a", ("year",)),)}
NAMES: dict[str, Any] = {"hashed": Hashed(8, ("a",))}
TEXT: dict[str, Any] = {"hashed": Hashed(8, text=("a",))}


@pytest.mark.parametrize(
    ("cell", "begins", "parts"),
    [
        ("NEAR BAY", "list the columns of names in hashing.categorical", NAMES),
        ("<1H OCEAN", "list the columns of names in hashing.categorical", NAMES),
        ("x", "list the columns of names in hashing.categorical", NAMES),
        ("not as good as the last", "list the column in hashing.text", TEXT),
        ("2024-05-01", "name the column in `times`", DATES),
        ("2024-05-01T13:30:00Z", "name the column in `times`", DATES),
        ("10/03/2004", "write times as 2024-05-01", None),
        ("01.05.2024 13:30", "write times as 2024-05-01", None),
        ("1,5", 'set csv.decimal = ","', {"dialect": COMMA.dialect}),
        ("1,234", 'set csv.decimal = "," if it is a decimal comma', {"dialect": COMMA.dialect}),
        ("1,234,567", "write it as 1234.5, without anything between thousands", None),
        ("12.l", "write it as 1234.5, digits alone", None),
        ("$5", "write it as 1234.5, digits alone", None),
        ("--", 'add "--" to missing.values and set missing.fill', {"gaps": Gaps("zero", ("--",))}),
        ("#N/A", 'add "#N/A" to missing.values', {"gaps": Gaps("zero", ("#N/A",))}),
        ("#DIV/0!", 'add "#DIV/0!" to missing.values', {"gaps": Gaps("zero", ("#DIV/0!",))}),
        ("\\N", 'add "\\\\N" to missing.values', {"gaps": Gaps("zero", ("\\N",))}),
        ("None", 'add "None" to missing.values', {"gaps": Gaps("zero", ("None",))}),
        ("[m]", "delete the row, if it holds the columns' units", None),
        ("(kg)", "delete the row, if it holds the columns' units", None),
        ("a", "delete the row, if the header stands there again", None),
        ("\u22125", "write the minus as in -1234.5", None),
        ("(5.50)", "write a number below zero as -1234.5", None),
        ("5.50-", "write a number below zero as -1234.5", None),
        ("12 %", "write it as 1234.5, without the sign", None),
        ("May 1, 2024", "write times as 2024-05-01", None),
    ],
)
def test_the_remedy_is_for_what_the_cell_looks_like(
    refused_at_first, read, cell: str, begins: str, parts: dict[str, Any] | None
) -> None:
    data = f"y;a;b\n1;{cell};2\n".encode()
    assert refused_at_first(data, "t.csv", Fields("y")).remedy.startswith(begins)
    if parts is not None:
        assert read(data, "t.csv", Fields("y", **parts)).rejected == 0


@pytest.mark.parametrize(
    ("cell", "begins"),
    [
        ("1,000", "write it as 1234.5, without commas between thousands"),
        ("-1,000", "write it as 1234.5, without commas between thousands"),
        ("1,000,000", "write it as 1234.5, without anything between thousands"),
        ("0,125", 'set csv.decimal = ","'),
        ("1,5", 'set csv.decimal = ","'),
    ],
)
@pytest.mark.parametrize("label", ["x", "y"])
def test_where_commas_delimit_a_quoted_one_stands_between_thousands(
    refused_at_first, read, cell: str, begins: str, label: str
) -> None:
    """Taken for a decimal comma it would be a thousandth of what it is."""
    data = f'x,y\n950,1900\n"{cell}","{cell}"\n'.encode()
    fields = Fields(label)
    assert refused_at_first(data, "t.csv", fields).remedy.startswith(begins)
    mended = data.replace(cell.encode(), cell.replace(",", "").encode())
    assert read(mended, "t.csv", fields).rejected == 0


def test_a_column_of_thousands_is_none_of_decimal_commas_where_names_are_looked_for(
    tmp_path,
) -> None:
    path = tmp_path / "t.csv"
    path.write_text('x,y\n"1,900",1\n"1,000",2\n')
    fields = Fields("y", hashed=Hashed(8))
    source = prepare(path, "t.csv", tmp_path / "scratch", fields)
    with pytest.raises(FileRefused) as caught:
        names(source, fields)
    assert caught.value.refusal.remedy.startswith("write it as 1234.5, without commas")


def test_numbers_are_told_in_the_spelling_of_the_job(refused_at_first, read) -> None:
    data = b"y;a\n1;1.234.567,5\n"
    assert refused_at_first(data, "t.csv", COMMA).remedy.startswith("write it as 1234,5, without")
    assert read(data.replace(b".", b""), "t.csv", COMMA).x.tolist() == [[1234567.5]]


@pytest.mark.parametrize(
    ("data", "name", "begins", "mended"),
    [
        (b"x;y\n3;6,5\n", "t.csv", 'set csv.decimal = ","', {"dialect": COMMA.dialect}),
        (b'x,y\n3,"1,000"\n', "t.csv", "write it as 1234.5, without commas", b"x,y\n3,1000\n"),
        (b"x,y\n3,$0.00\n", "t.csv", "write it as 1234.5, digits alone", b"x,y\n3,0.00\n"),
        (b"x,y\n3,0 # ok\n", "t.csv", "write it as 1234.5, digits alone", b"x,y\n3,0\n"),
        (b"x,y\n3,\\N\n", "t.csv", 'add "\\\\N" to missing', {"gaps": Gaps("zero", ("\\N",))}),
        (b"x,y\n3,yes\n", "t.csv", "correct it, or leave the cell empty; names", b"x,y\n3,\n"),
        (b"x,y\n3,y\n", "t.csv", "delete the row, if the header", b"x,y\n3,4\n"),
        (
            b'{"x": 3, "y": "yes"}\n',
            "t.jsonl",
            "correct it, or write null",
            b'{"x": 3, "y": null}\n',
        ),
        (b'{"x": 3, "y": "6,5"}\n', "t.jsonl", "write it as 1234.5", b'{"x": 3, "y": "6.5"}\n'),
    ],
)
def test_a_label_has_the_remedies_of_its_looks(
    refused_at_first, read, data: bytes, name: str, begins: str, mended: bytes | dict[str, Any]
) -> None:
    found = refused_at_first(data, name, Fields("y"))
    assert found.rule == "a label is a number"
    assert found.remedy.startswith(begins)
    assert "missing.fill" not in found.remedy  # it is for features
    parts, data = (mended, data) if isinstance(mended, dict) else ({}, mended)
    assert read(data, name, Fields("y", **parts)).rejected == 0


def test_fields_that_another_mark_separates_are_told_by_their_label(refused_at_first, read) -> None:
    data, fields = b"3,5;6,1\n4,5;7,1\n", Fields(1)
    remedy = refused_at_first(data, "t.csv", fields).remedy
    assert remedy.startswith('set csv.delimiter = ";" and csv.decimal = ","')
    mended = Fields(1, dialect=Dialect(delimiter=";", decimal=","))
    assert read(data, "t.csv", mended).y.tolist() == [6.1, 7.1]


@pytest.mark.parametrize("label", ["shared", "1:2:0.4", "1:0 2:1", "ccb shared"])
def test_labels_of_other_learners_of_vowpal_wabbit_are_said_to_be_that(
    refused_at_first, label: str
) -> None:
    fields = Fields("label", format="vw", weight="importance", hashed=Hashed(4))
    found = refused_at_first(f"{label} | a b\n".encode(), "t.vw", fields)
    assert "with costs or actions" in found.remedy
    kind = replace(fields, labels="class", classes=(0, 1))
    if ":" in label:
        kinds = refused_at_first(f"{label} | a b\n".encode(), "t.vw", kind)
        assert "with costs or actions" in kinds.remedy


def test_to_predict_a_label_with_costs_is_none_and_no_bad_row(read) -> None:
    fields = Fields("label", format="vw", unlabelled="keep", hashed=Hashed(4))
    for kind in (fields, replace(fields, labels="class", classes=(0, 1))):
        assert read(b"1:2:0.4 | a b\n1 | a\n", "t.vw", kind).rejected == 0


def test_labels_with_costs_teach_no_classes(tmp_path) -> None:
    path = tmp_path / "t.vw"
    path.write_text("1:2:0.4 | a\n1 | a\n2:0 | b\n")
    fields = Fields("label", format="vw", labels="class", hashed=Hashed(4))
    source = prepare(path, "t.vw", tmp_path / "scratch", fields)
    (chunk,) = Survey(source, 4 << 20)
    assert labels(source, chunk, fields) == {1.0: 1}


def test_a_sparse_row_is_not_told_to_have_an_empty_cell(refused_at_first, read) -> None:
    for name, data, said in [
        ("t.svm", b"0x1 1:2\n", "delete the row"),
        ("t.vw", b"0x1 | a\n", "leave the label out"),
    ]:
        fields = Fields("label", format="svmlight" if "svm" in name else "vw", hashed=Hashed(4))
        assert said in refused_at_first(data, name, fields).remedy
    assert read(b" | a\n1 | a\n", "t.vw", fields).unlabelled == 1


def test_times_of_parquet_have_their_remedy(refused, read) -> None:
    out = io.BytesIO()
    pl.DataFrame({"y": [1], "a": [datetime.datetime(2024, 5, 1, 13)]}).write_parquet(out)
    assert refused(out.getvalue(), "t.parquet", Fields("y")).refusal.remedy.startswith(
        "name the column in `times`"
    )
    assert read(out.getvalue(), "t.parquet", Fields("y", **DATES)).x.tolist() == [[2024]]


@pytest.mark.parametrize(
    ("cell", "rule"),
    [
        ("2023-02-30", "a time has a day and an hour that exist"),
        ("2024-05-01 25:00", "a time has a day and an hour that exist"),
        ("2024-05-01T25:00:00.5+02:00", "a time has a day and an hour that exist"),
        ("01.05.2024", "a time is written as 2024-05-01, or 2024-05-01 13:30:00"),
        ("-2024-05-01", "a time is written as 2024-05-01, or 2024-05-01 13:30:00"),
        ("+2024-05-01", "a time is written as 2024-05-01, or 2024-05-01 13:30:00"),
    ],
)
def test_a_day_that_does_not_exist_is_not_said_to_be_written_otherwise(
    refused_at_first, cell: str, rule: str
) -> None:
    found = refused_at_first(f"y,a\n1,{cell}\n".encode(), "t.csv", Fields("y", **DATES))
    assert (found.rule, found.value) == (rule, cell)


@pytest.mark.parametrize(
    ("row", "said", "mended"),
    [
        ('1, "a,b", 3', "remove the blanks before the quote", '1,"a,b", 3'),
        ('1, "a" , 3', "remove the blanks before the quote", '1,"a", 3'),
        ('1,"a" , 3', "remove the blanks behind the quote", '1,"a", 3'),
        ('1, 2,"3" ', "remove the blanks behind the quote", '1, 2,"3"'),
        ('1,5" x 8",3', "quote the whole field, and write", '1,"5"" x 8""",3'),
    ],
)
def test_a_blank_between_quote_and_delimiter_is_to_be_removed(
    refused, read, row: str, said: str, mended: str
) -> None:
    fields = Fields("k", hashed=Hashed(8, ("a",)))
    assert refused(f"k,a,b\n{row}\n".encode(), "t.csv", fields).refusal.remedy.startswith(said)
    assert read(f"k,a,b\n{mended}\n".encode(), "t.csv", fields).rejected == 0


def test_a_tab_that_delimits_is_no_blank_beside_a_quote(refused, read) -> None:
    data = b'k\ta\tb\n1\t "x"\t3\n'
    fields = Fields("k", hashed=Hashed(8, ("a",)))
    assert refused(data, "t.tsv", fields).refusal.remedy.startswith("remove the blanks before")
    assert read(data.replace(b" ", b""), "t.tsv", fields).rejected == 0


@pytest.mark.parametrize(
    ("row", "value", "said"),
    [
        ("1", "1 field: 1", "fill in or delete the row"),
        ("1,2,3", "3 fields: 1,2,3", "where every row has one more, name it in the header, too"),
        (
            "1,2,3,4",
            "4 fields: 1,2,3,4",
            "quote fields that hold the delimiter; else delete the row",
        ),
    ],
)
def test_a_row_of_another_width_is_shown(refused_at_first, row: str, value: str, said: str) -> None:
    found = refused_at_first(f"a,y\n{row}\n".encode(), "t.csv", Fields("y"))
    assert found.value == value
    assert said in found.remedy


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_what_json_has_no_number_for_is_to_be_null(refused_at_first, read, constant: str) -> None:
    data = f'{{"a": 1, "y": 2}}\n{{"a": {constant}, "y": 2}}\n'.encode()
    found = refused_at_first(data, "t.jsonl", Fields("y"))
    assert found.remedy == "write null where there is no number"
    mended = data.replace(constant.encode(), b"null")
    assert read(mended, "t.jsonl", Fields("y", gaps=Gaps("zero"))).rejected == 0


@pytest.mark.parametrize(
    ("value", "said"), [('{"b": 3, "c": 4}', "bring its keys up"), ("[3, 4]", "a key of its own")]
)
def test_what_is_nested_in_json_has_a_command_that_flattens_it(
    refused_at_first, read, tmp_path, value: str, said: str
) -> None:
    data = f'{{"x": 1, "the user": {value}, "y": 2}}\n'.encode()
    found = refused_at_first(data, "t.jsonl", Fields("y"))
    assert said in found.remedy
    assert read(data, "t.jsonl", Fields("y", ("x",))).rejected == 0
    if shutil.which("jq"):
        (tmp_path / "old").write_bytes(data)
        command = found.remedy[found.remedy.index("jq") :] + " old > new"
        subprocess.run(["bash", "-euc", command], cwd=tmp_path, check=True)
        assert read((tmp_path / "new").read_bytes(), "t.jsonl", Fields("y")).rejected == 0


def test_an_array_of_two_dimensions_is_no_column_of_its_name(refused, read) -> None:
    out, flat = io.BytesIO(), io.BytesIO()
    np.savez(out, x=np.ones((3, 2)), y=np.ones((3, 1)))
    np.savez(flat, x=np.ones((3, 2)), y=np.ones((3, 1)).ravel())
    remedy = refused(out.getvalue(), "t.npz", Fields("y")).refusal.remedy
    assert "as (rows,), with ravel()" in remedy
    assert read(flat.getvalue(), "t.npz", Fields("y")).rejected == 0
    assert read(out.getvalue(), "t.npz", Fields("y0")).rejected == 0


@pytest.mark.parametrize("fill", ["none", "zero"])
def test_an_empty_time_is_a_remedy_where_it_may_be_empty(refused_at_first, read, fill) -> None:
    fields = Fields("y", gaps=Gaps(fill), **DATES)
    remedy = refused_at_first(b"y,a\n1,yesterday\n", "t.csv", fields).remedy
    assert ("missing.fill" in remedy) == (fill == "none")
    assert read(b"y,a\n1,\n", "t.csv", fields).rejected == (fill == "none")


def test_a_row_of_svmlight_to_predict_may_have_any_number_or_a_question_mark(
    refused_at_first, read
) -> None:
    fields = Fields("label", unlabelled="keep", format="svmlight", hashed=Hashed(4))
    remedy = refused_at_first(b"1:2 3:4\n", "t.svm", fields).remedy
    assert "any number, or ?, will do" in remedy
    assert read(b"? 1:2 3:4\n0 1:2\n", "t.svm", fields).rejected == 0


@pytest.mark.parametrize(
    ("classes", "label", "said"),
    [
        ((0, 1), "2", "softmax"),
        (("p", "q", "r"), "s", "set model.classes_max to more than 3"),
        (("p", "q", "r"), "2", "correct the label: the classes are names"),
        ((1, 2, 3), "p", "correct the label: the classes are numbers"),
    ],
)
def test_a_label_that_is_no_class_has_the_remedy_of_its_job(
    refused_at_first, classes: tuple[Any, ...], label: str, said: str
) -> None:
    fields = Fields("y", labels="class", classes=classes)
    assert said in refused_at_first(f"a,y\n1,{label}\n".encode(), "t.csv", fields).remedy
