"""Which of a job's files are open, and which wait: bookkeeping without a clock or a disk.

Rules: a file's order is fixed by its admission number, given once and never reused. What is decided
is in the journal; here is only what is not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Undecided:
    """The admitted files of one job whose fate is open, in order, with their digests once known.

    A file's identity can only be judged against files whose fate is known: an earlier file with
    the same content may yet be refused, and then this one is to be learnt from.
    """

    digests: dict[int, str | None] = field(default_factory=dict)

    def opened(self, admission: int) -> None:
        self.digests[admission] = None

    def known(self, admission: int, sha256: str) -> None:
        if admission in self.digests:
            self.digests[admission] = sha256

    def decided(self, admission: int) -> None:
        self.digests.pop(admission, None)

    def repeating(self, digests: Mapping[int, str]) -> set[int]:
        """Those of these files, given by admission with their digests, that an earlier open file is like, or may be."""
        found: set[int] = set()
        seen: set[str | None] = set()
        for admission, digest in self.digests.items():
            if admission in digests and (None in seen or digests[admission] in seen):
                found.add(admission)
            seen.add(digest)
        return found


class Listing:
    """The names that an inbox showed and that are not taken yet, in the order of their bytes.

    A listing is worked off before the next is asked for, so that a hundred thousand names are
    sorted once and not once per file. Names are distinct, as in any directory.
    """

    def __init__(self) -> None:
        self._order: deque[bytes] = deque()
        self._names: set[bytes] = set()

    def refill(self, names: list[bytes]) -> None:
        self._order, self._names = deque(sorted(names)), set(names)

    def take(self, most: int) -> list[bytes]:
        taken: list[bytes] = []
        while len(taken) < most and self._names:
            name = self._order.popleft()
            if name in self._names:
                self._names.remove(name)
                taken.append(name)
        return taken

    def strike(self, names: Iterable[bytes]) -> None:
        """Takes out names that were looked at out of turn."""
        self._names.difference_update(names)

    def __len__(self) -> int:
        return len(self._names)
