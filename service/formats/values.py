"""Single values of every format: what a number is, when two labels are the same, and what is wrong with a row.

Rules
- A number is what polars parses as one (Rust's grammar: no grouping, no decimal comma), spaces and
  tabs around it aside; and the words true and false, in any case, are 1 and 0, as the booleans of other formats are. Where a
  column is names or text, booleans of all formats are the words.
- Class labels are the same when their texts are, or when both are numbers and equal. As labels and as names, true and false in any
  case are one word each.
- Of several reasons against a row the first that is marked counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from service.core.spelling import BOOLEANS, as_name
from service.formats.contract import BadRow, Floats, Integers, Label, Mask
from service.formats.frames import are_few, nameless, pl
from service.formats.mending import Written
from service.formats.wording import shown

BLANK = " \t"
COMMAED = r"^([ \t]*[+-]?\d*),(\d*(?:[eE][+-]?\d+)?[ \t]*)$"
"""A number with a decimal comma, as what stands before it and behind it."""
FILL_IN = "fill in or delete the row"
Remedy = str | Callable[[Any], str]


@dataclass(slots=True)
class Faults:
    """What is wrong with which of n rows; each row keeps its first fault."""

    bad: Mask
    written: Written = field(default_factory=Written)
    found: list[tuple[Mask, pl.Series, str, Remedy, bool]] = field(default_factory=list)

    def mark(
        self, wrong: Mask, column: pl.Series, rule: str, remedy: Remedy, *, as_spelt: bool = False
    ) -> None:
        """Marks rows (n,) as wrong, each with the remedy or what that makes of its cell; `as_spelt` where the rule is about how a number is written."""
        new = wrong & ~self.bad
        if new.any():
            self.bad |= new
            self.found.append((new, column, rule, remedy, as_spelt))

    def notes(self, row: npt.NDArray[np.int64], most: int) -> list[BadRow]:
        """The first `most` bad rows in words, by the rows' own numbers."""
        described = []
        for place in np.flatnonzero(self.bad)[:most].tolist():
            column, rule, remedy, as_spelt = next(f[1:] for f in self.found if f[0][place])
            cell = column[place]
            value = shown(cell) if as_spelt else value_shown(cell)
            said = remedy if isinstance(remedy, str) else remedy(cell)
            described.append(BadRow(int(row[place]), shown(column.name), rule, value, said))
        return described


def value_shown(cell: str | float | None) -> str:
    """A cell in words, numbers in one spelling: readers may have parsed them or not."""
    if cell is None or (isinstance(cell, str) and not cell.strip(BLANK)):
        return "nothing"
    number = label_keys(pl.Series([cell]))[0] if isinstance(cell, str) else cell
    return shown(cell) if isinstance(number, str) else repr(number).removesuffix(".0")


def label_key(label: Label | int | bool) -> Label:
    """What two class labels are compared by: the number where the label is one, otherwise its
    text."""
    return label_keys(pl.Series([label]))[0] if isinstance(label, str) else float(label)


@lru_cache(maxsize=64)  # asked for with each chunk of a job
def class_places(classes: tuple[Label | int, ...]) -> Mapping[Label, int]:
    """The position of each class, by what labels are compared by."""
    return {label_key(name): place for place, name in enumerate(classes)}


def stripped(cells: pl.Series) -> pl.Series:
    """Cells of text without the blanks around them."""
    if are_few(cells.len()):
        return _series([cell and cell.strip(BLANK) for cell in cells.to_list()])
    return nameless(cells).str.strip_chars(BLANK)


def absent(cells: pl.Series) -> Mask:
    """Which cells of text are null, or empty."""
    if are_few(cells.len()):
        return np.array([not cell for cell in cells.to_list()], np.bool_)
    return (nameless(cells).is_null() | (nameless(cells) == "").fill_null(True)).to_numpy()


def or_null(cells: pl.Series) -> pl.Series:
    """Cells of text, null where they are empty."""
    if are_few(cells.len()):
        return _series([cell or None for cell in cells.to_list()])
    return nameless(cells).replace("", None)


def told_apart(cells: pl.Series) -> tuple[pl.Series, Integers]:
    """The different cells of a column of text, null being empty, and which of them each one is (n,)."""
    if are_few(cells.len()):
        places: dict[str, int] = {}
        which = [places.setdefault(cell or "", len(places)) for cell in cells.to_list()]
        return _series([*places]), np.array(which, np.int64)
    texts = nameless(cells).fill_null("")
    names = texts.unique()
    return names, texts.cast(pl.Enum(names)).to_physical().to_numpy()


def words_at(cells: pl.Series, places: Integers) -> pl.Series:
    """Those cells of text that stand at `places`, in lower case and without the blanks around them."""
    if are_few(cells.len()):
        texts = cells.to_list()
        words = [texts[place].strip(BLANK) for place in places.tolist()]
        if is_ascii(words):
            return _series([word.lower() for word in words])
    return nameless(cells).gather(places).str.strip_chars(BLANK).str.to_lowercase()


def is_ascii(cells: Iterable[str]) -> bool:
    """Whether all characters are: of others each version of Unicode says anew which are digits, and what their lower case is."""
    return all(map(str.isascii, cells))


def _series(cells: list[str | None]) -> pl.Series:
    return pl.Series(cells, dtype=pl.String)


def label_keys(labels: pl.Series) -> list[Label]:
    """Each label of a column of text as the number that it is, or without the spaces around it; "" for NaN, which is
    none, however a reader has it."""
    texts = stripped(labels)
    numbers = texts.cast(pl.Float64, strict=False).to_list()
    return [
        as_name(text)
        if number is None or math.isinf(number)
        else ""
        if math.isnan(number)
        else number
        for text, number in zip(texts.to_list(), numbers, strict=True)
    ]


def as_names(cells: pl.Series) -> pl.Series:
    """Cells of text as names, without the blanks around them; true and false in any case are one name each."""
    texts = stripped(cells)
    lower = texts.str.to_lowercase()
    is_boolean = lower.is_in(list(BOOLEANS)).fill_null(False)
    return lower.zip_with(is_boolean, texts)


def numbers(column: pl.Series) -> tuple[Floats, Mask, Mask]:
    """Values (NaN where there is none), where nothing stands, and where something stands that is
    no number."""
    values, missing, no_number = in_digits(column)
    if no_number.any():
        places = np.flatnonzero(no_number)
        read_booleans(words_at(column, places), places, values, no_number)
    return values, missing, no_number


def in_digits(column: pl.Series) -> tuple[Floats, Mask, Mask]:
    """As `numbers`, booleans that are words being none."""
    if column.dtype == pl.Float64:
        values = column.to_numpy(writable=True)
        return values, np.isnan(values), np.zeros(column.len(), np.bool_)
    texts = stripped(column)
    numbers = texts.cast(pl.Float64, strict=False)
    values, missing = numbers.to_numpy(writable=True), np.zeros(column.len(), np.bool_)
    if not numbers.null_count():
        return values, missing, missing.copy()
    missing = absent(texts)
    return values, missing, ~(missing | _is_there(numbers))


def _is_there(numbers: pl.Series) -> Mask:
    """Which numbers are not null."""
    if are_few(numbers.len()):
        return np.array([number is not None for number in numbers.to_list()], np.bool_)
    return numbers.is_not_null().to_numpy()


def read_booleans(words: pl.Series, places: Integers, values: Floats, no_number: Mask) -> None:
    """Makes numbers of those cells at `places`, which are no number but these words, that are true or false."""
    for word, value in BOOLEANS.items():
        found = places[(words == word).to_numpy()]
        values[found], no_number[found] = value, False
