"""What a look into a directory says of real files: whole, still being written, or nobody's business."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.runtime import inbox as module
from service.runtime.inbox import GONE, MOST_AT_ONCE, Inbox, Look

SETTLE_SECONDS = 10.0
IGNORED = ("*.tmp", "*.part", "*~")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Both clocks of the module; they stand still unless `now` is moved, a little after the files' ctime."""
    clock = SimpleNamespace(now=0.0, start=time.time())
    clock.monotonic = lambda: clock.now
    clock.time = lambda: clock.start + clock.now
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "inbox"
    path.mkdir()
    return path


@pytest.fixture
def inbox(folder: Path, clock: SimpleNamespace) -> Inbox:
    return Inbox(folder, ("*",), IGNORED, SETTLE_SECONDS)


def _names(look: Look) -> list[bytes]:
    return [found.name for found in look.ready]


def _moved(*names: bytes) -> dict[bytes, bool]:
    return dict.fromkeys(names, True)


def test_a_file_that_was_renamed_in_is_whole_at_once(inbox: Inbox, folder: Path) -> None:
    (folder / "a").write_bytes(b"1")
    look = inbox.look(_moved(b"a"), relist=False)
    seen = (folder / "a").stat()
    (found,) = look.ready
    assert (found.name, found.size) == (b"a", 1)
    assert (found.mtime_ns, found.inode) == (seen.st_mtime_ns, seen.st_ino)
    assert look.again_seconds is None


def test_a_file_that_is_only_listed_is_whole_when_it_has_been_still(
    inbox: Inbox, folder: Path, clock: SimpleNamespace
) -> None:
    (folder / "a").write_bytes(b"1")
    look = inbox.look({}, relist=True)
    assert (_names(look), look.waiting) == ([], 1)
    assert look.again_seconds == pytest.approx(SETTLE_SECONDS, abs=1)
    clock.now += SETTLE_SECONDS - 1
    assert _names(inbox.look({}, relist=False)) == []
    clock.now += 2
    assert _names(inbox.look({}, relist=False)) == [b"a"]


def test_a_file_that_grows_begins_to_settle_anew(
    inbox: Inbox, folder: Path, clock: SimpleNamespace
) -> None:
    (folder / "a").write_bytes(b"1")
    inbox.look({}, relist=True)
    clock.now += SETTLE_SECONDS - 1
    clock.start = time.time() - clock.now  # as if the wall clock had not moved: the write is of now
    with (folder / "a").open("ab") as file:
        file.write(b"2")
    clock.now += 2
    assert _names(inbox.look({}, relist=False)) == []
    clock.now += SETTLE_SECONDS
    assert _names(inbox.look({}, relist=False)) == [b"a"]


def test_an_old_file_is_whole_at_the_first_look(
    inbox: Inbox, folder: Path, clock: SimpleNamespace
) -> None:
    (folder / "a").write_bytes(b"1")
    clock.now += 1.0
    clock.start += SETTLE_SECONDS
    assert _names(inbox.look({}, relist=True)) == [b"a"]


def test_an_mtime_in_the_past_makes_no_file_old(inbox: Inbox, folder: Path) -> None:
    (folder / "a").write_bytes(b"1")
    os.utime(folder / "a", (0, 0))
    assert _names(inbox.look({}, relist=True)) == []


YEAR_SECONDS = 365 * 86400.0


@pytest.mark.parametrize("jump", [-YEAR_SECONDS, -50 * YEAR_SECONDS])
def test_a_wall_clock_that_is_set_back_costs_no_more_than_a_wait(
    inbox: Inbox, folder: Path, clock: SimpleNamespace, jump: float
) -> None:
    (folder / "a").write_bytes(b"1")
    clock.start += jump
    assert _names(inbox.look({}, relist=True)) == []
    clock.now += SETTLE_SECONDS + 1
    assert _names(inbox.look({}, relist=False)) == [b"a"]


def test_a_wall_clock_that_is_set_forward_gives_out_no_file_that_is_held_open(
    inbox: Inbox, folder: Path, clock: SimpleNamespace
) -> None:
    with (folder / "a").open("wb") as file:
        file.write(b"1")
        clock.start += YEAR_SECONDS
        assert _names(inbox.look({}, relist=True)) == []
    assert _names(inbox.look({}, relist=True)) == [b"a"]


@pytest.mark.parametrize("moved", [True, False])
def test_a_file_that_somebody_holds_open_for_writing_is_not_whole(
    inbox: Inbox, folder: Path, clock: SimpleNamespace, moved: bool
) -> None:
    with (folder / "a").open("wb"):
        inbox.look({b"a": moved}, relist=True)
        clock.now += 10 * SETTLE_SECONDS
        look = inbox.look({b"a": moved}, relist=True)
        assert (_names(look), look.waiting) == ([], 1)
        assert look.again_seconds is not None
        assert look.again_seconds > 0
    assert _names(inbox.look({}, relist=False)) == [b"a"]


def test_a_reader_does_not_hold_a_file_up(inbox: Inbox, folder: Path) -> None:
    (folder / "a").write_bytes(b"1")
    with (folder / "a").open("rb"):
        assert _names(inbox.look(_moved(b"a"), relist=False)) == [b"a"]


def test_hidden_names_and_those_of_copying_tools_are_never_looked_at(
    inbox: Inbox, folder: Path
) -> None:
    names = [b".hidden", b".a.csv.X1y2", b"a.tmp", b"a.part", b"a~"]
    for name in names:
        (folder / os.fsdecode(name)).write_bytes(b"1")
    assert inbox.look(_moved(*names), relist=True) == Look((), 0, None)


def test_only_included_names_are_looked_at(folder: Path) -> None:
    inbox = Inbox(folder, ("*.csv", "x?"), (), 0.0)
    for name in ("a.csv", "a.txt", "x1", "x22"):
        (folder / name).write_bytes(b"1")
    assert _names(inbox.look({}, relist=True)) == [b"a.csv", b"x1"]


def test_what_will_never_be_a_file_is_given_out_to_be_refused_but_folders_are_left(
    inbox: Inbox, folder: Path
) -> None:
    (folder / "folder").mkdir()
    (folder / "link").symlink_to("nothing")
    os.mkfifo(folder / "fifo")
    opened = os.open(folder, os.O_RDONLY)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{opened}/socket")
    os.close(opened)
    assert _names(inbox.look({}, relist=True)) == [b"fifo", b"link", b"socket"]


def test_names_that_are_gone_are_forgotten(
    inbox: Inbox, folder: Path, clock: SimpleNamespace
) -> None:
    (folder / "a").write_bytes(b"1")
    assert inbox.look({b"never there": True}, relist=True).waiting == 1
    (folder / "a").unlink()
    assert inbox.look({}, relist=False) == Look((), 0, None)


def test_a_folder_that_is_gone_or_a_link_is_missing(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    for path in (tmp_path / "nothing", tmp_path / "link"):
        assert Inbox(path, ("*",), (), 0.0).look({}, relist=True) == Look((), 0, None, missing=GONE)


def test_ten_thousand_names_come_in_order_and_in_parts(folder: Path) -> None:
    inbox = Inbox(folder, ("*",), (), 0.0)
    count = 10_000
    for number in range(count):
        (folder / f"{number * 7919 % count:05}").touch()
    found: list[bytes] = []
    look = inbox.look({}, relist=True)
    while look.ready:
        assert len(look.ready) <= MOST_AT_ONCE
        assert look.waiting == count - len(found)
        assert (look.again_seconds is None) == (look.waiting == len(look.ready))
        found += _names(look)
        look = inbox.look({}, relist=False)
    assert found == [b"%05d" % number for number in range(count)]


def test_a_listing_is_worked_off_before_the_next_is_made(folder: Path) -> None:
    inbox = Inbox(folder, ("*",), (), 0.0)
    for number in range(MOST_AT_ONCE + 2):
        (folder / f"{number:05}").touch()
    inbox.look({}, relist=True)
    (folder / "00000a").touch()
    assert _names(inbox.look({}, relist=True)) == [b"%05d" % (MOST_AT_ONCE + n) for n in range(2)]


def test_a_listing_that_was_asked_for_too_early_is_made_when_the_last_is_worked_off(
    folder: Path,
) -> None:
    inbox = Inbox(folder, ("*",), (), 0.0)
    for number in range(MOST_AT_ONCE + 2):
        (folder / f"{number:05}").touch()
    inbox.look({}, relist=True)
    (folder / "00000a").touch()  # of which no event tells
    assert inbox.look({}, relist=True).again_seconds == 0.0
    for number in range(MOST_AT_ONCE + 2):
        (folder / f"{number:05}").unlink()
    look = inbox.look({}, relist=False)
    assert _names(look) == [b"00000a"]
    assert look.again_seconds is None


NAMES = st.binary(min_size=1, max_size=40).filter(
    lambda name: b"/" not in name and b"\0" not in name and not name.startswith(b".")
)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("odd")


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.sets(NAMES, max_size=8))
def test_any_name_that_linux_takes_is_found_in_the_order_of_its_bytes(
    odd: Path, names: set[bytes]
) -> None:
    folder = os.fsencode(odd)
    for name in names:
        os.close(os.open(os.path.join(folder, name), os.O_CREAT | os.O_WRONLY))
    inbox = Inbox(odd, ("*",), (), 0.0)
    assert _names(inbox.look({}, relist=True)) == sorted(names)
    for name in names:
        os.unlink(os.path.join(folder, name))


def test_a_file_that_is_both_sighted_and_listed_or_hinted_at_waits_once(
    inbox: Inbox, folder: Path
) -> None:
    for name in ("a", "b", "c"):
        (folder / name).write_bytes(b"1")
    for relist in (True, True, False):
        look = inbox.look({b"a": False}, relist=relist)
        assert (_names(look), look.waiting, inbox.count()) == ([], 3, 3)


def test_what_is_given_out_waits_until_it_is_taken_and_what_is_never_taken_does_not(
    inbox: Inbox, folder: Path
) -> None:
    for number in range(2 * MOST_AT_ONCE):
        (folder / f"{number:04}").write_bytes(b"1")
    (folder / "folder").mkdir()
    (folder / ".hidden").touch()
    last = b"%04d" % (2 * MOST_AT_ONCE - 1)
    look = inbox.look({last: True}, relist=True)  # out of turn: not listed any more
    assert last not in _names(look)[:-1]
    assert look.waiting == inbox.count() == 2 * MOST_AT_ONCE
