"""Columns that "auto" would take for names and that are none: numbers and times as they are written elsewhere, or damaged.

Rules: a few codes may look like anything, 5% or 2024-05-01, and be names. Where a column has more than 20 different values of
a kind, or more of them than half of its rows, they are no codes, and the file is refused:

    numbers with a comma alone, however few                     csv.decimal was forgotten, or thousands are apart
    more than half of the odd values numbers with more about    write them as numbers
    more than half of the odd values dates or times             `times`
    numbers beside at most 3 odd values                         `missing.values`

Whoever means names lists the column in hashing.categorical.
"""

from __future__ import annotations

from service.core.errors import FileRefused
from service.formats import mending
from service.formats.contract import Fields, Floats, Source
from service.formats.frames import pl
from service.formats.values import COMMAED
from service.formats.wording import shown

MOST_CODES = 20
MOST_MARKS = 3
NUMBER = r"^[^\p{L}\d]*[-+]?(\d{1,3}([,. '_\x{a0}\x{202f}]\d{3})+|\d+)?([.,]\d*)?([eE][-+]?\d+)?[^\p{L}\d]*$"
"""A number with marks around it or between its thousands, but no letters."""
TIME = r"^(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d\d))([T ].*)?$|^\d{1,2}:\d\d(:\d\d.*)?$"
NAMES = "where these are names, list the column in hashing.categorical"


def check(source: Source, fields: Fields, name: str, numbers: Floats, odd: pl.Series) -> None:
    """Raises FileRefused where the values of a column, those that are numbers and those that are none, are no names."""
    values, how = len(numbers) + odd.len(), mending.written(source, fields)
    different = odd.unique(maintain_order=True)
    if different.str.contains(COMMAED).all():
        rule = "a column of names holds more than numbers with a comma"
        raise _refused(source, name, rule, different[0], mending.remedy(different[0], how))
    for kind, look in (("dates and times", TIME), ("numbers that are written otherwise", NUMBER)):
        alike = different.filter(different.str.contains(look) & different.str.contains(r"\d"))
        if 2 * alike.len() > different.len() and _are_many(alike.len(), values):
            rule = f"a column of names holds more than {kind}"
            raise _refused(source, name, rule, alike[0], mending.remedy(alike[0], how))
    if different.len() <= MOST_MARKS and _are_many(len(set(numbers.tolist())), values):
        rule = f"a column of names holds more than numbers, beside at most {MOST_MARKS} words"
        said = "add it to missing.values, if it says that nothing is there; else correct it"
        raise _refused(source, name, rule, different[0], said)


def _are_many(different: int, values: int) -> bool:
    """Whether so many different values are too many for codes."""
    return different > min(MOST_CODES, values / 2)


def _refused(source: Source, name: str, rule: str, value: str, said: str) -> FileRefused:
    place = f"{source.name}: column {shown(name)}"
    remedy = said if "hashing.categorical" in said else f"{said}; {NAMES}"
    return FileRefused(rule, place=place, value=shown(value), remedy=remedy)
