"""Record: what was learnt becomes records in a spool, and a whole file becomes final.

    Learnt   ─▶ report (worker) ─▶ text ─▶ spools             Mark      ─▶ private commit
    Finished ─▶ close  (worker) ─▶ text ─▶ spools ─▶ acceptance         Abandoned ─▶ refusal, ...

Rules: reports of a job run one after the other, since each goes on from the metric states that the
one before left. A spool is invisible until its file is whole. When something is scarce (a full disk, say)
the stage waits here, and everything before it waits with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

from service.core.errors import Refusal, Stopped, WorkerError, poisoned
from service.core.records import chained, rejected_rows
from service.core.status import FileStatus
from service.runtime.arena import view
from service.runtime.channel import Receiver
from service.runtime.held import Held, dropped_on_error
from service.runtime.spool import Spool
from service.stages import accounts, gate
from service.stages.accounts import Unbundled
from service.stages.commits import OpenRecords, progress, samples_log, saved, tell, tensors
from service.stages.line import Line
from service.stages.messages import (
    Abandoned,
    Apart,
    Begun,
    Cause,
    Finished,
    Learning,
    Learnt,
    LearntBundle,
    Mark,
    Rejected,
    Sample,
)
from service.storage import units
from service.storage.tables import Digests
from service.storage.units import Whole
from service.subtasks import fingerprint, learn, report
from service.subtasks.learn import Shape
from service.subtasks.report import Books, Reported, Segment


class Undone(Exception):
    """A file can't become final, and the stages before have gone on from it: the line must go back before the file.

    With a refusal it is refused; without one it has changed, and goes back to the inbox.
    """

    def __init__(self, sample: Sample, refusal: Refusal | None = None) -> None:
        super().__init__(sample.shown)
        self.sample = sample
        self.refusal = refusal


async def record(line: Line, inbox: Receiver[Learning]) -> None:
    """Records what arrives until the channel is closed."""
    recorder = _Recorder(line)
    try:
        async for message in inbox:
            await recorder.take(message)
    except Stopped:
        pass  # while it was paused: the file resumes from its last commit
    finally:
        for left in inbox.close():
            _drop(left)
        await recorder.close()
        line.drained.set()


class _Recorder:
    """The stage's state: the metric states after the last whole file, and the file in progress."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.scores: Held | None = line.scores.hold() if line.scores else None
        self.spec = line.model.shape.spec if line.model else ""  # what the scores are of
        self.open: OpenRecords | None = None

    async def take(self, message: Learning) -> None:
        match message:
            case Begun():
                await self._begin(message)
            case Learnt():
                await self._report(message)
            case Mark():
                await self._mark(message)
            case Finished():
                await self._finish(message)
            case Abandoned():
                await self._abandon(message)
            case LearntBundle():
                await self._accept_bundle(message)
            case Apart():
                raise Unbundled(message.why)

    async def close(self) -> None:
        if self.open is not None:
            await self._forget_file()
        if self.scores is not None:
            self.scores.drop()

    # --- a file's life -----------------------------------------------------------------------------

    async def _begin(self, begun: Begun) -> None:
        line, row = self.line, begun.sample.row
        first = begun.scores is not None and begun.resumption is None
        if begun.scores is not None and (first or self.scores is None):
            self._replace_scores(begun.scores.hold())
        lengths = begun.resumption.spools if begun.resumption else {}
        subject = begun.subject
        wants_samples = subject.samples != "off" and subject.epoch == 1
        self.open = OpenRecords(
            begun=begun,
            scores=begun.scores or await self._scores_of(begun.shape),
            metrics=self._spool(row.admission, "metrics.jsonl", lengths),
            samples=self._spool(row.admission, samples_log(subject), lengths)
            if wants_samples
            else None,
            segment=begun.resumption.segment if begun.resumption else Segment(),
            digest=begun.resumption.digest if begun.resumption else "",
        )
        for spool in self.open.spools.values():
            await self.line.patiently(spool.open)
        resumed = begun.resumption.row if begun.resumption else 0
        line.status.state = "training"
        line.status.file = FileStatus(
            subject.file, row.size, subject.epoch, rows=resumed, started=time.time()
        )
        line.note("started", file=subject.file, admission=row.admission, resumed_at_row=resumed)

    async def _scores_of(self, shape: Shape) -> Held:
        """The metric states to go on from; of a file that brings new classes, with room for them."""
        assert self.scores is not None
        before = await self.line.shape_of(self.spec)
        if before.outputs == shape.outputs:
            return self.scores.hold()
        scores, run = self.line.reserve(shape.scores_bytes), self.line.machinery.dispatcher.run
        where = (self.spec, self.scores.region, shape.spec, scores.region)
        with dropped_on_error(scores):
            await run(learn.adopt_scores, *where, job=self.line.job)
        return scores

    def _spool(self, admission: int, log: str, lengths: dict[str, int]) -> Spool:
        path = self.line.machinery.layout.spool(self.line.job, admission, log)
        return Spool(path, lengths.get(log, 0))

    async def _report(self, learnt: Learnt) -> None:
        file, done = self._file(), learnt.round_results
        try:
            begun, segment = file.begun, file.segment
            text = self.line.reserve(report.text_bytes(begun.subject, begun.shape, done, segment))
            try:
                await self._write(file, text, report.report, done)
            finally:
                text.drop()
        finally:
            for held in learnt.holds:
                held.drop()
        status = self.line.status.file
        if status is not None:
            status.rows, status.share = done.rows_from + done.rows, learnt.share
            status.loss = file.loss

    async def _write(
        self, file: OpenRecords, text: Held, function: Callable[..., Reported], done: Any
    ) -> None:
        """Runs a report in the pool and adds its text to the spools; flips the metric states."""
        after = self.line.reserve(file.begun.shape.scores_bytes)
        books = Books(
            file.begun.shape.spec,
            file.begun.before.region,
            file.scores.region,
            after.region,
            text.region,
        )
        try:
            reported = await self._reported(file, function, done, books)
            lines = view(text.region).data
            end = reported.samples_bytes + reported.metrics_bytes
            if file.samples is not None and reported.samples_bytes:
                samples = file.samples
                await self.line.patiently(lambda: samples.append(lines[: reported.samples_bytes]))
            if reported.metrics_bytes:
                await self.line.patiently(
                    lambda: file.metrics.append(lines[reported.samples_bytes : end])
                )
        except BaseException:
            after.drop()
            raise
        file.scores.drop()
        file.scores, file.segment, file.loss = after, reported.segment, reported.loss
        file.digest = chained(file.digest, reported.sha256)

    async def _reported(
        self, file: OpenRecords, function: Callable[..., Reported], done: Any, books: Books
    ) -> Reported:
        run = self.line.machinery.dispatcher.run
        try:
            return await run(
                function, file.begun.subject, done, books, file.segment, job=self.line.job
            )
        except WorkerError as error:
            self.line.lost(error)
            refusal = poisoned(error, "reports").refusal
            raise Undone(file.begun.sample, refusal) from error

    async def _mark(self, mark: Mark) -> None:
        file = self._file()
        try:
            await file.flush()
            extra = {"segment": asdict(file.segment), "records": file.digest}
            layout = self.line.machinery.layout
            async with saved(self.line, file.begun.shape, mark.state) as state:
                named = tensors(state, file.states)
                point = progress(self.line, file, mark.row, mark.version, named, extra)
                await self.line.patiently(
                    lambda: self.line.settle(units.private_commit(layout, point))
                )
        finally:
            mark.state.drop()
        self.line.note(
            "progress",
            file=file.begun.subject.file,
            rows=mark.row,
            version=mark.version,
            loss=file.loss,
            share=self.line.status.file.share if self.line.status.file else None,
        )

    async def _finish(self, finished: Finished) -> None:
        file, line, ending = self._file(), self.line, finished.ending
        row, subject = file.begun.sample.row, file.begun.subject
        text = line.reserve(report.close_bytes(subject, ending, file.segment))
        try:
            await self._write(file, text, report.close, ending)
            await file.flush()
            extra = {"loss": file.loss, "rows": ending.rows}
            layout, keep = line.machinery.layout, line.conduct.keep
            digests = Digests(
                ending.sha256, file.digest, fingerprint.digest(line.machinery.fingerprint)
            )
            sample = file.begun.sample
            unchanged = partial(gate.must_be_unchanged, sample.path, row, sample.ctime_ns)
            is_first = subject.epoch == 1 and not subject.revision  # else they are listed already
            listing = _list_of(sample, finished.rejected) if is_first else bytes
            async with saved(line, file.begun.shape, finished.state) as state:
                named = tensors(state, learn.lasting(file.states))
                whole = progress(line, file, ending.rows, ending.version, named, extra)
                files = [Whole(whole, digests, unchanged, listing)]
                unit = units.acceptance(layout, files, keep=keep)
                accepted = await self.line.patiently(lambda: line.settle(unit))
        except gate.Changed:
            raise Undone(file.begun.sample) from None
        finally:
            text.drop()
            finished.state.drop()
        self._replace_scores(file.scores.hold())
        self.spec = file.begun.shape.spec
        line.schema = file.begun.schema
        now = time.time()
        seconds = now - (line.status.file.started if line.status.file else now)
        tell(line, accepted, [(subject, ending, file.loss)], seconds)
        await self._forget_file()
        self._decided(row.admission)

    async def _accept_bundle(self, learnt: LearntBundle) -> None:
        assert self.scores is not None
        try:
            after = await accounts.accept(self.line, learnt, self.scores)
        except WorkerError as error:
            self.line.lost(error)
            raise Unbundled("its records could not be made") from error
        finally:
            for held in learnt.holds:
                held.drop()
        self._replace_scores(after)
        self.spec = learnt.bundle.shape.spec
        for sample in learnt.bundle.samples:
            self._decided(sample.row.admission)

    async def _abandon(self, abandoned: Abandoned) -> None:
        line, broken = self.line, abandoned.broken
        row, layout = broken.sample.row, line.machinery.layout
        if abandoned.begun:
            await self._forget_file()
        where = (layout, line.job, row.admission)
        if broken.cause is Cause.CHANGED:
            file = await self.line.patiently(lambda: line.settle(units.withdrawal(*where)))
            is_back = file.settled_as is not None
            line.note(
                "changed while it was read: back to the inbox"
                if is_back
                else "vanished while it was read: nothing was learnt from it",
                file=broken.sample.shown,
            )
        elif broken.cause is Cause.DUPLICATE:
            sha256 = broken.sha256
            await self.line.patiently(lambda: line.settle(units.duplicate(*where, sha256=sha256)))
            line.status.duplicates += 1
            line.note("duplicate", file=broken.sample.shown, same_as_admission=broken.same)
        else:
            refusal = broken.refusal
            assert refusal is not None
            rejected = _list_of(broken.sample, broken.rejected)
            await self.line.patiently(lambda: line.settle(units.refusal(*where, refusal, rejected)))
            line.status.failed += 1
            line.refused(refusal)
            line.note("refused", file=broken.sample.shown, **asdict(refusal))
        self._decided(row.admission)

    # --- small things --------------------------------------------------------------------------------

    def _file(self) -> OpenRecords:
        assert self.open is not None, "results without a file"
        return self.open

    def _decided(self, admission: int) -> None:
        status = self.line.status
        self.line.decided(admission)
        if not self.line.undecided.digests:
            status.state, status.file = "waiting", None

    def _replace_scores(self, scores: Held) -> None:
        if self.scores is not None:
            self.scores.drop()
        self.scores = scores

    async def _forget_file(self) -> None:
        file = self._file()
        await file.close()
        file.scores.drop()
        file.begun.before.drop()
        self.open = None


def _list_of(sample: Sample, rejected: Rejected) -> Callable[[], bytes]:
    """What writes the list of a file's bad rows, in the thread that needs it."""
    who = sample.shown, sample.row.admission
    return partial(rejected_rows, *who, rejected.listed, rejected.count)


def _drop(message: Learning) -> None:
    """Lets go of what an unread message holds."""
    match message:
        case Begun():
            message.before.drop()
            if message.scores is not None:
                message.scores.drop()
        case Learnt() | LearntBundle():
            for held in message.holds:
                held.drop()
        case Mark() | Finished():
            message.state.drop()
        case Abandoned() | Apart():
            pass
