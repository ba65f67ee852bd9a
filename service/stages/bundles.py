"""A bundle's learning: one sub-task for all its files.

Rules: the model before the bundle is read, and one after each file is written, so that the sub-task may run again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kernels.learner import Extra
from service.core.records import Subject
from service.runtime.held import Held, dropped_on_error
from service.runtime.region import Region, pieces, room_for
from service.stages.line import Line, Model
from service.stages.messages import Bundle, LearntBundle
from service.stages.rounds import extra_of
from service.subtasks import bundles
from service.subtasks.blocks import Part
from service.subtasks.bundles import Account, Clean
from service.subtasks.judging import RoundResults
from service.subtasks.report import Ending


@dataclass(frozen=True, slots=True)
class LearntTogether:
    """The model after a bundle, and what record is told."""

    model: Model
    message: LearntBundle


def reserve_each(line: Line, size: int, count: int) -> tuple[Held, Held, list[Region]]:
    """`count` regions of `size` bytes, the last one in a room of its own, since it outlives the others."""
    between = line.reserve(room_for([size] * (count - 1)))
    with dropped_on_error(between):
        last = line.reserve(size)
    return between, last, [*pieces(between.region, [size] * (count - 1)), last.region]


async def learn_bundle(
    line: Line, model: Model, bundle: Bundle, subjects: Sequence[Subject]
) -> LearntTogether | None:
    """Learns from the bundle's files in order; None, and all is as it was, where a step is not finite.

    Raises WorkerError; then, too, all is as it was.
    """
    shape, extra = bundle.shape, extra_of(subjects[0], bundle.shape)
    parts = [_part(clean) for clean in bundle.clean]
    sizes = [shape.results_bytes(part.rows, extra) for part in parts]
    results = line.reserve(room_for(sizes))
    with dropped_on_error(results):
        between, last, states = reserve_each(line, shape.state_bytes, len(parts))
    before = model.state.hold()
    with dropped_on_error(results, between, last, before):
        rates = await _run(line, bundle, model, states, pieces(results.region, sizes), parts, extra)
    if not rates:
        for held in (results, between, last, before):
            held.drop()
        return None
    accounts = []
    befores = [before.region, *states]
    regions = pieces(results.region, sizes)
    for place, rate in enumerate(rates):
        done = RoundResults(
            parts=(parts[place],),
            results=((regions[place], parts[place].rows),),
            extra=extra,
            rows_from=0,
            version=model.version + place,
            learning_rate=rate,
        )
        ending = _ending(bundle, place, done)
        accounts.append(Account(subjects[place], done, ending, befores[place]))
    after = Model(shape, bundle.schema, last.hold(), model.version + len(parts))
    holds = (bundle.held, results, between, last, before)
    return LearntTogether(after, LearntBundle(bundle, tuple(accounts), tuple(states), holds))


async def _run(
    line: Line,
    bundle: Bundle,
    model: Model,
    states: Sequence[Region],
    results: Sequence[Region],
    parts: Sequence[Part],
    extra: Extra,
) -> list[float]:
    training = bundle.samples[0].terms.job.training
    return await line.machinery.dispatcher.run(
        bundles.run,
        bundle.shape.spec,
        model.state.region,
        states,
        parts,
        training.batch_rows,
        results,
        extra,
        job=line.job,
    )


def _part(clean: Clean) -> Part:
    stored = clean.stored
    return Part(stored.region, stored.layout, 0, stored.rows, 0)


def _ending(bundle: Bundle, place: int, done: RoundResults) -> Ending:
    sample, clean = bundle.samples[place], bundle.clean[place]
    missing, features = clean.stored.missing, map(str, bundle.schema.features)
    return Ending(
        version=done.version + 1,
        rows=clean.stored.rows,
        rows_rejected=0,
        rows_unlabelled=clean.stored.unlabelled,
        missing={f: n for f in features if (n := missing.get(f, 0))} if missing else {},
        size=sample.row.size,
        sha256=clean.sha256,
        learning_rate=done.learning_rate,
        columns_extra=clean.columns_unused if sample.terms.job.features is None else 0,
    )
