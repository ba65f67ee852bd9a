"""From a chunk to a block: the format reads the columns that the fields want, and the table's
rules judge them.

Rules: pure functions of a source, a chunk and the fields; they run in workers, again if need be.
Which columns a file has is checked once, by `prepare`.
"""

from __future__ import annotations

from dataclasses import replace

from service.core.errors import FileRefused
from service.core.spelling import spelt
from service.formats.columns import features_of, wanted
from service.formats.contract import Block, Chunk, Fields, Label, RowRules, Source, Wanted
from service.formats.refusing import with_lines
from service.formats.registry import FORMATS
from service.formats.table import block, distinct
from service.formats.wording import listed

MOST_CLASSES = 1000


def decode(source: Source, chunk: Chunk, fields: Fields, rows: RowRules | None = None) -> Block:
    """The chunk's good rows as arrays; bad ones and unlabelled ones are left out and counted.

    Raises FileRefused for faults of structure (torn data, bad UTF-8, odd quotes), never for a bad
    row; ValueError when the fields say "class" and give no classes.
    """
    if fields.labels == "class" and fields.label is not None and not fields.classes:
        raise ValueError("fields: classes are given when labels are classes, got none")
    want = wanted(source, fields)
    table = FORMATS[source.format].table(source, chunk, want)
    decoded = block(table, fields, want.features, rows or RowRules())
    return replace(decoded, first_bad=with_lines(source, chunk, decoded.first_bad))


def labels(source: Source, chunk: Chunk, fields: Fields) -> tuple[Label, ...]:
    """The distinct labels of a chunk in the order of their appearance: numbers where the text is a
    number, otherwise text. Reads only the label's column.

    Raises FileRefused when there are more than 1,000 of them.
    """
    if fields.label is None:
        return ()
    label = str(fields.label)
    want = Wanted((), (label,), frozenset((label,)))
    found = distinct(FORMATS[source.format].table(source, chunk, want).frame[label])
    if len(found) > MOST_CLASSES:
        raise FileRefused(
            f"a column of classes holds at most {MOST_CLASSES} of them",
            place=source.name,
            value=f"{len(found)}: {listed(map(spelt, sorted(found, key=str)))}",
            remedy="give `classes`, or use a kernel for regression",
        )
    return found


def block_bytes(source: Source, chunk: Chunk, fields: Fields) -> int:
    """A bound on the bytes of the arrays x, y, w, offset and row of the chunk's block (not of the carried
    text).

    Text: every row holds at least a character for each value that it must have, and its marks.
    """
    features = features_of(source, fields)
    beside = [c for c in (fields.weight, fields.offset, fields.exposure) if c is not None]
    must = [*map(str, beside), *(features if fields.gaps.fill == "none" else ())]
    if fields.label is not None and fields.unlabelled == "skip":
        must.append(str(fields.label))
    rows = chunk.stop - chunk.start
    if source.format == "csv":
        rows = (rows + 1) // (len(source.columns) + len(must))
    elif source.format == "jsonl":
        rows = (rows + 1) // (2 + sum(len(name.encode()) + 5 for name in must))
    numbers = len(features) + len(fields.gaps.indicators) + 2 + len(beside)
    return 8 * rows * numbers
