"""Damaged files: whatever was done to them, they are read or refused, and in the same way for every chunk size.

Seeds reproduce a run; HEADRACE_MUTATIONS sets how many there are (of each kind of file).
"""

from __future__ import annotations

import gzip
import io
import os
import random
import subprocess
import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import zstandard

from service.core.errors import FileRefused
from service.formats import Fields, Limits
from service.formats.contract import Dialect

COUNT = int(os.environ.get("HEADRACE_MUTATIONS", "150"))
FRAME = pl.DataFrame(
    {
        "a": [1.5, -2.0, 3e10, 0.1, 5.0, 6.0],
        "k": ["p", 'q"r', "s,t", "u\nv", "é", "w"],
        "b": [1, 2, 3, 4, 5, 6],
        "y": ["UP", "DOWN", "UP", "UP", "DOWN", "UP"],
    }
)
FIELDS = Fields("y", id="k", labels="class", classes=("DOWN", "UP"))
WILD = {
    "w.csv": Dialect(encoding="latin-1", decimal=",", comment="#"),
    "w.tsv": Dialect(quote="", comment="//"),
    "v.tsv": Dialect(quote="'"),
}
"""How the seeds of these names are written; the others as CSV shows by itself."""


def fields_of(name: str) -> Fields:
    return replace(FIELDS, dialect=WILD[name]) if name in WILD else FIELDS


def wild(name: str) -> bytes:
    """The frame as somebody's program writes it, each in another way."""
    if name == "w.csv":
        text = '# it\'s "\ra;k;b;y;\r1,5;p;1;UP;\r\n-2;"q""r";2;DOWN;\n#;;\n;;;;\n'
        text += '3e10;"s,t";3;UP;\n0,1;"u\nv";4;UP;\n\n5;é;5;DOWN;\r"6,0";w;6;UP;'
        return text.encode("latin-1")
    quote = {"w.tsv": "", "v.tsv": "'"}[name]
    rows = [[str(v) for v in row] for row in FRAME.rows()]
    if not quote:
        return "\n".join(
            ["// x", "a\tk\tb\ty", *("\t".join(r).replace("\nv", "") for r in rows)]
        ).encode()
    cells = ("\t".join(f"{quote}{c}{quote}" for c in row) for row in rows)
    return "\r\n".join(["a\tk\tb\ty", *cells]).encode()


def written(method: str, **options: object) -> bytes:
    out = io.BytesIO()
    getattr(FRAME, method)(out, **options)
    return out.getvalue()


def arrays(compressed: bool) -> bytes:
    out = io.BytesIO()
    save = np.savez_compressed if compressed else np.savez
    save(
        out,
        **{
            c: FRAME[c].to_numpy() if c in "ab" else FRAME[c].to_numpy().astype("U8")
            for c in FRAME.columns
        },
    )
    return out.getvalue()


SEEDS = {
    "t.csv": written("write_csv"),
    "t.jsonl": written("write_ndjson"),
    "t.parquet": written("write_parquet", row_group_size=2),
    "t.npz": arrays(False),
    "u.npz": arrays(True),
    "t.csv.gz": gzip.compress(written("write_csv"), mtime=0),
    **{name: wild(name) for name in WILD},
    "t.csv.zst": zstandard.ZstdCompressor(write_checksum=True).compress(written("write_csv")),
}
MARKS = [
    b'"',
    b",",
    b"\n",
    b"\r\n",
    b"\r",
    b"\\",
    b"{",
    b"[",
    b":",
    b"\0",
    b"\xff",
    b"e",
    b"-",
    b"null",
    b"nan",
    b"1e999",
    b" ",
    b"\t",
    b";",
    b"'",
    b"#",
    b"\n#",
    b"//",
    b";;;;\n",
    b"1.5",
    b"1,5",
    b"\\ud800",
]


def mutated(data: bytes, choose: random.Random) -> bytes:
    for _ in range(choose.randint(1, 3)):
        place = choose.randrange(len(data) + 1)
        kind = choose.randrange(5)
        if kind == 0:
            data = data[:place] + choose.choice(MARKS) + data[place:]
        elif kind == 1:
            data = data[:place] + bytes([choose.randrange(256)]) + data[place + 1 :]
        elif kind == 2:
            data = data[:place] + data[place + choose.randint(1, 9) :]
        elif kind == 3:
            other = choose.randrange(len(data) + 1)
            data = data[:place] + data[other : other + choose.randint(1, 30)] + data[place:]
        else:
            data = data[: max(place, 1)] if choose.random() < 0.2 else data
    return data


def outcome(read, data: bytes, name: str, chunk_bytes: int) -> object:
    try:
        got = read(data, name, fields_of(name), chunk_bytes, Limits(max_bytes=1 << 20))
    except FileRefused as refusal:
        caught = refusal
    else:
        return (*got.bits(), got.bad)
    assert str(caught).isprintable()
    assert len(caught.refusal.value) <= 80
    return "refused"


@pytest.mark.parametrize("name", [name for name in SEEDS if name != "t.parquet"])
def test_a_damaged_file_is_read_or_refused_alike_for_every_chunk_size(read, name):
    for seed in range(COUNT):
        data = mutated(SEEDS[name], random.Random(f"{name} {seed}"))
        found = {repr(outcome(read, data, name, chunk_bytes)) for chunk_bytes in (1, 60, 4 << 20)}
        assert len(found) == 1, f"seed {seed}: {data!r}"


@pytest.mark.parametrize("name", SEEDS)
def test_a_file_cut_at_any_length_is_read_or_refused(read, name):
    data = SEEDS[name]
    lengths = range(len(data)) if len(data) < 400 else range(0, len(data), len(data) // 200)
    for length in lengths:
        found = outcome(read, data[:length], name, 4 << 20)
        assert str(found).startswith("refused") or name in ("t.csv", "t.jsonl", *WILD), length


def test_the_undamaged_seeds_are_all_read_alike(read):
    found = {
        name: read(data, name, fields_of(name)).bits()
        for name, data in SEEDS.items()
        if name != "w.tsv"  # which can't hold a line break
    }
    assert len({repr(bits) for bits in found.values()}) == 1


CHILD = """
import sys
from service.core.errors import FileRefused
from service.formats import Fields, Limits, Survey, decode, prepare
fields = Fields("y", id="k", labels="class", classes=("DOWN", "UP"))
for line in sys.stdin:
    path = line.strip()
    try:
        source = prepare(path, "t.parquet", path + ".scratch", fields, Limits())
        blocks = [decode(source, chunk, fields) for chunk in Survey(source, 1)]
        print("read", sum(block.rows_seen for block in blocks), flush=True)
    except FileRefused as refusal:
        print("refused", flush=True)
"""


def test_a_damaged_parquet_file_is_read_or_refused_or_ends_its_worker_alone(tmp_path):
    """polars' reader allocates what a damaged footer asks for, and aborts: hence decoding in workers that may die."""
    child = None
    found = {"read": 0, "refused": 0, "died": 0}
    for seed in range(COUNT):
        if child is None:
            child = subprocess.Popen(
                [sys.executable, "-c", CHILD],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        path = tmp_path / "1"
        path.write_bytes(mutated(SEEDS["t.parquet"], random.Random(f"t.parquet {seed}")))
        child.stdin.write(f"{path}\n")
        child.stdin.flush()
        answer = child.stdout.readline()
        if not answer:
            child.communicate()
            assert child.returncode < 0, f"seed {seed}: an error that is no FileRefused"
            child = None
        found[answer.split()[0] if answer else "died"] += 1
    if child is not None:
        child.communicate()
        assert child.returncode == 0
    assert found["refused"] > found["died"], found
