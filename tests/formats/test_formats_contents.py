"""A file that isn't what its name says is told a way out, which works, and not another name that is refused in its turn."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile

import numpy as np
import polars as pl
import pytest

from service.formats import Fields, Limits

CSV = b"x,y\n1,2\n3,4\n"
FIELDS = Fields("y")


def _zip(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def _arrays() -> bytes:
    out = io.BytesIO()
    np.savez(out, x=np.ones((3, 2)), y=np.arange(3.0))
    return out.getvalue()


def _parquet() -> bytes:
    out = io.BytesIO()
    pl.DataFrame({"x": [1], "y": [2]}).write_parquet(out)
    return out.getvalue()


def _named(value: str | bytes) -> str:
    """Packed bytes hold the time; a test's name doesn't."""
    return "" if isinstance(value, bytes) else value


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.xlsx", _zip(sheet=CSV), "export the sheet as CSV"),
        ("a.csv", _zip(sheet=CSV), "if it is a workbook (xlsx, ods), export the sheet as CSV"),
        (
            "a.csv.gz",
            gzip.compress(_zip(sheet=CSV)),
            "unpack the gzip around it; then if it is a workbook",
        ),
        ("a.csv", b"\xd0\xcf\x11\xe0\xa1\xb1", "export the sheet as CSV"),
        ("a.csv.zip", _zip(a=CSV), "unpack it"),
        ("a.tar.gz", gzip.compress(CSV), "unpack it"),
        ("a.csv.bz2", bz2.compress(CSV), "unpack it, and drop what is in it; or pack it with gzip"),
        ("a.csv", bz2.compress(CSV), "unpack it, and drop what is in it; or pack it with gzip"),
        ("a.csv", lzma.compress(CSV), "unpack it, and drop what is in it; or pack it with gzip"),
        ("a.parquet.gz", gzip.compress(_parquet()), "unpack it"),
        ("a.sav", b"$FL2", "export the table as CSV or Parquet"),
        ("a.json", b"[]", "jq -c '.[]'"),
        ("a.txt.gz", gzip.compress(CSV), "rename the file by what it holds"),
        ("a", CSV, "give its name the suffix"),
        ("a.parquet", CSV, "call it by what it holds"),
    ],
    ids=_named,
)
def test_what_the_file_is_decides_the_remedy(refused, name: str, data: bytes, said: str) -> None:
    assert said in refused(data, name, FIELDS).refusal.remedy


@pytest.mark.parametrize(
    ("name", "data", "said", "then", "mended"),
    [
        ("a.csv", _arrays(), "arrays of numpy call .npz", "a.npz", _arrays()),
        ("a.csv", _parquet(), "call it .parquet", "a.parquet", _parquet()),
        ("a.parquet", _arrays(), "arrays of numpy call .npz", "a.npz", _arrays()),
        ("a.csv", gzip.compress(CSV), "let its name end with .gz", "a.csv.gz", gzip.compress(CSV)),
        ("a.csv.gz", CSV, "without .gz or .zst", "a.csv", CSV),
        ("a.csv.gz", gzip.compress(gzip.compress(CSV)), "unpack the gzip around it; then let its name end with .gz",
         "a.csv.gz", gzip.compress(CSV)),
        ("a.csv.gz", gzip.compress(_parquet()), "unpack the gzip around it; then call it .parquet", "a.parquet", _parquet()),
    ],
    ids=_named,
)  # fmt: skip
def test_who_does_what_is_said_has_a_file_that_is_read(
    refused, read, name: str, data: bytes, said: str, then: str, mended: bytes
) -> None:
    fields = Fields("y")
    assert said in refused(data, name, fields).refusal.remedy
    assert read(mended, then, fields).rejected == 0


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv.zst", "a.csv"])
def test_an_empty_file_is_called_that(refused, name: str) -> None:
    assert refused(b"", name, FIELDS).refusal.value == "an empty file"


@pytest.mark.parametrize(
    ("name", "data", "fields"),
    [
        ("a.csv", CSV, FIELDS),
        ("a.jsonl", b'{"x": 1, "y": 2}\n', FIELDS),
    ],
)
def test_nul_bytes_at_the_end_are_to_be_cut_off(
    refused, read, name: str, data: bytes, fields
) -> None:
    for nuls in (b"\0", b"\0" * 5000 + b"\n"):
        found = refused(data + nuls, name, fields).refusal
        assert found.remedy.startswith("cut the NUL bytes off the end")
        assert read((data + nuls).replace(b"\0", b""), name, fields).rejected == 0


def test_nul_bytes_before_the_end_may_be_another_encoding_too(refused) -> None:
    remedy = refused(b"x,y\n1,\x002\n3,4\n", "a.csv", FIELDS).refusal.remedy
    assert "csv.encoding" in remedy
    assert "if it is UTF-8, delete them" in remedy


def test_a_quoted_field_that_closes_beyond_the_limit_breaks_the_limit(refused) -> None:
    long = b'x,y\n"' + b"5" * 300 + b'",2\n'
    found = refused(long, "a.csv", FIELDS, limits=Limits(max_row_bytes=200)).refusal
    assert found.rule == "a row has at most 200 bytes"
    assert found.place == "a.csv:2"
    assert found.value == "more than 200, the last of them in quotes"
    assert "close the quotes" in found.remedy
    assert refused(long[:-4], "a.csv", FIELDS).refusal.value == "a quote without an end"
