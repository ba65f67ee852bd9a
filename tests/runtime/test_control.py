"""The daemon's socket: one line of JSON each way, whatever comes in."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from service.runtime import control
from service.runtime.control import MOST_BYTES, Control, ask

PATIENCE_SECONDS = 20.0


async def _echo(request: dict[str, Any]) -> dict[str, Any]:
    return {"ok": True, "heard": request}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A folder for the socket whose path is longer than a socket's may be."""
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    return folder


def _lived(path: Path, scene: Callable[[], Awaitable[None]]) -> None:
    async def life() -> None:
        end = Control(path, _echo)
        await end.start()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await scene()
        finally:
            await end.close()

    uvloop.run(life())


def _sent(path: Path, data: bytes) -> bytes:
    """What comes back for some bytes."""
    with socket.socket(socket.AF_UNIX) as channel:
        folder = os.open(path.parent, os.O_RDONLY)
        channel.connect(f"/proc/self/fd/{folder}/{path.name}")
        os.close(folder)
        try:
            channel.sendall(data)
            channel.shutdown(socket.SHUT_WR)
        except BrokenPipeError:
            pass
        with channel.makefile("rb") as answers:
            try:
                return answers.read()
            except ConnectionResetError:
                return b""


def test_a_request_is_answered(state: Path) -> None:
    async def scene() -> None:
        request = {"command": "reset", "job": "größe"}
        assert await asyncio.to_thread(ask, state / "socket", request) == {
            "ok": True,
            "heard": request,
        }

    _lived(state / "socket", scene)


def test_several_ask_at_once(state: Path) -> None:
    async def scene() -> None:
        asked = (asyncio.to_thread(ask, state / "socket", {"n": n}) for n in range(20))
        assert await asyncio.gather(*asked) == [{"ok": True, "heard": {"n": n}} for n in range(20)]

    _lived(state / "socket", scene)


@pytest.mark.parametrize(
    "data", [b"no json\n", b"\xff\xfe\n", b"[1]\n", b"[" * 100_000 + b"\n", b"\n", b""]
)
def test_nonsense_is_answered_with_an_error(state: Path, data: bytes) -> None:
    async def scene() -> None:
        answer = json.loads(await asyncio.to_thread(_sent, state / "socket", data))
        assert answer["ok"] is False
        assert "JSON" in answer["error"]
        assert (await asyncio.to_thread(ask, state / "socket", {}))["ok"]

    _lived(state / "socket", scene)


def test_a_line_without_an_end_is_hung_up_on(state: Path) -> None:
    async def scene() -> None:
        assert await asyncio.to_thread(_sent, state / "socket", b"x" * (2 * MOST_BYTES)) == b""
        assert (await asyncio.to_thread(ask, state / "socket", {}))["ok"]

    _lived(state / "socket", scene)


def test_the_socket_is_for_this_user_only_and_goes_with_its_daemon(state: Path) -> None:
    async def scene() -> None:
        assert stat.S_IMODE((state / "socket").stat().st_mode) == 0o600

    _lived(state / "socket", scene)
    assert not (state / "socket").exists()


def test_a_socket_that_a_killed_daemon_left_is_replaced(state: Path) -> None:
    (state / "socket").touch()

    async def scene() -> None:
        assert (await asyncio.to_thread(ask, state / "socket", {}))["ok"]

    _lived(state / "socket", scene)


def test_nobody_answers_where_no_daemon_listens(state: Path) -> None:
    path = state / "socket"
    assert ask(path, {}) is None
    assert ask(state / "nothing" / "socket", {}) is None
    _lived(path, lambda: asyncio.sleep(0))
    with socket.socket(socket.AF_UNIX) as left:  # bound by one who died
        folder = os.open(state, os.O_RDONLY)
        left.bind(f"/proc/self/fd/{folder}/socket")
        os.close(folder)
    assert ask(path, {}) is None


def test_who_closes_his_end_takes_his_request_back(state: Path) -> None:
    async def life() -> None:
        begun, taken_back = asyncio.Event(), asyncio.Event()

        async def handler(_: dict[str, Any]) -> dict[str, Any]:
            begun.set()
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                taken_back.set()
                raise
            raise AssertionError("it is never answered")

        end = Control(state / "socket", handler)
        await end.start()
        folder = os.open(state, os.O_RDONLY)
        async with asyncio.timeout(PATIENCE_SECONDS):
            _, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{folder}/socket")
            writer.write(b"{}\n")
            await begun.wait()
            assert not taken_back.is_set()
            writer.close()
            await taken_back.wait()
        os.close(folder)
        await end.close()

    uvloop.run(life())


def test_while_an_answer_is_waited_for_the_asker_may_do_something(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "MEANWHILE_SECONDS", 0.01)
    told = asyncio.Event()

    async def life() -> None:
        loop = asyncio.get_running_loop()

        async def handler(_: dict[str, Any]) -> dict[str, Any]:
            await told.wait()
            return {"ok": True}

        end = Control(state / "socket", handler)
        await end.start()
        answer = await asyncio.to_thread(
            ask, state / "socket", {}, meanwhile=lambda: loop.call_soon_threadsafe(told.set)
        )
        assert answer == {"ok": True}
        await end.close()

    uvloop.run(life())
