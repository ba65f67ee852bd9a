"""Texts for refusals: what a file holds is shown bounded and escaped, since anybody may have
written it.

Rules: at most 80 characters of a value; no control, formatting or unpaired character reaches a log
or a terminal.
"""

from __future__ import annotations

from collections.abc import Iterable

LONGEST = 80


def shown(value: object) -> str:
    """`value` as text of at most 80 characters, everything that doesn't print escaped as in a
    Python string."""
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    safe = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: LONGEST + 1])
    return safe if len(safe) <= LONGEST else safe[: LONGEST - 1] + "…"


def listed(names: Iterable[object]) -> str:
    """The first names of a list, comma between, within the same bound."""
    parts: list[str] = []
    for name in names:
        parts.append(str(name)[: LONGEST + 1])
        if sum(map(len, parts)) > LONGEST:
            break
    return shown(", ".join(parts))
