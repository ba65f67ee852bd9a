"""Bundles: small files in a row that take each step of the way in one sub-task, since a trip to a worker costs more than they do.

    read ─▶ Clean | None, a file each        learn ─▶ a state after each file        account ─▶ texts, what outlasts each in the metric states

Rules: what comes of files is what the sub-tasks for a single file come to, one file after the other, to the bit. A file that is
anything but plain (bad rows, several chunks or rounds, too large for the room) is left: it goes alone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from kernels.contract import Ends
from kernels.learner import Extra, Learner, are_finite, build
from service import formats
from service.core.errors import FileRefused
from service.core.records import Subject, chained
from service.core.sent import sent
from service.formats import Read
from service.formats.contract import Fields, Limits, Source
from service.runtime.region import (
    Region,
    arrays,
    back,
    back_all,
    columns,
    pieces,
    room_for,
    size_of,
    table,
    view,
)
from service.subtasks import blocks, judging, learn, report, samples
from service.subtasks.blocks import Packed, Part, StoredBlock
from service.subtasks.judging import RoundResults
from service.subtasks.report import Ending, Records, Segment


@sent
@dataclass(frozen=True, slots=True)
class Paper:
    """A file to be read: where it lies, its original name, and where it may be unpacked."""

    path: str
    name: str
    scratch: str


@sent
@dataclass(frozen=True, slots=True)
class Clean:
    """A file whose rows are all good, as one block."""

    stored: StoredBlock
    sha256: str
    columns_unused: int


@sent
@dataclass(frozen=True, slots=True)
class Account:
    """What is recorded of one file, and which regions hold its results and the model before it."""

    subject: Subject
    done: RoundResults
    ending: Ending
    before: Region


@sent
@dataclass(frozen=True, slots=True)
class Accounted:
    """A file's part of the texts, in bytes, the digest of its records, and its loss."""

    samples_bytes: int
    metrics_bytes: int
    digest: str
    loss: float | None


def room(size: int) -> int:
    """Bytes that the block of a clean file of `size` bytes surely fits in, if it is text without gaps."""
    return 12 * size + 64 * 8


def read(
    papers: Sequence[Paper],
    fields: Fields,
    limits: Limits,
    chunk_bytes: int,
    region: Region,
) -> list[Clean | None]:
    """Reads files into `region`, one behind the other; None for each that is to go alone."""

    def prepared(number: int) -> Source:
        paper = papers[number]
        return formats.prepare(paper.path, paper.name, paper.scratch, fields, limits)

    paths, names = [paper.path for paper in papers], [paper.name for paper in papers]
    most_bytes = min(chunk_bytes, limits.max_row_bytes)  # else it may be several chunks
    together = formats.read_alike(paths, names, fields, most_bytes, prepared)
    reads: list[tuple[Read, Packed] | None] = []
    free = region.length
    for paper, one in zip(papers, together, strict=True):
        reads.append(None)
        with suppress(FileRefused, OSError):
            try:
                read = one or _alone(paper, fields, limits, chunk_bytes, free)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(paper.scratch)
            packed = None if read is None else blocks.pack(read.block)
            if read is not None and packed is not None and packed.size <= free:
                free -= room_for([packed.size])
                reads[-1] = read, packed
    places = pieces(region, [packed.size for _, packed in filter(None, reads)])
    back_all(places)
    place = iter(places)
    return [None if one is None else _stored(*one, next(place)) for one in reads]


def _alone(
    paper: Paper, fields: Fields, limits: Limits, chunk_bytes: int, most_bytes: int
) -> Read | None:
    """A file that begins unlike the others, or is a little out of the ordinary; None where it is more so."""
    source = formats.prepare(paper.path, paper.name, paper.scratch, fields, limits)
    survey = formats.Survey(source, chunk_bytes)
    chunks = list(survey)
    if len(chunks) != 1 or formats.block_bytes(source, chunks[0], fields) > most_bytes:
        return None
    block = formats.clean(source, chunks[0], fields)
    if block is None:
        return None
    assert survey.sha256 is not None
    return Read(block, survey.sha256, formats.unused_of(source, fields))


def _stored(read: Read, packed: Packed, place: Region) -> Clean:
    return Clean(blocks.put(packed, place), read.sha256, read.columns_unused)


def run(
    spec: str,
    source: Region,
    states: Sequence[Region],
    files: Sequence[Part],
    batch_rows: int,
    results: Sequence[Region],
    extra: Extra,
) -> list[float]:
    """Learns one file after the other, each from the state after the one before; gives the learning rate after each. None
    of any where one is not finite: its files go alone then."""
    learner = build(spec)
    back_all(states[:-1])
    back_all(states[-1:])  # it lies elsewhere, see `reserve_each`
    back_all(results)
    if learner.learns_files:
        return _run_together(learner, source, states, files, batch_rows, results, extra)
    rates = []
    for state, part, result in zip(states, files, results, strict=True):
        learnt = learn.go_on(learner, source, state, [part], batch_rows, result, extra)
        if not learnt.finite:
            return []
        rates.append(learnt.learning_rate)
        source = state
    return rates


def _run_together(
    learner: Learner,
    source: Region,
    states: Sequence[Region],
    files: Sequence[Part],
    batch_rows: int,
    results: Sequence[Region],
    extra: Extra,
) -> list[float]:
    """As `run`, in one pass over the rows of all files. It works on the last state; those before are copies of its bytes."""
    layout, rows = learner.layout(), blocks.rows_of(files)
    state = learn.copied(source, states[-1], layout)
    copies = table(states[:-1], layout)
    stops = np.cumsum([part.rows for part in files])
    ends = Ends(stops, table(states[-1:], layout)[0].view(np.int64), copies.view(np.int64))
    shapes = learner.results_layout(len(rows.y), extra).items()
    found = {name: np.empty(shape, dtype) for name, (shape, dtype) in shapes}
    rates = learner.learn_files(state, rows, ends, batch_rows, found)
    is_finite = learner.finite(state) and learner.finite(columns(copies, layout))
    if not is_finite or not are_finite(found):
        return []
    start = 0
    for part, region in zip(files, results, strict=True):
        stop = start + part.rows
        for name, array in arrays(region, learner.results_layout(part.rows, extra)).items():
            array[...] = found[name][start:stop]
        start = stop
    return [float(rate) for rate in rates]


def account(
    spec: str,
    accounts: Sequence[Account],
    scores: Region,
    after: Region,
    lasting: Sequence[Region],
    text: Region,
) -> list[Accounted]:
    """Records one file after the other, from the metric states in `scores` to those `after` all of them.

    What outlasts a file stands in its region of `lasting` then. The samples of all lie in `text` first, the metrics behind them.
    """
    learner = build(spec)
    layout = learn.scores_layout(learner)
    back_all([after])
    back_all(lasting)
    books = learn.scopes(learn.copied(scores, after, layout))
    # Their bytes: to copy and clear them at once is faster than array by array.
    file, before, lifetime, segment = view(after)[: size_of(layout)].reshape(len(learn.SCORED), -1)
    scored = judging.score(
        learner, [one.done for one in accounts], [one.before for one in accounts]
    )
    told = None
    if all(report.is_whole(one.subject, one.done) for one in accounts):
        copies = table(lasting, learn.lasting(layout)).view(np.int64)
        told = report.count(scored, books, lifetime.view(np.int64), copies)
    made = []
    for number, (one, its_rows) in enumerate(zip(accounts, scored, strict=True)):
        if told is not None:
            made.append(
                report.take_counted(one.subject, one.done, its_rows, one.ending, told[number])
            )
            continue
        rows = report.take_whole(one.subject, one.done, its_rows, books)
        since = "file"
        if rows is None:
            rows = report.take(one.subject, one.done, its_rows, books, Segment())
            since = "segment"
        made.append((rows, report.end(one.subject, one.ending, books, rows.segment, since)))
        view(lasting[number])[: len(lifetime)] = lifetime
        file[:], before[:] = 0, 0
        if since == "segment":
            segment[:] = 0
    lines = iter(samples.texts([rows.page for rows, _ in made if rows.page is not None]))
    texts = [b"" if rows.page is None else next(lines) for rows, _ in made]
    found = [_accounted(*records, lines) for records, lines in zip(made, texts, strict=True)]
    whole = b"".join((*texts, *(part.metrics for records in made for part in records)))
    back(text, len(whole))
    view(text)[: len(whole)] = memoryview(whole)
    return found


def _accounted(rows: Records, file: Records, samples_text: bytes) -> Accounted:
    digest = chained(chained("", rows.sha256(samples_text)), file.sha256(b""))
    metrics_bytes = len(rows.metrics) + len(file.metrics)
    return Accounted(len(samples_text), metrics_bytes, digest, file.loss)
