"""What CSV and JSON lines share: ranges of bytes that are valid UTF-8 text.

Rules
- Bad UTF-8 and NUL bytes refuse the file; the message says on which line, and at which byte.
- A mark of byte order at the start is skipped.
"""

from __future__ import annotations

import codecs
from dataclasses import replace
from typing import BinaryIO

from service.core.errors import FileRefused
from service.formats import contents
from service.formats.contract import Chunk, Source
from service.formats.wording import shown

STEP_BYTES = 1 << 16
UNCLOSED = (
    "close the quotes; a quote within a quoted field is written twice; where quotes are plain"
    ' characters, set csv.quote = ""'
)
BLANK = b" \t\r\n"


def read_range(source: Source, chunk: Chunk) -> bytes:
    """The chunk's bytes; FileRefused if the file has become shorter."""
    with open(source.path, "rb", buffering=0) as file:
        file.seek(chunk.start)
        parts = []
        left = chunk.stop - chunk.start
        while left and (part := file.read(left)):
            parts.append(part)
            left -= len(part)
    if left:
        raise FileRefused(
            f"a file keeps its size of {source.size} bytes while it is read",
            place=source.name,
            value=str(chunk.stop - left),
            remedy="rename files into the inbox when they are whole",
        )
    return parts[0] if len(parts) == 1 else b"".join(parts)


def check_text(source: Source, data: bytes, start: int) -> str:
    """`data`, which begins at byte `start` of the file, as text."""
    check_bytes(source, data, start)
    return data.decode()


def check_bytes(source: Source, data: bytes, start: int) -> None:
    """Refuses bytes that are no text, for the first fault in them."""
    nul = data.find(b"\0")
    text = data if nul < 0 else data[:nul]
    try:
        if not text.isascii():
            text.decode()
    except UnicodeDecodeError as fault:
        raise FileRefused(
            "text is valid UTF-8",
            place=byte_place(source, start + fault.start),
            value=shown(data[fault.start : fault.end]),
            remedy=_save_as_utf8(source),
        ) from fault
    if nul >= 0:
        raise FileRefused(
            "text holds no NUL bytes",
            place=byte_place(source, start + nul),
            value=shown(near(data, nul)),
            remedy=_without_nul(source, start + nul),
        )


def _without_nul(source: Source, position: int) -> str:
    """What to do about a NUL byte: it may be the first of many at the end, which a loss of power leaves behind."""
    with open(source.path, "rb") as file:
        file.seek(position)
        while (piece := file.read(1 << 20)) and not piece.strip(b"\0\r\n"):
            pass
    if not piece:
        return "cut the NUL bytes off the end of the file: tr -d '\\000' < old > new"
    return f"{_save_as_utf8(source)}; if it is UTF-8, delete them: tr -d '\\000' < old > new"


def _save_as_utf8(source: Source) -> str:
    named = " or say what it is in csv.encoding" if source.format == "csv" else ""
    return "save the file as UTF-8," + named if named else "save the file as UTF-8"


def near(data: bytes, place: int) -> bytes:
    """What stands around a byte, on its line: the same wherever the chunk was cut."""
    start = max(data.rfind(b"\n", 0, place) + 1, place - 20)
    stop = data.find(b"\n", place)
    return data[start : min(place + 20, len(data) if stop < 0 else stop)]


def skip_blank(source: Source, file: BinaryIO) -> tuple[Source, int]:
    """The source with the mark of byte order noted, and where the first line that isn't blank
    begins.

    Raises FileRefused for an empty file, and for one that begins as another format does.
    """
    head = file.read(4)
    if found := contents.found(head):
        kind, remedy = found
        packing = next((note for note in source.notes if note in ("gzip", "zstd")), "")
        raise FileRefused(
            f"the content is what the name says, {source.format}",
            place=source.name,
            value=f"{kind} within {packing}" if packing else kind,
            remedy=f"unpack the {packing} around it; then {remedy}" if packing else remedy,
        )
    start = 0
    if head.startswith(codecs.BOM_UTF8):
        source, start = replace(source, notes=(*source.notes, "utf-8 bom")), 3
    start = _next_printing(file, start)
    if start < 0:
        raise without_rows(source, has_comments="comments" in source.notes)
    return source, _line_start(file, start)


def without_rows(source: Source, *, has_comments: bool) -> FileRefused:
    """The refusal of a file in which no row stands."""
    value = "only blank lines and comments" if has_comments else "only blank lines"
    return FileRefused(
        "a file holds rows",
        place=source.name,
        value=value if source.size else "an empty file",
        remedy="drop files that hold rows",
    )


def rest_is_blank(file: BinaryIO, start: int) -> bool:
    """Nothing but blank space follows."""
    return _next_printing(file, start) < 0


def next_line(file: BinaryIO, start: int) -> int:
    """Where the first line from `start` on that isn't blank begins; `start` where none follows."""
    printing = _next_printing(file, start)
    return start if printing < 0 else max(start, _line_start(file, printing))


def _next_printing(file: BinaryIO, start: int) -> int:
    """The first byte from `start` on that is no blank space; -1 at the end."""
    file.seek(start)
    while piece := file.read(STEP_BYTES):
        rest = piece.lstrip(BLANK)
        if rest:
            return start + len(piece) - len(rest)
        start += len(piece)
    return -1


def _line_start(file: BinaryIO, position: int) -> int:
    """The spaces and tabs before `position` belong to its line."""
    for _ in range(min(position, STEP_BYTES)):
        file.seek(position - 1)
        if file.read(1) not in (b" ", b"\t"):
            break
        position -= 1
    return position


def byte_place(source: Source, position: int) -> str:
    """A byte of the file as a note says where it is; reads all that is before it."""
    return f"{source.name}:{lines_before(source, position) + 1}: byte {position} of the file"


def lines_before(source: Source, position: int) -> int:
    """How many line breaks stand before a byte; reads all that is before it, so for refusals
    only."""
    lines = 0
    with open(source.path, "rb", buffering=0) as file:
        while position > 0 and (piece := file.read(min(1 << 20, position))):
            lines += piece.count(b"\n")
            position -= len(piece)
    return lines
