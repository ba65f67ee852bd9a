"""Bundling: small files that wait for decoding are decoded, and then learnt and recorded, several at a time.

    Sample, Sample, … ─▶ a group ─▶ read (one sub-task) ─▶ Bundle of those that are plain, in order
                                                       └─▶ each other one alone, in its turn

Rules: nobody waits for company: a group is what waits already, if only one. What comes of files in a bundle is, to the bit, what comes of them one
after the other. Whatever is out of the ordinary with a file (bad rows, a duplicate, a death) is found by the way
that a single file takes; here it is only left to go alone. One that changed after it was read is found when it is accepted, and then all go alone.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from service.core import resolution
from service.core.errors import FileRefused, WorkerError
from service.core.planning import plan_of
from service.formats.contract import Fields
from service.runtime.channel import Receiver, Sender
from service.runtime.held import Held
from service.stages import gate
from service.stages.identity import may_repeat
from service.stages.line import Line
from service.stages.messages import Bundle, Decoded, Sample, Schema
from service.subtasks import bundles
from service.subtasks.bundles import Clean, Paper
from service.subtasks.learn import Shape

MOST_FILES = 256
"""What a bundle costs, whatever its files, is some 10 ms of the processor: flushes, transactions, trips."""
MOST_BYTES = 8 << 20
"""Of all its files: other jobs wait for its sub-tasks, some 100 ms each."""
SMALL_BYTES = 128 << 10
"""A larger file costs more than its trips."""
STATES_BYTES = 32 << 20
"""Room for the models and metric states after each file of a bundle."""


class Groups:
    """The files that arrive, those that may go together in groups."""

    def __init__(self, line: Line, inbox: Receiver[Sample]) -> None:
        self._line = line
        self._inbox = inbox
        self._next: Sample | None = None

    async def receive(self) -> list[Sample]:
        """The next file, and those behind it that may go with it; raises EndOfChannel."""
        group = [self._next or await self._inbox.receive()]
        self._next, nbytes = None, group[0].row.size
        while len(group) < MOST_FILES and may_be_bundled(self._line, group[0]):
            self._next = self._inbox.receive_nowait()
            if self._next is None or self._next.row.settings != group[0].row.settings:
                break
            nbytes += self._next.row.size
            if nbytes > MOST_BYTES or not may_be_bundled(self._line, self._next):
                break
            group.append(self._next)
            self._next = None
        return group


def may_be_bundled(line: Line, sample: Sample) -> bool:
    """Whether a file is small and new, and is learnt row after row by a job that knows its columns and all its classes.

    A model with slots is too large to be kept after each file.
    """
    row, training, schema = sample.row, sample.terms.job.training, line.schema
    is_new = not sample.is_inherited and row.epoch == 1 and not row.revision
    is_sequential = training.lanes == 1 and training.partition == "samples"
    if schema is None or len(schema.classes or ()) < (sample.terms.job.model.classes_max or 0):
        return False  # it may teach the files behind it
    if sample.terms.job.is_sparse:
        return False
    return is_new and is_sequential and row.size <= SMALL_BYTES


class Bundling:
    """One group on its way through the stage; `alone` is the way of a single file."""

    def __init__(
        self,
        line: Line,
        fields: Callable[[Sample, Schema], Fields],
        alone: Callable[[Sample], Awaitable[None]],
        outbox: Sender[Decoded],
    ) -> None:
        self.line = line
        self.fields = fields
        self.alone = alone
        self.outbox = outbox

    async def decode(self, group: Sequence[Sample]) -> None:
        """Sends on all files of a group, in order."""
        left = list(group)
        while left:
            schema = self.line.schema
            assert schema is not None
            shape = await self._shape(left[0], schema)
            most = STATES_BYTES // (shape.state_bytes + shape.lasting_bytes) if shape else 0
            if shape is None or shape.ends_files or most < 2:
                await self.alone(left.pop(0))
            else:
                sent = await self._decode(left[:most], schema, shape)
                left = left[sent:]

    async def _shape(self, sample: Sample, schema: Schema) -> Shape | None:
        job = sample.terms.job
        try:
            spec = resolution.spec(job, schema.width(job), schema.classes).to_json()
            return await self.line.shape_of(spec)
        except (FileRefused, WorkerError):
            return None

    async def _decode(self, group: Sequence[Sample], schema: Schema, shape: Shape) -> int:
        """Sends on files of a group until one of them has taught the job something; says how many."""
        slots, job = self.line.machinery.slots, self.line.job
        samples = await asyncio.to_thread(_admissible, group, self.line.conduct.max_file_bytes)
        room = sum(bundles.room(sample.row.size) for sample in samples)
        try:
            held, _ = await slots.acquire(job, room)
        except WorkerError:  # no memory for all of them: each may find enough
            await self.alone(samples[0])
            return 1
        try:
            try:
                clean = await self._clean(samples, schema, held)
            finally:
                slots.decoded(job)  # from here on a file that goes alone may need a slot
            run: list[tuple[Sample, Clean]] = []
            for sent, (sample, one) in enumerate(zip(samples, clean, strict=True), 1):
                if one is not None:
                    run.append((sample, one))
                    continue
                await self._send(run, schema, shape, held)
                run = []
                await self.alone(sample)
                if self.line.schema != schema:
                    return sent
            await self._send(run, schema, shape, held)
            return len(samples)
        finally:
            held.drop()

    async def _clean(
        self, samples: Sequence[Sample], schema: Schema, held: Held
    ) -> list[Clean | None]:
        """What was read of each file; None for those that are to go alone."""
        clean = await self._read(samples, schema, held)
        digests = [one.sha256 if one else None for one in clean]
        for sample, digest in zip(samples, digests, strict=True):
            if digest is not None:
                self.line.undecided.known(sample.row.admission, digest)
        repeats = await may_repeat(self.line, samples, digests)
        return [None if again else one for one, again in zip(clean, repeats, strict=True)]

    async def _read(
        self, samples: Sequence[Sample], schema: Schema, held: Held
    ) -> list[Clean | None]:
        machinery, training = self.line.machinery, samples[0].terms.job.training
        layout = machinery.layout
        work = os.fspath(layout.work(self.line.job))
        papers = [
            Paper(
                os.fspath(s.path),
                os.fsdecode(s.row.name),
                os.path.join(work, layout.scratch_name(s.row.admission)),
            )
            for s in samples
            if s.ctime_ns
        ]
        fields = self.fields(samples[0], schema)
        found: list[Clean | None] = [None] * len(papers)
        with suppress(WorkerError, OSError):  # alone, each will meet its own
            found = await machinery.dispatcher.run(
                bundles.read,
                papers,
                fields,
                machinery.limits,
                self.line.conduct.chunk_bytes,
                held.region,
                job=self.line.job,
            )
        one_round = plan_of(training, schema.width(samples[0].terms.job)).rows
        ordered = iter(found)
        clean = [next(ordered) if sample.ctime_ns else None for sample in samples]
        return [one if one and one.stored.rows <= one_round else None for one in clean]

    async def _send(
        self, run: Sequence[tuple[Sample, Clean]], schema: Schema, shape: Shape, held: Held
    ) -> None:
        if run:
            samples, clean = zip(*run, strict=True)
            await self.outbox.send(Bundle(samples, clean, schema, shape, held.hold()))


def _admissible(group: Sequence[Sample], most_bytes: int) -> list[Sample]:
    """The files with their ctimes; 0 for one that the way of a single file is to judge."""
    found = []
    for sample in group:
        ctime_ns = 0
        with suppress(FileRefused, OSError):
            ctime_ns = gate.must_be_admissible(sample.path, sample.row, most_bytes)
        found.append(replace(sample, ctime_ns=ctime_ns))
    return found
