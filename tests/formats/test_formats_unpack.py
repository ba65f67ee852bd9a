"""gzip, zstd and UTF-16 around a table."""

from __future__ import annotations

import gzip
import hashlib
import io

import numpy as np
import pytest
import zstandard

from service.formats import Fields, Limits

Y = Fields("y")
TEXT = b"a,y\n" + b"".join(b"%d,%d\n" % (i, i % 3) for i in range(5000))
ZSTD = zstandard.ZstdCompressor().compress


def skippable(data: bytes) -> bytes:
    return b"\x50\x2a\x4d\x18" + len(data).to_bytes(4, "little") + data


def of_unknown_size(data: bytes) -> bytes:
    packer = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return packer.compress(data) + packer.flush()


PACKED = [
    ("t.csv.gz", gzip.compress(TEXT, mtime=0)),
    ("t.csv.gz", gzip.compress(TEXT[:1000], mtime=0) + gzip.compress(TEXT[1000:], mtime=0)),
    ("t.csv.gz", gzip.compress(TEXT, mtime=0) + b"\0" * 512),
    ("t.csv.zst", ZSTD(TEXT)),
    ("t.csv.zst", ZSTD(TEXT[:1]) + ZSTD(TEXT[1:])),
    ("t.csv.zst", skippable(b"hello") + ZSTD(TEXT) + skippable(b"")),
    ("t.CSV.ZST", of_unknown_size(TEXT)),
    ("t.csv.gz", gzip.compress(TEXT.decode().encode("utf-16"), mtime=0)),
    ("t.csv", TEXT.decode().encode("utf-16")),
    ("t.csv", b"\xfe\xff" + TEXT.decode().encode("utf-16-be")),
    ("t.csv", TEXT),
]


@pytest.mark.parametrize(("name", "data"), PACKED)
def test_what_is_packed_reads_like_what_is_not(read, name, data):
    got = read(data, name, Y, 1000)
    assert got.x[:, 0].tolist() == list(range(5000))
    assert got.sha256 == hashlib.sha256(data).hexdigest()


def test_packed_json_lines_and_arrays_are_read(read):
    lines = b'{"a": 1, "y": 2}\n'
    assert read(gzip.compress(lines, mtime=0), "t.jsonl.gz", Y).y.tolist() == [2]
    out = io.BytesIO()
    np.save(out, np.array([[1.0, 2.0]]))
    assert read(ZSTD(out.getvalue()), "t.npy.zst", Fields(1)).y.tolist() == [2]


BROKEN = [
    ("t.csv.gz", gzip.compress(TEXT, mtime=0)[:-1], "is whole"),
    ("t.csv.gz", gzip.compress(TEXT, mtime=0)[:100], "is whole"),
    ("t.csv.gz", gzip.compress(TEXT, mtime=0) + b"garbage", "is whole"),
    ("t.csv.gz", gzip.compress(TEXT, mtime=0)[:-8] + b"\0" * 8, "is whole"),
    ("t.csv.gz", b"\x1f\x8b", "is whole"),
    ("t.csv.gz", TEXT, "what the name says, gzip"),
    ("t.csv.gz", b"", "what the name says, gzip"),
    ("t.csv.gz", ZSTD(TEXT), "what the name says, gzip"),
    ("t.csv.gz", gzip.compress(gzip.compress(TEXT), mtime=0), "what the name says, csv"),
    ("t.csv.gz", gzip.compress(b"", mtime=0), "holds rows"),
    ("t.csv", gzip.compress(TEXT, mtime=0), "what the name says, not compressed"),
    ("t.csv.zst", ZSTD(TEXT)[:-1], "is whole"),
    ("t.csv.zst", ZSTD(TEXT) + b"garbage", "is whole"),
    ("t.csv.zst", b"\x28\xb5\x2f\xfd", "is whole"),
    ("t.csv", TEXT.decode().encode("utf-16")[:-1], "valid utf-16"),
    ("t.csv", b"\xff\xfea\0\x00\xd8b\0", "valid utf-16"),
]


@pytest.mark.parametrize(("name", "data", "rule"), BROKEN)
def test_what_is_not_whole_is_refused(refused, name, data, rule):
    assert rule in refused(data, name, Y).refusal.rule


@pytest.mark.parametrize("pack", [gzip.compress, ZSTD], ids=["gzip", "zstd"])
def test_a_bomb_stops_at_the_ratio(refused, tmp_path, pack):
    data = pack(b"a,y\n" + b"0" * (200 << 20))
    name = "t.csv.gz" if pack is gzip.compress else "t.csv.zst"
    refusal = refused(data, name, Y).refusal
    assert "at most 250 times" in refusal.rule
    assert (tmp_path / "scratch").stat().st_size <= 100 << 20


def test_unpacked_bytes_are_bounded(refused):
    refusal = refused(
        gzip.compress(TEXT, mtime=0), "t.csv.gz", Y, limits=Limits(max_bytes=1000)
    ).refusal
    assert "at most 1000 bytes unpacked" in refusal.rule


def test_a_window_that_wants_too_much_memory_is_refused(refused):
    parameters = zstandard.ZstdCompressionParameters(window_log=30, enable_ldm=True)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = packer.compress(TEXT) + packer.flush()
    assert "is whole" in refused(data, "t.csv.zst", Y).refusal.rule
