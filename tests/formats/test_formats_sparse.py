"""svmlight and Vowpal Wabbit's text become the rows that stand there, wherever they are cut, or are refused with reason."""

from __future__ import annotations

import gzip
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.sparse import joined
from service.core.errors import FileRefused
from service.formats import Fields, RowRules, Survey, decode, placed, prepare, refusal
from service.formats.contract import Hashed
from service.formats.hashing import hash_of
from service.formats.scan import scan

SVMLIGHT = Fields(label="label", format="svmlight", hashed=Hashed(10))
VW = Fields(label="label", weight="importance", id="tag", format="vw", hashed=Hashed(18))
Read = Callable[..., dict[str, Any]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """read(content, fields, chunk_bytes, name) -> the file's rows; raises FileRefused for the first bad one."""

    def reads(
        content: bytes, fields: Fields, chunk_bytes: int = 1 << 20, name: str = "a9a.t"
    ) -> dict[str, Any]:
        path = tmp_path / "0000000001"
        path.write_bytes(content)
        source = prepare(path, name, tmp_path / "scratch", fields)
        blocks, seen, lines = [], 0, 0
        for chunk in Survey(source, chunk_bytes):
            block = decode(source, chunk, fields, RowRules(notes=100))
            for bad in block.first_bad:
                raise refusal(source, placed(source, bad, seen, lines))
            blocks.append(block)
            seen += block.rows_seen
            lines += block.lines
        rows = joined([block.sparse for block in blocks if block.sparse is not None])
        return {
            "rows": [
                dict(zip(rows.slots[a:b].tolist(), rows.values[a:b].tolist(), strict=True))
                for a, b in zip(rows.starts[:-1], rows.starts[1:], strict=True)
            ],
            "y": np.concatenate([block.y for block in blocks]).tolist(),
            "w": [w for block in blocks if block.w is not None for w in block.w.tolist()],
            "id": [v for b in blocks for v in (b.carried or {"id": []})["id"]],
            "seen": seen,
            "bits": [a.tobytes() for a in rows],
        }

    return reads


TEXT = b"""# a comment
-1 1:1 7:0.25 1023:-1e2 # another

+1 qid:12 2:3 3:0
  0.5\t0:1 \t5:.5\r
3.25e0
-7 4:1e-3#6:1"""


def test_svmlight_s_rows_are_those_that_stand_there(read: Read) -> None:
    found = read(TEXT, SVMLIGHT)
    thousandth = float(np.float32(0.001))
    assert found["rows"] == [
        {1: 1.0, 7: 0.25, 1023: -100.0},
        {2: 3.0},
        {0: 1.0, 5: 0.5},
        {},
        {4: thousandth},
    ]
    assert found["y"] == [-1.0, 1.0, 0.5, 3.25, -7.0]
    assert found["seen"] == 5


def test_a_query_s_number_is_a_column_for_the_records(read: Read) -> None:
    fields = Fields(label="label", id="qid", format="svmlight", hashed=Hashed(10))
    assert read(TEXT, fields)["id"] == [None, "12", None, None, None]


@pytest.mark.parametrize("chunk_bytes", [1, 20, 33])
@pytest.mark.parametrize("name", ["a9a", "a9a.txt.gz"])
def test_cuts_and_packing_change_nothing(read: Read, chunk_bytes: int, name: str) -> None:
    packed = gzip.compress(TEXT) if name.endswith("gz") else TEXT
    assert read(packed, SVMLIGHT, chunk_bytes, name) == read(TEXT, SVMLIGHT)


def test_labels_that_are_names_are_classes(read: Read) -> None:
    fields = Fields(
        label="label", labels="class", classes=("no", "yes"), format="svmlight", hashed=Hashed(4)
    )
    assert read(b"yes 1:1\nno 2:1\n", fields)["y"] == [1.0, 0.0]


def test_labels_are_read_to_the_last_bit(read: Read) -> None:
    texts = [
        "0.1",
        "12345678901234567890",
        "1e-300",
        "0.30000000000000004",
        "123456789.987654321e25",
    ]
    found = read("".join(f"{text} 1:1\n" for text in texts).encode(), SVMLIGHT)
    assert found["y"] == [float(text) for text in texts]


BAD = [
    (b"1 3:1 -2:1", "a feature's index is a whole number from 0", "-2:1"),
    (b"1 3:1 x:1", "a feature's index is a whole number from 0", "x:1"),
    (b"1 3:1 :1", "a feature's index is a whole number from 0", ":1"),
    (b"1 3:1 3:2", "a row's indices grow, and each stands once", "3:2"),
    (b"1 3:1 2:2", "a row's indices grow, and each stands once", "2:2"),
    (b"1 1024:2", "a feature's index is below 1024, the slots of the job", "1024:2"),
    (b"1 2147483648:2", "a feature's index is below 1024, the slots of the job", "2147483648:2"),
    (b"1 99999999999999999999:2", "a feature's index is below 1024, the slots of the job", "99999999999999999999:2"),
    (b"1 3", "a feature is an index and a value, 3:1.5", "3"),
    (b"1 3:1,5", "a feature's value is a number", "3:1,5"),
    (b"1 3:", "a feature's value is a number", "3:"),
    (b"1 3:nan", "a feature's value is a number", "3:nan"),
    (b"1 3:1e39", "a feature's value is a finite number of 32 bits", "3:1e39"),
    (b"1:1 3:1", "a row begins with its label", "1:1"),
    (b"one 3:1", "a label is a number", "one"),
    (b"inf 3:1", "a label is a finite number", "inf"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "rule", "value"), BAD)
def test_what_svmlight_can_t_be_refuses_with_the_place(
    read: Read, line: bytes, rule: str, value: str
) -> None:
    with pytest.raises(FileRefused) as caught:
        read(b"\n# head\n1 1:1\n" + line + b"\n1 1:1\n", SVMLIGHT)
    why = caught.value.refusal
    assert (why.rule, why.value) == (rule, value)
    assert why.place.startswith("a9a.t:4: row 1")
    assert why.remedy


@pytest.mark.parametrize("name", ["a.svm", "a.libsvm.gz", "a.svmlight"])
def test_a_job_that_does_not_say_so_refuses_sparse_text(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileRefused, match="names their format"):
        prepare(tmp_path, name, tmp_path / "scratch", Fields(label="y"))


@pytest.mark.parametrize(
    ("content", "value"), [(b"", "an empty file"), (b"\n \r\n", "only blank lines")]
)
def test_a_file_without_rows_is_refused(read: Read, content: bytes, value: str) -> None:
    with pytest.raises(FileRefused) as caught:
        read(content, SVMLIGHT)
    assert caught.value.refusal.value == value


# The published test vectors of MurmurHash3_x86_32.
@pytest.mark.parametrize(
    ("text", "seed", "expected"),
    [
        ("", 0, 0),
        ("", 1, 0x514E28B7),
        ("hello", 0, 0x248BFA47),
        ("hello, world", 0, 0x149BBB7F),
        ("aaaa", 0x9747B28C, 0x5A97808A),
        ("The quick brown fox jumps over the lazy dog", 0x9747B28C, 0x2FA826CD),
    ],
)
def test_the_hash_is_the_published_one(text: str, seed: int, expected: int) -> None:
    assert hash_of(text, seed) == expected


# What Vowpal Wabbit 9.11 itself says of these lines: feature numbers / 4 with -b 18.
@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ("|f a", {14355: 1.0}),
        ("|f 13:2", {139552 // 4: 2.0}),
        ("| a b", {370376 // 4: 1.0, 653324 // 4: 1.0}),
        ("|f a:x", {748704 // 4: 1.0}),
        ("|f :0.5 :2", {34875: 0.5, 34876: 2.0}),
        ("|f:2 a:3 007", {14355: 6.0, 139528 // 4: 2.0}),
        ("|f a|g b", {14355: 1.0, 599680 // 4: 1.0}),
        ("|f a:", {14355: 1.0}),
        ("|f -5 1e5 a:0", {602776 // 4: 1.0, 951800 // 4: 1.0}),
        ("|f a a", {14355: 2.0}),
        ("|féé ü:2", {743368 // 4: 2.0}),
        ("|", {}),
    ],
)
def test_names_have_the_slots_that_vowpal_wabbit_gives_them(
    read: Read, features: str, expected: dict[int, float]
) -> None:
    assert read(f"1 {features}\n".encode(), VW)["rows"] == [expected]


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("1 ", (1.0, 1.0, None)),
        ("-1.5 2 ", (-1.5, 2.0, None)),
        ("1 2 tag", (1.0, 2.0, "tag")),
        ("1 'a/b ", (1.0, 1.0, "a/b")),
        ("1 0.5 0 'tag", (1.0, 0.5, "tag")),
    ],
)
def test_a_row_of_vowpal_wabbit_has_label_importance_and_tag(
    read: Read, head: str, expected: tuple[float, float, str | None]
) -> None:
    found = read(f"{head}|f a\n".encode(), VW)
    assert (found["y"][0], found["w"][0], found["id"][0]) == expected


def test_a_row_of_vowpal_wabbit_without_a_label_is_counted_and_left_out(read: Read) -> None:
    found = read(b"|f a\n'tag |f b\n1 |f c\n", VW)
    assert (found["y"], found["seen"]) == ([1.0], 3)


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        (b"1 2", "a row's features stand behind a |"),
        (b"1 x |f a", "an importance is a finite number, not negative"),
        (b"1 -2 |f a", "an importance is a finite number, not negative"),
        (b"1 1 0.5 |f a", "a row has no initial prediction (a third number) but 0"),
        (b"1 1 0 3 |f a", "before the first | there are a label, an importance and a tag"),
        (b"1 1 0 3 'tag |f a", "before the first | there are a label, an importance and a tag"),
        (b"1 |f a:1x", "a feature's value is a number"),
        (b"1 |f a:nan", "a feature's value is a number"),
        (b"1 |f:x a", "a feature's value is a number"),
        (b"1 |f a:1e39", "a feature's value is a finite number of 32 bits"),
        (b"1 |f a:3e38 a:3e38", "a feature's value is a finite number of 32 bits"),
    ],
)
def test_what_vowpal_wabbit_s_text_can_t_be_refuses(read: Read, line: bytes, rule: str) -> None:
    with pytest.raises(FileRefused) as caught:
        read(b"1 |f a\n\n" + line + b"\n", VW)
    assert caught.value.refusal.rule == rule
    assert caught.value.refusal.place.startswith("a9a.t:3: row 1")


@pytest.mark.parametrize("count", [2, 3, 40, 3000])
def test_names_come_in_the_order_of_their_slots_and_meet(read: Read, count: int) -> None:
    random = np.random.default_rng(count)
    names, values = random.integers(0, 200, count), random.integers(1, 9, count)
    text = " ".join(f"{name}:{value}" for name, value in zip(names, values, strict=True))
    (row,) = read(f"1 | {text}\n".encode(), VW)["rows"]
    assert list(row) == sorted(set(names.tolist()))
    assert row == {n: float(values[names == n].sum()) for n in row}


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_value_of_32_bits_comes_back_from_its_text(value: float) -> None:
    found, _ = scan(f"1 1:{value!r}\n".encode(), 4, is_vw=False)
    assert found.values.tolist() == ([value] if value else [])


@given(
    st.one_of(
        st.binary(max_size=60), st.text(" \t\n|:'#.+-eqid019ax", max_size=60).map(str.encode)
    ),
    st.booleans(),
)
def test_whatever_is_scanned_gives_rows_in_bounds(data: bytes, is_vw: bool) -> None:
    found, seen = scan(data, 6, is_vw=is_vw)
    assert len(found.row) <= seen <= data.count(b"\n") + 1
    assert len(found.row) + len(found.faults) == seen
    assert np.isfinite(found.values).all()
    for a, b in zip(found.starts[:-1], found.starts[1:], strict=True):
        slots = found.slots[a:b].tolist()
        assert slots == sorted(set(slots))
        assert all(slot < 64 for slot in slots)


VW_TEXT = b"""1 |f a b:2 13:0.5
-1 0.5 'tag |f:2 a:-1e-3 |g long_name:x :7
|f c
0.25 2 t|a b\r
"""
TABLE_TEXT = (
    "label,town,a,note\n1,Ulm,2,Not good\n0.5,Bonn,-1e3,\n,Köln,0.5,so so\n2,,7,x\n".encode()
)
TABLE = Fields(label="label", hashed=Hashed(10, ("town",), ("note",), 2, (("town", "a"),)))
SEEDS = {"a.svm": (TEXT, SVMLIGHT), "a.vw": (VW_TEXT, VW), "a.csv": (TABLE_TEXT, TABLE)}
MARKS = [
    b"\n",
    b"\r",
    b" ",
    b":",
    b"|",
    b"#",
    b"'",
    b"-",
    b"e",
    b".",
    b"\0",
    b"\xff",
    b"1e999",
    b"nan",
    b",",
    b'"',
]


def _mutated(data: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(data) + 1)
        match chance.randrange(4):
            case 0:
                data = data[:place] + chance.choice(MARKS) + data[place:]
            case 1:
                data = data[:place] + bytes([chance.randrange(256)]) + data[place + 1 :]
            case 2:
                data = data[:place] + data[place + chance.randint(1, 9) :]
            case _:
                other = chance.randrange(len(data) + 1)
                data = data[:place] + data[other : other + chance.randint(1, 30)] + data[place:]
    return data


@pytest.mark.parametrize("name", SEEDS)
def test_a_damaged_file_is_read_or_refused_alike_for_every_chunk_size(
    read: Read, name: str
) -> None:
    content, fields = SEEDS[name]
    assert read(content, fields, name=name)["seen"] in (4, 5)
    outcomes = set()
    for seed in range(int(os.environ.get("HEADRACE_MUTATIONS", "100"))):
        data = _mutated(content, random.Random(f"{name} {seed}"))
        found = set()
        for chunk_bytes in (1, 30, 4 << 20):
            try:
                found.add(repr(read(data, fields, chunk_bytes, name)))
            except FileRefused as refused:
                found.add("refused" if str(refused).isprintable() else "not printable")
        assert len(found) == 1, f"seed {seed}: {data!r}"
        outcomes.add("refused" in found)
    assert outcomes == {False, True}
