"""One fault a file, the same in every format that can have it: what is learnt, or which rule refuses it.

Rules. Each table is a list of mutations of a good file. A fault of a row leaves the other rows as they were; a fault of the
file refuses it, and its note lets who dropped it mend it: it names the file, a rule, a remedy, and shows what stands there.
What a fault does depends on no chunk's size.
"""

from __future__ import annotations

import gzip
import io
import json
import zipfile
import zlib

import numpy as np
import polars as pl
import pytest

from service.formats import Fields, Gaps, Limits, Survey, decode, prepare

Y = Fields("y", ("a", "b"))
CHUNKS = (1, 40, 4 << 20)
GOOD = [(1.5, 2.0, 0.0), (-3.0, 4.0, 1.0), (5.0, 6.0, 0.0)]


def csv(*rows: object) -> bytes:
    lines = [",".join(map(str, row)) if isinstance(row, tuple) else row for row in rows]
    return ("\n".join(["a,b,y", *lines]) + "\n").encode()


def jsonl(*rows: object) -> bytes:
    lines = [
        json.dumps(dict(zip("aby", row, strict=True))) if isinstance(row, tuple) else row
        for row in rows
    ]
    return ("\n".join(lines) + "\n").encode()


def parquet(*rows: tuple[object, ...]) -> bytes:
    out = io.BytesIO()
    pl.DataFrame(
        {name: pl.Series(column, strict=False) for name, column in zip("aby", zip(*rows, strict=True), strict=True)}
    ).write_parquet(out)  # fmt: skip
    return out.getvalue()


def npz(*rows: tuple[object, ...], save: object = np.savez) -> bytes:
    out = io.BytesIO()
    save(
        out,
        **{
            name: np.array(column)
            for name, column in zip("aby", zip(*rows, strict=True), strict=True)
        },
    )  # type: ignore[operator]
    return out.getvalue()


WRITERS = {"t.csv": csv, "t.jsonl": jsonl, "t.parquet": parquet, "t.npz": npz}


@pytest.mark.parametrize("name", WRITERS)
def test_the_good_file_is_learnt(read, name):
    got = read(WRITERS[name](*GOOD), name, Y)
    assert np.column_stack([got.x, got.y]).tolist() == [list(row) for row in GOOD]


# A fault of the second row: (what it is, the file, the rule's words, the value shown)
BAD = "a feature is a number"
ROWS = [
    ("too few fields", "t.csv", "7,8", "a row has 3 fields", "2 fields"),
    ("too many fields", "t.csv", "7,8,0,9", "a row has 3 fields", "4 fields"),
    ("a decimal comma", "t.csv", '"1,5",8,0', BAD, "1,5"),
    ("a thousands' point", "t.csv", "1.234.5,8,0", BAD, "1.234.5"),
    ("words among numbers", "t.csv", "seven,8,0", BAD, "seven"),
    ("a number that overflows", "t.csv", "1e400,8,0", "finite number", "1e400"),
    ("NaN", "t.csv", "NaN,8,0", "in every row", "NaN"),
    ("infinity", "t.csv", "-inf,8,0", "finite number", "-inf"),
    ("a label of no class", "t.csv", "7,8,2", "one of the classes 0, 1", "2"),
    ("quotes by the hundred", "t.csv", '"' + '""' * 300 + '",8,0', BAD, '"""'),
    ("a lone CR", "t.csv", "7,8\r9,8,0", "a row has 3 fields", "4 fields"),
    ("no object", "t.jsonl", "[7, 8, 0]", "one JSON object", "[7, 8, 0]"),
    ("half a line", "t.jsonl", '{"a": 7, "b"', "one JSON object", '{"a": 7, "b"'),
    ("a repeated key", "t.jsonl", '{"a": 7, "a": 7, "b": 8, "y": 0}', "each key once", "a"),
    ("NaN as a literal", "t.jsonl", '{"a": NaN, "b": 8, "y": 0}', "NaN is no JSON", '{"a": NaN'),
    ("Infinity as a literal", "t.jsonl", '{"a": -Infinity, "b": 8, "y": 0}', "no JSON", '{"a"'),
    ("a number that overflows", "t.jsonl", '{"a": 1e400, "b": 8, "y": 0}', "finite", "1e400"),
    ("a list for a number", "t.jsonl", '{"a": [7], "b": 8, "y": 0}', "a value is", "a list"),
    ("text for a number", "t.jsonl", '{"a": "7,5", "b": 8, "y": 0}', BAD, "7,5"),
    ("lists in lists", "t.jsonl", '{"a": ' + "[" * 99999, "nests at most 64", "deeper"),
    ("objects in objects", "t.jsonl", '{"a":' * 99999, "nests at most 64", "deeper"),
    ("half of a pair", "t.jsonl", '{"a": "\\ud800", "b": 8, "y": 0}', "valid Unicode", "\\ud800"),
    ("a label of no class", "t.jsonl", '{"a": 7, "b": 8, "y": 2}', "one of the classes", "2"),
    ("nothing", "t.parquet", (None, 8.0, 0.0), "in every row", "nothing"),
    ("NaN", "t.parquet", (float("nan"), 8.0, 0.0), "in every row", "nan"),
    ("infinity", "t.parquet", (float("inf"), 8.0, 0.0), "finite number", "inf"),
    ("a label of no class", "t.parquet", (7.0, 8.0, 2.0), "one of the classes", "2"),
    ("NaN", "t.npz", (float("nan"), 8.0, 0.0), "in every row", "nan"),
    ("infinity", "t.npz", (7.0, float("-inf"), 0.0), "finite number", "-inf"),
    ("a label of no class", "t.npz", (7.0, 8.0, 0.5), "one of the classes", "0.5"),
]  # fmt: skip


@pytest.mark.parametrize("chunk_bytes", CHUNKS)
@pytest.mark.parametrize(("fault", "name", "row", "rule", "value"), ROWS)
def test_a_fault_of_a_row_leaves_the_others_as_they_were(
    read, fault, name, row, rule, value, chunk_bytes
):
    fields = Fields("y", ("a", "b"), labels="class", classes=(0.0, 1.0))
    got = read(WRITERS[name](GOOD[0], row, *GOOD[1:]), name, fields, chunk_bytes)
    assert np.column_stack([got.x, got.y]).tolist() == [list(row) for row in GOOD], fault
    assert (got.row.tolist(), got.rejected) == ([0, 2, 3], 1)
    ((place, _, why, what),) = got.bad
    assert place == 1
    assert rule in why
    assert what.startswith(value)


# A value at the edge of what can be: (the file, how it is spelt, what it is)
EDGES = [
    ("t.csv", "-0.0", -0.0),
    ("t.csv", "5e-324", 5e-324),
    ("t.csv", "9007199254740993", 9007199254740992.0),
    ("t.csv", "123456789012345678901234567890", 1.2345678901234568e29),
    ("t.csv", "+7", 7.0),
    ("t.jsonl", "-0.0", -0.0),
    ("t.jsonl", "5e-324", 5e-324),
    ("t.jsonl", "9007199254740993", 9007199254740992.0),
    ("t.jsonl", "123456789012345678901234567890", 1.2345678901234568e29),
    ("t.parquet", -0.0, -0.0),
    ("t.parquet", 5e-324, 5e-324),
    ("t.parquet", 9007199254740993, 9007199254740992.0),
    ("t.npz", 5e-324, 5e-324),
    ("t.npz", 9007199254740993, 9007199254740992.0),
]


@pytest.mark.parametrize("chunk_bytes", CHUNKS)
@pytest.mark.parametrize(("name", "spelt", "value"), EDGES)
def test_a_number_at_the_edge_is_the_nearest_float(read, name, spelt, value, chunk_bytes):
    line = {"t.csv": f"{spelt},2,0", "t.jsonl": f'{{"a": {spelt}, "b": 2, "y": 0}}'}
    data = WRITERS[name](line.get(name, (spelt, 2, 0)))
    found = read(data, name, Y, chunk_bytes).x[0, 0]
    assert (found, np.signbit(found)) == (value, np.signbit(value))


def archive_that_says(size: int) -> bytes:
    """An NPZ whose directory gives its first member's size as another one."""
    data = bytearray(npz(*GOOD))
    place = data.index(b"PK\x01\x02")
    data[place + 20 : place + 28] = size.to_bytes(4, "little") * 2
    return bytes(data)


def crc_of(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")


PLAIN = csv(*GOOD)
PACKED = gzip.compress(PLAIN, mtime=0)
STRANGE = io.BytesIO()
with zipfile.ZipFile(STRANGE, "w", zipfile.ZIP_BZIP2) as archive:
    archive.writestr("a\x1b[2J.npy", b"")

# A fault of the file: (what it is, name, content, the rule's words, where)
FILES = [
    ("empty", "t.csv", b"", "holds rows", "t.csv"),
    ("a header only", "t.csv", csv(), "rows below its header", "t.csv:1"),
    ("blank lines only", "t.csv", b"\r\n\n \n", "holds rows", "t.csv"),
    ("lines of commas only", "t.csv", b"a,b,y\n,,\n,,\n", None, ""),
    ("bad UTF-8", "t.csv", csv(*GOOD, "7,\xff8,0").replace("ÿ".encode(), b"\xff"), "UTF-8", "t.csv:5: byte 45"),
    ("a NUL", "t.csv", csv(*GOOD, "7,\x008,0"), "NUL", "t.csv:5: byte 45"),
    ("a name twice", "t.csv", b"a,b,b,y\n1,2,3,0\n", "each column once", "t.csv:1"),
    ("no header", "t.csv", b"1.5,2,0\n-3,4,1\n", "the label column y", "t.csv"),
    ("a missing column", "t.csv", b"a,y\n1,0\n", "the feature column b", "t.csv"),
    ("an open quote", "t.csv", csv(*GOOD, '7,"8,0', *GOOD), "also close", "t.csv:5"),
    ("a quote in a field", "t.csv", csv(*GOOD, '7,5" x 8",0'), "whole fields", "t.csv:5: byte 46"),
    ("an endless row", "t.csv", csv(*GOOD, "7," + "8" * 5000), "at most 4096 bytes", "t.csv:5"),
    ("an endless header", "t.csv", b"a" * 99999, "at most 4096 bytes", "t.csv:1"),
    ("columns by the million", "t.csv", b"," * 1_000_000 + b"a\n", "at most", "t.csv:1"),
    ("JSON inside", "t.csv", jsonl(*GOOD), "what the name says, CSV", "t.csv:1"),
    ("parquet inside", "t.csv", parquet(*GOOD), "what the name says, csv", "t.csv"),
    ("empty", "t.jsonl", b"", "holds rows", "t.jsonl"),
    ("CSV inside", "t.jsonl", PLAIN, "one JSON object", "t.jsonl: first row"),
    ("bad UTF-8", "t.jsonl", jsonl(*GOOD) + b'{"a": "\xff"}\n', "UTF-8", "t.jsonl:4: byte 101"),
    ("an endless row", "t.jsonl", jsonl(*GOOD, "9" * 5000), "at most 4096 bytes", "t.jsonl:4"),
    ("half of a pair in a key", "t.jsonl", b'{"\\ud800": 1, "a": 1, "b": 2, "y": 0}', "a key is valid Unicode", "t.jsonl: first row"),
    ("deep lists first", "t.jsonl", b"[" * 99999, "nests at most 64", "t.jsonl: first row"),
    ("keys by the thousand", "t.jsonl", jsonl(json.dumps(dict.fromkeys(map(str, range(200)), 1))), "at most 100 columns", "t.jsonl"),
    ("torn", "t.csv.gz", PACKED[:-9], "is whole", "t.csv.gz"),
    ("garbage behind", "t.csv.gz", PACKED + b"x", "is whole", "t.csv.gz"),
    ("a wrong sum", "t.csv.gz", PACKED[:-8] + crc_of(b"") + PACKED[-4:], "is whole", "t.csv.gz"),
    ("not packed", "t.csv.gz", PLAIN, "what the name says, gzip", "t.csv.gz"),
    ("packed twice", "t.csv.gz", gzip.compress(PACKED, mtime=0), "what the name says, csv", "t.csv.gz"),
    ("packed", "t.csv", PACKED, "not compressed", "t.csv"),
    ("CSV inside", "t.parquet", PLAIN, "what the name says, parquet", "t.parquet"),
    ("no footer", "t.parquet", parquet(*GOOD)[:-4], "ends with its footer", "t.parquet"),
    ("a torn footer", "t.parquet", parquet(*GOOD)[:-12] + b"\xff\xff\0\0PAR1", "is whole", "t.parquet"),
    ("a longer member", "t.npz", archive_that_says(10**9), "side by side", "t.npz"),
    ("a shorter member", "t.npz", archive_that_says(100), "is whole", "t.npz"),
    ("a wrong sum", "t.npz", npz(*GOOD).replace(b"\0\0\xf8?", b"\0\0\xf9?"), "is whole", "t.npz"),
    ("escape sequences", "t.npz", STRANGE.getvalue(), "stored or deflated", "t.npz"),
    ("a long archive", "t.npz", npz(*GOOD * 9000, save=np.savez_compressed), "at most 100000 bytes", "t.npz"),
]  # fmt: skip


@pytest.mark.parametrize("chunk_bytes", CHUNKS)
@pytest.mark.parametrize(("fault", "name", "data", "rule", "place"), FILES)
def test_a_fault_of_the_file_refuses_it_with_what_mends_it(
    read, refused, fault, name, data, rule, place, chunk_bytes
):
    limits = Limits(max_bytes=100_000, max_row_bytes=4096, max_columns=100)
    if rule is None:  # blank lines: no rows, and nothing wrong
        assert len(read(data, name, Y, chunk_bytes, limits).y) == 0
        return
    if fault == "columns by the million":
        limits = Limits()
    refusal = refused(data, name, Y, chunk_bytes, limits).refusal
    assert rule in refusal.rule, fault
    assert refusal.place.startswith(place)
    assert refusal.value
    assert refusal.remedy


def test_a_remedy_names_what_is_likely_the_matter(tmp_path, refused):
    path = tmp_path / "1"
    path.write_bytes(csv(GOOD[0], "7,8\r9,8,0"))
    source = prepare(path, "t.csv", tmp_path / "s", Y)
    (chunk,) = Survey(source, 1 << 20)
    (bad,) = decode(source, chunk, Y).first_bad
    assert "a CR stands within the row" in bad.remedy
    assert "number the columns" in refused(b"1.5,2,0\n-3,4,1\n", "t.csv", Y).refusal.remedy


def test_a_gap_that_is_filled_is_no_fault(read):
    got = read(csv(GOOD[0], ",4,1"), "t.csv", Fields("y", ("a", "b"), gaps=Gaps("zero")))
    assert got.x.tolist() == [[1.5, 2], [0, 4]]
