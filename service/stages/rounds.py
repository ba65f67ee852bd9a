"""One round: the lanes' sub-tasks, and what joins them.

    one lane                  run: state ─▶ state
    lanes, one local step     gradient in each lane, then apply
    lanes, many local steps   run in each lane, then average

Rules: a sub-task reads the file's state and writes another region; they are flipped when the round is
whole, so that running a sub-task again is harmless. No region is given back before its last sub-task
has come back.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from service.core.errors import WorkerError
from service.core.planning import Piece, RoundPlan, RowQueue, pieces_of
from service.core.records import Subject
from service.runtime.held import Held, dropped_on_error
from service.stages.line import Line
from service.stages.messages import Block, Learnt, Sample, Schema
from service.subtasks import learn
from service.subtasks.blocks import Part
from service.subtasks.learn import Shape
from service.subtasks.report import RoundResults


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
    row: int = 0
    skip: int = 0
    rate: float = 0.0
    share: float = 0.0
    queue: RowQueue[Block] = field(default_factory=RowQueue)

    @property
    def learnt_rows(self) -> int:
        """Rows that the state holds; those still to be passed over were learnt before."""
        return self.row + self.skip

    @property
    def gradients(self) -> bool:
        """Whether whole gradients are recorded: asked for, or as cheap as their norm."""
        one = self.shape.parameters == 1 and self.subject.samples == "norms"
        return self.subject.epoch == 1 and (self.subject.samples == "full" or one)


async def learn_round(line: Line, file: OpenFile, rows: int) -> tuple[Learnt, bool]:
    """Learns from the file's next `rows` rows; says what to record, and whether the state is finite."""
    pieces = file.queue.take(rows)
    holds = [block.held.hold() for block, _, _ in pieces]
    for block, _, stop in pieces:
        if stop == block.stored.rows:
            block.held.drop()
    lanes = [pieces_of(pieces, lane) for lane in file.plan.deal(rows)]
    results = [
        line.reserve(file.shape.results_bytes(_rows(lane), file.gradients)) for lane in lanes
    ]
    target = line.reserve(file.shape.state_bytes)
    with dropped_on_error(*holds, *results, target):
        learnt = await _sub_tasks(line, file, lanes, results, target)
    done = RoundResults(
        parts=tuple(_parts(pieces)),
        results=tuple((r.region, _rows(lane)) for r, lane in zip(results, lanes, strict=True)),
        gradients=file.gradients,
        rows_from=file.row,
        version=file.version,
        learning_rate=learnt.learning_rate,
    )
    file.state.drop()
    file.state, file.rate = target, learnt.learning_rate
    file.row += rows
    file.version += 1
    return Learnt(done, file.share, (*holds, *results)), learnt.finite


async def _sub_tasks(
    line: Line, file: OpenFile, lanes: list[list[Piece[Block]]], results: list[Held], target: Held
) -> learn.Learnt:
    """Runs a round's sub-tasks: one lane's, or all lanes' and then what joins them."""
    run, job = line.machinery.dispatcher.run, line.job
    spec, source, plan = file.shape.spec, file.state.region, file.plan
    parts = [_parts(lane) for lane in lanes]
    if plan.lanes == 1:
        return await run(
            learn.run, spec, source, target.region, parts[0], plan.batch_rows,
            results[0].region, file.gradients, job=job,
        )  # fmt: skip
    exact = plan.local_steps == 1
    room = file.shape.gradient_bytes if exact else file.shape.state_bytes
    outs = [line.reserve(room) for _ in lanes]
    try:
        async with asyncio.TaskGroup() as group:
            for lane, (out, result) in enumerate(zip(outs, results, strict=True)):
                if exact:
                    group.create_task(run(
                        learn.gradient, spec, source, parts, lane, out.region,
                        result.region, file.gradients, job=job,
                    ))  # fmt: skip
                else:
                    group.create_task(run(
                        learn.run, spec, source, out.region, parts[lane], plan.batch_rows,
                        result.region, file.gradients, job=job,
                    ))  # fmt: skip
        regions, rows = [out.region for out in outs], [_rows(lane) for lane in lanes]
        if exact:
            return await run(learn.apply, spec, source, target.region, regions, sum(rows), job=job)
        return await run(learn.average, spec, source, target.region, regions, rows, job=job)
    except* WorkerError as died:
        raise _died(died) from None
    finally:
        for out in outs:
            out.drop()


def _parts(pieces: list[Piece[Block]]) -> list[Part]:
    return [block.part(start, stop) for block, start, stop in pieces]


def _rows(lane: list[Piece[Block]]) -> int:
    return sum(stop - start for _, start, stop in lane)


def _died(errors: BaseExceptionGroup[WorkerError]) -> WorkerError:
    error = errors.exceptions[0]
    return _died(error) if isinstance(error, BaseExceptionGroup) else error
