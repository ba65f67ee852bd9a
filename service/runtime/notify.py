"""Tells systemd how the daemon is (sd_notify): ready, stopping, and alive as long as it gets on.

Rules: without NOTIFY_SOCKET nothing happens. The watchdog is fed by progress, not by a timer alone: while nothing is due of
this process, or something was done not longer ago than a sub-task may take.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable


class Notifier:
    """The service manager's socket, if there is one."""

    def __init__(self) -> None:
        path = os.environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path

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


def watchdog_seconds() -> float | None:
    """How often systemd wants to hear from us, halved; None when it doesn't."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", "")
    if not microseconds.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(microseconds) / 2_000_000


async def keep_fed(
    notifier: Notifier, progress: Callable[[], tuple[int, bool]], patience_seconds: float
) -> None:
    """Feeds the watchdog until it is cancelled; returns at once where there is none.

    `progress` gives how much has been done so far, and whether nothing is due. It is fed no more when something is due,
    and nothing was done for `patience_seconds`.
    """
    seconds = watchdog_seconds()
    seen, since = -1, 0.0
    while seconds is not None:
        done, nothing_due = progress()
        now = time.monotonic()
        if nothing_due or done != seen:
            seen, since = done, now
        if now - since <= patience_seconds:
            notifier.send("WATCHDOG=1")
        await asyncio.sleep(seconds)
