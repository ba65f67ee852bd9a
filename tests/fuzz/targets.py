"""What is fuzzed: for each kind of sample file, how bytes are read, and what must hold of whatever they are.

Rules
- A file is read or refused, with a text that can be shown; nothing else is raised (`outcome`).
- It is the same to the last bit for every size of chunks.
- What the bytes were packed into changes nothing; what is compiled gives what plain Python gives.
- A target is a function of its bytes: it holds no state, and its files lie in a folder of whoever calls.
"""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from service.core.errors import FileRefused
from service.formats import Fields, Gaps, Limits, Survey, csv, labels, names, prepare
from service.formats.contract import Dialect, Hashed
from service.formats.numeric import numbers
from service.formats.scan import scan
from tests.formats.damage import FIELDS, SEEDS, SPARSE_SEEDS, fields_of
from tests.formats.lone_reader import LoneReader
from tests.formats.whole import CHUNK_SIZES, REFUSED, outcome
from tests.fuzz.interpreted import Plain

LIMITS = Limits(max_bytes=1 << 20, max_row_bytes=1 << 16)


@dataclass(frozen=True)
class Target:
    """One kind of file: `seeds` are read whole, `check(data, folder)` raises AssertionError, or whatever else a reader raises."""

    name: str
    seeds: tuple[bytes, ...]
    check: Callable[[bytes, Path], None]
    is_lone: bool = False
    """Its reader may end its process, and so reads in another one."""

    @contextmanager
    def checking(self, folder: Path) -> Iterator[Callable[[bytes], object]]:
        """Gives what checks bytes, one after the other."""
        if not self.is_lone:
            yield lambda data: self.check(data, folder)
            return
        path = folder / "0000000001"
        with closing(LoneReader("t.parquet")) as reader:

            def check(data: bytes) -> str:
                path.write_bytes(data)
                return reader.read(path)

            yield check


def targets(plain: Plain | None = None) -> Mapping[str, Target]:
    """All of them; with `plain` the compiled readers are held against it, see interpreted.py."""
    found = [
        _file("csv", "t.csv", FIELDS, SEEDS["t.csv"], b'a;k;b;y\r\n1;2;3;UP\r\n\r\n3;"4";;\r\n'),
        Target("csv-numbers", _NUMBERS_CSV, partial(_numbers, plain)),
        _file("csv-wild", "w.csv", fields_of("w.csv"), SEEDS["w.csv"], *_UTF16),
        _file("csv-numbered", "n.csv", NUMBERED, b'1,2,3,i\n4,"5",6,j\n,1e3,0,\n'),
        _file("csv-hashed", "h.csv", HASHED, _HASHED_CSV),
        _file("tsv", "w.tsv", fields_of("w.tsv"), SEEDS["w.tsv"]),
        _file("tsv-quoted", "v.tsv", fields_of("v.tsv"), SEEDS["v.tsv"]),
        _file("jsonl", "t.jsonl", FIELDS, SEEDS["t.jsonl"], *_JSON),
        _file("jsonl-hashed", "h.jsonl", HASHED, _HASHED_JSON),
        _file("npy", "n.npy", replace(NUMBERED, id=None), *_NPY),
        _file("npz", "t.npz", FIELDS, SEEDS["t.npz"], SEEDS["u.npz"]),
        Target("npz-arrays", (b"".join(_members(SEEDS["t.npz"])),), _arrays),
        _file("gz", "t.csv.gz", FIELDS, SEEDS["t.csv.gz"], SEEDS["t.csv.gz"] * 2 + bytes(4)),
        _file("zst", "t.csv.zst", FIELDS, SEEDS["t.csv.zst"], *_ZSTD),
        Target("packed", (SEEDS["t.csv"], *_UTF16), _packed),
        _sparse("svmlight", "t.svm", plain),
        _sparse("vw", "t.vw", plain),
        Target("parquet", (SEEDS["t.parquet"],), _parquet, is_lone=True),
    ]
    return {target.name: target for target in found}


NUMBERED = Fields(2, features=(0, 1), id=3)
HASHED = Fields(
    "y",
    weight="w",
    offset="o",
    time="d",
    gaps=Gaps("mean", ("?", "-1"), ("a",)),
    hashed=Hashed(8, ("k",), ("t",), 2, (("a", "k"), ("a", "b"))),
    times=(("d", ("year", "weekday", "hour")),),
)
_HASHED_CSV = b"""a,b,k,t,d,o,w,y
1,?,Ulm,one two one,2024-05-01,0,1,3.5
-1,2,,,2024-05-01T13:30:00.5Z,1e-3,0.5,2
3, ,K\xc3\xb6ln,"a, b",1969-12-31 23:59,-2,2,
"""
_HASHED_JSON = b"""{"a":1,"b":"?","k":"Ulm","t":"one two one","d":"2024-05-01","o":0,"w":1,"y":3.5}
{"a":null,"b":2,"k":1.0,"t":"x\\u00e9","d":null,"o":1e-3,"w":0.5,"y":true,"more":[{}]}
"""
_JSON = (b'{"a":1,"k":"p","b":[2],"y":"UP"}\n{"y":"DOWN","k":1.50,"b":true,"a":"3","z":{}}\n',)
_UTF16 = ("a,k,b,y\n1.5,é,2,UP\n-2,,3,DOWN\n".encode("utf-16"),)
_ZSTD = (
    b"\x50\x2a\x4d\x18\x02\0\0\0xx" + zstandard.ZstdCompressor().compress(SEEDS["t.csv"]),
    zstandard.ZstdCompressor(write_content_size=False).compress(SEEDS["t.csv"]) * 2,
)


def _npy(array: np.ndarray[Any, Any]) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


_NPY = tuple(
    _npy(np.array([[1, 2, 0], [3, 4, 1]], dtype, order=order))
    for dtype, order in (("<f8", "C"), (">i2", "F"), ("?", "C"), ("<f2", "F"))
)


def _file(name: str, file: str, fields: Fields, *seeds: bytes) -> Target:
    """Files of this name, whose bytes are what the fuzzer says."""

    def check(data: bytes, folder: Path) -> None:
        _alike(data, folder, file, fields)

    return Target(name, seeds, check)


_NUMBERS = tuple(
    Fields("y", gaps=Gaps("mean", ("?", "7")), dialect=dialect)
    for dialect in (Dialect(), Dialect(delimiter=",", decimal=","), Dialect(delimiter=" "))
)
_NUMBERS_CSV = (
    b"a,b,y\n1,-2.5,0\n+.5,1e3,1\r\n12345678901234567890123,0.1,7\n",
    b"a;b;y\n ;4.;1 \n9007199254740993;-0;1E-30\n5e-324;00012.50;2",
)
_PLAIN = [Dialect(delimiter=mark) for mark in ",;\t "]
_PLAIN += [Dialect(delimiter=mark, decimal=",") for mark in ",;"]


def _numbers(plain: Plain | None, data: bytes, folder: Path) -> None:
    """What the shortest way of CSV reads is what the others read, and what it gives in Python."""
    for fields in _NUMBERS:
        shortest = _alike(data, folder, "t.csv", fields)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(csv, "nothing_but_numbers", lambda *_: None)
            other = _alike(data, folder, "t.csv", fields)
        assert shortest == other, f"the shortest way: {shortest}\nthe others: {other}"
    if plain is None:
        return
    for dialect in _PLAIN:
        asked = (
            data,
            data.count(b"\n") + (not data.endswith(b"\n")),
            dialect,
            "abc",
            "ca",
            "b",
        )
        one, other = numbers(*asked), plain.numbers(*asked)
        assert (one is None) == (other is None), asked
        for array, again in zip(one or (), other or (), strict=True):
            assert np.asarray(array).tobytes() == np.asarray(again).tobytes(), (array, again)


def _sparse(name: str, file: str, plain: Plain | None) -> Target:
    fields = fields_of(file)
    is_vw = fields.format == "vw"

    def check(data: bytes, folder: Path) -> None:
        if plain is not None:
            one, other = (way(data, fields.hashed.bits, is_vw=is_vw) for way in (scan, plain.scan))
            assert one[1] == other[1]
            for part, again in zip(one[0][:-1], other[0][:-1], strict=True):  # not the scratch
                assert part.tobytes() == again.tobytes(), (part, again)
        _alike(data, folder, file, fields)

    return Target(name, (SPARSE_SEEDS[file],), check)


def _alike(data: bytes, folder: Path, file: str, fields: Fields) -> object:
    """The outcome, which is that of every size of chunks."""
    path = folder / "0000000001"
    path.write_bytes(data)
    found = [outcome(path, file, fields, size, LIMITS) for size in CHUNK_SIZES]
    for size, other in zip(CHUNK_SIZES, found, strict=True):
        assert other == found[0], (
            f"chunks of {size} bytes: {other}\nof {CHUNK_SIZES[0]}: {found[0]}"
        )
    if found[0] != REFUSED and fields.format == "auto":
        _learn_schema(path, file, fields)
    return found[0]


def _learn_schema(path: Path, file: str, fields: Fields) -> None:
    """What a job's first file is asked for besides: its labels, and which columns are names."""
    source = prepare(path, file, path.with_name("scratch"), fields, LIMITS)
    try:
        for chunk in Survey(source, 4 << 20):
            labels(source, chunk, fields)
        names(source, fields)
    except FileRefused as caught:
        refusal = caught.refusal
    else:
        return
    assert str(refusal).isprintable()


def _packed(data: bytes, folder: Path) -> None:
    """CSV is the same plain and packed."""
    plain = _alike(data, folder, "t.csv", FIELDS)
    for suffix, pack in ((".gz", _gzip), (".zst", zstandard.ZstdCompressor().compress)):
        found = _alike(pack(data), folder, f"t.csv{suffix}", FIELDS)
        assert found == plain, f"{suffix}: {found}\nplain: {plain}"


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, 1, mtime=0)


def _members(archive: bytes) -> Iterator[bytes]:
    with zipfile.ZipFile(io.BytesIO(archive)) as members:
        yield from map(members.read, members.namelist())


def _arrays(data: bytes, folder: Path) -> None:
    """Arrays one behind the other, each from its magic on, in archives whose sums are right: stored, and deflated."""
    magic = b"\x93NUMPY"
    first, *others = data.split(magic)
    arrays = [first] * bool(first) + [magic + other for other in others]
    found = []
    for packing in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", packing) as archive:
            for name, array in zip("akbyxz", arrays, strict=False):
                archive.writestr(zipfile.ZipInfo(f"{name}.npy"), array, packing)
        found.append(_alike(out.getvalue(), folder, "t.npz", FIELDS))
    assert found[0] == found[1], found


def _parquet(data: bytes, folder: Path) -> None:
    path = folder / "0000000001"
    path.write_bytes(data)
    with closing(LoneReader("t.parquet")) as reader:
        reader.read(path)
