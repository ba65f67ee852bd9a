"""What the garbage collector need not look at."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_OBJECTS_BETWEEN_SEARCHES = 100_000


@contextmanager
def made_to_stay() -> Iterator[None]:
    """What is made meanwhile stays: it is hardly looked at now, and never again.

    For imports: they make objects by the hundred thousand and leave hardly any garbage, and searches among all that stays
    took a sixth of their time. Compiling leaves much, so there still are some.
    """
    usual = gc.get_threshold()
    gc.set_threshold(_OBJECTS_BETWEEN_SEARCHES, *usual[1:])
    try:
        yield
    finally:
        gc.freeze()
        gc.set_threshold(*usual)
