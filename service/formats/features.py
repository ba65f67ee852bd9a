"""The features of a table -> a matrix: numbers, and what stands where a value is missing.

Rules
- A feature is missing where nothing stands (an empty cell, null, NaN) and where one of the job's
  `missing.values` does: a text without regard to case, or a number however it is spelled, with the job's decimal comma, too.
- A missing feature becomes what `missing.fill` says: 0, or NaN for the mean that the model knows;
  with "none" its row is a bad one.
- The fast way looks at all numbers at once; only a column in which something is amiss is looked at
  by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial

import numpy as np

from service.formats import mending
from service.formats.contract import Fields, Floats, Gaps, Mask, Table
from service.formats.frames import are_few, named, nameless, pl
from service.formats.values import (
    BLANK,
    COMMAED,
    FILL_IN,
    Faults,
    in_digits,
    read_booleans,
    stripped,
    words_at,
)

FILL_GAPS = f'{FILL_IN}, or set missing.fill = "mean" (or "zero"); missing.values says what counts as missing'


def matrix(
    table: Table, features: Sequence[str], fields: Fields, faults: Faults
) -> tuple[Floats, dict[str, Mask]]:
    """(n, features + indicators), C-order, the rows that are marked bad holding anything; and by feature
    in which rows (n,) it was missing, where there are such."""
    gaps = fields.gaps
    x, missing = _filled(table, features, fields, faults)
    if not gaps.indicators:
        return x, missing
    nowhere = np.zeros(len(x), np.bool_)
    shown = [missing.get(str(column), nowhere) for column in gaps.indicators]
    return np.column_stack([x, *shown]), missing


def _filled(
    table: Table, features: Sequence[str], fields: Fields, faults: Faults
) -> tuple[Floats, dict[str, Mask]]:
    frame, x = table.frame, table.x
    if not features:  # polars has no rows without columns
        return np.empty((len(table.row), 0)), {}
    if x is not None and x.shape[1] != len(features):
        raise ValueError(f"table: a matrix of {len(features)} features, got {x.shape[1]}")
    if x is None and all(frame[name].dtype == pl.Float64 for name in features):
        x = frame.select(named(features)).to_numpy(order="c", writable=True)
    if x is not None:
        return _checked(table, x, features, fields, faults)
    x, missing = np.empty((frame.height, len(features))), {}
    plain = _plain(frame, features, fields)
    for place, name in enumerate(features):
        if name in plain:
            x[:, place] = plain[name]
            continue
        values, gap = _column(frame[name], fields, faults)
        if gap.any():
            values[gap] = _filling(fields)
            missing[name] = gap
        x[:, place] = values
    return x, missing


def _plain(frame: pl.DataFrame, features: Sequence[str], fields: Fields) -> dict[str, Floats]:
    """The values of those columns of text of which every cell is a finite number that is no gap: of a file with one bad row that
    is nearly all, and by itself each would cost as much as all do together."""
    texts = [name for name in features if frame[name].dtype == pl.String]
    if are_few(frame.height * len(texts)):
        found = [stripped(frame[name]).cast(pl.Float64, strict=False) for name in texts]
        values = np.array([numbers.to_numpy() for numbers in found]).T
    else:
        digits = named(texts).str.strip_chars(BLANK).cast(pl.Float64, strict=False)
        values = frame.select(digits).to_numpy(order="fortran")
    is_plain = np.isfinite(values).all(axis=0)
    if (gaps := _as_numbers(fields.gaps, fields.dialect.decimal)).size:
        is_plain &= ~np.isin(values, gaps).any(axis=0)
    return {texts[place]: values[:, place] for place in np.flatnonzero(is_plain).tolist()}


def _checked(
    table: Table, x: Floats, features: Sequence[str], fields: Fields, faults: Faults
) -> tuple[Floats, dict[str, Mask]]:
    """Numbers in one matrix, filled in place, so that notes have copies. Where a table is wide and most of its cells are gaps,
    what each column costs by itself is most of all."""
    numbers = _as_numbers(fields.gaps, fields.dialect.decimal)
    if not numbers.size and (table.is_full or np.isfinite(x).all()):
        return x, {}
    gap = np.isnan(x)
    if numbers.size:
        gap |= np.isin(x, numbers)
    wrong = gap | np.isinf(x) if fields.gaps.fill == "none" else np.isinf(x) & ~gap
    for place in np.flatnonzero(wrong.any(axis=0)).tolist():
        name = features[place]
        # A copy: a series may be a view of a matrix, and a note shows what stood there before it is filled.
        column = pl.Series(name, x[:, place].copy()) if table.x is not None else table.frame[name]
        _column(column, fields, faults)
    x[gap] = _filling(fields)
    lacking = np.flatnonzero(gap.any(axis=0)).tolist()
    return x, {features[place]: gap[:, place] for place in lacking}


def _filling(fields: Fields) -> float:
    """What stands where a feature is missing."""
    return np.nan if fields.gaps.fill == "mean" else 0.0


def _column(column: pl.Series, fields: Fields, faults: Faults) -> tuple[Floats, Mask]:
    """A feature's values (n,), and where they are missing."""
    values, gap, no_number = numbers_or_gaps(column, fields)
    if fields.gaps.fill == "none":
        faults.mark(gap, column, "a feature has a value in every row", FILL_GAPS)
    mend = partial(mending.remedy, how=faults.written, column=column.name)
    faults.mark(no_number, column, "a feature is a number", mend)
    faults.mark(np.isinf(values) & ~gap, column, "a feature is a finite number", FILL_IN)
    return values, gap


def numbers_or_gaps(column: pl.Series, fields: Fields) -> tuple[Floats, Mask, Mask]:
    """A column's values (n,), where they are missing, and where something else stands that is no number."""
    values, gap, no_number = in_digits(column)
    if no_number.any():  # few cells: only they can be words
        places = np.flatnonzero(no_number)
        words = words_at(column, places)
        is_gap = np.zeros(len(places), np.bool_)
        if fields.gaps.values:
            is_gap = words.is_in(list(_as_words(fields.gaps))).to_numpy()
            gap[places[is_gap]], no_number[places[is_gap]] = True, False
        read_booleans(words.filter(~is_gap), places[~is_gap], values, no_number)
    gap = gap | (np.isnan(values) & ~no_number)
    if (missing := _as_numbers(fields.gaps, fields.dialect.decimal)).size:
        gap |= np.isin(values, missing)
    return values, gap, no_number


def words(column: pl.Series, fields: Fields) -> tuple[Floats, pl.Series]:
    """Those values of a column that are numbers, and those that are none; without the cells where none stands."""
    values, gap, no_number = numbers_or_gaps(column, fields)
    texts = nameless(column).filter(no_number).cast(pl.String).str.strip_chars(BLANK)
    return values[~gap & ~no_number], texts


def _as_words(gaps: Gaps) -> pl.Series:
    return pl.Series(gaps.values, dtype=pl.String).str.strip_chars(BLANK).str.to_lowercase()


@lru_cache(maxsize=64)  # asked for with each chunk, where it cost some percent of decoding
def _as_numbers(gaps: Gaps, decimal: str) -> Floats:
    """Those of the values that are numbers, with a point or as the job's files spell them: cells are compared with them as
    numbers, too, since a reader may have parsed them."""
    words = _as_words(gaps)
    if decimal == ",":
        words = words.str.replace(COMMAED, "${1}.${2}")
    return words.cast(pl.Float64, strict=False).drop_nulls().drop_nans().to_numpy()
