"""A table as a reader gives it -> a block: one set of rules for the values of every format.

Rules
- A number is what polars parses as one (Rust's grammar: no grouping, no decimal comma), spaces and
  tabs around it aside.
- Features are finite numbers. Weights are finite and not negative. A row that breaks a rule is
  counted and left out; of several reasons the first column's counts, features first, then label,
  then weight, then offset or exposure.
- A label that is empty, null or NaN is none; for predictions, any that breaks a rule. Booleans are 1 and 0 where a format has them.
- Class labels are the same when their texts are, or when both are numbers and equal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from service.core.spelling import spelt
from service.formats.contract import (
    MOST_NOTES,
    BadRow,
    Block,
    Fields,
    Floats,
    Label,
    RowRules,
    Table,
)
from service.formats.wording import listed, shown

Mask = npt.NDArray[np.bool_]
BLANK = " \t"
FILL_IN = "fill in or delete the row"
SPELLING = "write it as 1234.5, or leave the column out of `features`"


@dataclass(slots=True)
class Faults:
    """What is wrong with which of n rows; each row keeps its first fault."""

    bad: Mask
    found: list[tuple[Mask, pl.Series, str, str]] = field(default_factory=list)

    def mark(self, wrong: Mask, column: pl.Series, rule: str, remedy: str) -> None:
        new = wrong & ~self.bad
        if new.any():
            self.bad |= new
            self.found.append((new, column, rule, remedy))

    def notes(self, row: npt.NDArray[np.int64], most: int) -> list[BadRow]:
        """The first `most` bad rows in words, by the rows' own numbers."""
        described = []
        for place in np.flatnonzero(self.bad)[:most].tolist():
            column, rule, remedy = next(f[1:] for f in self.found if f[0][place])
            value = _value(column[place])
            described.append(BadRow(int(row[place]), shown(column.name), rule, value, remedy))
        return described


def _value(cell: str | float | None) -> str:
    """A cell in words, numbers in one spelling: readers may have parsed them or not."""
    if cell is None or (isinstance(cell, str) and not cell.strip(BLANK)):
        return "nothing"
    number = _keys(pl.Series([cell]))[0] if isinstance(cell, str) else cell
    return shown(cell) if isinstance(number, str) else repr(number).removesuffix(".0")


def block(table: Table, fields: Fields, features: Sequence[str], rules: RowRules) -> Block:
    """Checks every value that is used, and puts the good rows into arrays."""
    frame = table.frame
    faults = Faults(np.zeros(frame.height, np.bool_))
    x = _features(table, features, faults)
    y, without = _label(frame, fields, faults)
    w = None if fields.weight is None else _weight(frame[str(fields.weight)], faults)
    offset = _offset(frame, fields, faults)
    if table.texts and faults.bad.any():
        return block(table.texts(), fields, features, rules)
    unlabelled = without & ~faults.bad if fields.unlabelled == "skip" else np.zeros_like(without)
    left_out = faults.bad | unlabelled
    row = table.row
    carried = _carried(frame, fields)
    if left_out.any():
        keep = ~left_out
        x, y, row = x[keep], y[keep], row[keep]
        w = None if w is None else w[keep]
        offset = None if offset is None else offset[keep]
        carried = carried and {name: column.filter(keep) for name, column in carried.items()}
    most = min(rules.notes, MOST_NOTES)
    notes = sorted([*table.bad, *faults.notes(table.row, most)], key=lambda bad: bad.row)
    rejected = table.rows_seen - frame.height + int(faults.bad.sum())
    return Block(
        x,
        y,
        w,
        offset,
        row,
        carried,
        table.rows_seen,
        int(unlabelled.sum()),
        rejected,
        tuple(notes[:most]),
    )


def label_key(label: Label | int | bool) -> Label:
    """What two class labels are compared by: the number where the label is one, otherwise its
    text."""
    return _keys(pl.Series([label]))[0] if isinstance(label, str) else float(label)


def distinct(column: pl.Series) -> set[Label]:
    """The labels of a column of text, absent ones left out."""
    return set(_keys(column.drop_nulls().unique())) - {""}


def _keys(labels: pl.Series) -> list[Label]:
    texts = labels.str.strip_chars(BLANK)
    numbers = texts.cast(pl.Float64, strict=False).to_list()
    return [
        text if number is None or not math.isfinite(number) else number
        for text, number in zip(texts.to_list(), numbers, strict=True)
    ]


def _features(table: Table, features: Sequence[str], faults: Faults) -> Floats:
    """(n, features), C-order; the rows that are marked bad hold anything."""
    frame, x = table.frame, table.x
    if x is None and all(_is_plain(frame[name]) for name in features):
        x = frame.select(features).to_numpy(order="c", writable=True)
    if x is not None and np.isfinite(x).all():
        return x
    if x is not None:
        frame = pl.DataFrame(x, schema=list(features))
    x = np.empty((frame.height, len(features)))
    for place, name in enumerate(features):
        values, missing, no_number = _numbers(frame[name])
        remedy = f"{FILL_IN}; missing values can't be learnt from yet"
        faults.mark(missing, frame[name], "a feature has a value in every row", remedy)
        faults.mark(no_number, frame[name], "a feature is a number", SPELLING)
        faults.mark(~np.isfinite(values), frame[name], "a feature is a finite number", FILL_IN)
        x[:, place] = values
    return x


def _is_plain(column: pl.Series) -> bool:
    return column.dtype == pl.Float64 and not column.null_count()


def _label(frame: pl.DataFrame, fields: Fields, faults: Faults) -> tuple[Floats, Mask]:
    """The labels as numbers, and which rows have none."""
    if fields.labels == "none":
        return np.zeros(frame.height), np.zeros(frame.height, np.bool_)
    if fields.label is None or str(fields.label) not in frame.columns:
        return np.full(frame.height, np.nan), np.ones(frame.height, np.bool_)
    column = frame[str(fields.label)]
    if fields.labels == "class":
        return _classes(column, fields, faults)
    values, missing, no_number = _numbers(column)
    if fields.unlabelled == "keep":
        values[np.isinf(values) | _outside(values, fields)] = np.nan
        return values, np.isnan(values)
    faults.mark(no_number, column, "a label is a number", "correct it, or leave the cell empty")
    faults.mark(np.isinf(values), column, "a label is a finite number", FILL_IN)
    faults.mark(_outside(values, fields), column, *_domain(fields))
    return values, missing | np.isnan(values)


def _outside(labels: Floats, fields: Fields) -> Mask:
    """Which labels (n,) the loss doesn't know; absent ones are not among them."""
    return ~(fields.domain.holds(labels) | np.isnan(labels))


def _domain(fields: Fields) -> tuple[str, str]:
    """The rule for labels that the loss brings, and the remedy."""
    least, is_open = fields.domain
    bound = f"greater than {least:g}" if is_open else f"{least:g} or greater"
    return f"a label is {bound}, for the loss of this job", "correct it, or choose another loss"


def _classes(column: pl.Series, fields: Fields, faults: Faults) -> tuple[Floats, Mask]:
    """The position of each label among the classes; NaN where it has none."""
    classes = fields.classes or ()
    places = {label_key(name): place for place, name in enumerate(classes)}
    if column.dtype == pl.Float64:
        cells = column.to_numpy()
        missing = np.isnan(cells)
        keys, which = np.unique(cells, return_inverse=True)
        found = [places.get(key, -1) for key in keys.tolist()]
    else:
        texts = column.fill_null("")
        names = texts.unique()
        which = texts.cast(pl.Enum(names)).to_physical().to_numpy()
        found = [places.get(key, -1) for key in _keys(names)]
        missing = (names.str.strip_chars(BLANK) == "").to_numpy()[which]
    y = np.array(found, np.float64)[which]
    if fields.unlabelled == "keep":
        missing = y < 0
    rule = f"a label is one of the classes {listed(map(spelt, classes))}"
    faults.mark((y < 0) & ~missing, column, rule, "correct the label, or give all `classes`")
    y[missing] = np.nan
    return y, missing


def _weight(column: pl.Series, faults: Faults) -> Floats:
    values, missing, no_number = _numbers(column)
    wrong = missing | no_number | ~(values >= 0) | np.isinf(values)
    rule = "a weight is a finite number, not negative"
    faults.mark(wrong, column, rule, "correct the weight; a row of weight 0 takes no step")
    return values


def _offset(frame: pl.DataFrame, fields: Fields, faults: Faults) -> Floats | None:
    """What is added to the rows' raw outputs: their offset, or the logarithm of their exposure."""
    if fields.offset is not None:
        column = frame[str(fields.offset)]
        values, missing, no_number = _numbers(column)
        wrong = missing | no_number | ~np.isfinite(values)
        faults.mark(wrong, column, "an offset is a finite number", "correct the offset")
        return values
    if fields.exposure is not None:
        column = frame[str(fields.exposure)]
        values, missing, no_number = _numbers(column)
        wrong = missing | no_number | ~(values > 0) | np.isinf(values)
        faults.mark(wrong, column, "an exposure is a finite number above 0", "correct the exposure")
        return np.log(np.where(wrong, 1.0, values))
    return None


def _numbers(column: pl.Series) -> tuple[Floats, Mask, Mask]:
    """Values (NaN where there is none), where nothing stands, and where something stands that is
    no number."""
    if column.dtype == pl.Float64:
        nothing = np.zeros(column.len(), np.bool_)
        missing = column.is_null().to_numpy() if column.null_count() else nothing
        return column.to_numpy(writable=True), missing, nothing
    texts = column.str.strip_chars(BLANK)
    missing = (texts.is_null() | (texts == "").fill_null(True)).to_numpy()
    numbers = texts.cast(pl.Float64, strict=False)
    return numbers.to_numpy(writable=True), missing, numbers.is_null().to_numpy() & ~missing


def _carried(frame: pl.DataFrame, fields: Fields) -> dict[str, pl.Series] | None:
    named = {"id": fields.id, "time": fields.time}
    carried = {
        key: _as_text(frame, str(name)).alias(key)
        for key, name in named.items()
        if name is not None
    }
    return carried or None


def _as_text(frame: pl.DataFrame, name: str) -> pl.Series:
    """A column as text, null where it is empty; all null where the file has none."""
    if name not in frame.columns:
        return pl.Series(name, [None] * frame.height, dtype=pl.String)
    return frame[name].cast(pl.String).replace("", None)
