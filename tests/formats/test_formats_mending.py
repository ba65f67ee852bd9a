"""A cell that is no number is told a remedy that fits what it looks like, and that works when it is followed."""

from __future__ import annotations

import datetime
import io
from typing import Any

import polars as pl
import pytest

from service.formats import Fields, Gaps
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
        ("1,234,567", "write it as 1234.5, without anything between thousands", None),
        ("12.l", "write it as 1234.5, digits alone", None),
        ("$5", "write it as 1234.5, digits alone", None),
        ("--", "add it to missing.values", {"gaps": Gaps("zero", ("--",))}),
        ("#N/A", "add it to missing.values", {"gaps": Gaps("zero", ("#N/A",))}),
    ],
)
def test_the_remedy_is_for_what_the_cell_looks_like(
    refused_at_first, read, cell: str, begins: str, parts: dict[str, Any] | None
) -> None:
    data = f"y;a;b\n1;{cell};2\n".encode()
    assert refused_at_first(data, "t.csv", Fields("y")).remedy.startswith(begins)
    if parts is not None:
        assert read(data, "t.csv", Fields("y", **parts)).rejected == 0


def test_times_of_parquet_have_their_remedy(refused, read) -> None:
    out = io.BytesIO()
    pl.DataFrame({"y": [1], "a": [datetime.datetime(2024, 5, 1, 13)]}).write_parquet(out)
    assert refused(out.getvalue(), "t.parquet", Fields("y")).refusal.remedy.startswith(
        "name the column in `times`"
    )
    assert read(out.getvalue(), "t.parquet", Fields("y", **DATES)).x.tolist() == [[2024]]


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
