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
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from service.core.spelling import BOOLEANS, as_name
from service.formats.contract import BadRow, Floats, Label, Mask
from service.formats.frames import nameless, pl
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


def label_keys(labels: pl.Series) -> list[Label]:
    """Each label of a column of text as the number that it is, or without the spaces around it; "" for NaN, which is
    none, however a reader has it."""
    texts = nameless(labels).str.strip_chars(BLANK)
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
    texts = nameless(cells).str.strip_chars(BLANK)
    lower = texts.str.to_lowercase()
    is_boolean = lower.is_in(list(BOOLEANS)).fill_null(False)
    return lower.zip_with(is_boolean, texts)


def numbers(column: pl.Series) -> tuple[Floats, Mask, Mask]:
    """Values (NaN where there is none), where nothing stands, and where something stands that is
    no number."""
    values, missing, no_number = in_digits(column)
    read_booleans(column, values, no_number)
    return values, missing, no_number


def in_digits(column: pl.Series) -> tuple[Floats, Mask, Mask]:
    """As `numbers`, booleans that are words being none."""
    if column.dtype == pl.Float64:
        values = column.to_numpy(writable=True)
        return values, np.isnan(values), np.zeros(column.len(), np.bool_)
    texts = nameless(column).str.strip_chars(BLANK)
    missing = (texts.is_null() | (texts == "").fill_null(True)).to_numpy()
    numbers = texts.cast(pl.Float64, strict=False)
    return numbers.to_numpy(writable=True), missing, numbers.is_null().to_numpy() & ~missing


def read_booleans(column: pl.Series, values: Floats, no_number: Mask) -> None:
    """Makes numbers of those cells that are no number and the words true or false."""
    if not no_number.any():
        return
    places = np.flatnonzero(no_number)
    texts = nameless(column).gather(places).str.strip_chars(BLANK).str.to_lowercase()
    for word, value in BOOLEANS.items():
        found = places[(texts == word).to_numpy()]
        values[found], no_number[found] = value, False
