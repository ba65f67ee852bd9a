"""Which of a file's columns are what: the fields, as the file's own names.

Rules: a column is meant by its name; without a header by its number. Features stand in the order
in which the fields give them, so that files whose columns are in another order are the same; by
default every other column, in the file's order, but those that the settings exclude and those that
the file sets aside.
"""

from __future__ import annotations

from collections.abc import Iterable

from service.core.errors import FileRefused
from service.core.spelling import missing_name
from service.formats import title
from service.formats.contract import SPARSE_TEXTS, Column, Fields, Source, Wanted
from service.formats.times import called, parts_of
from service.formats.values import class_places
from service.formats.wording import listed, shown

ROLES_IN_SETTINGS = {
    "feature": "features",
    "hashed": "hashing",
    "timed": "times",
}


def features_of(source: Source, fields: Fields) -> tuple[str, ...]:
    """The names of the feature columns, in the order of a block's x. Raises FileRefused if one is
    missing."""
    if source.format in SPARSE_TEXTS:
        return ()
    hashed = set(map(str, fields.hashed.columns))
    times = {str(time) for time, _ in fields.times}
    if fields.features is not None:
        given = [str(column) for column in fields.features]
        made = hashed | derived_from(fields).keys()
        _check_present(source, [c for c in given if c not in made], "feature")
    else:
        _check_present(source, fields.exclude, "excluded")
        left = {str(c) for c in fields.roles} - times
        left |= set(source.aside) - set(map(str, fields.named))
        left |= set(map(str, fields.exclude))
        given = [c for c in source.columns if c not in left]
    parts = [p for c in given for p in (parts_of(fields, c) if c in times else (c,))]
    names = tuple(name for name in parts if name not in hashed)
    known = set(names)
    if not names and not hashed:
        besides = "label, id, weight, time, offset and exposure"
        if fields.exclude:
            besides += ", and those that are excluded"
        rule, value = f"a file has columns besides {besides}", listed(source.columns)
        remedy = "drop files that have features"
        if source.aside:
            remedy = "list columns of pandas' index in `features` where they are any"
        elif fields.exclude:
            remedy += ", or correct `exclude`"
        raise _refused(source, rule, value, remedy)
    if "" in known:
        rule = "every column has a name"
        remedy = (
            title.ALIGNED
            if source.dialect.delimiter == " "
            else 'name it in the header, or leave it out: exclude = [""]'
        )
        raise _refused(source, rule, f"column {source.columns.index('')} without one", remedy)
    if len(known) < len(names):
        raise _refused(source, "a feature is named once", listed(names), "correct `features`")
    if fields.label is not None and str(fields.label) in known:
        raise _refused(source, "the label is no feature", str(fields.label), "correct `features`")
    pairable = known | hashed
    lost = [c for c in _paired(fields) if c not in pairable]
    if lost:
        rule, remedy = "a pair is one of features or columns of names", "correct `interactions`"
        raise _refused(source, rule, listed(lost), remedy)
    strangers = [column for column in map(str, fields.gaps.indicators) if column not in known]
    if strangers:
        rule, remedy = "an indicator is one of a feature", "correct `missing.indicators`"
        raise _refused(source, rule, listed(strangers), remedy)
    twice = [name for name in map(missing_name, fields.gaps.indicators) if name in known]
    if twice:
        rule = "no feature has the name that an indicator gets"
        remedy = "rename the column, or leave it, or its indicator in missing.indicators, out"
        raise _refused(source, rule, listed(twice), remedy)
    return names


def unused_of(source: Source, fields: Fields) -> int:
    """How many of the file's columns nothing names."""
    if source.format in SPARSE_TEXTS:
        return 0  # what stands in a row has its place there
    times = (time for time, _ in fields.times)
    named = (*fields.roles, *fields.exclude, *fields.hashed.columns, *times)
    used = {*map(str, named), *features_of(source, fields)}
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
    derived = derived_from(fields)
    called = {
        *map(str, (*fields.roles, *(fields.features or ()), *fields.exclude))
    } - derived.keys()
    if numbers and not all(name.isdigit() for name in called):
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
    if source.format not in SPARSE_TEXTS:
        hashed = [str(column) for column in fields.hashed.columns if str(column) not in derived]
        _check_present(source, hashed, "hashed")
        _check_present(source, dict.fromkeys(derived.values()), "timed")
    features_of(source, fields)


def derived_from(fields: Fields) -> dict[str, str]:
    """The columns that are made of others: parts of times, and the column that each is of."""
    return {called(time, part): str(time) for time, parts in fields.times for part in parts}


def _paired(fields: Fields) -> list[str]:
    return [str(column) for pair in fields.hashed.interactions for column in pair]


def wanted(source: Source, fields: Fields) -> Wanted:
    """What a reader must give for these fields."""
    derived = derived_from(fields)
    features = tuple(name for name in features_of(source, fields) if name not in derived)
    hashed = [str(c) for c in fields.hashed.columns if str(c) not in derived]
    own = [*map(str, fields.roles), *hashed, *derived.values()]
    present = set(source.columns)
    others = tuple(dict.fromkeys(c for c in own if c in present))
    carried = [str(c) for c in (fields.id, fields.time) if c is not None]
    texts = {*carried, *hashed, *derived.values()}
    if fields.labels == "class" and any(
        isinstance(key, str) for key in class_places(fields.classes or ())
    ):
        texts.add(str(fields.label))
    return Wanted(features, others, frozenset(texts & {*features, *others}))


def _check_present(source: Source, names: Iterable[Column], role: str) -> None:
    present = set(source.columns)
    missing = [name for name in map(str, names) if name not in present]
    if missing:
        line = title.header_line(source)
        names = listed(name or '""' for name in missing)
        raise FileRefused(
            f"a file has the {role} column {names}",
            place=f"{source.name}:{line}" if line else source.name,
            value=shown(f"columns {listed(source.columns)}"),
            remedy=_remedy(source, role, missing[0]),
        )


def _remedy(source: Source, role: str, lacking: str) -> str:
    if source.format == "csv" and (said := title.about_header(source, lacking)):
        return said
    if line := title.header_line(source):
        return f"{_add(role)}; line {line} was taken for the header, and what stands above the header must go"
    if source.format == "npy" and f"{lacking}0" in source.columns:
        return (
            f"save the array {shown(lacking)} as (rows,), with ravel(): it has two dimensions, so its columns are"
            f" called {shown(lacking)}0 and so on; or name these"
        )
    return _add(role)


def _add(role: str) -> str:
    if role == "feature":
        return (
            "add the column, or correct `features`; where the settings name none, the job's first file"
            " taught it, and `headrace reset` forgets that"
        )
    if role == "excluded":
        return "correct `exclude`: what the job's first file lacks, later ones may have without being learnt"
    return f"add the column, or correct `{ROLES_IN_SETTINGS.get(role, role)}`"


def _refused(source: Source, rule: str, value: str, remedy: str) -> FileRefused:
    return FileRefused(rule, place=source.name, value=shown(value), remedy=remedy)
