"""NPZ: finds the arrays in a zip archive, and checks or unpacks them.

Rules
- A member is named <column>.npy; its name never becomes a path. It is stored or deflated, not
  encrypted.
- Members don't overlap, and none gives more than it claims; the claims are bounded before anything
  is written.
- Stored members are checked against their sum and read where they are. If any is deflated, all go
  into the scratch file.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import IO, BinaryIO

from service.formats.contract import Source
from service.formats.npy import read_header, refused
from service.formats.unpack import RATIO_FROM_BYTES
from service.formats.wording import shown

PIECE_BYTES = 1 << 20
LOCAL_HEADER_BYTES = 30
MOST_MEMBERS = 10_000
MAGICS = (b"PK\x03\x04", b"PK\x05\x06")
FAULTS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
)
REMEDY = "save it again with numpy.savez"


def unzip(source: Source, scratch: str | Path) -> Source:
    """The source with its arrays; with `scratch` as its path, and its digest known, if it had to
    be unpacked."""
    with open(source.path, "rb") as file:
        if (head := file.read(4)) not in MAGICS:
            rule = "the content is what the name says, npz"
            raise refused(source, rule, shown(head) or "an empty file", REMEDY)
        try:
            with zipfile.ZipFile(file) as archive:
                return _unzip(source, file, archive, scratch)
        except FAULTS as fault:
            raise refused(source, "an NPZ archive is whole", shown(fault), REMEDY) from fault


def _unzip(source: Source, file: BinaryIO, archive: zipfile.ZipFile, scratch: str | Path) -> Source:
    members = archive.infolist()
    _check(source, members)
    if all(member.compress_type == zipfile.ZIP_STORED for member in members):
        offsets = [_data_offset(file, member) for member in members]
        for member in members:
            with archive.open(member) as data:
                _copy(data, None)
        return _with_arrays(source, members, offsets)
    offsets = []
    with open(scratch, "wb") as out:
        for member in members:
            offsets.append(out.tell())
            with archive.open(member) as data:
                _copy(data, out)
        size = out.tell()
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256")  # type: ignore[arg-type]
    sha256 = digest.hexdigest()
    unpacked = replace(source, path=str(scratch), size=size, sha256=sha256)
    return _with_arrays(unpacked, members, offsets)


def _with_arrays(source: Source, members: list[zipfile.ZipInfo], offsets: list[int]) -> Source:
    arrays = (
        read_header(source, member.filename[:-4], source.path, offset, member.file_size)
        for member, offset in zip(members, offsets, strict=True)
    )
    return replace(source, arrays=tuple(arrays))


def _check(source: Source, members: list[zipfile.ZipInfo]) -> None:
    if not 0 < len(members) <= min(MOST_MEMBERS, source.limits.max_columns):
        raise refused(source, "an NPZ archive holds arrays", f"{len(members)} members", REMEDY)
    names = [member.filename for member in members]
    for name in names:
        if not name.endswith(".npy") or len(name) < 5 or set(name) & set("/\\") or name[0] == ".":
            raise refused(source, "members are named COLUMN.npy", shown(name), REMEDY)
    if len(set(names)) < len(names):
        raise refused(
            source, "members have different names", shown(max(names, key=names.count)), REMEDY
        )
    end = 0
    for member in sorted(members, key=lambda member: member.header_offset):
        if member.header_offset < end or member.flag_bits & 1:
            raise refused(source, "members lie side by side, in the clear", member.filename, REMEDY)
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise refused(source, "members are stored or deflated", member.filename, REMEDY)
        end = member.header_offset + LOCAL_HEADER_BYTES + member.compress_size
    _check_sizes(source, sum(member.file_size for member in members))


def _check_sizes(source: Source, size: int) -> None:
    limits = source.limits
    if size > limits.max_bytes:
        rule = f"a file has at most {limits.max_bytes} bytes unpacked"
        raise refused(source, rule, str(size), "split the file")
    if size > RATIO_FROM_BYTES and size > limits.max_ratio * source.size:
        rule = f"a file unpacks to at most {limits.max_ratio:g} times its size"
        raise refused(
            source, rule, f"{size} bytes from {source.size}", "store the arrays: numpy.savez"
        )


def _data_offset(file: BinaryIO, member: zipfile.ZipInfo) -> int:
    """Where a stored member's bytes begin: behind its local header, whose name and extra field
    have their own lengths."""
    file.seek(member.header_offset)
    header = file.read(LOCAL_HEADER_BYTES)
    if len(header) < LOCAL_HEADER_BYTES or member.compress_size != member.file_size:
        raise EOFError("a member is torn")
    name, extra = int.from_bytes(header[26:28], "little"), int.from_bytes(header[28:30], "little")
    return member.header_offset + LOCAL_HEADER_BYTES + name + extra


def _copy(data: IO[bytes], out: IO[bytes] | None) -> None:
    """Reads a member to its end, where zipfile checks its sum; it never gives more than the size
    it claims."""
    while piece := data.read(PIECE_BYTES):
        if out is not None:
            out.write(piece)
