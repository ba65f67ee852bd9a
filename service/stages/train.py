"""Train: blocks become rounds, and rounds move the model on.

    Opened ─▶ the model before the file        Block ─▶ rows ─▶ round ─▶ Learnt, perhaps a Mark
    Complete ─▶ the last round ─▶ Finished     Broken ─▶ the model before the file ─▶ Abandoned

Rules: a round starts when its rows are there, and no two overlap. A sub-task reads the state and
writes another; the stage flips them when the round is whole. The state before the file stays until
the file is whole. Files follow one another without waiting for the record of the one before.
"""

from __future__ import annotations

import time
from contextlib import suppress

from kernels import columns
from service.core import resolution
from service.core.errors import FileRefused, Stopped, StorageDamaged, WorkerError, poisoned
from service.core.job_settings import Training
from service.core.planning import plan_of
from service.core.records import Subject
from service.runtime.channel import BrokenChannel, EndOfChannel, Receiver, Sender
from service.runtime.held import Held, dropped_on_error
from service.stages.bundles import learn_bundle
from service.stages.line import Line, Model
from service.stages.messages import (
    Abandoned,
    Apart,
    Begun,
    Block,
    Broken,
    Bundle,
    Cause,
    Complete,
    Decoded,
    Finished,
    Learning,
    Mark,
    Opened,
    Resumption,
    Sample,
    Schema,
)
from service.stages.rounds import OpenFile, end_file, learn_round
from service.subtasks import learn
from service.subtasks.learn import Shape
from service.subtasks.report import Ending, Segment


async def train(line: Line, inbox: Receiver[Decoded], outbox: Sender[Learning]) -> None:
    """Learns from the files of `inbox` until it is closed or the line stops; closes `outbox`.

    When the line stops inside a file, a last Mark keeps what was learnt of it; not so where a sub-task was given up,
    which may have been halfway through writing to the state.
    """
    async with outbox:
        trainer = _Trainer(line, outbox)
        try:
            # Where the channel is broken record has failed, and its own error says why.
            with suppress(BrokenChannel, Stopped):
                with suppress(EndOfChannel):
                    while not line.stopping.is_set() and not trainer.is_apart:
                        await trainer.take(await trainer.next(inbox))
                await trainer.leave()
        finally:
            for message in inbox.close():
                if isinstance(message, Block | Bundle):
                    message.held.drop()
            trainer.close()


class _Trainer:
    """The stage's state: the model after the last whole file, and the file being learnt."""

    def __init__(self, line: Line, outbox: Sender[Learning]) -> None:
        self.line = line
        self.outbox = outbox
        self.model: Model | None = line.model
        self.sequence = line.sequence
        self.open: OpenFile | None = None
        self.is_apart = False  # a bundle could not be learnt as one: the line is to begin anew
        self.skipping: Sample | None = None  # a file whose blocks are to be dropped unseen
        self.marked = time.monotonic()

    async def next(self, inbox: Receiver[Decoded]) -> Decoded:
        """The next message; while it waits, decoding for this job comes before decoding ahead."""
        slots, dispatcher = self.line.machinery.slots, self.line.machinery.dispatcher
        slots.dry(self.line.job, True)
        dispatcher.promote(self.line.job)
        try:
            return await inbox.receive()
        finally:
            slots.dry(self.line.job, False)

    async def take(self, message: Decoded) -> None:
        try:
            await self._take(message)
        except FileRefused as refused:
            await self._refuse(message, refused)
        except WorkerError as error:
            self.line.lost(error)
            await self._refuse(message, poisoned(error, "learns from"))

    async def leave(self) -> None:
        """The line ends: keeps what was learnt of an unfinished file."""
        if self.open is not None and self.open.learnt_rows > 0:
            await self._mark()

    def close(self) -> None:
        """Lets go of everything that it holds."""
        self._forget_file()
        if self.model is not None and self.model is not self.line.model:
            self.model.state.drop()

    async def _take(self, message: Decoded) -> None:
        match message:
            case Opened():
                await self._begin(message)
            case Block() if self.open is None:
                message.held.drop()
            case Block():
                await self._learn(message)
            case Complete() if self.open is not None:
                await self._finish(message)
            case Complete():
                pass
            case Broken():
                await self._break(message)
            case Bundle():
                await self._bundle(message)

    # --- a file's beginning ------------------------------------------------------------------------

    async def _begin(self, opened: Opened) -> None:
        sample, schema = opened.sample, opened.schema
        job = sample.terms.job
        spec = resolution.spec(job, schema.width(job), schema.classes).to_json()
        shape = await self.line.shape_of(spec)
        before, scores = await self._before(shape)
        version = self.model.version if self.model else 0
        training = job.training
        self.open = OpenFile(
            sample=sample,
            schema=schema,
            subject=self._subject(sample, schema, shape, self.sequence + 1),
            shape=shape,
            plan=plan_of(training, schema.width(job)),
            ranges=_ranges(training, schema.width(job)),
            before=before,
            state=before.hold(),
            version=version,
        )
        resumption = None
        resume = self.line.resume
        if resume is not None and resume.admission == sample.row.admission:
            restored = await self._resume(self.open)
            if restored is not None:
                resumption, scores = restored
        begun = Begun(sample, self.open.subject, shape, schema, before.hold(), scores, resumption)
        await self.outbox.send(begun)
        self.marked = time.monotonic()

    def _subject(self, sample: Sample, schema: Schema, shape: Shape, sequence: int) -> Subject:
        terms = sample.terms
        return Subject(
            job=self.line.job,
            file=sample.shown,
            sequence=sequence,
            epoch=sample.row.epoch,
            classes=schema.classes,
            every_rows=terms.every_rows,
            steps=terms.steps,
            samples=terms.job.output.samples,
            samples_format=terms.job.output.samples_format,
            is_clustering=shape.problem == "clustering",
            revision=sample.row.revision,
        )

    async def _before(self, shape: Shape) -> tuple[Held, Held | None]:
        """The state that the file starts from; with metric states where record has none yet."""
        run, job = self.line.machinery.dispatcher.run, self.line.job
        model = self.model
        if model is not None and model.shape.spec == shape.spec:
            return model.state.hold(), None
        state = self.line.reserve(shape.state_bytes)
        if model is None:
            scores = self.line.reserve(shape.scores_bytes)
            with dropped_on_error(state, scores):
                await run(learn.start, shape.spec, state.region, scores.region, job=job)
            return state, scores
        old, source = model.shape.spec, model.state.region
        with dropped_on_error(state):
            await run(learn.adopt, old, source, shape.spec, state.region, job=job)
        return state, None

    async def _resume(self, file: OpenFile) -> tuple[Resumption, Held] | None:
        """The state of the private commit, and the metric states that belong to it."""
        commit = self.line.resume
        assert commit is not None
        self.line.resume = None
        path = self.line.machinery.layout.private(self.line.job) / commit.model
        state, scores = (
            self.line.reserve(file.shape.state_bytes),
            self.line.reserve(file.shape.scores_bytes),
        )
        try:
            with dropped_on_error(state, scores):
                restored = await self.line.machinery.dispatcher.run(
                    learn.restore,
                    file.shape.spec,
                    str(path),
                    commit.model_sha256,
                    state.region,
                    scores.region,
                    job=self.line.job,
                )
        except StorageDamaged as damaged:
            self.line.note("resume point damaged: the file starts again", error=str(damaged))
            return None
        file.state.drop()
        file.state, file.version, file.skip = state, commit.version, commit.row
        file.rate = (
            restored.learning_rate
        )  # the last record tells it, also where no row is left to learn
        segment = Segment(**commit.extra["segment"])
        spools, digest = self.line.resume_spools, commit.extra["records"]
        return Resumption(commit.row, commit.version, spools, segment, digest), scores

    # --- rounds --------------------------------------------------------------------------------------

    async def _learn(self, block: Block) -> None:
        file = self.open
        assert file is not None
        if block.stored.rows == 0:
            block.held.drop()
        file.queue.put(block, block.stored.rows)
        file.share = block.share
        self._skip(file)
        while file.queue.rows >= file.plan.rows and not self.line.stopping.is_set():
            await self._round(file, file.plan.rows)

    def _skip(self, file: OpenFile) -> None:
        """Passes over the rows that were learnt before the file was interrupted."""
        passed = min(file.skip, file.queue.rows)
        for block, _, stop in file.queue.take(passed):
            if stop == block.stored.rows:
                block.held.drop()
        file.skip -= passed
        file.row += passed

    async def _round(self, file: OpenFile, rows: int) -> None:
        await self.outbox.send(await learn_round(self.line, file, rows))
        file.rounds += 1
        is_due = time.monotonic() - self.marked >= self.line.conduct.interval_seconds
        if is_due or (file.sample.is_suspect and file.rounds.bit_count() == 1):  # 1, 2, 4, 8, ...
            await self._mark()

    async def _mark(self) -> None:
        file = self.open
        assert file is not None
        await self.outbox.send(Mark(file.learnt_rows, file.version, file.state.hold()))
        self.marked = time.monotonic()

    # --- a bundle ------------------------------------------------------------------------------------

    async def _bundle(self, bundle: Bundle) -> None:
        """Learns several small files at once; what doesn't go smoothly is left to the way of a single file."""
        model, learnt = self.model, None
        if model is not None and model.shape.spec == bundle.shape.spec:
            subjects = [
                self._subject(sample, bundle.schema, bundle.shape, self.sequence + place)
                for place, sample in enumerate(bundle.samples, 1)
            ]
            try:
                learnt = await learn_bundle(self.line, model, bundle, subjects)
            except WorkerError as error:
                self.line.lost(error)
            except BaseException:
                bundle.held.drop()
                raise
        if learnt is None:
            bundle.held.drop()
            self.is_apart = True
            await self.outbox.send(Apart("its files are not learnt smoothly from the model"))
            return
        old, self.model = self.model, learnt.model
        if old is not None and old is not self.line.model:
            old.state.drop()
        self.sequence += len(bundle.samples)
        await self.outbox.send(learnt.message)

    # --- a file's end --------------------------------------------------------------------------------

    async def _finish(self, complete: Complete) -> None:
        file = self.open
        assert file is not None
        if file.queue.rows:
            await self._round(file, file.queue.rows)
        if file.shape.ends_files:
            await end_file(self.line, file)
        ending = Ending(
            version=file.version,
            rows=file.row,
            rows_rejected=complete.rejected.count,
            rows_unlabelled=complete.rows_unlabelled,
            missing=complete.missing,
            columns_extra=complete.columns_extra,
            size=file.sample.row.size,
            sha256=complete.sha256,
            learning_rate=file.rate,
        )
        old = self.model
        self.model = Model(file.shape, file.schema, file.state.hold(), file.version)
        if old is not None and old is not self.line.model:
            old.state.drop()
        self.sequence = file.subject.sequence
        await self.outbox.send(Finished(ending, file.state.hold(), complete.rejected))
        self._forget_file()

    async def _break(self, broken: Broken) -> None:
        begun = self.open is not None and self.open.sample is broken.sample
        if begun or self.skipping is not broken.sample:
            await self.outbox.send(Abandoned(broken, begun))
        self.skipping = None
        if begun:
            self._forget_file()

    async def _refuse(self, message: Decoded, refused: FileRefused) -> None:
        """Training itself refuses the file: its other blocks are passed over until its end."""
        begun = not isinstance(message, Opened)  # record hears of a file once it is wholly opened
        if isinstance(message, Opened):
            sample = message.sample
        else:
            assert self.open is not None
            sample = self.open.sample
        broken = Broken(sample, Cause.REFUSED, refused.refusal)
        await self.outbox.send(Abandoned(broken, begun))
        self.skipping = sample
        self._forget_file()

    def _forget_file(self) -> None:
        file = self.open
        if file is None:
            return
        for block, *_ in file.queue.take(file.queue.rows):
            block.held.drop()
        file.state.drop()
        file.before.drop()
        self.open = None


def _ranges(training: Training, features: int) -> list[tuple[int, int]]:
    """The columns of each part of a step cut by features; none where it isn't."""
    if training.partition == "samples":
        return []
    return columns.ranges(features, training.lanes)  # type: ignore[arg-type]
