"""Sub-tasks that end badly. They import little, since a worker is born for each."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn


def echo(value: Any) -> Any:
    return value


def nothing() -> None:
    """For those whose modules are to be imported before the first sub-task."""


def meet(folder: str) -> None:
    """Says that it has begun, and waits; see pool_meeting.py."""
    with open(Path(folder) / "begun", "wb", buffering=0) as begun:
        begun.write(b"%8d" % os.getpid())
    with open(Path(folder) / "gate", "rb", buffering=0) as gate:
        gate.read(1)


def die(number: int) -> NoReturn:
    os.kill(os.getpid(), number)
    signal.pause()
    raise AssertionError


def leave(status: int) -> NoReturn:
    os._exit(status)


class _DiesWhenPickled:
    def __reduce__(self) -> Any:
        die(signal.SIGKILL)


def die_before_the_reply() -> Any:
    return _DiesWhenPickled()


def die_in_the_reply(share: float, chunk: int = 1 << 16) -> bytes:
    """Only a part of the answer is sent, as no SEQPACKET socket would do it by itself, and then comes the end."""
    whole = socket.socket.send

    def send(link: socket.socket, answer: bytes) -> None:
        whole(link, answer[: int(len(answer) * share)])
        os.kill(os.getpid(), signal.SIGKILL)

    socket.socket.send = send  # type: ignore[method-assign, assignment]
    return bytes(chunk)


def close_the_socket() -> None:
    link = os.readlink(f"/proc/self/fd/{sys.argv[1]}")
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2 and os.readlink(f"/proc/self/fd/{name}") == link:
                os.close(int(name))
        except FileNotFoundError:  # the one that listed them
            continue
    signal.pause()
