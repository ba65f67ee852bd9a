"""polars, imported when something of it is first used.

Rules: whoever reads a table says `from service.formats.frames import pl`. So the daemon, which knows these modules and reads
no table itself, starts without polars: without the time that its import takes, the memory, and the threads that it starts.
Nothing of `pl` is touched while a module is imported, but in annotations. A worker has it all before it serves.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl
else:

    class _Polars:
        """Stands for the module."""

        def __getattr__(self, name: str) -> Any:
            import polars

            found = getattr(polars, name)
            setattr(self, name, found)  # not asked for again
            return found

    pl = _Polars()


def named(names: str | Collection[str]) -> pl.Expr:
    """The columns of these names, in this order. For `pl.col` and `select` a column that is called *, or ^a.*$, is a pattern."""
    import polars.selectors

    return polars.selectors.by_name(names)


def nameless(cells: pl.Series) -> pl.Series:
    """A column without its name: methods of a series ask for it by its name, and meet a pattern likewise."""
    return cells.alias("")


__all__ = ["named", "nameless", "pl"]
