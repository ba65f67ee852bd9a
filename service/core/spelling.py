"""How a class label, or a feature of our own making, is spelt wherever people read it.

Rules: files are read as "1" is 1 is 1.0, so a label may come here as any of these; it is shown as 1. Names stay as they are, but
for the words of booleans, which every writer spells in another case: they are one name each.
"""

from __future__ import annotations

BOOLEANS = {"true": 1.0, "false": 0.0}
"""The words, in any case, and the numbers that they are where numbers are learnt."""
_EXACT = 2**53  # from here on a float isn't one whole number: its digits would be made up


def missing_name(column: str | int) -> str:
    """The name of the feature that says where a column's value is missing."""
    return f"{column} is missing"


def as_name(text: str) -> str:
    """The name that a text is: the words true and false in any case are one each."""
    lower = text.lower()
    return lower if lower in BOOLEANS else text


def spelt(label: str | float) -> str | float:
    """The label; a whole number without its point."""
    if isinstance(label, float) and label.is_integer() and abs(label) < _EXACT:
        return int(label)
    return label
