"""The same rows give the same bits, whatever the format, the packing and the size of the chunks."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.formats import Fields, Gaps, Limits, Survey, labels, names, prepare
from service.formats.contract import Dialect, Hashed

pytestmark = pytest.mark.usefixtures("as_few_and_many")
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9).map(float)
NAMES = ["UP", "DOWN", 'é, "q"\n', "7", " x:{} "]
PATTERNS = ["x", "x0", "*", "^x.*$", "^*$"]
"""Names of columns, some of which polars takes for more than names."""
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1, max_size=8)
CHUNKS = [1, 17, 100, 4 << 20]


def as_csv(columns: dict[str, list], end: str, quoting: int) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator=end, quoting=quoting)
    writer.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        writer.writerow(["" if v is None else repr(v) if isinstance(v, float) else v for v in row])
    return out.getvalue().encode()


def as_jsonl(columns: dict[str, list], ascii_only: bool) -> bytes:
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    return "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows).encode()


def as_parquet(columns: dict[str, list], group: int) -> bytes:
    out = io.BytesIO()
    pl.DataFrame(columns).write_parquet(out, row_group_size=group)
    return out.getvalue()


def as_npz(columns: dict[str, list], compressed: bool) -> bytes:
    out = io.BytesIO()
    arrays = {name: np.array(values) for name, values in columns.items()}
    (np.savez_compressed if compressed else np.savez)(out, **arrays)
    return out.getvalue()


@pytest.fixture(scope="module")
def bits(read_whole):
    """bits(data, name, fields, chunk_bytes) -> all that must be equal."""

    def reads(data: bytes, name: str, fields: Fields, chunk_bytes: int) -> tuple[object, ...]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "1")
            path.write_bytes(data)
            source = prepare(path, name, Path(folder, "2"), fields, Limits())
            return read_whole(source, fields, chunk_bytes).bits()

    return reads


@st.composite
def tables(draw: st.DrawFn) -> tuple[dict[str, list], Fields]:
    rows = draw(st.integers(1, 12))
    many = lambda values: draw(st.lists(values, min_size=rows, max_size=rows))  # noqa: E731
    y, w, k, *called = draw(st.permutations(PATTERNS))
    columns: dict[str, list] = {
        name: many(NUMBERS) for name in called[: draw(st.integers(1, len(called)))]
    }
    named = draw(st.booleans())
    columns[y] = many(st.sampled_from(NAMES)) if named else many(NUMBERS)
    fields = {"labels": "class", "classes": tuple(NAMES)} if named else {}
    if draw(st.booleans()):
        columns[w] = many(st.floats(0, 1e9))
        fields["weight"] = w
    if draw(st.booleans()):
        columns[k] = many(TEXTS)
        fields["id"] = k
    return columns, Fields(y, **fields)


@settings(max_examples=60, deadline=None)
@given(tables(), st.sampled_from(CHUNKS), st.booleans(), st.integers(1, 5))
def test_every_format_gives_the_same_bits(bits, table, chunk_bytes, flag, group):
    columns, fields = table
    expected = bits(as_csv(columns, "\n", csv.QUOTE_MINIMAL), "t.csv", fields, 4 << 20)
    files = {
        "a.csv": as_csv(columns, "\r\n" if flag else "\n", csv.QUOTE_ALL),
        "b.csv.gz": gzip.compress(as_csv(columns, "\n", csv.QUOTE_MINIMAL)),
        "c.jsonl": as_jsonl(columns, flag),
        "d.parquet": as_parquet(columns, group),
        "e.npz": as_npz(columns, flag),
    }
    for name, data in files.items():
        assert bits(data, name, fields, chunk_bytes) == expected, name


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(NUMBERS, min_size=3, max_size=3), min_size=1, max_size=20),
    st.sampled_from(CHUNKS),
)
def test_files_without_names_give_the_same_bits(bits, rows, chunk_bytes):
    array = np.array(rows)
    out = io.BytesIO()
    np.save(out, np.asfortranarray(array))
    text = "".join(",".join(map(repr, row)) + "\n" for row in rows).encode()
    tabs = text.replace(b",", b"\t").replace(b"\n", b"\r\n")
    expected = bits(text, "t.csv", Fields(0), 4 << 20)
    for name, data in {"a.npy": out.getvalue(), "b.tsv": tabs, "c.csv": text}.items():
        assert bits(data, name, Fields(0), chunk_bytes) == expected, name
    assert expected[1] == np.ascontiguousarray(array[:, 1:]).tobytes()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(NUMBERS, st.none() | NUMBERS), min_size=1, max_size=20),
    st.sampled_from(CHUNKS),
)
def test_missing_labels_are_the_same_in_every_format(bits, rows, chunk_bytes):
    columns = {"a": [r[0] for r in rows], "y": [r[1] for r in rows]}
    typed = pl.DataFrame(columns, schema={"a": pl.Float64, "y": pl.Float64})
    out = io.BytesIO()
    typed.write_parquet(out)
    filled = {"a": columns["a"], "y": [math.nan if y is None else y for y in columns["y"]]}
    files = {
        "a.csv": as_csv(columns, "\n", csv.QUOTE_MINIMAL),
        "b.csv": as_csv(filled, "\n", csv.QUOTE_MINIMAL),
        "c.jsonl": b'{"a": null, "y": 0}\n' + as_jsonl(columns, True),
        "d.parquet": out.getvalue(),
        "e.npz": as_npz(filled, False),
    }
    got = {name: bits(data, name, Fields("y"), chunk_bytes) for name, data in files.items()}
    assert got["a.csv"] == got["b.csv"] == got["d.parquet"] == got["e.npz"]
    assert got["c.jsonl"][:3] == got["a.csv"][:3]


TIMES = ["2024-02-29", "2024-02-29 13:30", "1969-12-31T23:59:59.5", "2024-05-01 00:00:00Z", None]
PLAIN_TIMES = [time and time[:19].replace(" ", "T").rstrip("Z") for time in TIMES]
KINDS = {
    "dense": Fields("y"),
    "hashed": Fields(
        "y", hashed=Hashed(20, ("c", "n"), ("w",), 2, (("c", "a"), ("a", "b"), ("n", "c")))
    ),
    "chosen": Fields("y", ("b", "t", "a"), hashed=Hashed(20, (), (), 1, (("a", "b"),))),
}


@st.composite
def mixed(draw: st.DrawFn) -> dict[str, list]:
    """Numbers with gaps and without, names, words and times."""
    rows = draw(st.integers(1, 12))
    many = lambda values: draw(st.lists(values, min_size=rows, max_size=rows))  # noqa: E731
    small = st.floats(-1e6, 1e6, width=32)
    return {
        "a": many(small),
        "t": many(st.sampled_from(range(len(TIMES)))),
        "b": many(st.none() | small),
        "c": many(st.sampled_from(NAMES)),
        "n": many(st.sampled_from(["1", "20", "x"])),
        "w": many(st.sampled_from(["one two", "Two, one; TWO", "-"])),
        "y": many(small),
    }


def _arrays(columns: dict[str, list]) -> dict[str, list]:
    """What stands in arrays where nothing does."""
    empty = {name: "" if name in "tcnw" else math.nan for name in columns}
    return {n: [empty[n] if v is None else v for v in column] for n, column in columns.items()}


def _with_commas(columns: dict[str, list]) -> dict[str, list]:
    swapped = lambda v: repr(v).replace(".", ",") if isinstance(v, float) else v  # noqa: E731
    return {name: [*map(swapped, column)] for name, column in columns.items()}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(mixed(), st.sampled_from(CHUNKS), st.booleans(), st.booleans(), st.integers(1, 5))
def test_times_names_words_pairs_and_gaps_are_the_same_in_every_format(
    bits, kind, columns, chunk_bytes, is_timed, flag, group
):
    parts = ("month", "hour", "weekday")
    fields = replace(
        KINDS[kind],
        times=(("t", parts),) if is_timed else (),
        time=None if is_timed else "t",
        gaps=Gaps("mean", (), (("b", "t hour") if is_timed else ("b",))),
    )
    if fields.features is None:
        left_out = () if fields.hashed.bits else ("c", "n", "w")
        columns = {name: cells for name, cells in columns.items() if name not in left_out}
    elif not is_timed:
        fields = replace(fields, features=("b", "a"))
    spelt = columns | {"t": [TIMES[place] for place in columns["t"]]}
    with_commas = replace(fields, dialect=Dialect(";", decimal=","))
    expected = bits(as_csv(spelt, "\n", csv.QUOTE_MINIMAL), "t.csv", fields, 4 << 20)
    files = {
        "a.csv": as_csv(spelt, "\r\n", csv.QUOTE_ALL),
        "b.jsonl": as_jsonl(spelt, flag),
        "c.parquet": as_parquet(spelt, group),
        "d.npz": as_npz(_arrays(spelt), flag),
    }
    for name, data in files.items():
        assert bits(data, name, fields, chunk_bytes) == expected, name
    commaed = as_csv(_with_commas(spelt), "\n", csv.QUOTE_ALL).replace(b'","', b'";"')
    assert bits(commaed, "e.csv", with_commas, chunk_bytes) == expected
    if is_timed:  # else their text is asked for, which keeps how they were spelt
        times = np.array([PLAIN_TIMES[place] or "NaT" for place in columns["t"]], "M8[ms]")
        got = bits(as_npz(_arrays(spelt) | {"t": times}, flag), "f.npz", fields, chunk_bytes)
        assert got == bits(files["a.csv"], "a.csv", fields, 4 << 20)


@pytest.mark.parametrize("chunk_bytes", CHUNKS)
def test_times_among_columns_that_are_numbers_are_the_same(bits, chunk_bytes):
    rows = [["2024-02-29 13:30", "1.5", "7"], ["2023-01-01", "-2", "8"]]
    text = "".join(",".join(row) + "\n" for row in rows).encode()
    out = io.BytesIO()
    np.save(out, np.array(rows))
    for features in (None, ("0 hour", "0 month", "1")):
        fields = Fields(2, features, times=((0, ("hour", "month")),))
        got = bits(out.getvalue(), "t.npy", fields, chunk_bytes)
        assert got == bits(text, "t.csv", fields, 4 << 20)
        assert got[0] == (2, 3)


FLAGS = {"f": [True, False, True], "y": [False, True, True]}
BOOLEAN_FILES = {
    "a.csv": as_csv({name: [str(v).lower() for v in FLAGS[name]] for name in FLAGS}, "\n", 0),
    "b.jsonl": as_jsonl(FLAGS, True),
    "c.jsonl": as_jsonl({name: [str(v) for v in FLAGS[name]] for name in FLAGS}, True).lower(),
    "d.parquet": as_parquet(FLAGS, 2),
    "e.npz": as_npz(FLAGS, False),
}
BOOLEANS = {
    "numbers": (Fields("y"), [[1], [0], [1]], [0, 1, 1]),
    "classes that are numbers": (
        Fields("y", labels="class", classes=(0, 1)), [[1], [0], [1]], [0, 1, 1],
    ),
    "classes that are names": (
        Fields("y", labels="class", classes=("true", "false")), [[1], [0], [1]], [1, 0, 0],
    ),
}  # fmt: skip


@pytest.mark.parametrize("chunk_bytes", CHUNKS)
@pytest.mark.parametrize("name", BOOLEAN_FILES)
def test_booleans_are_numbers_where_numbers_are_learnt(read, name, chunk_bytes):
    for fields, x, y in BOOLEANS.values():
        got = read(BOOLEAN_FILES[name], name, fields, chunk_bytes)
        assert (got.x.tolist(), got.y.tolist()) == (x, y)


@pytest.mark.parametrize("chunk_bytes", CHUNKS)
@pytest.mark.parametrize("name", BOOLEAN_FILES)
def test_booleans_are_their_words_where_they_are_names_ids_or_text(read, name, chunk_bytes):
    slots = {}
    for kind, data in (("given", BOOLEAN_FILES[name]), ("words", BOOLEAN_FILES["a.csv"])):
        called = name if kind == "given" else "a.csv"
        for columns in (("f",), ()), ((), ("f",)):
            fields = Fields("y", id="y", hashed=Hashed(20, *columns))
            got = read(data, called, fields, chunk_bytes)
            assert got.carried == {"id": ["false", "true", "true"]}
            slots[kind, columns] = got.sparse.slots.tolist()
    assert slots["given", (("f",), ())] == slots["words", (("f",), ())]
    assert slots["given", ((), ("f",))] == slots["words", ((), ("f",))]


SPELT = {
    name: as_csv(
        {column: [spell(str(v)) for v in FLAGS[column]] for column in FLAGS}, "\n", quoting
    )
    for name, spell, quoting in (
        ("upper", str.upper, csv.QUOTE_MINIMAL),
        ("title", str.title, csv.QUOTE_ALL),
        ("odd", lambda word: f" {word.swapcase()}\t", csv.QUOTE_MINIMAL),
    )
} | {"text.npz": as_npz({name: [str(v) for v in FLAGS[name]] for name in FLAGS}, False)}


@pytest.mark.parametrize("spelt", SPELT)
@pytest.mark.parametrize("classes", [("true", "false"), ("TRUE", "False")])
def test_names_and_classes_that_are_booleans_are_one_in_any_case(read, tmp_path, spelt, classes):
    name = spelt if "." in spelt else "t.csv"
    fields = Fields("y", labels="class", classes=classes, hashed=Hashed(20, ("f",)))
    got, expected = (
        read(*file, fields)
        for file in ((SPELT[spelt], name), (BOOLEAN_FILES["b.jsonl"], "b.jsonl"))
    )
    assert got.bits() == expected.bits()
    assert got.y.tolist() == [1, 0, 0]
    (tmp_path / "1").write_bytes(SPELT[spelt])
    source = prepare(tmp_path / "1", name, tmp_path / "2", fields)
    (chunk,) = Survey(source, 4 << 20)
    assert labels(source, chunk, fields) == {"false": 1, "true": 2}


def test_words_of_text_and_names_that_hold_more_keep_their_case(read):
    fields = Fields("y", hashed=Hashed(20, ("f",)))
    one, other = (read(b"f,y\n" + f + b",1\n", "t.csv", fields) for f in (b"True1", b"true1"))
    assert one.sparse.slots.tolist() != other.sparse.slots.tolist()


@pytest.mark.parametrize("name", BOOLEAN_FILES)
def test_booleans_are_taken_for_numbers_and_for_names_of_classes(tmp_path, name):
    path = tmp_path / "1"
    path.write_bytes(BOOLEAN_FILES[name])
    fields = Fields("y", labels="class", hashed=Hashed(20))
    source = prepare(path, name, tmp_path / "2", fields)
    assert names(source, fields) == ()
    (chunk,) = Survey(source, 4 << 20)
    assert labels(source, chunk, fields) == {"false": 1, "true": 2}


def test_a_word_that_says_that_a_value_is_missing_is_no_boolean(read):
    data = b"f,y\nfalse,1\nTRUE,2\n False ,3\n"
    got = read(data, "t.csv", Fields("y", gaps=Gaps("mean", ("False",))))
    assert got.missing == {"f": 2}
    assert got.x[1].tolist() == [1]
