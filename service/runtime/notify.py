"""Tells systemd how the daemon is (sd_notify): ready, stopping, and alive as long as it gets on.

Rules: without NOTIFY_SOCKET nothing happens. The watchdog is fed by progress, not by a timer alone: only
while nothing waits to be done, or something has been done since it was last fed.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable


class Notifier:
    """The service manager's socket, if there is one."""

    def __init__(self) -> None:
        path = os.environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._fed_at = -1

    def send(self, state: str) -> None:
        """Sends lines such as `READY=1`; a manager that can't be reached is nobody's trouble."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.setblocking(False)
            try:
                channel.sendto(state.encode(), self._address)
            except OSError:
                return

    def feed(self, progress: int, idle: bool) -> None:
        """Feeds the watchdog if `progress` has grown since the last time, or there is nothing to do."""
        if idle or progress != self._fed_at:
            self._fed_at = progress
            self.send("WATCHDOG=1")


def watchdog_seconds() -> float | None:
    """How often systemd wants to hear from us, halved; None when it doesn't."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", "")
    if not microseconds.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(microseconds) / 2_000_000


async def keep_fed(notifier: Notifier, progress: Callable[[], tuple[int, bool]]) -> None:
    """Feeds the watchdog until it is cancelled; returns at once where there is none.

    `progress` gives how much has been done so far, and whether there is nothing to do.
    """
    seconds = watchdog_seconds()
    while seconds is not None:
        notifier.feed(*progress())
        await asyncio.sleep(seconds)
