"""A job's life: its lines, one after the other, and what is asked of the job between two.

open ─▶ flow ─▶ ended        the files that were asked for are done
         │ ├──▶ again        new terms, a reset, a file that killed every worker: from the journal anew
         │ └──▶ failed       a bug of ours: this job waits until somebody asks for something
         └────▶ storage failed: everything stops
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from service.core.errors import Refusal, Scarcity, Stopped, StorageError
from service.core.job_settings import Job
from service.core.settings import Settings
from service.core.status import JobStatus
from service.core.terms import digest, parse_body
from service.lines.opening import open_line
from service.runtime.channel import Ends, channel
from service.runtime.inbox import Inbox
from service.runtime.watch import Watch
from service.stages import decode, intake, predict, record, train
from service.stages.accounts import Unbundled
from service.stages.bundling import MOST_FILES
from service.stages.line import SCARCITY_SECONDS, Line, Machinery
from service.stages.messages import Decoded, Learning, Sample
from service.stages.watched import Watched
from service.storage import units
from service.storage.disk import scarcity
from service.storage.tables import Entry
from service.storage.writer import Unit

R = TypeVar("R")

CHANNEL_FILES = MOST_FILES  # what waits is what may go in a bundle
CHANNEL_BLOCKS = 4
CHANNEL_RESULTS = 4


@dataclass(frozen=True, slots=True)
class Errand:
    """What a run is for. `once`: until the inboxes are empty; `named`: one job's files, then done."""

    once: bool = False
    job: str | None = None
    named: Sequence[Entry] | None = None

    @property
    def ends(self) -> bool:
        """Whether it ends by itself."""
        return self.once or self.named is not None


class Outcome(Enum):
    """How a line ended."""

    ENDED = 1
    AGAIN = 2
    FAILED = 3


@dataclass(slots=True)
class Life:
    """One job, as long as the daemon runs or the settings have it."""

    job: Job
    settings: Settings
    errand: Errand
    machinery: Machinery
    watch: Watch
    refused: Callable[[Refusal], None]  # told of each refusal
    status: JobStatus = field(default_factory=JobStatus)
    line: Line | None = None
    leaving: bool = False
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a line's counts are read from the journal: who changes both holds it too."""
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _between: list[tuple[Callable[[], Awaitable[Any]], asyncio.Future[Any]]] = field(
        default_factory=list
    )

    async def live(self) -> None:
        """Runs the job's lines until it leaves; raises StorageError only."""
        outcome = Outcome.AGAIN
        while not self.leaving and not (self.errand.ends and outcome is not Outcome.AGAIN):
            if outcome is Outcome.FAILED:
                await self._wake.wait()
            self._wake.clear()
            self.machinery.dispatcher.go_on(self.job.name)
            await self._do_between()
            if not self.leaving:
                outcome = await self._run_line()
        if outcome is not Outcome.FAILED:
            self.status.state = "stopped"
        await self._do_between()
        self.machinery.dispatcher.forget(self.job.name)

    def stop(self) -> None:
        """The job leaves at the end of the round."""
        self.leaving = True
        self._interrupt()

    def change(self, job: Job, settings: Settings) -> None:
        """New settings: the next line has them, and begins at the end of the round."""
        self.job, self.settings = job, settings
        self._interrupt()

    async def settle(self, unit: Unit[Any, Any, R]) -> R:
        """Has the journal's thread carry out a unit, now."""
        return await asyncio.wrap_future(self.machinery.writer.submit(unit))

    async def between(self, work: Callable[[], Awaitable[R]]) -> R:
        """Has something done while no line of the job runs; returns its result.

        Cancelled before it is begun, it is not done; once begun, it is done to its end.
        """
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._between.append((work, answer))
        self._interrupt()
        return await answer

    def _interrupt(self) -> None:
        self._wake.set()
        self.machinery.dispatcher.stop(self.job.name)
        if self.line is not None:
            self.line.stop()

    async def _do_between(self) -> None:
        while self._between:
            work, answer = self._between.pop(0)
            if answer.cancelled():
                continue
            try:
                result = await work()
            except Exception as error:
                if not answer.done():
                    answer.set_exception(error)
                if isinstance(error, StorageError) and not isinstance(error, Scarcity):
                    raise  # what is scarce comes back: whoever asked may ask again
            else:
                if not answer.done():
                    answer.set_result(result)

    # --- one line ----------------------------------------------------------------------------------

    async def _run_line(self) -> Outcome:
        outcome = Outcome.ENDED if self.errand.ends else Outcome.AGAIN
        line: Line | None = None
        try:
            async with self.opening:
                line = self.line = await open_line(
                    self.job.name, self.machinery, self.settings, self.refused
                )
                self.status = line.status
            if self.leaving or self._wake.is_set():
                line.stop()
            await self._flow(line)
        except* Scarcity as errors:
            await self._pause(first(errors))
            outcome = Outcome.AGAIN
        except* Stopped:  # while it was opened
            outcome = Outcome.AGAIN
        except* StorageError:
            raise
        except* record.Undone as errors:
            await self._undo(first(errors))
            outcome = Outcome.AGAIN
        except* Unbundled as errors:
            self.machinery.log.write(
                "learnt one by one from here", job=self.job.name, why=str(first(errors))
            )
            outcome = Outcome.AGAIN
        except* Exception as errors:
            if _is_scarcity(first(errors)):
                await self._pause(first(errors))
                outcome = Outcome.AGAIN
            else:
                self._failed(errors)
                outcome = Outcome.FAILED
        finally:
            self.line = None
            if line is not None:
                line.close()
        if outcome is Outcome.ENDED and self._wake.is_set():
            return Outcome.AGAIN
        return outcome

    async def _flow(self, line: Line) -> None:
        """The stages, each between its channels; ends when the last of them has nothing left to do."""
        files: Ends[Sample] = channel(CHANNEL_FILES)
        blocks: Ends[Decoded] = channel(CHANNEL_BLOCKS)
        results: Ends[Learning] = channel(CHANNEL_RESULTS)
        async with asyncio.TaskGroup() as group:
            group.create_task(decode.decode(line, files[1], blocks[0]), name="decode")
            group.create_task(train.train(line, blocks[1], results[0]), name="train")
            group.create_task(record.record(line, results[1]), name="record")
            terms = self._terms()
            if self.errand.named is not None:
                entries = still_to_admit(line, self.errand.named)
                group.create_task(intake.named(line, terms, entries, files[0]), name="intake")
            else:
                group.create_task(self._intake(line, terms, files), name="intake")
                group.create_task(self._predict(line), name="predict")

    def _terms(self) -> intake.Admission:
        found, body = digest(self.settings, self.job)
        return intake.Admission(parse_body(body), found, body, self.settings.intake.after)

    async def _intake(self, line: Line, admission: intake.Admission, files: Ends[Sample]) -> None:
        folder = self.machinery.layout.inbox(self.job.name)
        async with self._watched(line, folder) as watched:
            await intake.intake(line, admission, watched, files[0])

    async def _predict(self, line: Line) -> None:
        """With `once` after the training, so that the model that came of it predicts."""
        if self.errand.once:
            await line.drained.wait()
        folder = self.machinery.layout.predict(self.job.name)
        async with self._watched(line, folder) as watched:
            rows, delete = self.settings.rows, self.settings.intake.after == "delete"
            await predict.predict(line, watched, rows, delete=delete)

    def _watched(self, line: Line, folder: Path) -> Watched:
        settings = self.settings.intake
        inbox = Inbox(folder, settings.include, settings.ignore, settings.settle_seconds)
        return Watched(self.watch, line, inbox, settings.rescan_seconds, self.errand.once)

    async def _undo(self, undone: BaseException) -> None:
        """A file that can't become final leaves the line as if it had never come; the next line begins before it."""
        assert isinstance(undone, record.Undone)
        if self.errand.named is not None:
            self.errand = replace(self.errand, named=())  # all were admitted, and are only once
        name, sample, refusal = self.job.name, undone.sample, undone.refusal
        where = (self.machinery.layout, name, sample.row.admission)
        unit = units.withdrawal(*where) if refusal is None else units.refusal(*where, refusal)
        try:
            await self.settle(unit)
        except Scarcity as scarcity:
            await self._pause(scarcity)
            return  # the next line comes to the same end
        log = self.machinery.log
        if refusal is None:
            log.write("changed after it was read: back to the inbox", job=name, file=sample.shown)
            return
        self.refused(refusal)
        log.write("refused", job=name, file=sample.shown, rule=refusal.rule)

    async def _pause(self, error: BaseException) -> None:
        """What is scarce may be met where no stage waits for it: the next line begins when some time has passed."""
        self.machinery.log.write(
            "paused: begun anew when it has passed", job=self.job.name, error=str(error)
        )
        self.status.pauses, self.status.reason = 1, str(error)
        with suppress(TimeoutError):
            async with asyncio.timeout(SCARCITY_SECONDS):
                await self._wake.wait()

    def _failed(self, errors: BaseExceptionGroup[Exception]) -> None:
        error = first(errors)
        sentence = f"{type(error).__name__}: {error}".splitlines()[0]
        self.status.state, self.status.reason = "failed", sentence
        trace = "".join(traceback.format_exception(errors))
        self.machinery.log.write("failed", job=self.job.name, error=sentence, trace=trace)


def still_to_admit(line: Line, named: Sequence[Entry]) -> Sequence[Entry]:
    """Nothing, when the same files were admitted by a training that was interrupted; those that are learnt again,
    since one before them was taken back, were admitted by one that was not."""
    waiting = {row.path for row in line.unfinished if not row.revision}
    return () if waiting & {entry.path for entry in named} else named


def first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first of the errors that came together."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _is_scarcity(error: BaseException) -> bool:
    """Whether the system says that something is used up that comes back."""
    return isinstance(error, OSError) and scarcity(error) is not None
