"""When the pool asks for a worker, and when it stops trying.

Rules: pure bookkeeping; the time, in seconds of a monotonic clock, is an argument. A worker is born
when it says that it is ready, and not before. After a failed birth the next one waits, twice as
long each time, since what stops one worker (no memory, a broken module) usually stops the next.
"""

from __future__ import annotations

TRIES = 5
KILLS_LIKE_ONE_FAILURE = 4  # somebody else's SIGKILL says little of what the next worker will do
FIRST_WAIT_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 1.0
BIRTH_SECONDS = 30.0  # imports, on a machine that is busy with something else
FIRST_BIRTH_SECONDS = 300.0  # and compiling, where no cache is filled


class Births:
    """Counts the births of a pool's workers, and of the nursery that they come from."""

    def __init__(self) -> None:
        self._failed_in_a_row = 0
        self._overdue_in_a_row = 0
        self._despair = 0.0
        self.any_succeeded = False
        self.not_before = 0.0
        self._last_failure = ""

    @property
    def seconds(self) -> float:
        """How long the next birth may take before it is given up: a worker can be stopped then, too.

        The first one may have caches to fill; and what was too short for the last one is doubled.
        """
        if not self.any_succeeded:
            return FIRST_BIRTH_SECONDS
        return min(BIRTH_SECONDS * 2.0**self._overdue_in_a_row, FIRST_BIRTH_SECONDS)

    @property
    def trouble(self) -> str:
        """Why the last birth failed, until one succeeds; empty when all is well."""
        return self._last_failure if self._failed_in_a_row else ""

    @property
    def hopeless(self) -> bool:
        """So many failed in a row that whoever has no worker should hear of it."""
        return self._despair >= TRIES

    def prepared(self) -> None:
        """A nursery is ready: workers may come."""
        self._failed_in_a_row = self._overdue_in_a_row = 0
        self.not_before = 0.0

    def succeeded(self) -> None:
        """A worker is ready."""
        self.prepared()
        self.any_succeeded = True
        self._despair = 0.0

    def failed(
        self, now: float, reason: str, *, by_others: bool = False, overdue: bool = False
    ) -> None:
        """A nursery or a worker could not be had, or died before it was ready; `by_others`: it was killed; `overdue`: by us."""
        self._despair += 1 / KILLS_LIKE_ONE_FAILURE if by_others else 1
        wait = FIRST_WAIT_SECONDS * 2.0**self._failed_in_a_row
        self._failed_in_a_row = min(self._failed_in_a_row + 1, 64)
        self.not_before = now + min(wait, LONGEST_WAIT_SECONDS)
        self._overdue_in_a_row += overdue and self._overdue_in_a_row < 64
        self._last_failure = reason
