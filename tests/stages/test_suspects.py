"""A file that ends the daemon each time is refused; one that is only there when others end it never is.

A life is played without a daemon: time passes where the line rests and where the file is worked on, and who is dead writes
nothing any more.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from service.core.errors import FileRefused, Stopped
from service.core.layout import Layout
from service.stages import suspects
from service.stages.line import Line, Quarantine
from service.stages.messages import Sample
from service.stages.suspects import MOST_DEATHS, QUARANTINED, counted, longest_vigil
from service.storage import units
from service.storage.journal import Journal
from service.storage.root import prepare_root
from service.storage.tables import Entry

NEVER = float("inf")


class Killed(BaseException):
    """The daemon is dead."""


class Life:
    """What `counted` asks of a line, and of the machinery that it asks for the room; killed at some moment of its time."""

    job = "j"

    def __init__(
        self, journal: Journal, killed_at: float = NEVER, room: Quarantine | None = None
    ) -> None:
        self.journal = journal
        self.killed_at = killed_at
        self.clock = 0.0
        self.stopping = asyncio.Event()
        self.notes: list[dict[str, Any]] = []
        self.machinery = self
        self.quarantine = room or Quarantine()

    async def rest(self, seconds: float) -> None:
        """Time passes; raises Killed at its end, Stopped when the line stops."""
        self.clock += seconds
        if self.is_dead:
            raise Killed
        if self.stopping.is_set():
            raise Stopped

    @property
    def is_dead(self) -> bool:
        return self.clock > self.killed_at

    async def settle(self, unit: Any) -> None:
        if not self.is_dead:
            unit.apply(self.journal, None)

    def note(self, event: str, **facts: Any) -> None:
        self.notes.append(facts | {"event": event})

    def wake(self) -> None:
        """The room is free."""

    async def news(self) -> None:
        raise Stopped  # nobody leaves the room in these lives

    def has_file(self, work_seconds: float, *, inherited: bool = True) -> None:
        """Works on the file until its first commit."""
        row = self.journal.file("j", 1)
        sample = Sample(row, Path("f"), cast("Any", None), "f", inherited)

        async def work() -> None:
            async with counted(cast(Line, self), sample):
                await self.rest(work_seconds)
                self.journal.set_deaths("j", 1, 0)  # what a commit does

        asyncio.run(work())

    @property
    def deaths(self) -> int:
        return self.journal.file("j", 1).deaths


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """One that knows a file, in a transaction that never ends: nothing here is about what lasts."""
    layout = Layout(tmp_path / "root")
    prepare_root(layout, ["j"])
    (layout.inbox("j") / "f").touch()
    journal = Journal(layout.journal)
    entry = Entry(b"f", 0, 0, (layout.inbox("j") / "f").stat().st_ino)
    admission = units.admission(layout, "j", [entry], settings=("d", "{}"), after="archive", at=0.0)
    with journal.transaction():
        admission.apply(journal, None)
        yield journal
    journal.close()


@pytest.fixture(autouse=True)
def lots(monkeypatch: pytest.MonkeyPatch) -> random.Random:
    """The lots are drawn from a seed."""
    chance = random.Random(1)
    monkeypatch.setattr(suspects, "random", chance)
    return chance


def _deadly(journal: Journal) -> Life:
    """A life that the file ends as soon as it is worked on."""
    life = Life(journal, killed_at=NEVER)
    try:
        row = journal.file("j", 1)
        sample = Sample(row, Path("f"), cast("Any", None), "f", True)

        async def work() -> None:
            async with counted(cast(Line, life), sample):
                life.killed_at = -1.0
                raise Killed

        asyncio.run(work())
    except Killed:
        pass
    return life


def test_a_file_that_ends_every_life_is_refused_after_so_many(journal: Journal) -> None:
    for deaths in range(MOST_DEATHS):
        assert journal.file("j", 1).deaths == deaths
        life = _deadly(journal)
        vigils = [note["vigil_seconds"] for note in life.notes]
        assert len(vigils) == (deaths >= QUARANTINED)
        assert all(seconds <= longest_vigil(deaths) for seconds in vigils)
    with pytest.raises(FileRefused, match="must not end the daemon"):
        _deadly(journal)


def test_vigils_are_bounded_all_together() -> None:
    assert sum(map(longest_vigil, range(MOST_DEATHS))) < 130


KILLERS: dict[str, Callable[[random.Random], float]] = {
    "as soon as it can": lambda chance: 0.0,
    "always at the same early moment": lambda chance: 0.1,
    "always a little later": lambda chance: 0.4,
    "at any time of a second": lambda chance: chance.uniform(0.0, 1.0),
    "every now and then": lambda chance: chance.expovariate(0.5),
    "now early, now late": lambda chance: chance.choice([0.0, 0.05, 5.0]) * chance.random(),
}


@pytest.mark.parametrize("killer", KILLERS)
def test_a_file_that_is_there_whenever_somebody_kills_the_daemon_is_never_refused(
    journal: Journal, killer: str
) -> None:
    """Its first commit takes longer than on a busy machine; it makes progress now and then, and is never the last one."""
    moments, most = random.Random(2), 0
    for _ in range(5000):
        life = Life(journal, KILLERS[killer](moments))
        try:
            life.has_file(work_seconds=0.5)
        except Killed:
            most = max(most, life.deaths)
    assert QUARANTINED <= most < MOST_DEATHS


def test_a_life_that_ends_in_the_vigil_speaks_for_the_file(journal: Journal) -> None:
    journal.set_deaths("j", 1, MOST_DEATHS - 1)
    life = Life(journal, killed_at=0.0)
    with pytest.raises(Killed):
        life.has_file(1.0)
    assert life.deaths == QUARANTINED


def test_a_life_that_stops_in_good_order_is_no_death(journal: Journal) -> None:
    journal.set_deaths("j", 1, 1)
    life = Life(journal)
    life.stopping.set()
    with pytest.raises(Stopped):
        life.has_file(1.0)
    assert life.deaths == 1


def test_a_file_taken_in_this_life_is_counted_in_the_next_one_only(journal: Journal) -> None:
    life = Life(journal, killed_at=0.5)
    with pytest.raises(Killed):
        life.has_file(1.0, inherited=False)
    assert life.deaths == 0


def test_who_waits_for_the_room_is_not_counted(journal: Journal) -> None:
    journal.set_deaths("j", 1, QUARANTINED)
    room = Quarantine()
    room.enter(lambda: None)
    life = Life(journal, room=room)
    with pytest.raises(Stopped):
        life.has_file(1.0)
    assert life.deaths == QUARANTINED
    assert not room.enter(lambda: None), "it did not have the room, and did not give it away"
