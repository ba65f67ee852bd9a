"""A bundle's records: one sub-task for the accounts of all its files, and as few acceptances as the logs' segments allow.

Rules: the records of the files that are accepted together lie in one spool, under the first one's number. What is true of a single
file holds: nothing of it is visible before it is whole, and when something is scarce everything before waits.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from service.core.status import FileStatus
from service.runtime.arena import Layout, arrays, view
from service.runtime.held import Held, dropped_on_error
from service.runtime.region import Region, pieces, room_for
from service.runtime.spool import Spool
from service.stages import gate
from service.stages.commits import at, header, samples_log, tell, tensors
from service.stages.line import Line
from service.stages.messages import LearntBundle, Sample
from service.storage import logs, units
from service.storage.tables import Digests
from service.storage.units import Progress, Whole
from service.subtasks import bundles, fingerprint, report
from service.subtasks.bundles import Account, Accounted
from service.subtasks.report import Segment


class Unbundled(Exception):
    """What was learnt together can't become final together: the line goes back to the journal, and its files go one by one."""


@dataclass(frozen=True, slots=True)
class _File:
    """One file of the bundle, with what is to be committed of it."""

    sample: Sample
    account: Account
    accounted: Accounted
    state: Region
    lasting: Region
    texts: Mapping[str, memoryview]


async def accept(line: Line, learnt: LearntBundle, scores: Held) -> Held:
    """Records and accepts all files of a bundle; `scores` are the metric states before it. Gives those after it.

    Raises Unbundled, WorkerError, Stopped, StorageError.
    """
    begun = time.time()
    shape = learnt.bundle.shape
    sizes = [shape.lasting_bytes] * len(learnt.accounts)
    after = line.reserve(shape.scores_bytes)
    with dropped_on_error(after):
        between = line.reserve(room_for(sizes))
        with dropped_on_error(between):
            text = line.reserve(sum(_text_bytes(learnt, account) for account in learnt.accounts))
        try:
            _show(line, learnt)
            lasting = pieces(between.region, sizes)
            accounted = await line.machinery.dispatcher.run(
                bundles.account,
                shape.spec,
                learnt.accounts,
                scores.region,
                after.region,
                lasting,
                text.region,
                job=line.job,
            )
            files = _files(learnt, accounted, lasting, text)
            while files:
                count = await _together(line, files)
                await _accept(line, learnt, files[:count], begun)
                files = files[count:]
        finally:
            between.drop()
            text.drop()
    return after


async def _together(line: Line, files: Sequence[_File]) -> int:
    """How many of the files, from the first on, may be accepted at once."""
    if len(files) == 1:
        return 1
    ends = await line.ask(lambda journal: journal.log_ends(line.job))
    lengths = [_lengths(file) for file in files]
    return logs.together(ends, lengths, line.conduct.keep.rotate_bytes)


def _show(line: Line, learnt: LearntBundle) -> None:
    sample, rows = learnt.bundle.samples[0], sum(a.done.rows for a in learnt.accounts)
    size = sum(sample.row.size for sample in learnt.bundle.samples)
    line.status.state = "training"
    line.status.file = FileStatus(sample.shown, size, rows=rows, share=1.0, started=time.time())
    for sample in learnt.bundle.samples:
        line.note("started", file=sample.shown, admission=sample.row.admission, resumed_at_row=0)


def _text_bytes(learnt: LearntBundle, account: Account) -> int:
    subject, segment = account.subject, Segment()
    rows = report.text_bytes(subject, learnt.bundle.shape, account.done, segment)
    return rows + report.close_bytes(subject, account.ending, segment)


def _files(
    learnt: LearntBundle, accounted: Sequence[Accounted], lasting: Sequence[Region], text: Held
) -> list[_File]:
    """The files with their parts of the text: the samples of all lie before the metrics of all."""
    lines = view(text.region).data
    samples_at, metrics_at = 0, sum(one.samples_bytes for one in accounted)
    files = []
    for place, one in enumerate(accounted):
        account = learnt.accounts[place]
        texts = {"metrics.jsonl": lines[metrics_at : metrics_at + one.metrics_bytes]}
        if account.subject.samples != "off":
            texts[samples_log(account.subject)] = lines[samples_at : samples_at + one.samples_bytes]
        metrics_at += one.metrics_bytes
        samples_at += one.samples_bytes
        sample, state = learnt.bundle.samples[place], learnt.states[place]
        files.append(_File(sample, account, one, state, lasting[place], texts))
    return files


def _lengths(file: _File) -> dict[str, int]:
    return {log: len(text) for log, text in file.texts.items()}


async def _accept(line: Line, learnt: LearntBundle, files: Sequence[_File], begun: float) -> None:
    await _spool(line, files)
    common = header(
        line, learnt.bundle.samples[0].terms.job, learnt.bundle.shape, learnt.bundle.schema
    )
    shape = learnt.bundle.shape
    layouts = tensors(shape.state_layout, {}), tensors({}, shape.lasting_layout)
    print_ = fingerprint.digest(line.machinery.fingerprint)
    wholes = [
        Whole(
            _progress(line, file, layouts, common),
            Digests(file.account.ending.sha256, file.accounted.digest, print_),
            partial(
                gate.must_be_unchanged, file.sample.path, file.sample.row, file.sample.ctime_ns
            ),
        )
        for file in files
    ]
    unit = units.acceptance(line.machinery.layout, wholes, keep=line.conduct.keep)
    try:
        accepted = await line.patiently(lambda: line.settle(unit))
    except gate.Changed:
        raise Unbundled("one of its files has changed") from None
    told = [(file.account.subject, file.account.ending, file.accounted.loss) for file in files]
    tell(line, accepted, told, time.time() - begun)


async def _spool(line: Line, files: Sequence[_File]) -> None:
    """Writes the records of all files, log by log, into spools that bear the first one's number."""
    first = files[0].sample.row.admission
    for log in files[0].texts:
        path = line.machinery.layout.spool(line.job, first, log)
        whole = memoryview(b"".join(file.texts[log] for file in files))
        await line.patiently(lambda path=path, whole=whole: Spool(path, 0).write(whole))  # type: ignore[misc]


def _progress(
    line: Line, file: _File, layouts: tuple[Layout, Layout], common: Mapping[str, Any]
) -> Progress:
    subject, ending = file.account.subject, file.account.ending
    state, lasting = layouts
    return Progress(
        job=line.job,
        admission=file.sample.row.admission,
        row=ending.rows,
        version=ending.version,
        sequence=subject.sequence,
        tensors=arrays(file.state, state) | arrays(file.lasting, lasting),
        header={**common, **at(ending.version, subject)},
        spools=_lengths(file),
        extra={"loss": file.accounted.loss, "rows": ending.rows},
    )
