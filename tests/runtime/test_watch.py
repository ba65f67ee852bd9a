"""Hints from a real inotify: they come, they may be lost, and a missing one costs nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from service.runtime.watch import MOST_NAMES, Hints, Watch

PATIENCE_SECONDS = 20.0

Scene = Callable[[Watch], Awaitable[None]]


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def lived(request: pytest.FixtureRequest) -> Callable[[Scene], None]:
    """Runs a scene with a watch that listens, on either loop."""

    async def life(scene: Scene) -> None:
        watch = Watch()
        assert watch.start() is None
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await scene(watch)
        finally:
            watch.close()

    def live(scene: Scene) -> None:
        request.param(life(scene))

    return live


def _queued_events() -> int:
    """How many events the queue takes; skips the test where they are too many."""
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 20_000:
        pytest.skip(f"the queue takes {limit} events here: too many to overflow it in a test")
    return limit


async def _heard(hints: Hints, *names: bytes) -> dict[bytes, bool]:
    """What is heard, until all the names are."""
    heard: dict[bytes, bool] = {}
    while not set(names) <= heard.keys():
        await hints.wait()
        more, _ = hints.heard()
        heard |= more
    return heard


def test_a_rename_is_told_from_a_write_in_place(
    lived: Callable[[Scene], None], tmp_path: Path
) -> None:
    async def scene(watch: Watch) -> None:
        hints, folder = Hints(), tmp_path / "inbox"
        folder.mkdir()
        watch.add(folder, hints.hear)
        (tmp_path / "b").touch()
        (tmp_path / "b").rename(folder / "moved\udcff")
        (folder / "written").write_bytes(b"1")
        heard = await _heard(hints, b"moved\xff", b"written")
        assert heard == {b"moved\xff": True, b"written": False}

    lived(scene)


def test_each_directory_is_told_of_its_own(lived: Callable[[Scene], None], tmp_path: Path) -> None:
    async def scene(watch: Watch) -> None:
        ours, theirs = Hints(), Hints()
        for name, hints in (("ours", ours), ("theirs", theirs)):
            (tmp_path / name).mkdir()
            watch.add(tmp_path / name, hints.hear)
        (tmp_path / "theirs" / "f").touch()
        await _heard(theirs, b"f")
        assert ours.heard() == ({}, False)

    lived(scene)


def test_of_very_many_names_some_are_remembered_and_the_others_are_lost() -> None:
    hints = Hints()
    for number in range(MOST_NAMES):
        hints.hear(b"%d" % number, False)
    hints.hear(b"0", True)
    assert not hints.heard()[1]
    for number in range(MOST_NAMES + 1):
        hints.hear(b"%d" % number, True)
    names, lost = hints.heard()
    assert (len(names), lost) == (MOST_NAMES, True)
    assert hints.heard() == ({}, False)


def test_a_directory_that_goes_is_a_loss_and_can_be_watched_again(
    lived: Callable[[Scene], None], tmp_path: Path
) -> None:
    async def scene(watch: Watch) -> None:
        hints, folder = Hints(), tmp_path / "inbox"
        folder.mkdir()
        watch.add(folder, hints.hear)
        folder.rmdir()
        await hints.wait()
        assert hints.heard() == ({}, True)
        watch.arm(folder)  # not there: no harm
        folder.mkdir()
        watch.arm(folder)
        watch.arm(folder)
        (folder / "f").touch()
        assert await _heard(hints, b"f") == {b"f": False}

    lived(scene)


@pytest.mark.parametrize("how", ["deleted", "moved away", "both at once"])
def test_a_directory_that_comes_again_is_watched_at_once(
    lived: Callable[[Scene], None], tmp_path: Path, how: str
) -> None:
    async def scene(watch: Watch) -> None:
        hints, folder = Hints(), tmp_path / "inbox"
        folder.mkdir()
        watch.add(folder, hints.hear)
        assert not hints.came()
        folder.rename(tmp_path / "elsewhere") if how == "moved away" else folder.rmdir()
        if how != "both at once":
            await hints.wait()
            assert hints.heard() == ({}, True)
        folder.mkdir()
        while not hints.came():
            await hints.wait()
            hints.heard()
        if how == "moved away":
            (tmp_path / "elsewhere" / "f").touch()
        (folder / "g").touch()
        assert await _heard(hints, b"g") == {b"g": False}

    lived(scene)


def test_a_link_in_the_place_of_a_directory_is_not_watched(
    lived: Callable[[Scene], None], tmp_path: Path
) -> None:
    async def scene(watch: Watch) -> None:
        hints, folder = Hints(), tmp_path / "inbox"
        folder.mkdir()
        (tmp_path / "theirs").mkdir()
        watch.add(folder, hints.hear)
        folder.rmdir()
        folder.symlink_to(tmp_path / "theirs")
        while not hints.came():
            await hints.wait()
            hints.heard()
        (tmp_path / "theirs" / "f").touch()
        folder.unlink()
        folder.mkdir()
        (folder / "g").touch()
        while not hints.came():
            await hints.wait()
            assert hints.heard()[0].keys() <= {b"g"}

    lived(scene)


def test_an_overflow_is_a_loss_for_everybody(
    lived: Callable[[Scene], None], tmp_path: Path
) -> None:
    async def scene(watch: Watch) -> None:
        hints, quiet = Hints(), Hints()
        for name, one in (("busy", hints), ("quiet", quiet)):
            (tmp_path / name).mkdir()
            watch.add(tmp_path / name, one.hear)
        limit = _queued_events()
        file = tmp_path / "busy" / "f"
        for number in range(
            limit
        ):  # the loop doesn't turn meanwhile; equal events in a row are one
            file.rename(file := tmp_path / "busy" / f"{number % 2}") if number else file.touch()
        await hints.wait()
        await quiet.wait()
        assert quiet.heard() == ({}, True)

    lived(scene)


def test_nobody_is_told_of_what_is_watched_no_more(
    lived: Callable[[Scene], None], tmp_path: Path
) -> None:
    async def scene(watch: Watch) -> None:
        gone, hints = Hints(), Hints()
        for name, one in (("gone", gone), ("there", hints)):
            (tmp_path / name).mkdir()
            watch.add(tmp_path / name, one.hear)
        watch.remove(tmp_path / "gone")
        (tmp_path / "gone" / "f").touch()
        (tmp_path / "there" / "f").touch()
        await _heard(hints, b"f")
        assert gone.heard() == ({}, False)

    lived(scene)


def test_without_inotify_nothing_is_heard_and_nothing_breaks(tmp_path: Path) -> None:
    watch = Watch()  # never started, as where the machine gives none
    watch.add(tmp_path, Hints().hear)
    watch.remove(tmp_path)
    watch.close()


def test_a_wake_ends_a_wait_without_news() -> None:
    async def scene() -> None:
        hints = Hints()
        waiting = asyncio.create_task(hints.wait())
        await asyncio.sleep(0)
        hints.wake()
        await waiting
        assert hints.heard() == ({}, False)

    asyncio.run(scene())


def test_a_name_that_was_renamed_in_once_stays_so() -> None:
    hints = Hints()
    hints.hear(b"a", True)
    hints.hear(b"a", False)
    hints.hear(b"b", False)
    hints.hear(None, False)
    assert hints.heard() == ({b"a": True, b"b": False}, True)
    assert hints.heard() == ({}, False)
