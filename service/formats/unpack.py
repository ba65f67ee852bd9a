"""Undoes what lies around a table: gzip, zstd, other encodings and line ends; bounded, into a scratch file.

Rules
- A decompressor never gives more than some MiB at a time, so a bomb costs disk only up to the
  limits, and never memory.
- The digest is that of the dropped file's bytes, taken while they are read; all of them are read.
- A container that is not whole (torn, bad sum, garbage behind it) refuses the file.

    dropped file --Digested--> gzip | zstd | plain --bounded--> plain text, see plain.py --> scratch
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from io import RawIOBase
from pathlib import Path
from typing import BinaryIO

import zstandard

from service.core.errors import FileRefused
from service.formats import contents, plain
from service.formats.contract import Limits, Source
from service.formats.wording import shown

PIECE_BYTES = 1 << 20
ZSTD_STEP_BYTES = 1 << 10
"""zstd gives all that its input holds: at worst 4 bytes become 128 KiB, so one step gives at most
32 MiB."""
ZSTD_WINDOW_BYTES = 128 << 20
"""What the zstd tool itself accepts without --long."""
RATIO_FROM_BYTES = 64 << 20
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
UTF32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)


class Digested(RawIOBase):
    """A file that takes the digest, and counts, of all that is read from it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.digest = hashlib.sha256()
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        view = memoryview(buffer)
        size = self.file.readinto(view)  # type: ignore[attr-defined]
        self.digest.update(view[:size])
        self.count += size
        return int(size)


def unpack(source: Source, packing: str | None, scratch: str | Path) -> Source:
    """The source with plain UTF-8 bytes at its `path`: itself, or `scratch` if anything had to be
    undone.

    `packing` is what the name's suffix says: "gzip", "zstd" or None. Raises FileRefused.
    """
    with open(source.path, "rb", buffering=0) as file:
        head = file.read(plain.HEAD_BYTES)
        _check_packing(source, packing, head[:4])
        if packing is None and not _undoings(source, head):
            return source
        file.seek(0)
        digested = Digested(file)
        size, notes = _write(source, scratch, digested, PACKINGS[packing](digested))
    notes = ((packing,) if packing else ()) + notes
    sha256 = digested.digest.hexdigest()
    return replace(source, path=str(scratch), size=size, sha256=sha256, notes=notes)


def _write(
    source: Source, scratch: str | Path, digested: Digested, pieces: Iterator[bytes]
) -> tuple[int, tuple[str, ...]]:
    size = 0
    with open(scratch, "wb", buffering=0) as out:
        try:
            first = b""
            while len(first) < plain.HEAD_BYTES and (piece := next(pieces, b"")):
                first += piece
            undoings = _undoings(source, first)
            bounded = _bounded(source.limits, source.name, digested, first, pieces)
            for piece in _plain_text(source, bounded, undoings):
                view = memoryview(piece)
                while view:
                    view = view[out.write(view) :]
                size += len(piece)
        except (zlib.error, gzip.BadGzipFile, EOFError, zstandard.ZstdError) as fault:
            raise FileRefused(
                "a compressed file is whole",
                place=source.name,
                value=shown(fault),
                remedy="compress it again, or drop the uncompressed file",
            ) from fault
        except UnicodeDecodeError as fault:
            raise FileRefused(
                f"text is valid {undoings[0]}",
                place=f"{source.name}: byte {fault.start}",
                value=shown(fault.reason),
                remedy="save the file as UTF-8",
            ) from fault
    return size, undoings


def _undoings(source: Source, head: bytes) -> tuple[str, ...]:
    """What must be undone to a text that begins with `head`, as notes: an encoding's name first."""
    if source.format not in ("csv", "jsonl"):
        return ()
    if head[:4] in UTF32:
        raise FileRefused(
            "text is UTF-8 or UTF-16", place=source.name, value="utf-32", remedy="save it as UTF-8"
        )
    encoding = plain.encoding_of(head, source.dialect)
    other = (encoding,) if encoding != "utf-8" else ()
    if source.format == "jsonl":
        return other
    begin = plain.beginning(head, encoding) if other else head
    ends = ("line ends",) if plain.ends_lines_with_returns(begin, source.dialect) else ()
    return (*other, *ends, *(("comments",) if source.dialect.comment else ()))


def _plain_text(
    source: Source, pieces: Iterator[bytes], undoings: tuple[str, ...]
) -> Iterator[bytes]:
    if not undoings:
        return pieces
    encoding = undoings[0] if undoings[0] not in ("line ends", "comments") else "utf-8"
    text = plain.recoded(pieces, encoding) if encoding != "utf-8" else plain.unmarked(pieces)
    returns = "line ends" in undoings
    if "comments" in undoings:
        text = plain.without_comments(text, source.dialect, returns=returns)
    return plain.with_line_feeds(text, source.dialect) if returns else text


def _plain(file: Digested) -> Iterator[bytes]:
    while piece := file.read(PIECE_BYTES):
        yield piece


def _gunzip(file: Digested) -> Iterator[bytes]:
    """Every member; the stdlib checks each member's sum and length, and that nothing but zeros
    follows."""
    with gzip.GzipFile(fileobj=file) as unzipped:
        while piece := unzipped.read(PIECE_BYTES):
            yield piece


def _unzstd(file: Digested) -> Iterator[bytes]:
    """Every frame. Not stream_reader: it takes a torn frame's end for the end of the file."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES)
    frame = None
    while data := file.read(ZSTD_STEP_BYTES):
        while data:
            frame = frame or decompressor.decompressobj()
            if out := frame.decompress(data):
                yield out
            data = b""
            if frame.eof:
                data, frame = frame.unused_data, None
    if frame is not None:
        raise EOFError("the last frame is torn")


PACKINGS = {None: _plain, "gzip": _gunzip, "zstd": _unzstd}


def _bounded(
    limits: Limits, name: str, file: Digested, first: bytes, rest: Iterable[bytes]
) -> Iterator[bytes]:
    size = 0
    for piece in _chain(first, rest):
        size += len(piece)
        if size > limits.max_bytes:
            raise FileRefused(
                f"a file has at most {limits.max_bytes} bytes unpacked",
                place=name,
                value=f"more than {limits.max_bytes}",
                remedy="split the file",
            )
        if size > RATIO_FROM_BYTES and size > limits.max_ratio * file.count:
            raise FileRefused(
                f"a file unpacks to at most {limits.max_ratio:g} times its size",
                place=name,
                value=f"{size} bytes from {file.count}",
                remedy="drop the uncompressed file, if it is honest",
            )
        yield piece


def _chain(first: bytes, rest: Iterable[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _check_packing(source: Source, packing: str | None, head: bytes) -> None:
    found = "gzip" if head[:2] == GZIP else "zstd" if head == ZSTD else None
    skippable = packing == "zstd" and head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5
    if found != packing and not skippable:
        _, remedy = contents.found(head) or ("", "call it by what it holds, without .gz or .zst")
        empty = packing is not None and not head
        raise FileRefused(
            f"the content is what the name says, {packing or 'not compressed'}",
            place=source.name,
            value="an empty file" if empty else shown(found or head),
            remedy="drop files that hold rows" if empty else remedy,
        )
