"""Starts the engine below a root: its folders, its lock, its loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import uvloop

from service.core.layout import Layout
from service.core.settings import Settings
from service.daemon import Daemon, Errand
from service.storage.root import RootLock, prepare_root


def serve(
    settings: Settings,
    errand: Errand,
    *,
    reread: Callable[[], Settings] | None = None,
    quiet: bool = False,
    beside: Callable[[Daemon], Awaitable[None]] | None = None,
) -> int:
    """Runs a daemon to its end and returns its exit status; `beside` runs beside it, and is cancelled after it."""
    layout = Layout(settings.service.root.absolute())
    prepare_root(layout, [job.name for job in settings.jobs])
    with RootLock(layout.state):
        daemon = Daemon(settings, layout, errand, reread=reread, quiet=quiet)
        return uvloop.run(_both(daemon, beside))


async def _both(daemon: Daemon, beside: Callable[[Daemon], Awaitable[None]] | None) -> int:
    import asyncio

    if beside is None:
        return await daemon.run()
    async with asyncio.TaskGroup() as group:
        companion = group.create_task(_await(beside(daemon)))
        try:
            return await daemon.run()
        finally:
            companion.cancel()


async def _await(awaitable: Awaitable[None]) -> None:
    await awaitable
