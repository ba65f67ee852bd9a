"""polars, imported when something of it is first used.

Rules: whoever reads a table says `from service.formats.frames import pl`. So the daemon, which knows these modules and reads
no table itself, starts without polars: without the time that its import takes, the memory, and the threads that it starts.
Nothing of `pl` is touched while a module is imported, but in annotations. A worker has it all before it serves.
"""

from __future__ import annotations

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

__all__ = ["pl"]
