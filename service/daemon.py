"""The wiring: one root, one pool, one line per job, and what ends them.

    run ─▶ machinery (arena, pool, writer, log) ─▶ one line per job ─▶ intake ─▶ decode ─▶ train ─▶ record
                                                          └────────▶ predict

Rules: every coroutine lives in a TaskGroup below. A first signal asks the lines to leave at the end
of their rounds; a second one ends the process at once. A line that fails by a bug of ours stops
alone; storage that fails stops everything. A line begins from what the journal says, always.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import aiofiles

from kernels.contract import Spec
from service import __version__
from service.core.errors import ConfigurationError, HeadraceError, Refusal, StorageError
from service.core.job_settings import Job
from service.core.layout import Layout
from service.core.settings import Settings
from service.core.status import JobStatus, ModelStatus
from service.core.terms import Terms, digest, incompatible, parse_body
from service.formats.contract import Limits
from service.runtime.arena import Arena
from service.runtime.channel import Ends, channel
from service.runtime.control import Control
from service.runtime.dispatch import Dispatcher
from service.runtime.held import Slots
from service.runtime.inbox import Inbox
from service.runtime.notify import Notifier, watchdog_seconds
from service.runtime.pool import Pool
from service.runtime.pulse import Pulse
from service.runtime.service_log import ServiceLog
from service.runtime.watch import Hints, Watch
from service.stages import decode, intake, predict, record, train
from service.stages.line import Conduct, Line, Machinery, Model
from service.stages.messages import Decoded, Learning, Sample, Schema
from service.storage import checkpoints, units
from service.storage.journal import Journal
from service.storage.recovery import recover
from service.storage.tables import Commit, Entry, FileState
from service.storage.units import Keep
from service.storage.writer import Writer
from service.subtasks import learn
from service.subtasks.fingerprint import fingerprint

STATUS_SECONDS = 0.5
"""How often status.json is replaced."""
SHARED_SLOTS_PER_WORKER = 2
CHANNEL_BLOCKS = 4
CHANNEL_RESULTS = 4
CHANNEL_FILES = 32


@dataclass(frozen=True, slots=True)
class Errand:
    """What this run is for. `once`: until the inboxes are empty; `named`: one job's files, then done."""

    once: bool = False
    job: str | None = None
    named: Sequence[Entry] | None = None


@dataclass(slots=True)
class _Life:
    """A job's lines, one after the other, and what is asked of it between two."""

    job: Job
    status: JobStatus = field(default_factory=JobStatus)
    line: Line | None = None
    leaving: bool = False  # the job is gone from the settings, or the daemon stops
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    between: list[tuple[units.Unit[Any, Any, Any], asyncio.Future[Any]]] = field(default_factory=list)

    def stop(self) -> None:
        """Ends the line; whoever waits in `wake` goes on."""
        self.wake.set()
        if self.line is not None:
            self.line.stop()


class _Outcome(Enum):
    """How a line ended: for good, to begin anew, or by a bug of ours."""

    ENDED = 1
    AGAIN = 2
    FAILED = 3


class Daemon:
    """A running service below one root; the caller holds the root's lock."""

    def __init__(
        self,
        settings: Settings,
        layout: Layout,
        errand: Errand,
        *,
        reread: Callable[[], Settings] | None = None,
        quiet: bool = False,
    ) -> None:
        self.settings = settings
        self.layout = layout
        self.errand = errand
        self.lives: dict[str, _Life] = {}
        self.refused: list[Refusal] = []
        self._reread = reread
        self._quiet = quiet
        self._state = "starting"
        self._started = time.time()
        self._pulse = Pulse()
        self._watch = Watch()
        self._notifier = Notifier()
        self._fatal: BaseException | None = None
        self._signals = 0
        self._machinery: Machinery | None = None
        self._pool: Pool | None = None
        self._group: asyncio.TaskGroup | None = None
        self._done = asyncio.Event()

    # --- a whole life --------------------------------------------------------------------------------

    async def run(self) -> int:
        """Runs until there is nothing left to do, or a signal; returns the exit status."""
        settings = self.settings
        workers = settings.service.workers or os.cpu_count() or 1
        loop = asyncio.get_running_loop()
        journal = Journal(self.layout.journal)
        log = ServiceLog(
            self.layout.service_log,
            rotate_bytes=settings.logs.rotate_bytes,
            keep=settings.logs.keep,
            **({"people": None} if self._quiet else {}),
        )
        try:
            report = await asyncio.to_thread(
                recover, self.layout, journal, keep=_keep(settings)
            )
            self._refuse_incompatible(settings, journal)
            for action in report.actions:
                log.write("recovered", job=action.job, what=action.what, subject=action.subject)
            with self._installed(loop), Arena() as arena:
                self._pool = Pool(
                    workers,
                    deadline_seconds=settings.service.deadline_seconds,
                    warm="kernels.compiled:warm",
                )
                writer = Writer(
                    journal,
                    on_fatal=lambda error: loop.call_soon_threadsafe(self._fail, error) and None,
                )
                try:
                    await asyncio.wrap_future(self._pool.ready)
                    dispatcher = Dispatcher(self._pool, workers)
                    self._machinery = Machinery(
                        layout=self.layout,
                        arena=arena,
                        slots=Slots(arena, SHARED_SLOTS_PER_WORKER * workers + 1),
                        dispatcher=dispatcher,
                        writer=writer,
                        journal=journal,
                        log=log,
                        limits=Limits(max_bytes=settings.intake.max_file_bytes),
                        fingerprint=await dispatcher.run(fingerprint, job=""),
                    )
                    await self._serve(log)
                finally:
                    self._notifier.send("STOPPING=1")
                    await asyncio.to_thread(self._close, self._pool, writer)
        finally:
            with suppress(StorageError):
                journal.close()
        if self._fatal is not None:
            raise self._fatal
        failed = any(life.status.state == "failed" for life in self.lives.values())
        return 1 if failed else 0

    def stop(self, reason: str) -> None:
        """Asks everything to leave at the end of its round."""
        if self._state in ("stopping", "stopped"):
            return
        self._state = "stopping"
        self._done.set()
        if self._machinery is not None:
            self._machinery.log.write("stopping", reason=reason)
        for life in self.lives.values():
            life.leaving = True
            life.stop()

    async def _serve(self, log: ServiceLog) -> None:
        writing = asyncio.create_task(log.run(), name="service log")
        control = Control(self.layout.socket, self._command)
        try:
            async with asyncio.TaskGroup() as background:
                helpers = [
                    background.create_task(self._pulse.run(), name="pulse"),
                    background.create_task(self._keep_status(), name="status"),
                    background.create_task(self._keep_watchdog(), name="watchdog"),
                ]
                why = self._watch.start()
                if why:
                    log.write("no events", error=why)
                await control.start()
                await self._live_all(log)
                for helper in helpers:
                    helper.cancel()
        finally:
            self._watch.close()
            await control.close()
            self._state = "stopped"
            with suppress(OSError):
                await self._write_status()
            log.write("stopped")
            log.close()
            await writing

    async def _live_all(self, log: ServiceLog) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for job in self.settings.jobs:
                    if self.errand.job in (None, job.name):
                        self._begin_life(job)
                if self._state == "starting":
                    self._state = "running"
                log.write("ready", pid=os.getpid(), jobs=len(self.lives), version=__version__)
                self._notifier.send("READY=1")
                if not self._finite and not self._done.is_set():
                    group.create_task(self._done.wait(), name="until stopped")
        except* StorageError as errors:
            self._fatal = _first(errors)
        finally:
            self._group = None

    @property
    def _finite(self) -> bool:
        return self.errand.once or self.errand.named is not None

    def _begin_life(self, job: Job) -> None:
        assert self._group is not None
        life = self.lives[job.name] = _Life(job)
        life.leaving = self._state == "stopping"
        self._group.create_task(self._live(life), name=f"job {job.name}")

    # --- one job ---------------------------------------------------------------------------------------

    async def _live(self, life: _Life) -> None:
        """A job's lines, one after the other, until the job or the daemon leaves."""
        outcome = _Outcome.AGAIN
        while not life.leaving and not (self._finite and outcome is not _Outcome.AGAIN):
            if outcome is _Outcome.FAILED:
                await life.wake.wait()  # until somebody asks for something
            life.wake.clear()
            await self._do_between(life)
            if not life.leaving:
                outcome = await self._line(life)
        if outcome is not _Outcome.FAILED:
            life.status.state = "stopped"
        await self._do_between(life)

    async def _line(self, life: _Life) -> _Outcome:
        """One line, from what the journal says to its end."""
        assert self._machinery is not None
        line: Line | None = None
        outcome = _Outcome.ENDED if self._finite else _Outcome.AGAIN
        try:
            line = life.line = await self._open(life)
            if life.leaving or life.between:
                line.stop()
            await self._flow(life, line)
        except* StorageError:
            raise
        except* record.Poisoned as errors:
            await self._refuse_poisoned(life, _first(errors))
            outcome = _Outcome.AGAIN
        except* Exception as errors:
            self._line_failed(life, errors)
            outcome = _Outcome.FAILED
        finally:
            life.line = None
            if line is not None:
                line.close()
        return outcome

    async def _refuse_poisoned(self, life: _Life, poisoned: BaseException) -> None:
        """A file that kills every worker that reports it is refused; the line goes back before it."""
        assert self._machinery is not None and isinstance(poisoned, record.Poisoned)
        name, refusal = life.job.name, poisoned.refusal
        unit = units.refusal(self.layout, name, poisoned.admission, refusal)
        await asyncio.wrap_future(self._machinery.writer.submit(unit))
        self._machinery.log.write("refused", job=name, admission=poisoned.admission, rule=refusal.rule)

    def _line_failed(self, life: _Life, errors: BaseExceptionGroup[Exception]) -> None:
        assert self._machinery is not None
        error = _first(errors)
        sentence = f"{type(error).__name__}: {error}".splitlines()[0]
        life.status.state, life.status.reason = "failed", sentence
        trace = "".join(traceback.format_exception(errors))
        self._machinery.log.write("failed", job=life.job.name, error=sentence, trace=trace)

    async def _do_between(self, life: _Life) -> None:
        """What was asked of the job while no line of it runs."""
        assert self._machinery is not None
        while life.between:
            unit, answer = life.between.pop(0)
            try:
                result = await asyncio.wrap_future(self._machinery.writer.submit(unit))
            except Exception as error:
                if not answer.done():
                    answer.set_exception(error)
                if isinstance(error, StorageError):
                    raise
            else:
                if not answer.done():
                    answer.set_result(result)

    async def _flow(self, life: _Life, line: Line) -> None:
        """The stages of a line, each between its channels."""
        files: Ends[Sample] = channel(CHANNEL_FILES)
        blocks: Ends[Decoded] = channel(CHANNEL_BLOCKS)
        results: Ends[Learning] = channel(CHANNEL_RESULTS)
        source = self._source(life)
        async with asyncio.TaskGroup() as group:
            group.create_task(decode.decode(line, files[1], blocks[0]), name="decode")
            group.create_task(train.train(line, blocks[1], results[0]), name="train")
            group.create_task(record.record(line, results[1]), name="record")
            if self.errand.named is not None:
                entries = self._still_to_admit(line, self.errand.named)
                group.create_task(intake.named(line, source, entries, files[0]), name="intake")
                return
            group.create_task(intake.intake(line, source, files[0]), name="intake")
            group.create_task(self._predict(life, line), name="predict")
        self._watch.remove(self.layout.inbox(life.job.name))

    async def _predict(self, life: _Life, line: Line) -> None:
        """The job's predictions; with `once` after its training, by the model that came of it."""
        settings, folder = self.settings.intake, self.layout.predict(life.job.name)
        if self.errand.once:
            await line.drained.wait()
        hints = Hints()
        inbox = Inbox(folder, settings.include, settings.ignore, settings.settle_seconds)
        self._watch.add(folder, hints.hear)
        try:
            async with asyncio.TaskGroup() as group:
                waker = group.create_task(_wake_when(line.stopping, hints.wake))
                await predict.predict(
                    line,
                    inbox,
                    hints,
                    rescan_seconds=settings.rescan_seconds,
                    once=self.errand.once,
                    delete=settings.after == "delete",
                )
                waker.cancel()
        finally:
            self._watch.remove(folder)

    def _source(self, life: _Life) -> intake.Source:
        settings, hints = self.settings.intake, Hints()
        found, body = digest(self.settings, life.job)
        inbox = self.layout.inbox(life.job.name)
        self._watch.add(inbox, hints.hear)
        return intake.Source(
            inbox=Inbox(inbox, settings.include, settings.ignore, settings.settle_seconds),
            terms=parse_body(body),
            digest=found,
            body=body,
            after=settings.after,
            rescan_seconds=settings.rescan_seconds,
            once=self.errand.once,
            hints=hints,
        )

    def _still_to_admit(self, line: Line, named: Sequence[Entry]) -> Sequence[Entry]:
        """Nothing, when the same files were admitted by a training that was interrupted."""
        waiting = {row.path for row in line.unfinished}
        return () if waiting & {entry.path for entry in named} else named

    async def _open(self, life: _Life) -> Line:
        """A line at the point where the journal says that the job stands."""
        assert self._machinery is not None
        machinery, job = self._machinery, life.job
        settings = self.settings
        found = await asyncio.wrap_future(
            machinery.writer.run(lambda: _read(machinery.journal, job.name))
        )
        life.status = JobStatus(
            done=found.counts.get(FileState.ACCEPTED, 0),
            failed=found.counts.get(FileState.REFUSED, 0),
            duplicates=found.counts.get(FileState.DUPLICATE, 0),
            state="waiting",
        )
        line = Line(
            job=job.name,
            machinery=machinery,
            conduct=Conduct(
                identity=settings.intake.identity,
                interval_seconds=settings.commit.interval_seconds,
                keep=_keep(settings),
                chunk_bytes=settings.service.chunk_bytes,
                max_file_bytes=settings.intake.max_file_bytes,
            ),
            status=life.status,
            model=None,
            scores=None,
            sequence=found.public.sequence if found.public else 0,
            schema=None,
            unfinished=found.unfinished,
            resume=found.private,
            resume_spools=found.spools,
            refused=self.refused.append,
        )
        if found.public is not None:
            await self._restore(line, found.public)
        return line

    async def _restore(self, line: Line, commit: Commit) -> None:
        """The job's newest whole model, read back into the arena."""
        path = self.layout.models(line.job) / commit.model
        header = (await asyncio.to_thread(checkpoints.read, path, commit.model_sha256)).header
        spec = Spec.from_json(json.dumps(header["spec"])).to_json()
        shape = await line.shape_of(spec)
        state, scores = line.reserve(shape.state_bytes), line.reserve(shape.scores_bytes)
        await line.machinery.dispatcher.run(
            learn.restore,
            spec,
            str(path),
            commit.model_sha256,
            state.region,
            scores.region,
            job=line.job,
        )
        classes = header["classes"]
        line.schema = Schema(tuple(header["features"]), None if classes is None else tuple(classes))
        line.model = Model(shape, line.schema, state, commit.version)
        line.scores = scores
        line.status.model = ModelStatus(
            commit.version,
            commit.model_sha256,
            commit.model,
            rows=commit.extra.get("rows"),
            loss=commit.extra.get("loss"),
        )
        changed = sorted(
            name
            for name, value in line.machinery.fingerprint.items()
            if header["fingerprint"].get(name) != value
        )
        if changed:
            line.note("another machine or other versions than the model's", changed=", ".join(changed))

    # --- what is asked from outside --------------------------------------------------------------------

    @contextlib.contextmanager
    def _installed(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """The signals: TERM and INT stop, HUP reads the configuration again, IO is a lease's."""
        signal.signal(signal.SIGIO, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)

    def _signalled(self, number: signal.Signals) -> None:
        self._signals += 1
        if self._signals > 1:
            os._exit(1)  # as safe as kill -9: the workers die with us, the journal is as it was
        self.stop(signal.Signals(number).name)

    def _fail(self, error: BaseException) -> None:
        """Storage failed: nothing more can be promised."""
        if self._fatal is None:
            self._fatal = error
            self.stop(f"storage failed: {error}")

    def _reload(self) -> None:
        """Reads the configuration again; a bad one changes nothing."""
        if self._machinery is None or self._reread is None or self._group is None:
            return
        log = self._machinery.log
        try:
            fresh = self._reread()
            self._check_reload(fresh)
        except HeadraceError as error:
            log.write("configuration refused: the old one stays in force", error=str(error))
            return
        self.settings = fresh
        jobs = {job.name: job for job in fresh.jobs}
        for name, life in list(self.lives.items()):
            if name in jobs:
                life.job = jobs.pop(name)
                life.stop()  # its line ends at the round and begins anew on the new terms
            elif not life.leaving:
                life.leaving = True
                life.stop()
        log.write("configuration read again", jobs=len(fresh.jobs))
        self._group.create_task(self._admit_jobs(list(jobs.values())))

    async def _admit_jobs(self, jobs: list[Job]) -> None:
        from service.storage.root import prepare_root

        await asyncio.to_thread(prepare_root, self.layout, [job.name for job in jobs])
        for job in jobs:
            self._begin_life(job)

    def _check_reload(self, fresh: Settings) -> None:
        for name in ("root", "workers", "deadline_seconds"):
            old, new = getattr(self.settings.service, name), getattr(fresh.service, name)
            if old != new:
                raise ConfigurationError(
                    f"service.{name}: changes at the next start only, got {new} for {old}"
                )
        for job in fresh.jobs:
            life = self.lives.get(job.name)
            line = life.line if life else None
            if life and line and line.schema is not None:
                why = incompatible(digest(self.settings, life.job)[1], job)
                if why:
                    raise ConfigurationError(why)

    def _refuse_incompatible(self, settings: Settings, journal: Journal) -> None:
        """A job that has a model can't be made to mean something else."""
        for job in settings.jobs:
            commit = journal.commit(job.name, "public")
            if commit is None:
                continue
            body = journal.settings_body(journal.file(job.name, commit.admission).settings)
            why = incompatible(body, job)
            if why:
                raise ConfigurationError(why)

    async def _command(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answers the control socket."""
        match request:
            case {"command": "reset", "job": str(name)} if name in self.lives:
                life = self.lives[name]
                answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
                life.between.append((units.reset(self.layout, name), answer))
                life.stop()
                try:
                    await answer
                except Exception as error:
                    return {"ok": False, "error": str(error)}
                return {"ok": True}
            case {"command": "reset", "job": name}:
                return {"ok": False, "error": f"job: must be one of {', '.join(self.lives)}, got {name!r}"}
            case {"command": "status"}:
                return {"ok": True, "status": self.status()}
        return {"ok": False, "error": "control: the command must be one of reset, status"}

    # --- what is shown -----------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What status.json says."""
        now = time.time()
        pool = self._pool
        return {
            "state": self._state,
            "pid": os.getpid(),
            "headrace": __version__,
            "root": str(self.layout.root),
            "time": now,
            "started": self._started,
            "loop_longest_pause_seconds": self._pulse.longest_seconds,
            "subtasks": self._machinery.dispatcher.completed if self._machinery else 0,
            "subtasks_repeated": self._machinery.dispatcher.repeated if self._machinery else 0,
            "workers": [{"pid": w.pid, "state": str(w.state)} for w in pool.workers] if pool else [],
            "jobs": {name: life.status.shown(now) for name, life in self.lives.items()},
        }

    async def _keep_status(self) -> None:
        while True:
            with suppress(OSError):  # a full disk is reported where it matters
                await self._write_status()
            await asyncio.sleep(STATUS_SECONDS)

    async def _write_status(self) -> None:
        path = self.layout.status
        fresh = path.with_name(".status.json.tmp")
        async with aiofiles.open(fresh, "w") as file:
            await file.write(json.dumps(self.status()) + "\n")
        await asyncio.to_thread(os.replace, fresh, path)

    async def _keep_watchdog(self) -> None:
        seconds = watchdog_seconds()
        while seconds is not None:
            busy = any(life.status.file is not None for life in self.lives.values())
            done = self._machinery.dispatcher.completed if self._machinery else 0
            self._notifier.feed(done, idle=not busy)
            await asyncio.sleep(seconds)

    @staticmethod
    def _close(pool: Pool, writer: Writer) -> None:
        writer.close()
        pool.kill()
        pool.shutdown()


@dataclass(frozen=True, slots=True)
class _Stand:
    """What the journal says of a job."""

    counts: dict[FileState, int]
    unfinished: list[Any]
    public: Commit | None
    private: Commit | None
    spools: dict[str, int]


def _read(journal: Journal, job: str) -> _Stand:
    private = journal.commit(job, "private")
    return _Stand(
        counts=journal.counts(job),
        unfinished=journal.unfinished(job),
        public=journal.commit(job, "public"),
        private=private,
        spools=journal.spool_lengths(job, private.admission) if private else {},
    )


def _keep(settings: Settings) -> Keep:
    return Keep(settings.logs.rotate_bytes, settings.logs.keep, settings.commit.keep)


async def _wake_when(event: asyncio.Event, wake: Callable[[], None]) -> None:
    await event.wait()
    wake()


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
