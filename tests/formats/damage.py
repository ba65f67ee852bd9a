"""Small files of every format that hold one table, and what may be done to them.

Rules: a mutation is a function of its bytes and of a seed. The files of SEEDS are read whole; what is said of them is in FIELDS.
"""

from __future__ import annotations

import gzip
import io
import random
from dataclasses import replace

import numpy as np
import polars as pl
import zstandard

from service.formats import Fields
from service.formats.contract import Dialect, Hashed

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


SPARSE = {
    "t.svm": Fields("label", id="qid", format="svmlight", hashed=Hashed(10)),
    "t.vw": Fields("label", weight="importance", id="tag", format="vw", hashed=Hashed(18)),
}
"""Sparse text, which holds another table: its features have no names."""


def fields_of(name: str) -> Fields:
    """What a job says of the file of SEEDS or SPARSE_SEEDS with this name."""
    if name in SPARSE:
        return SPARSE[name]
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
SPARSE_SEEDS = {
    "t.svm": b"""# head
1 1:1 7:0.25 1023:-1e2 # note

-1 qid:12 2:3 3:0\r
  +1\t0:1 \t5:.5
-1
1 4:1e-3#6:1""",
    "t.vw": b"""1 2 r1|f a b:2 c:word 13:2
-1 |f a|g:0.5 b d:-1e3 :0.25 :2

1 0.5 0 'r3 | x y y
-1 'r4|g
1 r5|\xc3\xa9:.5 a b""",
}
MARKS = (
    *(bytes([mark]) for mark in b"\",\n\r\\{[:\0\xffe- \t;'#|"),
    b"\r\n",
    b"null",
    b"nan",
    b"1e999",
    b"\n#",
    b"//",
    b";;;;\n",
    b"1.5",
    b"1,5",
    b"\\ud800",
    b" qid:1",
    b"3:",
    b" |f",
)


def mutated(data: bytes, choose: random.Random) -> bytes:
    """The bytes after one to three of: a mark put in, a byte changed, some cut out, some doubled elsewhere, the end cut off."""
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


def renumbered(data: bytes, choose: random.Random) -> bytes:
    """The text with some of its digits changed: mostly as whole as before, and not the same file."""
    places = [place for place, byte in enumerate(data) if 48 <= byte <= 57]
    for place in choose.sample(places, min(4, len(places))):
        data = data[:place] + b"%d" % choose.randrange(10) + data[place + 1 :]
    return data
