"""Parquet, NPY and NPZ, rule by rule."""

from __future__ import annotations

import io
import random
import struct
import zipfile
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal, localcontext

import numpy as np
import polars as pl
import pytest

from service.formats import Fields, Limits, Survey
from service.formats.contract import Hashed

Y = Fields("y")


def parquet(frame: pl.DataFrame, **options: object) -> bytes:
    out = io.BytesIO()
    frame.write_parquet(out, **options)  # type: ignore[arg-type]
    return out.getvalue()


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


def npz(*, compressed: bool = False, **arrays: np.ndarray) -> bytes:
    out = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(out, **arrays)
    return out.getvalue()


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


# --- Parquet ---


@pytest.mark.parametrize("chunk_bytes", [1, 100, 4 << 20])
def test_parquet_rows_come_in_order_across_row_groups(read, chunk_bytes):
    frame = pl.DataFrame({"a": np.arange(50.0), "y": np.arange(50) % 3})
    got = read(parquet(frame, row_group_size=7), "t.parquet", Y, chunk_bytes)
    assert got.x[:, 0].tolist() == list(range(50))
    assert got.row.tolist() == list(range(50))
    assert got.source.rows == 50


def test_every_plain_type_of_parquet_is_a_number_or_text(read):
    columns = {
        "b": pl.Series([True, False]),
        "i": pl.Series([2**53 + 1, -1], dtype=pl.Int64),
        "u": pl.Series([2**64 - 1, 0], dtype=pl.UInt64),
        "f": pl.Series([0.1, -0.0], dtype=pl.Float32),
        "d": pl.Series([Decimal("1.1"), Decimal("-0.3")], dtype=pl.Decimal(20, 10)),
        "s": pl.Series(["1.5", " 2 "]),
        "c": pl.Series(["3", "4"], dtype=pl.Categorical),
        "y": pl.Series([1, 2]),
    }
    got = read(parquet(pl.DataFrame(columns)), "t.parquet", Y)
    first = [1, float(2**53), float(2**64), float(np.float32(0.1)), 1.1, 1.5, 3]
    assert got.x.tolist() == [first, [0, -1, 0, -0.0, -0.3, 2, 4]]


def test_decimals_round_as_their_text_does(read):
    numbers = [random.Random(seed).randrange(-(10**38) + 1, 10**38) for seed in range(500)]
    with localcontext(prec=60):
        values = [Decimal(number).scaleb(-20) for number in numbers]
    frame = pl.DataFrame({"a": pl.Series(values, dtype=pl.Decimal(38, 20))}).with_columns(y=0)
    got = read(parquet(frame), "t.parquet", Y)
    assert got.x[:, 0].tolist() == [float(str(value)) for value in values]


def test_parquet_ids_and_times_are_text(read):
    frame = pl.DataFrame(
        {
            "i": [17, None],
            "t": [datetime(2026, 1, 2, 3), datetime(2027, 1, 1)],
            "a": [1, 2],
            "y": [1, 2],
        }
    )
    got = read(parquet(frame), "t.parquet", Fields("y", id="i", time="t"))
    assert got.carried["id"] == ["17", None]
    assert got.carried["time"] == ["2026-01-02T03:00:00.000000", "2027-01-01T00:00:00.000000"]


def test_parquet_nulls_are_missing_values_or_missing_labels(read):
    frame = pl.DataFrame({"a": [1.0, None, 3.0, float("nan")], "y": [None, 2.0, float("nan"), 1.0]})
    got = read(parquet(frame), "t.parquet", Y)
    assert (len(got.y), got.unlabelled, got.rejected) == (0, 2, 2)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (pl.Series([[1, 2]]), "List"),
        (pl.Series([{"q": 1}]), "Struct"),
        (pl.Series([b"x"]), "Binary"),
        (pl.Series([date(2026, 1, 1)]), "Date"),
    ],
)
def test_columns_that_are_no_numbers_can_stay_but_not_be_used(read, refused, column, value):
    data = parquet(pl.DataFrame({"a": [1.0], "n": column, "y": [1]}))
    assert read(data, "t.parquet", Fields("y", features=("a",))).x.tolist() == [[1]]
    refusal = refused(data, "t.parquet", Y).refusal
    assert "numbers or text" in refusal.rule
    assert value in refusal.value
    assert "column n" in refusal.place


def test_a_torn_parquet_file_is_refused_at_every_length(refused):
    data = parquet(pl.DataFrame({"a": [1.0, 2.0], "y": [1, 2]}))
    for length in range(0, len(data), 7):
        refusal = refused(data[:length], "t.parquet", Y).refusal
        assert refusal.place == "t.parquet"


def test_a_parquet_file_with_no_rows_or_no_label_is_refused(refused):
    empty = parquet(pl.DataFrame({"a": [1.0], "y": [1]}).clear())
    assert refused(empty, "t.parquet", Y).refusal.value == "no rows"
    other = parquet(pl.DataFrame({"a": [1.0], "z": [1]}))
    assert refused(other, "t.parquet", Y).refusal.value == "columns a, z"


PANDAS = '{"index_columns": ["k", {"kind": "range", "name": null}], "columns": []}'


def test_the_index_of_a_frame_of_pandas_is_no_feature_unless_it_is_named(read):
    frame = pl.DataFrame({"a": [1.0, 2.0], "k": [7, 8], "y": [1, 2]})
    data = parquet(frame, metadata={"pandas": PANDAS})
    assert read(data, "t.parquet", Y).x.tolist() == [[1], [2]]
    assert read(data, "t.parquet", Fields("y", features=("k",))).x.tolist() == [[7], [8]]
    assert read(data, "t.parquet", Fields("y", id="k")).carried == {"id": ["7", "8"]}
    named = read(data, "t.parquet", Fields("y", hashed=Hashed(20, ("k",))))
    assert (named.x.tolist(), named.sparse.starts.tolist()) == ([[1], [2]], [0, 1, 2])
    assert read(data, "t.parquet", Fields("y", times=(("k", ("day",)),))).rejected == 2


def test_a_frame_of_nothing_but_an_index_is_told_to_name_it(refused):
    data = parquet(pl.DataFrame({"k": [7], "y": [1]}), metadata={"pandas": PANDAS})
    assert "pandas' index" in refused(data, "t.parquet", Y).refusal.remedy


@pytest.mark.parametrize("said", ["", "[", "[" * 100_000, "[]", "{}", '{"index_columns": 1}'])
def test_what_pandas_is_said_to_have_written_is_not_relied_on(read, said):
    frame = pl.DataFrame({"a": [1.0, 2.0], "k": [7, 8], "y": [1, 2]})
    got = read(parquet(frame, metadata={"pandas": said}), "t.parquet", Y)
    assert got.x.tolist() == [[1, 7], [2, 8]]


def test_an_encrypted_parquet_file_is_refused(refused):
    data = parquet(pl.DataFrame({"a": [1.0], "y": [1]}))
    assert "footer" in refused(data[:-4] + b"PARE", "t.parquet", Y).refusal.rule


# --- NPY and NPZ ---


@pytest.mark.parametrize("chunk_bytes", [1, 50, 4 << 20])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<f4", ">i2", "u1", "<u8"])
def test_npy_of_any_order_and_width_is_read(read, dtype, order, chunk_bytes):
    array = np.array(np.arange(60).reshape(20, 3), dtype, order=order)
    got = read(npy(array), "t.npy", Fields(2), chunk_bytes)
    assert got.x.tolist() == array[:, :2].tolist()
    assert got.y.tolist() == array[:, 2].tolist()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("chunk_bytes", [1, 200, 4 << 20])
def test_npz_of_images_and_labels_is_read(read, compressed, chunk_bytes):
    x = np.arange(40 * 6).reshape(40, 6).astype(np.uint8)
    y = np.arange(40) % 4
    fields = Fields("y", labels="class", classes=(0, 1, 2, 3))
    got = read(npz(compressed=compressed, x=x, y=y), "t.npz", fields, chunk_bytes)
    assert np.array_equal(got.x, x)
    assert np.array_equal(got.y, y)
    assert got.source.columns == ("x0", "x1", "x2", "x3", "x4", "x5", "y")


def test_npz_with_an_array_for_each_column_is_read(read):
    data = npz(
        a=np.array([1, 2]), b=np.array([True, False]), i=np.array([7, 8]), y=np.array(["UP", "é"])
    )
    fields = Fields("y", id="i", labels="class", classes=("é", "UP"))
    got = read(data, "t.npz", fields)
    assert got.x.tolist() == [[1, 1], [2, 0]]
    assert got.y.tolist() == [1, 0]
    assert got.carried["id"] == ["7", "8"]


def test_for_predictions_an_npz_needs_its_features_only(read):
    fields = Fields("y", id="k", labels="class", classes=(0, 1), unlabelled="keep")
    got = read(npz(a=np.arange(3.0)), "t.npz", replace(fields, features=("a",)))
    assert (got.x[:, 0].tolist(), got.carried) == ([0, 1, 2], {"id": [None] * 3})
    strange = read(npz(a=np.arange(3.0), y=np.array([1, 5, 0])), "t.npz", fields)
    assert np.isnan(strange.y).tolist() == [False, True, False]


def test_features_of_an_npz_may_be_picked_in_any_order(read):
    x = np.arange(8).reshape(2, 4)
    got = read(npz(x=x, y=np.zeros(2)), "t.npz", Fields("y", features=("x3", "x1", "x2")))
    assert got.x.tolist() == [[3, 1, 2], [7, 5, 6]]


def test_nan_in_an_array_is_a_bad_feature_or_no_label(read):
    array = np.array([[1, np.nan], [np.nan, 1], [np.inf, 1], [2, 3], [1, np.inf]])
    got = read(npy(array), "t.npy", Fields(1))
    assert (got.x.tolist(), got.unlabelled, got.rejected) == ([[2]], 1, 3)
    assert [(row, column) for row, column, _, _ in got.bad] == [(1, "0"), (2, "0"), (4, "1")]


def header(text: bytes, version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text


LIES = b"{'descr': '<f8', 'fortran_order': False, 'shape': (%s), }\n"
BAD_ARRAYS = [
    (npy(np.array([[1, "a", None]], dtype=object)), "never objects"),
    (npy(np.zeros((2, 2), dtype=complex)), "never objects"),
    (npy(np.zeros((2, 2), dtype="M8")), "never objects"),
    (npy(np.zeros((2, 2), dtype="M8[s]")), "numbers or text"),
    (npy(np.zeros((2, 2), dtype="m8[s]")), "never objects"),
    (npy(np.zeros((2, 2), dtype=np.longdouble)), "never objects"),
    (npy(np.zeros(2, dtype=[("a", "f8"), ("y", "f8")])), "never objects"),
    (npy(np.zeros(4)), "two dimensions"),
    (npy(np.zeros((2, 2, 2))), "one or two dimensions"),
    (npy(np.zeros((0, 2))), "holds rows"),
    (npy(np.zeros((2, 2)))[:-1], "has its bytes"),
    (npy(np.zeros((2, 2))) + b"x", "has its bytes"),
    (header(LIES % b"10**9, 2"), "header"),
    (header(LIES % b"1000000000000000000000, 2"), "has its bytes"),
    (header(LIES % b"-1, 2"), "one or two dimensions"),
    (header(b"(" * 5000), "header"),
    (header(b"{'descr': '<f8'}\n"), "header"),
    (header(b"", b"\x09\x00"), "header"),
    (b"a,y\n1,2\n", "header"),
    (b"", "holds rows"),
]


@pytest.mark.parametrize(("data", "rule"), BAD_ARRAYS)
def test_a_broken_array_is_refused(refused, data, rule):
    assert rule in refused(data, "t.npy", Fields(1)).refusal.rule


def test_an_npy_file_has_numbers_for_columns(refused):
    assert "are numbers" in refused(npy(np.zeros((2, 2))), "t.npy", Y).refusal.rule
    assert "label column 7" in refused(npy(np.zeros((2, 2))), "t.npy", Fields(7)).refusal.rule


GOOD = {"a.npy": npy(np.arange(3.0)), "y.npy": npy(np.arange(3.0))}
BAD_ARCHIVES = [
    (b"", "is what the name says"),
    (npy(np.zeros((2, 2))), "is what the name says"),
    (zipped({}), "holds arrays"),
    (zipped(GOOD | {"../y2.npy": GOOD["y.npy"]}), "COLUMN.npy"),
    (zipped(GOOD | {"/etc/passwd.npy": GOOD["y.npy"]}), "COLUMN.npy"),
    (zipped(GOOD | {"notes.txt": b"hello"}), "COLUMN.npy"),
    (zipped(GOOD | {"a.npy": npy(np.arange(4.0))}), "same length"),
    (zipped(GOOD | {"x.npy": npy(np.zeros((3, 2))), "x1.npy": GOOD["a.npy"]}), "own name"),
    (zipped(GOOD | {"o.npy": npy(np.array([{}, 1, None], dtype=object))}), "never objects"),
    (zipped(GOOD, zipfile.ZIP_BZIP2), "stored or deflated"),
    (zipped(GOOD)[:-30], "is whole"),
    (zipped(GOOD).replace(b"\x00\x00\xf0?", b"\x00\x00\xf1?"), "is whole"),
    (zipped({"a.npy": GOOD["a.npy"]}), "label column y"),
]


@pytest.mark.parametrize(("data", "rule"), BAD_ARCHIVES)
def test_a_broken_archive_is_refused(refused, data, rule):
    assert rule in refused(data, "t.npz", Y).refusal.rule


def test_text_among_features_counts_as_the_numbers_it_says(read):
    data = npz(a=np.array(["1.5", "x", "true"]), b=np.arange(3), y=np.zeros(3))
    got = read(data, "t.npz", Y)
    assert got.x.tolist() == [[1.5, 0], [1, 2]]
    assert got.bad == [(1, "a", "a feature is a number", "x")]


def test_an_array_of_objects_is_told_what_to_become(refused):
    refusal = refused(npz(a=np.array([date(2024, 1, 1)]), y=np.zeros(1)), "t.npz", Y).refusal
    assert refusal.remedy.startswith("save it as numbers, as text (astype(str)), or as times")


@pytest.mark.parametrize("unit", ["h", "m", "s", "ms", "us", "ns", ">ns", "ps", "10m"])
def test_times_of_every_unit_are_text_as_parquet_has_it(read, unit):
    order, unit = (">", unit[1:]) if unit[0] == ">" else ("<", unit)
    times = np.array(["1970-02-27T22:10", "NaT"], "M8[s]").astype(f"{order}M8[{unit}]")
    got = read(npz(t=times, a=np.zeros(2), y=np.zeros(2)), "t.npz", Fields("y", time="t"))
    text, nothing = got.carried["time"]
    assert (text[:16], nothing) == (f"1970-02-27T22:{'00' if unit == 'h' else '10'}", None)


@pytest.mark.parametrize(("unit", "time"), [("s", 2**62), ("Y", 300_000), ("D", 2**40)])
def test_a_time_beyond_all_calendars_is_refused(refused, unit, time):
    times = np.array([0, time]).astype(f"M8[{unit}]")
    data = npz(t=times, a=np.zeros(2), y=np.zeros(2))
    assert str(time) in refused(data, "t.npz", Fields("y", time="t")).refusal.value


def test_an_archive_that_unpacks_to_too_much_is_refused(refused):
    data = npz(compressed=True, x=np.zeros((10_000, 100), np.uint8), y=np.zeros(10_000))
    refusal = refused(data, "t.npz", Y, limits=Limits(max_bytes=100_000)).refusal
    assert "at most 100000 bytes" in refusal.rule


def test_overlapping_members_are_refused(refused):
    data = bytearray(zipped(GOOD))
    second = data.rfind(b"PK\x01\x02")
    data[second + 42 : second + 46] = struct.pack("<I", 4)
    assert refused(bytes(data), "t.npz", Y).refusal.rule in (
        "members lie side by side, in the clear",
        "an NPZ archive is whole",
    )


def test_rows_of_wide_text_come_in_small_chunks_and_within_the_limit(read, refused):
    data = npz(a=np.array(["x" * 1000, "y"] * 20), y=np.zeros(40))
    fields = Fields("y", features=(), hashed=Hashed(20, ("a",)))
    got = read(data, "t.npz", fields, 10_000)
    assert got.rows_seen == 40
    assert len([*Survey(got.source, 10_000)]) == 4
    refusal = refused(data, "t.npz", fields, limits=Limits(max_row_bytes=4007)).refusal
    assert (refusal.rule, refusal.value) == ("a row has at most 4007 bytes", "4008")
