"""Dates and times -> numbers: the parts that the settings ask for, each a feature called `column part`.

Rules: a time is written as 2024-05-01, 2024-05-01 13:30 or 2024-05-01T13:30:00.5, and may end with its distance from UTC, which
doesn't count: the parts are those that stand there. An empty cell has none: it is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from service.formats.contract import Fields
from service.formats.frames import nameless, pl
from service.formats.values import BLANK, Faults

PARTS: dict[str, Callable[[pl.Series], pl.Series]] = {
    "year": lambda times: times.dt.year(),
    "month": lambda times: times.dt.month(),
    "day": lambda times: times.dt.day(),
    "weekday": lambda times: times.dt.weekday(),
    "yearday": lambda times: times.dt.ordinal_day(),
    "hour": lambda times: times.dt.hour(),
    "minute": lambda times: times.dt.minute(),
    "days": lambda times: times.dt.epoch("d"),
}
"""Weekdays from 1, which is Monday; `days` since 1970-01-01."""
WRITTEN = ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S%.f")
SHAPE = r"^\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?(?: ?(?:Z|[+-]\d\d:?\d\d))?$"
"""What is written as a time, whether there is such a day or not."""
DISTANCE = r"(\d:\d\d(?:[.:][\d.:]*)?) ?(?:Z|[+-]\d\d:?\d\d)$"


def with_parts(frame: pl.DataFrame, fields: Fields, faults: Faults) -> pl.DataFrame:
    """The table with the parts of its times: text where they are names, else numbers."""
    names = {str(column) for column in fields.hashed.categorical}
    for column, parts in fields.times:
        cells = frame[str(column)]
        times = _times(nameless(cells))
        texts = nameless(cells).cast(pl.String).str.strip_chars(BLANK).fill_null("")
        wrong = (times.is_null() & (texts != "")).to_numpy()
        is_written = texts.str.contains(SHAPE).to_numpy()
        faults.mark(
            wrong & is_written, cells, "a time has a day and an hour that exist", _remedy(fields)
        )
        rule = "a time is written as 2024-05-01, or 2024-05-01 13:30:00"
        faults.mark(wrong, cells, rule, _remedy(fields))
        frame = frame.with_columns(
            _part(times, part, as_name=called(column, part) in names).alias(called(column, part))
            for part in parts
        )
    return frame


def _remedy(fields: Fields) -> str:
    if fields.gaps.fill != "none":
        return "correct it, or leave the cell empty"
    return 'correct it; an empty cell will do where missing.fill is "mean" (or "zero")'


def called(column: str | int, part: str) -> str:
    """The name of a part."""
    return f"{column} {part}"


def parts_of(fields: Fields, column: str) -> Sequence[str]:
    """What stands for a column among the features: its parts if it is a time, else itself."""
    for time, parts in fields.times:
        if str(time) == column:
            return [called(time, part) for part in parts]
    return [column]


def _part(times: pl.Series, part: str, *, as_name: bool) -> pl.Series:
    found = PARTS[part](times)
    return found.cast(pl.String).fill_null("") if as_name else found.cast(pl.Float64)


def _times(cells: pl.Series) -> pl.Series:
    plain = (
        cells.cast(pl.String)
        .str.strip_chars(BLANK)
        .str.replace(r"^(\d{4}-\d\d-\d\d)T", "$1 ")
        .str.replace(DISTANCE, "$1")
        .str.replace(r"^[+-].*", "")  # of which a year before Christ would be made
    )
    ways = [pl.first().str.to_datetime(way, time_unit="us", strict=False) for way in WRITTEN]
    return plain.to_frame().select(pl.coalesce(ways)).to_series()
