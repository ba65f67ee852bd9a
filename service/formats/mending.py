"""What to do about a cell that should be a number and isn't, by what it looks like: one remedy that fits goes first.

Rules: nobody has seen more than one cell, so a remedy says what must be true for it to help. Each can be followed.
"""

from __future__ import annotations

import re

LEAVE = "leave the column out of `features`"
LINEAR = "kernels linear, logistic, softmax"
TEXT_WORDS, TEXT_LETTERS = 5, 60
"""From here on it is more likely a text than a name."""

_LOOKS = (
    (
        r"\d{4}-\d\d-\d\d([T ].*)?",
        f"name the column in `times`, with the parts of it that are features, or {LEAVE}",
    ),
    (
        r"\d{1,4}[/.]\d{1,2}[/.]\d{1,4}\b.*|\d{1,2}:\d\d(:\d\d.*)?|\d{4}/.*",
        f"write times as 2024-05-01 or 2024-05-01 13:30:00, and name the column in `times`; or {LEAVE}",
    ),
    (
        r"[+-]?\d*,\d+([eE][+-]?\d+)?",
        'set csv.decimal = "," where this is CSV with decimal commas; else write it as 1234.5',
    ),
    (
        r"[+-]?\d{1,3}(([ ,.'_]|\u00a0|\u202f)\d{3})+([.,]\d+)?",
        "write it as 1234.5, without anything between thousands",
    ),
    (
        r"[-+$€£¥#]?\s?\d.*",
        "write it as 1234.5, digits alone; where the column holds names, list it in"
        f" hashing.categorical ({LINEAR})",
    ),
    (
        r"[\W_]*|#?n\.?/?[ad]\.?!?|nil|missing|unknown|undefined|nothing",
        f"add it to missing.values, if it says that nothing is there; else correct it, or {LEAVE}",
    ),
)
_TEXT = f"list the column in hashing.text ({LINEAR}), or {LEAVE}"
_NAME = f"list the columns of names in hashing.categorical ({LINEAR}), or correct it, or {LEAVE}"


def remedy(cell: str) -> str:
    """The remedy for a feature's cell that is no number, nothing, and none of the missing values."""
    text = cell.strip()
    for look, said in _LOOKS:
        if re.fullmatch(look, text, re.IGNORECASE | re.DOTALL):
            return said
    is_text = len(text.split()) >= TEXT_WORDS or len(text) >= TEXT_LETTERS
    return _TEXT if is_text else _NAME
