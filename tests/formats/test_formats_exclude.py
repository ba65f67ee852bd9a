"""Columns that the settings exclude are never learnt, whatever they hold, and need not be there later."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from service.formats import Fields, unused_of

ROWS = [{"name": "Ann", "a": 1.5, "list": "x", "b": 2.0, "y": 3.0}]
FIELDS = Fields("y", exclude=("name", "list"))


def _csv() -> bytes:
    return b"name,a,list,b,y\nAnn,1.5,x,2,3\n"


def _jsonl() -> bytes:
    return b'{"name":"Ann","a":1.5,"list":[1,{"c":2}],"b":2,"y":3}\n'


def _parquet() -> bytes:
    out = io.BytesIO()
    pl.DataFrame(ROWS).with_columns(pl.Series("list", [[1, 2]])).write_parquet(out)
    return out.getvalue()


def _npz() -> bytes:
    out = io.BytesIO()
    np.savez(out, **{name: np.array([value]) for name, value in ROWS[0].items()})  # type: ignore[arg-type]
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [("t.csv", _csv()), ("t.jsonl", _jsonl()), ("t.parquet", _parquet()), ("t.npz", _npz())],
)
def test_what_is_excluded_is_no_feature_in_any_format(read, refused, name, data):
    got = read(data, name, FIELDS)
    assert (got.x.tolist(), got.y.tolist()) == ([[1.5, 2]], [3])
    assert unused_of(got.source, FIELDS) == 0
    told = refused(data, name, replace(FIELDS, exclude=("nmae", "list"))).refusal
    assert told.rule == "a file has the excluded column nmae"
    assert told.remedy.startswith("correct `exclude`")


def test_a_later_file_may_lack_what_is_excluded(read):
    learnt = replace(FIELDS, features=("a", "b"))
    got = read(b"b,y,a,c\n2,3,1.5,x\n", "t.csv", learnt)
    assert got.x.tolist() == [[1.5, 2]]
    assert unused_of(got.source, learnt) == 1


def test_columns_without_a_name_or_that_share_one_can_be_excluded(read, refused):
    index = b",a,b,y\nr1,1.5,2,3\n"
    assert 'exclude = [""]' in refused(index, "t.csv", Fields("y")).refusal.remedy
    assert read(index, "t.csv", Fields("y", exclude=("",))).x.tolist() == [[1.5, 2]]
    named = refused(b"a,b,y\n1.5,2,3\n", "t.csv", Fields("y", exclude=("",))).refusal
    assert named.rule == 'a file has the excluded column ""'
    twice = b"c,a,c,b,y\np,1.5,q,2,3\n"
    assert refused(twice, "t.csv", Fields("y")).refusal.value == "c"
    assert read(twice, "t.csv", Fields("y", exclude=("c",))).x.tolist() == [[1.5, 2]]


def test_without_a_header_columns_are_excluded_by_number(read):
    assert read(b"Ann,1.5,x,2,3\n", "t.csv", Fields(4, exclude=(0, 2))).x.tolist() == [[1.5, 2]]


def test_without_a_label_numbers_that_are_excluded_mean_no_header(read):
    clusters = Fields(None, labels="none", exclude=(0,))
    assert read(b"7,1,2\n8,3,4\n", "t.csv", clusters).x.tolist() == [[1, 2], [3, 4]]


def test_who_excludes_all_columns_is_told_so(refused):
    told = refused(b"a,y\n1,2\n", "t.csv", Fields("y", exclude=("a",))).refusal
    assert told.rule.endswith("offset and exposure, and those that are excluded")
    assert told.remedy.endswith("correct `exclude`")
