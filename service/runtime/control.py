"""How a command reaches a running daemon: a socket in `state/`, one JSON line each way.

    {"command": "reset", "job": "churn"}  ─▶  {"ok": true, ...}  |  {"ok": false, "error": "..."}

Rules: the socket is for this user only. It is reached through its directory's descriptor, since a
socket's path may have 108 bytes and a root's may have more. Who closes his end takes the request back: its
handler is cancelled, and does not begin what it has not begun.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]

MOST_BYTES = 1 << 24  # a request may name many files
ASK_SECONDS = 600.0
MEANWHILE_SECONDS = 1.0


class Control:
    """The daemon's end."""

    def __init__(self, path: Path, handler: Handler) -> None:
        self._path = path
        self._handler = handler
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listens; a socket that a killed daemon left is replaced, for the lock says that it is ours."""
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            listener.bind(f"/proc/self/fd/{folder}/{self._path.name}")
        finally:
            os.close(folder)
        self._path.chmod(0o600)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=MOST_BYTES)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answer = await self._unless_gone(await reader.readline(), reader, writer)
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        except (ConnectionError, ValueError):
            pass  # whoever asked has gone, or sent a line without an end
        finally:
            writer.close()

    async def _unless_gone(
        self, line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> dict[str, Any]:
        """The answer; the handler is cancelled, and ConnectionAbortedError raised, when whoever asked goes first."""
        async with asyncio.TaskGroup() as group:
            answering = group.create_task(self._answer(line))
            watching = group.create_task(_departure(reader, writer))
            watching.add_done_callback(lambda _: answering.cancel())
            answering.add_done_callback(lambda _: watching.cancel())
        if answering.cancelled():
            raise ConnectionAbortedError("control: whoever asked has gone")
        return answering.result()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return {"ok": False, "error": "control: one line of JSON is asked for"}
        if not isinstance(request, dict):
            return {"ok": False, "error": "control: a JSON object is asked for"}
        return await self._handler(request)


async def _departure(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Returns when the other end is closed; of one that only says no more (a half-close), never."""
    with suppress(ConnectionError):
        while await reader.read(1 << 16):
            pass
        closed = select.poll()
        closed.register(writer.get_extra_info("socket").fileno(), 0)  # POLLHUP is always told
        if not closed.poll(0):
            await asyncio.get_running_loop().create_future()


def ask(
    path: Path,
    request: dict[str, Any],
    seconds: float = ASK_SECONDS,
    meanwhile: Callable[[], None] = lambda: None,
) -> dict[str, Any] | None:
    """Sends a request to the daemon and waits for its answer; None when no daemon listens.

    `meanwhile` is called now and then until the answer comes.

    Raises OSError, TimeoutError among them, when one listens and does not answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as channel:
        channel.settimeout(seconds)
        try:
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            channel.connect(f"/proc/self/fd/{folder}/{path.name}")
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        finally:
            os.close(folder)
        channel.sendall(json.dumps(request).encode() + b"\n")
        until = time.monotonic() + seconds
        while not select.select([channel], [], [], MEANWHILE_SECONDS)[0]:
            if time.monotonic() > until:
                raise TimeoutError("the daemon does not answer")
            meanwhile()
        answer = b""
        with suppress(ConnectionResetError), channel.makefile("rb") as answers:
            answer = answers.readline(MOST_BYTES)
    if not answer:
        return {
            "ok": False,
            "error": "the daemon ended before it answered: see `headrace status` for what was done, then ask again",
        }
    found: dict[str, Any] = json.loads(answer)
    return found
