"""What the service manager is told, over a real socket."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.runtime.notify import Notifier, keep_fed, watchdog_seconds


@pytest.fixture(params=["path", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """The manager's end, by a path or in the abstract namespace."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@headrace-test-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        receiver.setblocking(False)
        yield receiver


def _told(manager: socket.socket) -> list[bytes]:
    told = []
    while True:
        try:
            told.append(manager.recv(4096))
        except BlockingIOError:
            return told


def test_a_state_reaches_the_manager(manager: socket.socket) -> None:
    Notifier().send("READY=1")
    assert _told(manager) == [b"READY=1"]


def _fed(
    monkeypatch: pytest.MonkeyPatch, said: list[tuple[int, bool]], patience_seconds: float
) -> None:
    """Feeds a watchdog that wants to hear every millisecond, until all of this was said."""
    monkeypatch.setenv("WATCHDOG_USEC", "2000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    coming = iter(said)

    def progress() -> tuple[int, bool]:
        for one in coming:
            return one
        raise asyncio.CancelledError

    async def scene() -> None:
        await keep_fed(Notifier(), progress, patience_seconds)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(scene())


def test_the_watchdog_is_fed_by_progress_or_rest_only(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fed(monkeypatch, [(0, False), (0, False), (3, False), (3, False), (3, True), (3, True)], 0.0)
    assert _told(manager) == [b"WATCHDOG=1"] * 4


def test_the_watchdog_is_fed_while_a_sub_task_may_take_its_time(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fed(monkeypatch, [(0, False)] * 5, 3600.0)
    assert _told(manager) == [b"WATCHDOG=1"] * 5


def test_a_manager_that_is_absent_or_gone_is_nobodys_trouble(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier().send("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    Notifier().send("READY=1")


@pytest.mark.parametrize(
    ("microseconds", "pid", "seconds"),
    [
        ("30000000", "", 15.0),
        ("30000000", "ours", 15.0),
        ("30000000", "1", None),
        ("", "", None),
        ("soon", "", None),
    ],
)
def test_half_the_watchdogs_time_is_kept_if_it_is_ours(
    monkeypatch: pytest.MonkeyPatch, microseconds: str, pid: str, seconds: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "ours" else pid)
    assert watchdog_seconds() == seconds


def test_without_a_watchdog_nothing_is_fed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    asyncio.run(keep_fed(Notifier(), lambda: (1, True), 1.0))
