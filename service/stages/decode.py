"""Decode: sample files become blocks, decoded ahead in the pool, and leave in order.

    Sample ─▶ prepare ─▶ identity ─▶ survey ─▶ chunks ─▶ decode in the pool ─▶ Block, Block, … Complete
              (worker)   (journal)   (thread)                              └─▶ Broken

Rules: the survey reads the file once, in a thread, cutting chunks and taking the digest. What is
wrong with a file is found in the order of its rows, whatever worker found it first. The first file
of a job teaches it the features and classes, and others perhaps new classes: whenever a file teaches
something, the next one waits until its fate is known.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any, TypeVar, cast

from service import formats
from service.core import classes
from service.core.errors import FileRefused, Refusal, Stopped, WorkerError, poisoned
from service.core.settings import Rows
from service.formats.contract import Chunk, Fields, Label, Source
from service.runtime.channel import (
    BrokenChannel,
    EndOfChannel,
    Ends,
    Receiver,
    Sender,
    channel,
)
from service.runtime.dispatch import Urgency
from service.runtime.held import Held
from service.stages import gate
from service.stages.bad_rows import BadRows, row_rules
from service.stages.bundling import Bundling, Groups, may_be_bundled
from service.stages.fields import fields_of
from service.stages.identity import same_as
from service.stages.line import Line
from service.stages.messages import (
    Block,
    Broken,
    Cause,
    Complete,
    Decoded,
    Opened,
    Rejected,
    Sample,
    Schema,
)
from service.stages.suspects import counted
from service.storage.disk import scarcity_border
from service.subtasks import blocks
from service.subtasks.blocks import StoredBlock

R = TypeVar("R")

AHEAD = 8
"""Chunks of one file that may be under way at a time; the slots bound them all."""
CROWDED_BYTES = 1 << 20
"""The first chunk of a file whose job shares the pool with many."""


async def decode(line: Line, inbox: Receiver[Sample], outbox: Sender[Decoded]) -> None:
    """Decodes the files of `inbox` until it is closed or the line stops; closes `outbox`."""
    async with inbox, outbox:
        groups = Groups(line, inbox)
        bundling = Bundling(
            line, fields_of, lambda sample: _File(line, sample, outbox).decode(), outbox
        )
        with suppress(Stopped, BrokenChannel, EndOfChannel):
            while not line.stopping.is_set():
                group = await groups.receive()
                if line.stopping.is_set():
                    return
                if may_be_bundled(line, group[0]):
                    await bundling.decode(group)
                else:
                    await _File(line, group[0], outbox).decode()


class _File:
    """One sample file on its way through the stage."""

    def __init__(self, line: Line, sample: Sample, outbox: Sender[Decoded]) -> None:
        self.line = line
        self.sample = sample
        self.outbox = outbox
        self.dispatcher = line.machinery.dispatcher
        self.teaches = line.schema is None  # the files after it wait for its fate
        self.rejected = Rejected()  # known at the file's end
        self.scratch = line.machinery.layout.scratch(line.job, sample.row.admission)

    async def decode(self) -> None:
        row, line = self.sample.row, self.line
        try:
            async with counted(line, self.sample):
                await self._decode()
                while self.sample.is_suspect and row.admission in line.undecided.digests:
                    await line.news()
        except FileRefused as refused:
            await self._broken(Cause.REFUSED, refused)
        except WorkerError as error:
            line.lost(error)
            await self._broken(Cause.REFUSED, poisoned(error, "decodes"))
        except (gate.Changed, FileNotFoundError):
            await self.outbox.send(Broken(self.sample, Cause.CHANGED))
        except OSError as error:
            await self._broken(Cause.REFUSED, gate.unreadable(error))
        finally:
            await asyncio.to_thread(self.scratch.unlink, missing_ok=True)
        while self.teaches and row.admission in line.undecided.digests:
            await line.news()

    async def _broken(self, cause: Cause, refused: FileRefused) -> None:
        await self.outbox.send(Broken(self.sample, cause, refused.refusal, self.rejected))

    async def _decode(self) -> None:
        path, row = self.sample.path, self.sample.row
        most_bytes = self.line.conduct.max_file_bytes
        ctime_ns = await asyncio.to_thread(gate.must_be_admissible, path, row, most_bytes)
        sample = self.sample = replace(self.sample, ctime_ns=ctime_ns)
        fields = fields_of(sample, self.line.schema)
        source = await self.run(
            formats.prepare,
            str(path),
            os.fsdecode(row.name),
            str(self.scratch),
            fields,
            self.line.machinery.limits,
        )
        same = await same_as(self.line, sample, source.sha256)
        if same is not None:
            duplicate = Broken(sample, Cause.DUPLICATE, sha256=same.sha256, same=same.admission)
            await self.outbox.send(duplicate)
            return
        schema = await self._schema(source, fields)
        fields = fields_of(sample, schema)
        formats.features_of(source, fields)
        await self.outbox.send(Opened(sample, schema))
        complete = await self._blocks(source, fields)
        await asyncio.to_thread(gate.must_be_unchanged, path, row, ctime_ns)
        gate.must_be_what_was_learnt(row, source.name, complete.sha256)
        self.line.undecided.known(row.admission, complete.sha256)
        await self.outbox.send(complete)

    async def run(
        self, function: Callable[..., R], *args: Any, urgency: Urgency = Urgency.NOW
    ) -> R:
        async def attempt() -> R:
            with scarcity_border("read", self.sample.path):
                return await self.dispatcher.run(
                    function, *args, job=self.line.job, urgency=urgency
                )

        return await self.line.patiently(attempt)

    @property
    def bad_rows_refuse(self) -> bool:
        return self.sample.terms.rows.on_bad_row == "refuse"

    # --- what a file teaches -----------------------------------------------------------------------

    async def _schema(self, source: Source, fields: Fields) -> Schema:
        """What the job's files before taught it, and what this one adds."""
        job, known = self.sample.terms.job, self.line.schema
        schema = known or await self._learn_schema(source, fields)
        is_learnt = known is None and fields.classes is None
        if is_learnt or len(schema.classes or ()) >= (job.model.classes_max or 0):
            return schema
        found = await self._labels(source, fields)
        grown = replace(schema, classes=classes.grown(job, schema.classes or (), found))
        self.teaches = grown != self.line.schema
        return grown

    async def _learn_schema(self, source: Source, fields: Fields) -> Schema:
        job = self.sample.terms.job
        names = tuple(map(str, fields.hashed.categorical))
        if job.hashing.categorical == "auto":
            names = await self.run(formats.names, source, fields)
            self.line.note("columns of names", file=self.sample.shown, categorical=list(names))
            fields = replace(fields, hashed=replace(fields.hashed, categorical=names))
        features = formats.features_of(source, fields)
        if fields.labels != "class" or fields.classes is not None:
            return Schema(features, fields.classes, names)
        found = await self._labels(source, fields)
        most_bad = 0.0 if self.bad_rows_refuse else self.sample.terms.rows.max_bad_rows
        try:
            return Schema(features, classes.learnt(job, found, most_bad), names)
        except FileRefused as refused:  # it knows the labels, not whose they are
            raise await self._no_classes(source, fields, found, refused.refusal) from None

    async def _no_classes(
        self, source: Source, fields: Fields, found: Mapping[Label, int], why: Refusal
    ) -> FileRefused:
        """The refusal of a file whose labels teach no classes: for a row that is bad whatever its label is, where one is and one
        is enough; else by the place where the oddest label stands."""
        place, remedy = f"{source.name}: {why.place}", why.remedy
        odd = classes.odd_one(found)
        if bad := await self._first_bad(source, replace(fields, labels="none")):
            if self.bad_rows_refuse:
                return FileRefused(bad.rule, place=bad.place, value=bad.value, remedy=bad.remedy)
            remedy = (
                f"{remedy}; bad rows count as none, and the first of them is {bad}: {bad.remedy}"
            )
        elif odd is not None:
            others = tuple(label for label in found if label != odd)
            if first := await self._first_bad(source, replace(fields, classes=others)):
                place = first.place
                remedy = f"{remedy}; the rarest, {first.value}, first stands here"
        return FileRefused(why.rule, place=place, value=why.value, remedy=remedy)

    async def _first_bad(self, source: Source, fields: Fields) -> Refusal | None:
        """What is wrong with the file's first bad row, if it has one."""
        rows = BadRows(source, Rows(on_bad_row="refuse"))
        with closing(formats.Survey(source, self.line.conduct.chunk_bytes)) as survey:
            while (chunk := await self._next(survey)) is not None:
                judged = await self.run(formats.judged, source, chunk, fields)
                try:
                    rows.check(judged)
                except FileRefused as refused:
                    return refused.refusal
                rows.add(judged)
        return None

    async def _labels(self, source: Source, fields: Fields) -> Mapping[Label, int]:
        """The file's distinct labels in the order of their appearance, and how many rows have each."""
        job, found = self.sample.terms.job, Counter[Label]()
        with closing(formats.Survey(source, self.line.conduct.chunk_bytes)) as survey:
            while (chunk := await self._next(survey)) is not None:
                found.update(await self.run(formats.labels, source, chunk, fields))
                is_pair = job.model.problem == "binary" and len(classes.of_one_kind(found)) > 1
                if is_pair and self.bad_rows_refuse:
                    break  # a third label refuses the file, now or when its row comes
        return found

    # --- blocks ------------------------------------------------------------------------------------

    async def _next(self, survey: formats.Survey) -> Chunk | None:
        if self.line.stopping.is_set():
            raise Stopped

        async def attempt() -> Chunk | None:
            with scarcity_border("read", self.sample.path):
                return cast("Chunk | None", await asyncio.to_thread(next, survey, None))

        return await self.line.patiently(attempt)

    async def _blocks(self, source: Source, fields: Fields) -> Complete:
        """Sends the file's blocks in order, several being decoded at a time."""
        survey = self._survey(source)
        unsent: set[Held] = set()
        rows, unlabelled, missing = BadRows(source, self.sample.terms.rows), 0, Counter[str]()
        try:
            async with asyncio.TaskGroup() as group:
                ends: Ends[asyncio.Task[_Outcome]] = channel(AHEAD)
                ordered, tasks = ends
                group.create_task(self._cut(survey, source, fields, ordered, group, unsent))
                async for task in tasks:
                    if isinstance(outcome := await task, FileRefused | WorkerError):
                        raise outcome
                    stored, held, chunk = outcome
                    rows.check(stored)
                    share = chunk.stop / (source.rows if source.rows is not None else source.size)
                    await self.outbox.send(Block(stored, held, rows.rows_seen, share))
                    rows.add(stored)
                    unlabelled += stored.unlabelled
                    missing.update(stored.missing)
                    unsent.discard(held)
                    self.line.machinery.slots.decoded(self.line.job)
        except* (FileRefused, WorkerError, Stopped, BrokenChannel, OSError) as errors:
            raise _first(errors) from None
        finally:
            survey.close()  # not when its traces are collected: an unpacked file has its room until then
            for held in unsent:
                held.drop()
                self.line.machinery.slots.decoded(self.line.job)
        self.rejected = rows.found
        rows.finish()
        assert survey.sha256 is not None  # known once the survey has come to its end
        gaps = {c: n for c in map(str, fields.features or ()) if (n := missing[c])}
        is_learnt = self.sample.terms.job.features is None
        extra = formats.unused_of(source, fields) if is_learnt else 0
        return Complete(survey.sha256, unlabelled, gaps, self.rejected, extra)

    def _survey(self, source: Source) -> formats.Survey:
        """Small chunks first, with which learning begins sooner; but not where each waits for its turn among many jobs."""
        most = self.line.conduct.chunk_bytes
        if self.dispatcher.is_crowded:
            return formats.Survey(source, most, first_bytes=CROWDED_BYTES)
        return formats.Survey(source, most)

    async def _cut(
        self,
        survey: formats.Survey,
        source: Source,
        fields: Fields,
        ordered: Sender[asyncio.Task[_Outcome]],
        group: asyncio.TaskGroup,
        unsent: set[Held],
    ) -> None:
        slots = self.line.machinery.slots
        async with ordered:
            while (chunk := await self._next(survey)) is not None:
                room = blocks.room(source, chunk, fields)
                held, waited_for = await slots.acquire(self.line.job, room)
                unsent.add(held)
                urgency = Urgency.NOW if waited_for else Urgency.AHEAD
                await ordered.send(
                    group.create_task(self._chunk(source, chunk, fields, held, urgency))
                )

    async def _chunk(
        self, source: Source, chunk: Chunk, fields: Fields, held: Held, urgency: Urgency
    ) -> _Outcome:
        rules = row_rules(self.sample.terms.rows)
        try:
            stored = await self.run(
                blocks.decode, source, chunk, fields, rules, held.region, urgency=urgency
            )
        except (FileRefused, WorkerError) as error:
            return error  # raised when its turn comes
        return stored, held, chunk


_Decoded = tuple[StoredBlock, Held, Chunk]
_Outcome = _Decoded | FileRefused | WorkerError


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
