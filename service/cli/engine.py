"""Starts the engine below a root: its folders, its lock, its journal, its loop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from service.core.errors import HeadraceError
from service.core.layout import Layout
from service.core.settings import Settings
from service.daemon import Daemon, workers
from service.lines.life import Errand
from service.lines.opening import keep, refuse_incompatible
from service.runtime.nursery import Nursery
from service.runtime.provision import see_to_descriptors, threads
from service.runtime.service_log import ServiceLog
from service.storage.journal import Journal
from service.storage.recovery import recover
from service.storage.root import RootLock, prepare_root

SWITCH_SECONDS = 0.001
"""How long another thread may keep the interpreter from the loop: a fifth of Python's own choice."""

Companion = Callable[[Daemon], Coroutine[Any, Any, None]]


def serve(
    settings: Settings,
    errand: Errand,
    *,
    reread: Callable[[], Settings] | None = None,
    quiet: bool = False,
    beside: Companion | None = None,
    nursery: Nursery | None = None,
) -> int:
    """Runs a daemon to its end and returns its exit status; `beside` runs beside it until then.

    `nursery`: one that was spawned before, to save time.
    """
    see_to_descriptors(workers(settings.service), len(settings.jobs))
    layout = Layout(settings.service.root.absolute())
    prepare_root(layout, [job.name for job in settings.jobs])
    sys.setswitchinterval(SWITCH_SECONDS)
    with RootLock(layout.state):
        journal = Journal(layout.journal)
        try:
            daemon = _daemon(settings, layout, journal, errand, reread, quiet, nursery)
            return _lived(daemon, beside)
        finally:
            journal.close()


def _daemon(
    settings: Settings,
    layout: Layout,
    journal: Journal,
    errand: Errand,
    reread: Callable[[], Settings] | None,
    quiet: bool,
    nursery: Nursery | None,
) -> Daemon:
    """A daemon whose journal is recovered."""
    logs = settings.logs
    log = ServiceLog(
        layout.service_log,
        rotate_bytes=logs.rotate_bytes,
        keep=logs.keep,
        people=None if quiet else sys.stderr,
    )
    refuse_incompatible(settings, journal)
    jobs = [job.name for job in settings.jobs]
    for action in recover(layout, journal, jobs, keep=keep(settings)).actions:
        log.write("recovered", job=action.job, what=action.what, subject=action.subject)
    return Daemon(settings, layout, journal, errand, log, reread=reread, nursery=nursery)


def _lived(daemon: Daemon, beside: Companion | None) -> int:
    """The exit status of a daemon's life, or its error; also where its loop can't be closed: that asks for descriptors and a
    thread, of which there may be none, when all is done."""
    ends: list[int | HeadraceError] = []

    async def live() -> None:
        try:
            ends.append(await _run(daemon, beside))
        except HeadraceError as error:
            ends.append(error)

    try:
        uvloop.run(live())
    except (OSError, RuntimeError):
        if not ends:
            raise
    (end,) = ends
    if isinstance(end, HeadraceError):
        raise end
    return end


async def _run(daemon: Daemon, beside: Companion | None) -> int:
    asyncio.get_running_loop().set_default_executor(threads())
    if beside is None:
        return await daemon.run()
    companion = asyncio.create_task(beside(daemon))
    try:
        return await daemon.run()
    finally:
        companion.cancel()
        await asyncio.wait([companion])
