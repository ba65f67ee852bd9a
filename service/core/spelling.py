"""How a class label is spelt, wherever people read it: as sample files give it.

Rules: files are read as "1" is 1 is 1.0, so a label may come here as any of these; it is shown as 1. Names stay as they are.
"""

from __future__ import annotations

_EXACT = 2**53  # from here on a float isn't one whole number: its digits would be made up


def spelt(label: str | float) -> str | float:
    """The label; a whole number without its point."""
    if isinstance(label, float) and label.is_integer() and abs(label) < _EXACT:
        return int(label)
    return label
