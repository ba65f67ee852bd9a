"""Which of a file's columns are what: the fields, as the file's own names.

Rules: a column is meant by its name; without a header by its number. Features stand in the order
in which the fields give them, so that files whose columns are in another order are the same; by
default every other column, in the file's order.
"""

from __future__ import annotations

from collections.abc import Iterable

from service.core.errors import FileRefused
from service.core.spelling import missing_name
from service.formats.contract import Column, Fields, Source, Wanted
from service.formats.values import label_key
from service.formats.wording import listed, shown


def features_of(source: Source, fields: Fields) -> tuple[str, ...]:
    """The names of the feature columns, in the order of a block's x. Raises FileRefused if one is
    missing."""
    if fields.features is not None:
        names = tuple(map(str, fields.features))
        _check_present(source, names, "feature")
    else:
        roles = {str(c) for c in fields.roles}
        names = tuple(c for c in source.columns if c not in roles)
    if not names:
        rule, value = (
            "a file has columns besides label, id, weight, time, offset and exposure",
            listed(source.columns),
        )
        raise _refused(source, rule, value, "drop files that have features")
    if "" in names:
        rule, remedy = "every column has a name", "name it in the header, or list the `features`"
        raise _refused(source, rule, f"column {source.columns.index('')} without one", remedy)
    if len(set(names)) < len(names):
        raise _refused(source, "a feature is named once", listed(names), "correct `features`")
    if fields.label is not None and str(fields.label) in names:
        raise _refused(source, "the label is no feature", str(fields.label), "correct `features`")
    strangers = [column for column in map(str, fields.gaps.indicators) if column not in names]
    if strangers:
        rule, remedy = "an indicator is one of a feature", "correct `missing.indicators`"
        raise _refused(source, rule, listed(strangers), remedy)
    twice = [name for name in map(missing_name, fields.gaps.indicators) if name in names]
    if twice:
        rule = "no feature has the name that an indicator gets"
        remedy = "rename the column, or leave it, or its indicator in missing.indicators, out"
        raise _refused(source, rule, listed(twice), remedy)
    return names


def unused_of(source: Source, fields: Fields) -> int:
    """How many of the file's columns have no part."""
    used = {*map(str, fields.roles), *features_of(source, fields)}
    return sum(column not in used for column in source.columns)


def check_fields(source: Source, fields: Fields) -> None:
    """Refuses a file that lacks a column, or whose columns can't be called as the fields call
    them."""
    if fields.numbered and source.format in ("jsonl", "parquet"):
        rule, value = "columns of this format have names", "column numbers in the settings"
        raise _refused(
            source, rule, value, "name `label` and `features`, or drop CSV without header"
        )
    numbers = source.format == "npy" and all(c.isdigit() for c in source.columns)
    if numbers and not all(str(c).isdigit() for c in (*fields.roles, *(fields.features or ()))):
        rule, value = "columns of an NPY file are numbers", "names in the settings"
        raise _refused(
            source, rule, value, "drop an NPZ with one array for each column, or number them"
        )
    if fields.label is not None and fields.unlabelled == "skip":
        _check_present(source, [fields.label], "label")
    for role in ("id", "weight", "time", "offset", "exposure"):
        column = getattr(fields, role)
        if column is not None and (role != "id" or fields.unlabelled == "skip"):
            _check_present(source, [column], role)
    features_of(source, fields)


def wanted(source: Source, fields: Fields) -> Wanted:
    """What a reader must give for these fields."""
    features = features_of(source, fields)
    others = tuple(dict.fromkeys(str(c) for c in fields.roles if str(c) in source.columns))
    texts = {str(c) for c in (fields.id, fields.time) if c is not None}
    if fields.labels == "class" and any(
        isinstance(c, str) for c in map(label_key, fields.classes or ())
    ):
        texts.add(str(fields.label))
    return Wanted(features, others, frozenset(texts & {*features, *others}))


def _check_present(source: Source, names: Iterable[Column], role: str) -> None:
    missing = [name for name in map(str, names) if name not in source.columns]
    if missing:
        raise _refused(
            source,
            f"a file has the {role} column {listed(missing)}",
            f"columns {listed(source.columns)}",
            _remedy(source, role),
        )


def _remedy(source: Source, role: str) -> str:
    if source.format == "csv" and all(map(_is_number, source.columns)):
        return "give the file a header, or number the columns in the settings, from 0"
    return f"add the column, or correct `{'features' if role == 'feature' else role}`"


def _is_number(name: str) -> bool:
    return isinstance(label_key(name), float)


def _refused(source: Source, rule: str, value: str, remedy: str) -> FileRefused:
    return FileRefused(rule, place=source.name, value=shown(value), remedy=remedy)
