"""The wiring: one root, one pool, a life per job, and what ends them.

    run ─▶ machinery (arena, pool, writer, log) ─▶ a life per job ─▶ line ─▶ intake ─▶ decode ─▶ train ─▶ record
                                                                      └────▶ predict

Rules: every coroutine lives in the TaskGroup below. A first signal asks the lines to leave at the end
of their rounds; a second one ends the process at once. Storage that fails stops everything.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from typing import Any

from service import __version__
from service.core.errors import (
    ConfigurationError,
    HeadraceError,
    NoWorker,
    Refusal,
    Scarcity,
    StorageError,
)
from service.core.job_settings import Job
from service.core.layout import Layout, shown
from service.core.remedies import against_few_steps
from service.core.resolution import resolve
from service.core.settings import Service, Settings
from service.formats.contract import Limits
from service.lines import orders
from service.lines.life import Errand, Life, first
from service.lines.opening import refuse_incompatible
from service.runtime.arena import Arena
from service.runtime.control import Control
from service.runtime.dispatch import Dispatcher
from service.runtime.held import Slots
from service.runtime.notify import Notifier, keep_fed
from service.runtime.nursery import Nursery
from service.runtime.pool import Pool
from service.runtime.provision import starting_threads
from service.runtime.pulse import Pulse
from service.runtime.service_log import ServiceLog
from service.runtime.status_file import StatusFile
from service.runtime.watch import Watch
from service.stages.line import Machinery
from service.storage import units
from service.storage.disk import temporary
from service.storage.journal import Journal
from service.storage.root import prepare_root
from service.storage.writer import Writer
from service.subtasks import WARM
from service.subtasks.fingerprint import fingerprint

SHARED_SLOTS_PER_WORKER = 2
LONG_START_SECONDS = 3.0
LEAVING_SECONDS = 0.2  # how often who stops looks whether there is anybody to wait for


class Daemon:
    """A running service below one root; the caller holds the root's lock and has recovered the journal."""

    def __init__(
        self,
        settings: Settings,
        layout: Layout,
        journal: Journal,
        errand: Errand,
        log: ServiceLog,
        *,
        reread: Callable[[], Settings] | None = None,
        nursery: Nursery | None = None,
    ) -> None:
        self.settings = settings
        self.layout = layout
        self.lives: dict[str, Life] = {}
        self._living: dict[str, asyncio.Task[None]] = {}
        self.refused: list[Refusal] = []  # of files named on the command line; see `_keep`
        self._journal = journal
        self._errand = errand
        self._log = log
        self._reread = reread
        self._nursery = nursery
        self._state = "starting"
        self._started = time.time()
        self._signals = 0
        self._held_up = ""
        self._failure: BaseException | None = None
        self._pulse = Pulse()
        self._status_file = StatusFile(layout.status, self.status)
        self._watch = Watch()
        self._notifier = Notifier()
        self._stopping = asyncio.Event()
        self._pool: Pool | None = None
        self._machinery: Machinery | None = None
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> int:
        """Runs until there is nothing left to do, or a signal; returns the exit status.

        Raises StorageError when what must last does not, WorkerError when no worker comes up.
        """
        logging = asyncio.create_task(self._log.run(), name="service log")
        try:
            with self._signal_handlers(), Arena() as arena:
                await self._run(arena)
        finally:
            self._log.write("stopped")
            self._log.close()
            await logging
        if self._failure is not None:
            raise self._failure
        return int(any(life.status.state == "failed" for life in self.lives.values()))

    def stop(self, reason: str) -> None:
        """Asks everything to leave at the end of its round."""
        if self._state in ("stopping", "stopped"):
            return
        self._state = "stopping"
        self._log.write("stopping", reason=reason)
        self._notifier.send("STOPPING=1")
        self._stopping.set()
        for life in self.lives.values():
            life.stop()
        self._leave_what_is_held_up()

    def _leave_what_is_held_up(self) -> None:
        """Who stops doesn't wait for room: a commit stands, and the next start gives it its effects."""
        if self._held_up and self._stopping.is_set() and self._machinery is not None:
            self._machinery.writer.give_up()

    async def _leave_without_workers(self) -> None:
        """Who stops doesn't wait for workers either, where none can be had: the files stay as they are."""
        assert self._pool is not None
        await self._stopping.wait()
        while True:
            if self._pool.trouble and not self._pool.workers:
                self._pool.fail_waiting(
                    NoWorker(f"workers: one can be had, got {self._pool.trouble}")
                )
            await asyncio.sleep(LEAVING_SECONDS)

    async def _run(self, arena: Arena) -> None:
        loop, service = asyncio.get_running_loop(), self.settings.service
        size = workers(service)

        def failed(error: BaseException) -> None:
            loop.call_soon_threadsafe(self._storage_failed, error)

        def scarce(error: Scarcity | None) -> None:
            loop.call_soon_threadsafe(self._scarce, error)

        async with AsyncExitStack() as ending:
            with starting_threads():
                pool = self._pool = Pool(
                    size,
                    deadline_seconds=service.deadline_seconds,
                    warm=WARM,
                    nursery=self._nursery,
                )
                ending.push_async_callback(asyncio.to_thread, _end, pool)
                writer = Writer(self._journal, on_fatal=failed, on_scarce=scarce)
                ending.push_async_callback(asyncio.to_thread, writer.close)
            if not await self._pool_ready(pool):
                return
            dispatcher = Dispatcher(pool, size)
            self._machinery = Machinery(
                layout=self.layout,
                arena=arena,
                slots=Slots(arena, SHARED_SLOTS_PER_WORKER * size + 1),
                dispatcher=dispatcher,
                writer=writer,
                journal=self._journal,
                log=self._log,
                limits=Limits(max_bytes=self.settings.intake.max_file_bytes),
                fingerprint=await dispatcher.run(fingerprint, job=""),
            )
            await self._serve()

    async def _pool_ready(self, pool: Pool) -> bool:
        """Waits for the first worker; says why, should it take long. False when the daemon is to stop before."""
        await self._status_file.write()  # who looks now sees that it is starting
        ready = asyncio.wrap_future(pool.ready)
        stopping = asyncio.create_task(self._stopping.wait(), name="stopping")
        either: list[asyncio.Future[Any]] = [ready, stopping]
        try:
            await asyncio.wait(
                either, timeout=LONG_START_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if not any(one.done() for one in either):
                self._log.write(
                    "waiting for the first worker: after an installation it compiles the kernels"
                )
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        if self._stopping.is_set():
            ready.add_done_callback(_seen)
            self._state = "stopped"
            await self._status_file.write()
            return False
        await ready
        return True

    async def _serve(self) -> None:
        service = self.settings.service
        control = Control(self.layout.socket, self._command)
        try:
            async with asyncio.TaskGroup() as background:
                helpers = [
                    background.create_task(self._pulse.run(), name="pulse"),
                    background.create_task(self._status_file.keep_written(), name="status"),
                    background.create_task(
                        keep_fed(self._notifier, self._progress, service.deadline_seconds),
                        name="watchdog",
                    ),
                    background.create_task(self._leave_without_workers(), name="leaving"),
                ]
                why_deaf = self._watch.start()
                if why_deaf:
                    self._log.write("no events: listing only", error=why_deaf)
                await control.start()
                await self._live()
                for helper in helpers:
                    helper.cancel()
        finally:
            self._watch.close()
            await control.close()
            self._state = "stopped"
            await self._status_file.write()

    async def _live(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for job in self.settings.jobs:
                    if self._errand.job in (None, job.name):
                        self._begin(job)
                if self._state == "starting":
                    self._state = "running"
                await self._warn_of_strays()
                await self._status_file.write()  # who hears that it is ready finds the jobs there
                gc.freeze()  # what is here now stays: the collector need not look at it again
                self._log.write("ready", pid=os.getpid(), jobs=len(self.lives), version=__version__)
                self._notifier.send("READY=1")
                if not self._errand.ends:
                    await self._stopping.wait()  # jobs may come and go meanwhile
        except* StorageError as errors:
            self._failure = self._failure or first(errors)
        finally:
            self._group = None

    async def _warn_of_strays(self) -> None:
        """Files that were dropped for a job that doesn't exist would lie there unseen."""
        inbox = self.layout.inbox("x").parent
        known = {job.name for job in self.settings.jobs}
        with suppress(OSError):  # gone: the lines say so
            for name in sorted(set(await asyncio.to_thread(os.listdir, inbox)) - known):
                path = shown(inbox / name)
                self._log.write("inbox without a job: nothing in it is taken", path=path)

    def _warn_of_few_steps(self, job: Job) -> None:
        """A job that is meant for passes over named files learns next to nothing from an inbox."""
        warning = against_few_steps(resolve(job))
        if self._errand.named is None and warning is not None:
            self._log.write("learns little from files that come once", job=job.name, remedy=warning)

    def _begin(self, job: Job) -> None:
        assert self._group is not None
        assert self._machinery is not None
        self._warn_of_few_steps(job)
        life = Life(job, self.settings, self._errand, self._machinery, self._watch, self._keep)
        self.lives[job.name] = life
        if self._stopping.is_set():
            life.stop()
        living = _after(self._living.get(job.name), life)
        self._living[job.name] = self._group.create_task(living, name=f"job {job.name}")

    def _keep(self, refusal: Refusal) -> None:
        """Keeps what a command tells at its end. Of files that come to an inbox there is no end, and each has its note."""
        if self._errand.named is not None:
            self.refused.append(refusal)

    # --- what comes from outside -----------------------------------------------------------------------

    @contextmanager
    def _signal_handlers(self) -> Iterator[None]:
        """TERM and INT stop, HUP reads the configuration again, IO is a lease's and means nothing."""
        loop = asyncio.get_running_loop()
        signal.signal(signal.SIGIO, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)

    def _signalled(self, number: int) -> None:
        self._signals += 1
        if self._signals > 1:
            os._exit(1)  # as safe as kill -9: the workers die with us, the journal is as it was
        self.stop(signal.Signals(number).name)

    def _storage_failed(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self.stop(f"storage failed: {error}")

    def _scarce(self, error: Scarcity | None) -> None:
        """A commit's effects wait for what is scarce; the writer tries again by itself."""
        self._held_up = "" if error is None else f"{error}; {error.remedy}"
        if error is None:
            self._log.write("resumed: what was committed has its effects")
        else:
            self._log.write(f"paused: {error.lack}", error=str(error), remedy=error.remedy)
            self._leave_what_is_held_up()

    def _hung_up(self) -> None:
        if self._reread is not None and self._group is not None:
            self._group.create_task(self._reload(self._reread), name="reload")

    async def _reload(self, reread: Callable[[], Settings]) -> None:
        """Reads the configuration again; a bad one changes nothing."""
        try:
            fresh = await asyncio.to_thread(reread)
            await self._check(fresh)
            names = [job.name for job in fresh.jobs]
            await asyncio.to_thread(prepare_root, self.layout, names)
        except HeadraceError as error:
            self._log.write("configuration refused: the old one stays in force", error=str(error))
            return
        if self._stopping.is_set():
            return
        self.settings = fresh
        jobs = {job.name: job for job in fresh.jobs}
        for name, life in list(self.lives.items()):
            if name not in jobs:
                life.stop()
            elif not life.leaving:
                self._warn_of_few_steps(jobs[name])
                life.change(jobs.pop(name), fresh)
        for job in jobs.values():
            self._begin(job)
        self._log.write("configuration read again", jobs=len(fresh.jobs))

    async def _check(self, fresh: Settings) -> None:
        """Raises ConfigurationError for what can't change, or not while a job has a model."""
        for name in ("root", "workers", "deadline_seconds"):
            old, new = getattr(self.settings.service, name), getattr(fresh.service, name)
            if old != new:
                raise ConfigurationError(
                    f"service.{name}: must stay {old} until the next start, got {new}"
                )
        assert self._machinery is not None
        asked = self._machinery.writer.run(lambda: refuse_incompatible(fresh, self._journal))
        await asyncio.wrap_future(asked)

    async def _command(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answers the control socket."""
        command, name = request.get("command"), request.get("job")
        try:
            if command == "status":
                return {"ok": True, "status": self.status()}
            if self._held_up and command in ("snapshot", *orders.ORDERS):
                return _failed(f"nothing was changed: {self._held_up}, then ask again")
            if command == "snapshot":
                return {"ok": True, "snapshot": await self._snapshot()}
            if command not in orders.ORDERS:
                known = ", ".join(("snapshot", "status", *orders.ORDERS))
                return _wrong(f"command: must be one of {known}, got {command!r}")
            life = self.lives.get(str(name))
            if life is None or life.leaving:
                return _wrong(f"--job: must be one of {', '.join(self.lives)}, got {name!r}")
            return {"ok": True} | await orders.ORDERS[command](life, request)
        except ConfigurationError as error:
            return _wrong(str(error))
        except Scarcity as scarcity:
            return _failed(f"{scarcity}; {scarcity.remedy}, then ask again")
        except HeadraceError as error:
            return _failed(str(error))

    async def _snapshot(self) -> str:
        """A copy of the journal below state/, for a command to read and delete; recovery deletes one that is left."""
        assert self._machinery is not None
        journal, writer = self._journal, self._machinery.writer
        copy = temporary(self.layout.state)
        await asyncio.wrap_future(
            writer.submit(units.nothing())
        )  # what is finished is marked first
        await asyncio.wrap_future(writer.run(lambda: journal.copy_to(copy)))
        return str(copy)

    # --- what is shown -----------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What status.json says."""
        now = time.time()
        dispatcher = self._machinery.dispatcher if self._machinery else None
        workers = self._pool.workers if self._pool else []
        return {
            "state": self._state,
            "pid": os.getpid(),
            "headrace": __version__,
            "root": str(self.layout.root),
            "time": now,
            "started": self._started,
            "loop_longest_pause_seconds": self._pulse.longest_seconds,
            "subtasks": dispatcher.completed if dispatcher else 0,
            "subtasks_repeated": dispatcher.repeated if dispatcher else 0,
            "workers": [{"pid": worker.pid, "state": str(worker.state)} for worker in workers],
            "trouble": self._held_up
            or (self._pool.trouble if self._pool else "")
            or (dispatcher.trouble if dispatcher else ""),
            "jobs": {
                name: life.status.shown(now, self._held_up) for name, life in self.lives.items()
            },
        }

    @property
    def held_up(self) -> str:
        """What is scarce and holds up what is committed; empty when nothing is. Workers' troubles are another thing."""
        return self._held_up

    def _progress(self) -> tuple[int, bool]:
        """How much has been done, and whether nothing is due: no file is at work, or it waits for the disk, full or slow, or rests."""
        assert self._machinery is not None
        dispatcher, writer = self._machinery.dispatcher, self._machinery.writer
        jobs = [life.status for life in self.lives.values()]
        waits = bool(self._held_up) or writer.is_at_work or any(job.pauses for job in jobs)
        rests = bool(dispatcher.trouble)
        done = dispatcher.completed + dispatcher.repeated
        return done, rests or waits or all(job.file is None for job in jobs)


def workers(service: Service) -> int:
    """How many processes the pool has."""
    return service.workers or os.cpu_count() or 1


def _wrong(error: str) -> dict[str, Any]:
    """The answer to a request that can't be meant: the command's exit status is 2."""
    return {"ok": False, "wrong": True, "error": error}


def _failed(error: str) -> dict[str, Any]:
    """The answer where something failed: the command's exit status is 1."""
    return {"ok": False, "error": error}


async def _after(before: asyncio.Task[None] | None, life: Life) -> None:
    """Lives, once the job's life before has ended: it may still be at the end of its round."""
    if before is not None:
        await asyncio.wait([before])
    await life.live()


def _seen(done: asyncio.Future[None]) -> None:
    """Nobody asks any more how it ended."""
    if not done.cancelled():
        done.exception()


def _end(pool: Pool) -> None:
    pool.kill()
    pool.shutdown()
