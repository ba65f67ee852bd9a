"""One round: the lanes' sub-tasks, and what joins them.

    one lane                  run: state ─▶ state
    lanes, one local step     gradient in each lane, then apply
    lanes, many local steps   run in each lane, then average
    slots                     learn: state ─▶ part, then put: part ─▶ the same state
    one that isn't finite     culprit, and the file is refused

Rules: a sub-task reads the file's state and writes another region; they are flipped when the round is
whole, so that running a sub-task again is harmless. A state with slots is too large for that: see
`service.subtasks.parts`. No region is given back before its last sub-task
has come back.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from kernels.guard import Culprit
from kernels.learner import Extra
from service.core.errors import FileRefused, Stopped, WorkerDied, WorkerError
from service.core.planning import Piece, RoundPlan, RowQueue, pieces_of
from service.core.records import Subject
from service.core.remedies import against_divergence
from service.runtime.held import Held, dropped_on_error
from service.stages.line import Line
from service.stages.messages import Block, Learnt, Sample, Schema
from service.subtasks import learn, parts
from service.subtasks.blocks import Part, entries, file_rows
from service.subtasks.judging import RoundResults
from service.subtasks.learn import Shape


@dataclass(slots=True, eq=False)
class OpenFile:
    """The file being learnt."""

    sample: Sample
    schema: Schema
    subject: Subject
    shape: Shape
    plan: RoundPlan
    before: Held
    state: Held
    version: int
    ranges: list[tuple[int, int]] = field(default_factory=list)  # of columns, where they are apart
    row: int = 0
    skip: int = 0
    rounds: int = 0  # in this life
    rate: float = 0.0
    share: float = 0.0
    queue: RowQueue[Block] = field(default_factory=RowQueue)

    @property
    def learnt_rows(self) -> int:
        """Rows that the state holds; those still to be passed over were learnt before."""
        return self.row + self.skip

    @property
    def extra(self) -> Extra:
        return extra_of(self.subject, self.shape)


def extra_of(subject: Subject, shape: Shape) -> Extra:
    """What is recorded beside norms: what is asked for, or a gradient as cheap as its norm."""
    if subject.epoch > 1:
        return ""
    if subject.samples == "factored":
        return "factors"
    one = shape.parameters == 1 and subject.samples == "norms"
    return "gradient" if subject.samples == "full" or one else ""


async def learn_round(line: Line, file: OpenFile, rows: int) -> Learnt:
    """Learns from the file's next `rows` rows; says what to record.

    Raises FileRefused, and leaves the file's state as it was, when the step is not finite.
    """
    pieces = file.queue.take(rows)
    holds = [block.held.hold() for block, _, _ in pieces]
    for block, _, stop in pieces:
        if stop == block.stored.rows:
            block.held.drop()
    lanes = [pieces_of(pieces, lane) for lane in file.plan.deal(rows)]
    results = [line.reserve(file.shape.results_bytes(_rows(lane), file.extra)) for lane in lanes]
    with dropped_on_error(*holds, *results):
        target = await _target(line, file)
    with dropped_on_error(*holds, *results, target):
        learnt = await _sub_tasks(line, file, lanes, results, target)
        if not learnt.finite:
            raise _diverged(file, pieces, await _culprit(line, file, lanes))
    done = RoundResults(
        parts=tuple(_parts(pieces)),
        results=tuple((r.region, _rows(lane)) for r, lane in zip(results, lanes, strict=True)),
        extra=file.extra,
        rows_from=file.row,
        version=file.version,
        learning_rate=learnt.learning_rate,
    )
    file.state.drop()
    file.state, file.rate = target, learnt.learning_rate
    file.row += rows
    file.version += 1
    return Learnt(done, file.share, (*holds, *results))


async def _target(line: Line, file: OpenFile) -> Held:
    """Where the next state goes: a region of its own; of a state with slots the same one, or if others hold it a
    copy of it."""
    if file.shape.slots and not file.state.is_shared:
        return file.state.hold()
    target = line.reserve(file.shape.state_bytes)
    if file.shape.slots:
        source, run = file.state.region, line.machinery.dispatcher.run
        with dropped_on_error(target):
            await run(parts.copy, file.shape.spec, source, target.region, job=line.job)
    return target


async def _by_slots(
    line: Line, file: OpenFile, rows: list[Part], results: Held, state: Held
) -> learn.Learnt:
    """A round in the part of the state that its rows touch."""
    run, spec = line.machinery.dispatcher.run, file.shape.spec
    part = line.reserve(file.shape.part_bytes(entries(rows)))
    try:
        learnt, slots = await run(
            parts.learn, spec, state.region, part.region, rows, results.region, job=line.job
        )
        if learnt.finite:
            await run(parts.put, spec, part.region, slots, state.region, job=line.job)
        return learnt
    finally:
        part.drop()


async def _sub_tasks(
    line: Line, file: OpenFile, lanes: list[list[Piece[Block]]], results: list[Held], target: Held
) -> learn.Learnt:
    """Runs a round's sub-tasks: one lane's, or all lanes' and then what joins them."""
    run, job = line.machinery.dispatcher.run, line.job
    spec, source, plan = file.shape.spec, file.state.region, file.plan
    rows_of_lanes = [_parts(lane) for lane in lanes]
    if file.ranges:
        return await _by_columns(line, file, rows_of_lanes[0], results[0], target)
    if file.shape.slots:
        return await _by_slots(line, file, rows_of_lanes[0], results[0], target)
    if plan.lanes == 1:
        return await run(
            learn.run, spec, source, target.region, rows_of_lanes[0], plan.batch_rows,
            results[0].region, file.extra, job=job,
        )  # fmt: skip
    exact = plan.local_steps == 1
    room = file.shape.gradient_bytes if exact else file.shape.state_bytes
    outs = [line.reserve(room) for _ in lanes]
    under_way: list[asyncio.Task[learn.Learnt]] = []
    try:
        async with asyncio.TaskGroup() as group:
            for lane, (out, result) in enumerate(zip(outs, results, strict=True)):
                if exact:
                    under_way.append(group.create_task(run(
                        learn.gradient, spec, source, rows_of_lanes, lane, out.region,
                        result.region, file.extra, job=job,
                    )))  # fmt: skip
                else:
                    under_way.append(group.create_task(run(
                        learn.run, spec, source, out.region, rows_of_lanes[lane], plan.batch_rows,
                        result.region, file.extra, job=job,
                    )))  # fmt: skip
        regions, rows = [out.region for out in outs], [_rows(lane) for lane in lanes]
        if exact:
            learnt = await run(
                learn.apply, spec, source, target.region, regions, sum(rows), job=job
            )
        else:
            learnt = await run(learn.average, spec, source, target.region, regions, rows, job=job)
        return replace(
            learnt, finite=learnt.finite and all(one.result().finite for one in under_way)
        )
    except* (WorkerError, Stopped) as errors:
        raise _one_of(errors) from None
    finally:
        for out in outs:
            out.drop()


async def _by_columns(
    line: Line, file: OpenFile, parts: list[Part], results: Held, target: Held
) -> learn.Learnt:
    """A step cut by features: partial sums, a barrier, and each part's own columns."""
    run, job = line.machinery.dispatcher.run, line.job
    spec, source, extra = file.shape.spec, file.state.region, file.extra
    rows = sum(part.rows for part in parts)
    outs = [line.reserve(file.shape.partial_bytes(rows)) for _ in file.ranges]
    regions = [out.region for out in outs]
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(
                run(learn.prepare, spec, target.region, results.region, rows, extra, job=job)
            )
            for columns, region in zip(file.ranges, regions, strict=True):
                group.create_task(run(learn.partial, spec, source, parts, columns, region, job=job))
        async with asyncio.TaskGroup() as group:
            done = [
                group.create_task(
                    run(
                        learn.finish,
                        spec,
                        source,
                        target.region,
                        parts,
                        file.ranges,
                        part,
                        regions,
                        results.region,
                        extra,
                        job=job,
                    )
                )
                for part in range(len(file.ranges))
            ]
        learnt = await run(learn.check, spec, target.region, job=job)
        return replace(learnt, finite=learnt.finite and all(part.result() for part in done))
    except* (WorkerError, Stopped) as errors:
        raise _one_of(errors) from None
    finally:
        for out in outs:
            out.drop()


async def end_file(line: Line, file: OpenFile) -> None:
    """What an optimizer of whole files does when the file's rows are learnt: one more version."""
    target = line.reserve(file.shape.state_bytes)
    with dropped_on_error(target):
        learnt = await line.machinery.dispatcher.run(
            learn.end_file, file.shape.spec, file.state.region, target.region, job=line.job
        )
        if not learnt.finite:
            raise _diverged(file, [], None)
    file.state.drop()
    file.state, file.rate = target, learnt.learning_rate
    file.version += 1


async def _culprit(line: Line, file: OpenFile, lanes: list[list[Piece[Block]]]) -> Culprit | None:
    """Which rows of a round that is not finite threw the model; None where learning it again doesn't tell."""
    batch_rows = file.plan.batch_rows
    if file.plan.local_steps == 1:  # one step of all rows, whatever cut it
        lanes = [[piece for lane in lanes for piece in lane]]
        batch_rows = _rows(lanes[0])
    parts = [_parts(lane) for lane in lanes]
    try:
        return await line.machinery.dispatcher.run(
            learn.culprit, file.shape.spec, file.state.region, parts, batch_rows, job=line.job
        )
    except WorkerDied:  # the file is refused in any case
        return None


def _diverged(file: OpenFile, pieces: list[Piece[Block]], culprit: Culprit | None) -> FileRefused:
    """The refusal of a file whose step is no number any more, by these rows of a round; without rows by the step at its end."""
    name = file.subject.file
    where = f"{name}, rows {file.row} to {file.row + _rows(pieces)} of those learnt"
    if not pieces:
        where = f"{name}, at its end"
    value = "parameters after this step that are infinity or NaN"
    if culprit is not None:
        first, last = (_data_row(pieces, row) for row in (culprit.start, culprit.stop - 1))
        where = f"{name}, data row {first}"
        value = "a loss or a gradient of this row that is infinity or NaN"
        if culprit.by_step:
            value = "a step of this row that threw the model beyond all bounds"
        if last > first:
            where = f"{name}, data rows {first} to {last}"
            value = "a step of these rows together that threw the model beyond all bounds"
    return FileRefused(
        "the loss, the gradient and the parameters stay finite in every step",
        place=f"{where}, step to version {file.version + 1}",
        value=value,
        remedy=against_divergence(file.sample.terms.job),
    )


def _data_row(pieces: list[Piece[Block]], row: int) -> int:
    """Which of the file's data rows a row of a round is."""
    return int(file_rows(_parts(pieces_of(pieces, range(row, row + 1))))[0])


def _parts(pieces: list[Piece[Block]]) -> list[Part]:
    return [block.part(start, stop) for block, start, stop in pieces]


def _rows(lane: list[Piece[Block]]) -> int:
    return sum(stop - start for _, start, stop in lane)


def _one_of(errors: BaseExceptionGroup[WorkerError | Stopped]) -> WorkerError | Stopped:
    """The first of the errors that came together, unless the line is to stop."""
    stopped, died = errors.split(Stopped)
    found: BaseException = stopped or died or errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, WorkerError | Stopped)
    return found
