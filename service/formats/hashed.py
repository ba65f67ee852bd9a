"""Columns that are not numbers -> sparse rows: names, words, and products of columns, each in the slot of its hash.

Rules: a slot is the low bits of a hash of UTF-8 bytes (see `hashing`), so a value has its slot on every machine, in
every run, whether it was seen before or not. With h(bytes, seed) for MurmurHash3:

    a column's own hash   c = h(its name, 0)
    a name's              h(the cell without blanks around it, c), worth 1; an empty cell is a name, too; True and TRUE are true
    a number's            c, worth the number; a missing one is worth 0
    a word's              h(the word, c), worth how often it stands in the cell; of two words in a row h(second, h(first, c))
    a pair's              h(the 8 bytes of both hashes, low byte first, 0), worth the product

Words are runs of letters, digits and _; every byte beyond ASCII is a letter; A to Z become a to z, and no other
letter changes, for what is upper case elsewhere depends on the version of Unicode.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels.contract import Sparse
from service.formats.contract import Floats, Hashed, Integers
from service.formats.frames import nameless, pl
from service.formats.values import Faults, as_names

PIECE_BYTES = 16 << 20
LARGEST = float(np.finfo(np.float32).max)
Hashes = npt.NDArray[np.uint32]


class Run(NamedTuple):
    """Entries of n rows: `counts` (n,) of each row, and all their hashes and values, row by row."""

    counts: Integers
    hashes: Hashes
    values: npt.NDArray[np.float32]


class Column(NamedTuple):
    """A column in a pair: each row's hash, and what it is worth."""

    hashes: Hashes
    values: Floats


def entries(
    frame: pl.DataFrame, x: Floats, features: Sequence[str], hashed: Hashed, faults: Faults
) -> Sparse:
    """The sparse rows of a table whose features are x (n, features); marks rows whose products are too large."""
    from service.formats.cells import ordered

    names = [str(name) for name in hashed.categorical]
    columns = {name: Column(_names(frame[name]), np.ones(frame.height)) for name in names}
    runs = [_run(column) for column in columns.values()]
    for pair in hashed.interactions:
        one, other = (_column(columns, x, features, str(name)) for name in pair)
        product = _pair(one, other)
        wrong = ~(np.abs(product.values) <= LARGEST)
        rule = "a product of features is a finite number of 32 bits"
        shown = pl.Series(" × ".join(map(str, pair)), product.values)
        faults.mark(wrong, shown, rule, "correct the row, or leave the pair out of `interactions`")
        runs.append(_run(product._replace(values=np.where(wrong, 0.0, product.values))))
    runs += [_words(frame[str(name)], hashed.ngrams) for name in hashed.text]
    return ordered(*_together(frame.height, runs), hashed.bits)


def _column(columns: dict[str, Column], x: Floats, features: Sequence[str], name: str) -> Column:
    """One side of a pair: a column of names, or a feature."""
    if name in columns:
        return columns[name]
    values = np.nan_to_num(x[:, features.index(name)], nan=0.0, posinf=np.inf, neginf=-np.inf)
    return Column(np.full(len(x), _own(name), np.uint32), values)


def _pair(one: Column, other: Column) -> Column:
    from service.formats.cells import cell_hashes

    both = np.column_stack([one.hashes, other.hashes]).astype("<u4").view(np.uint8)
    ends = np.arange(8, both.size + 8, 8, dtype=np.int64)
    with np.errstate(over="ignore"):
        return Column(cell_hashes(both.ravel(), ends[: len(both)], 0), one.values * other.values)


def _run(column: Column) -> Run:
    values = column.values.astype(np.float32)
    return Run(np.ones(len(values), np.int64), column.hashes, values)


def _names(cells: pl.Series) -> Hashes:
    from service.formats.cells import cell_hashes

    own = _own(cells.name)
    found = [cell_hashes(*_bytes(as_names(piece)), own) for piece in _pieces(cells)]
    return np.concatenate(found)


def _words(cells: pl.Series, ngrams: int) -> Run:
    from service.formats.cells import word_hashes

    own = _own(cells.name)

    def words(piece: pl.Series) -> tuple[Integers, Hashes]:
        data, ends = _bytes(piece)
        lower = data + 32 * ((data >= ord("A")) & (data <= ord("Z"))).astype(np.uint8)
        counts, hashes = word_hashes(lower, ends, own, ngrams)
        return counts, hashes.copy()  # its room was for a word at every other byte

    counts, hashes = map(np.concatenate, zip(*map(words, _pieces(cells)), strict=True))
    return Run(counts, hashes, np.ones(len(hashes), np.float32))


def _pieces(cells: pl.Series) -> Iterator[pl.Series]:
    """The cells in order, at least once: as many together as hold about `PIECE_BYTES`. Rows of Parquet can share what they hold,
    and a copy of all would be any multiple of the file."""
    column = nameless(cells).cast(pl.String)
    ends = np.cumsum(column.str.len_bytes().fill_null(0).to_numpy().astype(np.int64))
    first = 0
    while not first or first < len(ends):
        before = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + PIECE_BYTES, "right")))
        yield column[first:last]
        first = last


def _bytes(cells: pl.Series) -> tuple[npt.NDArray[np.uint8], Integers]:
    """All cells' bytes one after the other, and where each one ends; of null there are none."""
    texts = cells.cast(pl.String).fill_null("")
    ends = np.cumsum(texts.str.len_bytes().to_numpy().astype(np.int64))
    return np.frombuffer((texts.str.join("")[0] or "").encode(), np.uint8), ends


def _own(name: str) -> int:
    from service.formats.hashing import hash_of

    return hash_of(name)


def _together(n: int, runs: Sequence[Run]) -> tuple[Integers, Hashes, npt.NDArray[np.float32]]:
    """The runs' entries side by side, row by row: starts (n + 1,), hashes and values."""
    starts = np.zeros(n + 1, np.int64)
    for run in runs:
        starts[1:] += run.counts
    np.cumsum(starts, out=starts)
    hashes, values = np.empty(starts[-1], np.uint32), np.empty(starts[-1], np.float32)
    room = starts[:-1].copy()
    for counts, own_hashes, own_values in runs:
        first = np.cumsum(counts) - counts
        place = np.arange(len(own_hashes)) + np.repeat(room - first, counts)
        hashes[place], values[place] = own_hashes, own_values
        room += counts
    return starts, hashes, values
