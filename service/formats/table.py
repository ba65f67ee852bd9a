"""A table as a reader gives it -> a block: one set of rules for the values of every format.

Rules
- Features are finite numbers, or missing, see `features`. Weights are finite and not negative. A row that breaks a rule is
  counted and left out; of several reasons the first column's counts, features first, then label,
  then weight, then offset or exposure.
- A label that is empty, null or NaN is none, and so is one of the job's `missing.values`, unless it is one of the classes; for
  predictions, any that breaks a rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from service.core.spelling import BOOLEANS, spelt
from service.formats import mending
from service.formats.columns import derived_from
from service.formats.contract import (
    MOST_NOTES,
    Block,
    Fields,
    Floats,
    Label,
    Mask,
    RowRules,
    Source,
    Table,
)
from service.formats.features import matrix, numbers_or_gaps
from service.formats.frames import are_few, nameless, pl
from service.formats.hashed import entries
from service.formats.times import with_parts
from service.formats.values import (
    FILL_IN,
    Faults,
    class_places,
    label_key,
    label_keys,
    numbers,
    or_null,
    told_apart,
)
from service.formats.wording import listed


def block(
    table: Table, source: Source, fields: Fields, features: Sequence[str], rules: RowRules
) -> Block:
    """Checks every value that is used, and puts the good rows into arrays."""
    faults = Faults(np.zeros(table.frame.height, np.bool_), mending.written(source, fields))
    if fields.times:
        table = _with_parts(table, features, fields, faults)
    frame = table.frame
    x, missing = matrix(table, features, fields, faults)
    y, without = _label(frame, fields, faults)
    w = None if fields.weight is None else _weight(frame[str(fields.weight)], faults)
    offset = _offset(frame, fields, faults)
    if table.texts and rules.notes and faults.bad.any():
        return block(table.texts(), source, fields, features, rules)
    sparse = table.sparse
    if fields.hashed.bits and sparse is None:
        sparse = entries(frame, x, features, fields.hashed, faults)
    unlabelled = without & ~faults.bad if fields.unlabelled == "skip" else np.zeros_like(without)
    left_out = faults.bad | unlabelled
    row = table.row
    carried = _carried(frame, fields)
    if left_out.any():
        keep = ~left_out
        sparse = sparse and sparse.chosen(keep)
        x, y, row = x[keep], y[keep], row[keep]
        w = None if w is None else w[keep]
        offset = None if offset is None else offset[keep]
        carried = carried and {name: column.filter(keep) for name, column in carried.items()}
        missing = {name: gap[keep] for name, gap in missing.items()}
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
        table.lines,
        sparse,
        missing,
    )


def _with_parts(table: Table, features: Sequence[str], fields: Fields, faults: Faults) -> Table:
    """The table with the parts of its times, all features in its frame: a matrix that a reader has holds no parts."""
    frame = with_parts(table.frame, fields, faults)
    if table.x is None:
        return replace(table, frame=frame)
    read = [name for name in features if name not in derived_from(fields)]
    return replace(table, frame=frame.hstack(pl.DataFrame(table.x, schema=read)), x=None)


def distinct(column: pl.Series, fields: Fields) -> dict[Label, int]:
    """The labels of a column of text in the order of their appearance, absent ones left out, and how many rows have each."""
    cells = nameless(column).drop_nulls()
    texts, rows = cells.unique(maintain_order=True), cells.unique_counts()
    there = ~_is_gap(texts, fields)
    if fields.format == "vw":
        there &= ~_has_costs(texts)
    found: dict[Label, int] = {}
    for label, count in zip(label_keys(texts.filter(there)), rows.filter(there), strict=True):
        found[label] = found.get(label, 0) + count
    return found


def _has_costs(labels: pl.Series) -> Mask:
    """Which of Vowpal Wabbit's labels are for learners that aren't here: 1:0 and 1:2:0.4."""
    if are_few(labels.len()):
        return np.array([":" in (label or "") for label in labels.to_list()], np.bool_)
    return nameless(labels).str.contains(":", literal=True).fill_null(value=False).to_numpy()


def _label(frame: pl.DataFrame, fields: Fields, faults: Faults) -> tuple[Floats, Mask]:
    """The labels as numbers, and which rows have none."""
    if fields.labels == "none":
        return np.zeros(frame.height), np.zeros(frame.height, np.bool_)
    if fields.label is None or str(fields.label) not in frame.columns:
        return np.full(frame.height, np.nan), np.ones(frame.height, np.bool_)
    column = frame[str(fields.label)]
    if fields.format == "vw" and fields.unlabelled == "skip" and column.dtype == pl.String:
        costs = _has_costs(column)
        faults.mark(costs, column, "a label is one number, or one name", mending.COSTS)
    if fields.labels == "class":
        return _classes(column, fields, faults)
    values, missing, no_number = numbers_or_gaps(column, fields)
    values[missing] = np.nan
    if fields.unlabelled == "keep":
        values[np.isinf(values) | _outside(values, fields)] = np.nan
        return values, np.isnan(values)
    mend = partial(mending.label, how=faults.written, column=column.name)
    faults.mark(no_number, column, "a label is a number", mend)
    faults.mark(np.isinf(values), column, "a label is a finite number", FILL_IN)
    faults.mark(_outside(values, fields), column, *_domain(fields))
    return values, missing


def _is_gap(labels: pl.Series, fields: Fields) -> Mask:
    _, gap, _ = numbers_or_gaps(labels, fields)
    return gap


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
    places = class_places(classes)
    if column.dtype == pl.Float64:
        cells = column.to_numpy()
        keys = np.array([*sorted(k for k in places if isinstance(k, float)), np.nan])
        which = np.searchsorted(keys[:-1], cells)  # the classes are few, and np.unique would sort
        which[keys[which] != cells] = len(keys) - 1
        found = [places.get(key, -1) for key in keys.tolist()]
    else:
        names, which = told_apart(column)
        labels = label_keys(names)
        if all(isinstance(key, float) for key in places):
            labels = [BOOLEANS.get(str(label), label) for label in labels]
        found = [places.get(label, -1) for label in labels]
    y = np.array(found, np.float64)[which]
    missing = y < 0  # what is one of the classes is called so
    if fields.unlabelled == "skip" and missing.any():
        is_text = column.dtype != pl.Float64
        missing &= _is_gap(names, fields)[which] if is_text else _is_gap(column, fields)
    wrong = (y < 0) & ~missing
    if wrong.any():  # to list the classes takes longer than to read a small file's labels
        rule = f"a label is one of the classes {listed(map(spelt, classes))}"
        faults.mark(wrong, column, rule, partial(_class_remedy, classes))
    y[missing] = np.nan
    return y, missing


def _class_remedy(classes: Sequence[Label], label: Label) -> str:
    is_named = isinstance(label_key(classes[0]), str)
    if isinstance(label_key(label), str) is not is_named:
        return f"correct the label: the classes are {'names' if is_named else 'numbers'}"
    if len(classes) > 2:
        return f"correct the label, or set model.classes_max to more than {len(classes)}"
    return (
        'correct the label; a third class needs a kernel of many classes, as "softmax" is, and there'
        " model.classes_max, where later files bring it"
    )


def _weight(column: pl.Series, faults: Faults) -> Floats:
    values, missing, no_number = numbers(column)
    wrong = missing | no_number | ~(values >= 0) | np.isinf(values)
    rule = "a weight is a finite number, not negative"
    faults.mark(wrong, column, rule, "correct the weight; a row of weight 0 takes no step")
    return values


def _offset(frame: pl.DataFrame, fields: Fields, faults: Faults) -> Floats | None:
    """What is added to the rows' raw outputs: their offset, or the logarithm of their exposure."""
    if fields.offset is not None:
        column = frame[str(fields.offset)]
        values, missing, no_number = numbers(column)
        wrong = missing | no_number | ~np.isfinite(values)
        faults.mark(wrong, column, "an offset is a finite number", "correct the offset")
        return values
    if fields.exposure is not None:
        column = frame[str(fields.exposure)]
        values, missing, no_number = numbers(column)
        wrong = missing | no_number | ~(values > 0) | np.isinf(values)
        faults.mark(wrong, column, "an exposure is a finite number above 0", "correct the exposure")
        return np.log(np.where(wrong, 1.0, values))
    return None


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
    return or_null(frame[name].cast(pl.String))
