"""svmlight and libsvm: a line a row, `label index:value index:value ... # comment`.

Rules
- An index is its own slot: a whole number from 0, below the job's slots; along a row indices grow. Values of
  0 are as if they weren't there.
- `qid:12` after the label is a column of its own, "qid", and no feature.
- What follows a # is a comment; lines without anything else are no rows.
"""

from __future__ import annotations

from functools import partial

from service.formats import sparse_text
from service.formats.contract import Fields, Integers, Source
from service.formats.text import BLANK

COLUMNS = ("label", "qid")

table = partial(sparse_text.table, is_vw=False)


def inspect(source: Source, fields: Fields) -> Source:
    """Finds where the rows begin. Raises FileRefused for a file that has none."""
    return sparse_text.inspect(source, fields, COLUMNS, _is_row)


def row_starts(source: Source, data: bytes) -> Integers:
    """Where each data row of a chunk's bytes begins; blank lines and comments left out."""
    return sparse_text.row_starts(data, _is_row)


def _is_row(line: bytes) -> bool:
    return bool(line.split(b"#", 1)[0].strip(BLANK))
