"""What to do about a cell that should be a number and isn't, by what it looks like: one remedy that fits goes first.

Rules: nobody has seen more than one cell, so a remedy says what must be true for it to help. Each can be followed, in the
format that the file has.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from service.formats.contract import Fields, Source
from service.formats.wording import shown

LEAVE = "leave the column out (`exclude`, or `features` without it)"
LINEAR = "kernels linear, logistic, softmax"
COSTS = (
    "write one number, the label: labels of Vowpal Wabbit with costs or actions (1:0 2:1, 1:2:0.4, shared)"
    " are for learners that aren't here"
)
TEXT_WORDS, TEXT_LETTERS = 5, 60
"""From here on it is more likely a text than a name."""

_LOOKS = (
    ("day", r"\d{4}-\d\d-\d\d([T ].*)?"),
    (
        "time",
        r"\d{1,4}[/.]\d{1,2}[/.]\d{1,4}\b.*|\d{1,2}:\d\d(:\d\d.*)?|\d{4}/.*"
        r"|\d{1,2}[- ]([a-z]{3,9}|\d{1,2})[- ]\d{2,4}\b.*|[a-z]{3,9}\.? \d{1,2},? \d{4}\b.*",
    ),
    ("fields", r"[+-]?[\d.,]+[;|\t].*"),
    ("comma or thousands", r"[+-]?[1-9]\d{0,2},\d{3}"),
    ("comma", r"[+-]?\d*,\d+([eE][+-]?\d+)?"),
    ("thousands", r"[+-]?\d{1,3}(([ ,.'_]|\u00a0|\u202f)\d{3})+([.,]\d+)?"),
    ("minus", r"[\u2010-\u2015\u2212\ufe63\uff0d]\s?[\d.,]+"),
    ("negative", r"\(\s?[$€£¥]?[\d.,]+\s?\)|[\d.,]+\s?-"),
    ("percent", r"[+-]?[\d.,]+\s?%"),
    ("digits", r"[-+$€£¥#]?\s?\d.*"),
    (
        "placeholder",
        r"[\W_]*|\\n|#?n\.?/?[ad]\.?!?|#(value|div/0|ref|name|num|null)[!?]"
        r"|\(?(nil|missing|unknown|undefined|nothing|none|blank|empty)\)?",
    ),
    ("units", r"\[.{1,20}\]|\(.{1,20}\)"),
)


_UNLABELLED = {
    "csv": "leave the cell empty",
    "jsonl": "write null",
    "parquet": "write null",
    "npy": "make it NaN",
    "svmlight": "delete the row",
    "vw": "leave the label out",
}
"""How a row is written that has no label."""


@dataclass(frozen=True, slots=True)
class Written:
    """How a file is written, as far as a remedy depends on it."""

    format: str = "csv"
    delimiter: str = "auto"
    decimal: str = "."
    fill: str = "none"

    @property
    def is_csv(self) -> bool:
        return self.format == "csv"


def written(source: Source, fields: Fields) -> Written:
    """How a prepared file is written."""
    dialect = source.dialect
    decimal = dialect.decimal if source.format == "csv" else "."
    return Written(source.format, dialect.delimiter, decimal, fields.gaps.fill)


def remedy(cell: str, how: Written | None = None, column: str = "") -> str:
    """The remedy for a feature's cell that is no number, nothing, and none of the missing values."""
    how, text, look = how or Written(), cell.strip(), _look(cell)
    if how.is_csv and text == column:
        return f"delete the row, if the header stands there again; else correct it, or {LEAVE}"
    if look == "day":
        return f"name the column in `times`, with the parts of it that are features, or {LEAVE}"
    if look == "time":
        return f"write times as 2024-05-01 or 2024-05-01 13:30:00, and name the column in `times`; or {LEAVE}"
    if look == "placeholder":
        also = ' and set missing.fill = "mean" (or "zero")' if how.fill == "none" else ""
        return f"add {_quoted(text)} to missing.values{also}, if it says that nothing is there; else correct it, or {LEAVE}"
    if look == "units":
        return f"delete the row, if it holds the columns' units; else correct it, or {LEAVE}"
    if look == "digits":
        names = f"; where the column holds names, list it in hashing.categorical ({LINEAR})"
        return _as_number(look, text, how) + names
    if look:
        return _as_number(look, text, how)
    if len(text.split()) >= TEXT_WORDS or len(text) >= TEXT_LETTERS:
        return f"list the column in hashing.text ({LINEAR}), or {LEAVE}"
    return f"list the columns of names in hashing.categorical ({LINEAR}), or correct it, or {LEAVE}"


def label(cell: str, how: Written, column: str) -> str:
    """The remedy for a label that is no number, nothing, and none of the missing values."""
    text, look = cell.strip(), _look(cell)
    if how.format == "vw" and text == "shared":
        return COSTS
    unlabelled = _UNLABELLED[how.format]
    if how.is_csv and text == column:
        return f"delete the row, if the header stands there again; else {unlabelled}"
    if look in ("day", "time"):
        return f"a time is no label: write a number (the hours since another time, say), or {unlabelled}"
    if look == "placeholder":
        return f"add {_quoted(text)} to missing.values, if it says that nothing is there; else {unlabelled}"
    if look == "units":
        return f"delete the row, if it holds the columns' units; else correct it, or {unlabelled}"
    if look:
        return f"{_as_number(look, text, how)}; or {unlabelled}"
    return f'correct it, or {unlabelled}; names are learnt by kernels of classes, as "logistic" and "softmax" are'


def _look(cell: str) -> str:
    """What a cell looks like; "" for a name, or a text."""
    looks = (
        look
        for look, pattern in _LOOKS
        if re.fullmatch(pattern, cell.strip(), re.IGNORECASE | re.DOTALL)
    )
    return next(looks, "")


def _as_number(look: str, text: str, how: Written) -> str:
    """How a cell that looks like a number in a spelling of its own is written so that it is one."""
    number = "1234,5" if how.decimal == "," else "1234.5"
    if look == "fields" and how.is_csv:
        mark = next(character for character in text if character in ";|\t")
        also = ' and csv.decimal = ","' if how.delimiter == "," else ""
        return f"set csv.delimiter = {json.dumps(mark)}{also}, if these are two fields; else write it as {number}"
    if look == "comma or thousands":
        return _with_a_comma(number, how)
    if look == "comma" and how.is_csv and how.decimal == ".":
        return f'set csv.decimal = "," where this is CSV with decimal commas; else write it as {number}'
    if look == "thousands":
        return f"write it as {number}, without anything between thousands"
    if look == "minus":
        return f"write the minus as in -{number}: this is another sign that looks like it"
    if look == "negative":
        return f"write a number below zero as -{number}, the minus before it"
    if look == "percent":
        return f"write it as {number}, without the sign: all rows of the column in percent, or all as shares"
    return f"write it as {number}, digits alone"


def _with_a_comma(number: str, how: Written) -> str:
    """1,234: where commas delimit, too, it is hardly a decimal comma, and to read it as one would make the number a
    thousandth of what it is."""
    if not how.is_csv or how.decimal == ",":
        return f"write it as {number}, without anything between thousands"
    if how.delimiter == ",":
        return (
            f'write it as {number}, without commas between thousands (csv.decimal = "," is for files all'
            " of whose numbers have a decimal comma: 1,234 is 1.234 there)"
        )
    return (
        'set csv.decimal = "," if it is a decimal comma (1,234 is 1.234 then); if it stands between thousands,'
        f" write it as {number}"
    )


def _quoted(text: str) -> str:
    """A word as a list of the settings holds it; "it" where it can't be shown whole."""
    return json.dumps(text, ensure_ascii=False) if text == shown(text) else "it"
