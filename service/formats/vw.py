"""Vowpal Wabbit's text: a line a row, `label importance 'tag |namespace:weight name:value ... |...`.

Rules: names are hashed as Vowpal Wabbit hashes them by default, so that its files mean the same here.
- A name of digits is their number, else its MurmurHash3; the namespace's hash is the seed, and its weight
  multiplies its values. A name without a value is worth 1, a nameless value gets the next number of its
  namespace, and a value that is a word is hashed with its name.
- Its importance is the row's weight, 1 where there is none. What stands before the first bar and touches it, or
  begins with a quote, is the tag. A third number (an initial prediction) other than 0 is a bad row, and so is a
  value that begins as a number and isn't one: there Vowpal Wabbit would read the beginning.
- Values that meet in a slot are added. Blank lines are no rows.
"""

from __future__ import annotations

from functools import partial

from service.formats import sparse_text
from service.formats.contract import Fields, Integers, Source

COLUMNS = ("label", "importance", "tag")

table = partial(sparse_text.table, is_vw=True)


def inspect(source: Source, fields: Fields) -> Source:
    """Finds where the rows begin. Raises FileRefused for a file that has none."""
    return sparse_text.inspect(source, fields, COLUMNS)


def row_starts(source: Source, data: bytes) -> Integers:
    """Where each data row of a chunk's bytes begins; blank lines left out."""
    return sparse_text.row_starts(data)
