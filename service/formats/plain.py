"""CSV as it is found in the wild -> plain text, on its way into the scratch file: UTF-8, LF, no comments.

Rules
- A pass is a generator of bytes over a generator of bytes, in the order of the file; it holds a
  piece and what it must know of the pieces before. What comes out does not depend on where they
  were cut.
- Lines keep their numbers: a comment becomes a blank line.
- Only what lies outside of quotes is touched.
- Encodings are never guessed: the same bytes mean other letters in each of them. A mark of byte order
  says it, or the settings do.

    pieces --recoded--> UTF-8 --without_comments, whose quotes mean nothing--> --with_line_feeds--> scratch
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from itertools import chain

from service.formats.contract import Dialect

HEAD_BYTES = 1 << 16
"""So much of a file is looked at for its line ends."""


def encoding_of(head: bytes, dialect: Dialect) -> str:
    """The codec of a text that begins with `head`: "utf-8" where nothing says otherwise."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if head.startswith(codecs.BOM_UTF8) or dialect.encoding == "auto":
        return "utf-8"
    return dialect.encoding


def beginning(head: bytes, encoding: str) -> bytes:
    """The beginning of a text in UTF-8, what doesn't decode replaced: to look at, not to read."""
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    return decoder.decode(head).encode("utf-8", "replace")


def unmarked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """UTF-8 without a mark of byte order; the first piece holds the mark whole."""
    first = True
    for piece in pieces:
        yield piece.removeprefix(codecs.BOM_UTF8) if first else piece
        first = False


def recoded(pieces: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """The text in UTF-8, without a mark of byte order. Raises UnicodeDecodeError, whose start is a byte of the text."""
    decoder = codecs.getincrementaldecoder(encoding)()
    fed, is_first = 0, True
    for piece, is_last in chain(((piece, False) for piece in pieces), [(b"", True)]):
        fed += len(piece)
        try:
            text = decoder.decode(piece, is_last)
        except UnicodeDecodeError as fault:
            before = fed - len(fault.object)
            fault.start += before
            fault.end += before
            raise
        if text:
            yield (text.removeprefix("\ufeff") if is_first else text).encode()
            is_first = False


def ends_lines_with_returns(head: bytes, dialect: Dialect) -> bool:
    """Whether the first line of a text that begins with `head` ends with a CR that no LF follows."""
    if dialect.comment:
        head = b"".join(without_comments([head], dialect, returns=True))
    parts = head.split(dialect.quotes)[::2] if dialect.quotes else [head]
    for number, part in enumerate(parts):
        returned, fed = part.find(b"\r"), part.find(b"\n")
        if returned < 0 and fed < 0:
            continue
        is_end = number + 1 == len(parts) and returned + 1 == len(part)  # of what is looked at
        return returned >= 0 and not is_end and (fed < 0 or fed > returned + 1)
    return False


def with_line_feeds(pieces: Iterable[bytes], dialect: Dialect) -> Iterator[bytes]:
    """The text with LF for each CR and each CRLF outside of quotes."""
    is_quoted, held = False, b""
    for piece in pieces:
        data = held + piece
        held = data[-1:] if data.endswith(b"\r") else b""  # an LF may follow
        data = data[: len(data) - len(held)]
        parts = data.split(dialect.quotes) if dialect.quotes else [data]
        for place in range(int(is_quoted), len(parts), 2):
            parts[place] = _fed(parts[place])
        is_quoted ^= len(parts) % 2 == 0
        yield dialect.quotes.join(parts)
    yield held if is_quoted else _fed(held)


def _fed(text: bytes) -> bytes:
    return text.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in text else text


def without_comments(
    pieces: Iterable[bytes], dialect: Dialect, *, returns: bool = False
) -> Iterator[bytes]:
    """The text with a blank line for each line that begins with a comment's mark, outside of quotes; with `returns` a
    CR ends a line, too."""
    ends = rb"[\r\n]" if returns else rb"\n"
    line_end, comment = re.compile(ends), re.compile(ends + re.escape(dialect.comment.encode()))
    width = len(dialect.comment) + 1
    text, is_quoted, is_comment = b"\n", False, False  # as if a line break stood before the text
    surplus = 1
    for piece, is_last in chain(((piece, False) for piece in pieces), [(b"", True)]):
        text += piece
        out, place = [], 0
        while place < len(text):
            if is_comment:
                end = line_end.search(text, place)
                place, is_comment = (end.start(), False) if end else (len(text), True)
                continue
            found = comment.search(text, place)
            stop = found.start() if found else max(place, len(text) - (0 if is_last else width))
            part = text[place:stop]
            is_quoted ^= bool(dialect.quotes) and part.count(dialect.quotes) % 2 == 1
            out.append(part)
            place = stop
            if found is None:
                break
            out.append(text[stop : stop + 1])
            is_comment = not is_quoted  # in quotes the mark is like any other text
            place = stop + width if is_comment else stop + 1
        text = text[place:]
        whole = b"".join(out)
        yield whole[surplus:]
        surplus = max(0, surplus - len(whole))
