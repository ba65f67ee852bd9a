"""polars, imported when something of it is first used.

Rules: whoever reads a table says `from service.formats.frames import pl`. So the daemon, which knows these modules and reads
no table itself, starts without polars: without the time that its import takes, the memory, and the threads that it starts.
Nothing of `pl` is touched while a module is imported, but in annotations. A worker has it all before it serves.

To begin takes polars 30 us a call, and 300 to read a text: up to `FEW_CELLS` are looked at one by one, and what comes of them is the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
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

FEW_CELLS = 512


def are_few(cells: int) -> bool:
    """Whether so many are looked at one by one."""
    return cells <= FEW_CELLS


def named(names: str | Collection[str]) -> pl.Expr:
    """The columns of these names, in this order. For `pl.col` and `select` a column that is called *, or ^a.*$, is a pattern."""
    import polars.selectors

    return polars.selectors.by_name(names)


def nameless(cells: pl.Series) -> pl.Series:
    """A column without its name: methods of a series ask for it by its name, and meet a pattern likewise."""
    return cells.alias("")


def replaced(frame: pl.DataFrame, columns: Mapping[str, pl.Series]) -> pl.DataFrame:
    """The frame with other columns in the place of some; it takes polars longer to find out that nothing is to be done."""
    return pl.DataFrame(frame.to_dict() | dict(columns))


__all__ = ["are_few", "named", "nameless", "pl", "replaced"]
