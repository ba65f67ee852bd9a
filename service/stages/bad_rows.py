"""A file's bad rows as its chunks come: the first one refuses the file, or they are listed, up to the share that may be bad.

Rules: chunks are told in the order of the file's rows, so what is found doesn't depend on who read them first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from service import formats
from service.core.errors import FileRefused
from service.core.records import RejectedRow
from service.core.settings import Rows
from service.formats.contract import MOST_NOTES, BadRow, RowRules, Source
from service.stages.messages import Rejected

MOST_LISTED = MOST_NOTES
"""However many bad rows a file has, no more than these are listed."""


class Chunk(Protocol):
    """What is told of a chunk's rows."""

    @property
    def rows_seen(self) -> int: ...
    @property
    def lines(self) -> int: ...
    @property
    def rejected(self) -> int: ...
    @property
    def first_bad(self) -> Sequence[BadRow]: ...


def row_rules(rows: Rows) -> RowRules:
    """How many bad rows are described, for these settings."""
    notes = 1 if rows.on_bad_row == "refuse" else MOST_LISTED
    return RowRules(rows.on_bad_row, rows.max_bad_rows, notes)


class BadRows:
    """Counts a file's rows and holds its bad ones against the settings."""

    def __init__(self, source: Source, rows: Rows) -> None:
        self.rows_seen = 0
        self._source = source
        self._rows = rows
        self._lines = 0
        self._count = 0
        self._listed: list[RejectedRow] = []

    @property
    def found(self) -> Rejected:
        """How many there were so far, and the first of them."""
        return Rejected(self._count, tuple(self._listed))

    def check(self, chunk: Chunk) -> None:
        """Raises FileRefused for the first bad row of the next chunk, where one is enough."""
        if chunk.rejected and self._rows.on_bad_row == "refuse":
            raise formats.refusal(self._source, self._placed(chunk.first_bad[0]))

    def add(self, chunk: Chunk) -> None:
        """The rows of a chunk that was checked."""
        for bad in chunk.first_bad[: MOST_LISTED - len(self._listed)]:
            self._listed.append(_listed(self._placed(bad)))
        self.rows_seen += chunk.rows_seen
        self._lines += chunk.lines
        self._count += chunk.rejected

    def finish(self) -> None:
        """Raises FileRefused when too large a share of the rows was bad."""
        most = self._rows.max_bad_rows
        if self._count > most * self.rows_seen:
            raise FileRefused(
                f"at most a share of {most:g} of the rows may be bad (rows.max_bad_rows)",
                place=self._source.name,
                value=f"{self._count} bad rows of {self.rows_seen}",
                remedy="mend the rows that the list beside it (.rows.jsonl) names, or raise rows.max_bad_rows",
            )

    def _placed(self, bad: BadRow) -> BadRow:
        return formats.placed(self._source, bad, self.rows_seen, self._lines)


def _listed(bad: BadRow) -> RejectedRow:
    return RejectedRow(bad.row, bad.line, bad.column or None, bad.rule, bad.value, bad.remedy)
