"""Everything that becomes durable, as ready-made units for the writer: what the stages hand in, and the crash sweep proves.

Rules. A unit decides in its transaction and acts after it; what it does after it, completion.py can do again. Values that
a unit is given must not change until its future is done: the tensors are read in the writer's thread.

    admission        intake    files get their numbers, then move into work/
    private_commit   record    a resume point inside the file in progress
    acceptance       record    whole files, one after the other: models, records, done/
    refusal          record    a file that broke a rule: note, failed/
    duplicate        record    a file that is in the model already: done/
    withdrawal       record    a file that changed: back to the inbox
    death, survival  decode    lives of the daemon that end with a file
    reset            command   the job's model is forgotten

`headrace retract` and `headrace retry` have modules of their own: retraction.py, retrial.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from service.core.errors import Refusal
from service.core.layout import Layout
from service.storage import checkpoints, completion, logs
from service.storage.checkpoints import Series, Tensors, Written
from service.storage.completion import Keep
from service.storage.disk import fsync_directory, replace_file
from service.storage.journal import Journal
from service.storage.tables import (
    After,
    Commit,
    Digests,
    Entry,
    FileRow,
    LogState,
    Publication,
    Scope,
)
from service.storage.writer import A, P, R, Unit

LONG_BYTES = 8 << 20
"""Records of this many bytes are published in a thread of their own: some ten milliseconds of copying and flushing."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a file is in the model, and what belongs to it.

    `row`: data rows of the file that the model has seen; `sequence`: accepted files of the job's generation (with this
    one, for a whole file); `spools`: bytes of each spool that belong to it, by log; `header`: the model file's JSON;
    `extra`: the caller's JSON, kept in the commit.
    """

    job: str
    admission: int
    row: int
    version: int
    sequence: int
    tensors: Tensors
    header: Mapping[str, Any]
    spools: Mapping[str, int]
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Whole:
    """A file that is learnt to its end. `must_be_unchanged` raises, and so fails the unit, where it is no longer the one
    that was learnt."""

    progress: Progress
    digests: Digests
    must_be_unchanged: Callable[[], None] = lambda: None
    rejected: Callable[[], bytes] = bytes
    """Gives the list of its bad rows, which goes to failed/; nothing where there are none."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """Whole files are in the model: their names in done/ by admission, the public commit, and the logs that began anew since
    theirs were gone."""

    settled_as: Mapping[int, bytes | None]
    commit: Commit
    renewed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Planned:
    """What an acceptance has committed."""

    files: tuple[FileRow, ...]
    commit: Commit
    publications: tuple[Publication, ...]
    renewed: tuple[str, ...]
    models: tuple[str, ...]


def perform(journal: Journal, unit: Unit[P, A, R]) -> R:
    """Does one unit here and now, where no writer runs: commands without a daemon, and tests."""
    prepared = unit.prepare()
    with journal.transaction():
        applied = unit.apply(journal, prepared)
    result = unit.finish(applied)
    unit.flush(applied)
    if unit.mark is not None:
        with journal.transaction():
            unit.mark(journal, applied, result)
    return result


def admission(
    layout: Layout,
    job: str,
    entries: Sequence[Entry],
    *,
    settings: tuple[str, str],
    after: After,
    at: float,
) -> Unit[None, list[FileRow], tuple[FileRow | None, ...]]:
    """Numbers the files in order and takes them. Result: a row per entry, None for one that vanished or changed.

    `settings` is (digest, body); `at` is seconds since 1970.
    """

    def apply(journal: Journal, _: None) -> list[FileRow]:
        numbers = journal.admit(job, entries, settings=settings, after=after, at=at)
        return journal.those(job, numbers)

    def finish(files: list[FileRow]) -> tuple[FileRow | None, ...]:
        taken = completion.take_admitted(layout, files)
        return tuple(file if ours else None for file, ours in zip(files, taken, strict=True))

    def mark(journal: Journal, files: list[FileRow], result: tuple[FileRow | None, ...]) -> None:
        for file, taken in zip(files, result, strict=True):
            if taken is None:
                journal.withdraw(job, file.admission)
                journal.settled(job, file.admission, None)

    def flush(files: list[FileRow]) -> None:
        completion.flush_admitted(layout, files)

    return Unit(_nothing, apply, finish, mark, flush=flush, job=job)


def private_commit(layout: Layout, progress: Progress) -> Unit[Written, Commit, Commit]:
    """A resume point inside the file in progress; the one before it is deleted."""
    private = layout.private(progress.job)

    def prepare() -> Written:
        _flush_spools(layout, progress.job, progress.admission, progress.spools)
        stem = checkpoints.private_stem(progress.admission, progress.row)
        return checkpoints.write(private, stem, progress.tensors, progress.header)

    def apply(journal: Journal, model: Written) -> Commit:
        commit = _commit(progress, "private", model)
        journal.commit_private(commit, progress.spools)
        return commit

    def finish(commit: Commit) -> Commit:
        checkpoints.prune(private, {commit.model}, up_to=commit.model)
        return commit

    return Unit(prepare, apply, finish, job=progress.job)


def acceptance(
    layout: Layout, wholes: Sequence[Whole], *, keep: Keep
) -> Unit[list[Written], _Planned, Accepted]:
    """Files of one job, in order, are in the model: the last one's model becomes `current`, the spools the end of the logs,
    and they are settled. What comes of several is what would come of one after the other: see `logs.together`.

    The spools bear the first file's number and hold the records of all, `Progress.spools` bytes of each. Whether the files
    are unchanged is asked before anything is written, and in the last moment: what goes to done/ is what was learnt.
    """
    first, job = wholes[0].progress, wholes[0].progress.job
    numbers = [whole.progress.admission for whole in wholes]
    spools = _added(whole.progress.spools for whole in wholes)

    def prepare() -> list[Written]:
        _must_be_unchanged(wholes)
        for whole in wholes:
            _write_rejected(layout, job, whole.progress.admission, whole.rejected)
        _flush_spools(layout, job, first.admission, spools)
        series = Series(layout.models(job))
        return [
            _write(series, whole.progress, is_kept=place >= len(wholes) - keep.models)
            for place, whole in enumerate(wholes)
        ]

    def apply(journal: Journal, models: list[Written]) -> _Planned:
        _must_be_unchanged(wholes)
        publications, ends, renewed = places(
            layout, journal, job, first.admission, spools, keep.rotate_bytes
        )
        commits = [
            _commit(whole.progress, "public", model)
            for whole, model in zip(wholes, models, strict=True)
        ]
        journal.accept([(c, whole.digests) for c, whole in zip(commits, wholes, strict=True)])
        journal.plan(job, publications, ends)
        files = tuple(journal.those(job, numbers))
        kept = tuple(name for name, _ in journal.models(job, keep.models))
        return _Planned(files, commits[-1], publications, renewed, kept)

    def finish(planned: _Planned) -> Accepted:
        completion.publish(layout, planned.publications)
        checkpoints.point_current(layout.models(job), planned.commit.model)
        settled_as = completion.settle_all(layout, planned.files)
        completion.clear(layout, job, numbers)
        completion.prune(layout, job, planned.models, keep, up_to=planned.commit.model)
        return Accepted(settled_as, planned.commit, planned.renewed)

    def aside(planned: _Planned) -> bool:
        return sum(p.length for p in planned.publications) > LONG_BYTES

    def mark(journal: Journal, _: _Planned, accepted: Accepted) -> None:
        journal.published(job, first.admission)
        journal.settled_all(job, accepted.settled_as)

    return Unit(prepare, apply, finish, mark, aside, job=job)


def refusal(
    layout: Layout,
    job: str,
    admission: int,
    refusal: Refusal,
    rejected: Callable[[], bytes] = bytes,
) -> Unit[None, FileRow, FileRow]:
    """The file broke a rule: its note, then the file, then the list of its bad rows go to failed/; nothing else remembers it."""
    unit = _decided(
        layout, job, admission, lambda journal: journal.refuse(job, admission, asdict(refusal))
    )
    return replace(unit, prepare=lambda: _write_rejected(layout, job, admission, rejected))


def duplicate(
    layout: Layout, job: str, admission: int, *, sha256: str | None = None
) -> Unit[None, FileRow, FileRow]:
    """The file is in the model already: it goes to done/ and changes nothing."""
    return _decided(
        layout, job, admission, lambda journal: journal.duplicate(job, admission, sha256=sha256)
    )


def withdrawal(layout: Layout, job: str, admission: int) -> Unit[None, FileRow, FileRow]:
    """The file changed after it was taken: it goes back to the inbox and waits to be admitted again."""
    return _decided(layout, job, admission, lambda journal: journal.withdraw(job, admission))


def reset(layout: Layout, job: str) -> Unit[None, tuple[int, list[FileRow]], int]:
    """The job's model is forgotten, its files stay; result: the new generation. No file may be in progress.

    Files that were admitted go back to the inbox: the terms that they would be trained on end with the model.
    """

    def apply(journal: Journal, _: None) -> tuple[int, list[FileRow]]:
        numbers = [file.admission for file in journal.unfinished(job)]
        for number in numbers:
            journal.withdraw(job, number)
        return journal.reset(job), [journal.file(job, number) for number in numbers]

    def finish(forgotten: tuple[int, list[FileRow]]) -> int:
        generation, files = forgotten
        checkpoints.point_current(layout.models(job), None)
        checkpoints.prune(layout.models(job), ())
        checkpoints.prune(layout.private(job), ())
        for file in files:
            completion.settle(layout, file)
        completion.clear(layout, job, [file.admission for file in files])
        return generation

    def mark(journal: Journal, forgotten: tuple[int, list[FileRow]], _: int) -> None:
        for file in forgotten[1]:
            journal.settled(job, file.admission, None)

    return Unit(_nothing, apply, finish, mark, job=job)


def drop_private(layout: Layout, job: str) -> Unit[None, Commit | None, None]:
    """The file in progress will be trained from its first row: its resume point goes."""

    def apply(journal: Journal, _: None) -> Commit | None:
        commit = journal.commit(job, "private")
        journal.drop_private(job)
        return commit

    def finish(commit: Commit | None) -> None:
        if commit is not None:
            checkpoints.prune(layout.private(job), (), up_to=commit.model)
            completion.clear(layout, job, [commit.admission])

    return Unit(_nothing, apply, finish, job=job)


def death(job: str, admission: int, deaths: int) -> Unit[None, None, None]:
    """The daemon begins with a file that it may die of: counted before it can; it would be so many lives without progress."""
    return Unit(
        _nothing, lambda journal, _: journal.set_deaths(job, admission, deaths), _done, job=job
    )


def survival(job: str, admission: int, deaths: int) -> Unit[None, None, None]:
    """Should the daemon end from here on, it is not the file's doing: no more than so many lives have ended with it."""
    return Unit(
        _nothing, lambda journal, _: journal.limit_deaths(job, admission, deaths), _done, job=job
    )


def nothing() -> Unit[None, None, None]:
    """Decides nothing; what the units before it have finished is marked in the journal when it is done."""
    return Unit(_nothing, lambda journal, _: None, _done)


def _decided(
    layout: Layout, job: str, admission: int, decide: Callable[[Journal], None]
) -> Unit[None, FileRow, FileRow]:
    """The file's end without a trace in the model."""

    def apply(journal: Journal, _: None) -> FileRow:
        decide(journal)
        return journal.file(job, admission)

    def finish(file: FileRow) -> FileRow:
        settled_as = completion.settle(layout, file)
        completion.clear(layout, job, [admission])
        return replace(file, settled_as=settled_as)

    def mark(journal: Journal, _: FileRow, file: FileRow) -> None:
        journal.settled(job, admission, file.settled_as)

    return Unit(_nothing, apply, finish, mark, job=job)


def _nothing() -> None:
    """There is nothing to prepare."""


def _done(_: None) -> None:
    """Nothing follows the commit."""


def _must_be_unchanged(wholes: Sequence[Whole]) -> None:
    for whole in wholes:
        whole.must_be_unchanged()


def _write(series: Series, progress: Progress, *, is_kept: bool) -> Written:
    p = progress
    stem = checkpoints.public_stem(p.sequence, p.version)
    return series.write(stem, p.tensors, p.header, is_kept=is_kept)


def _added(lengths: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sums, log by log."""
    sums: dict[str, int] = {}
    for one in lengths:
        for log, length in one.items():
            sums[log] = sums.get(log, 0) + length
    return sums


def _flush_spools(layout: Layout, job: str, admission: int, spools: Mapping[str, int]) -> None:
    for log, length in spools.items():
        spool = layout.spool(job, admission, log)
        if length:
            logs.flush_spool(spool, length)
    fsync_directory(layout.spools(job))


def _write_rejected(
    layout: Layout, job: str, admission: int, rejected: Callable[[], bytes]
) -> None:
    """Before the decision, whole and durable: what is decided moves it, as it moves the file itself."""
    if text := rejected():
        replace_file(layout.rejected(job, admission), text)


def _commit(progress: Progress, scope: Scope, model: Written) -> Commit:
    p = progress
    return Commit(
        p.job, scope, p.admission, p.row, p.version, model.name, model.sha256, p.sequence, p.extra
    )


def places(
    layout: Layout,
    journal: Journal,
    job: str,
    admission: int,
    spools: Mapping[str, int],
    rotate_bytes: int,
) -> tuple[tuple[Publication, ...], dict[str, LogState], tuple[str, ...]]:
    """Where each spool goes, the logs' ends after it, and which logs begin anew because they were taken away."""
    pending = {publication.log for publication in journal.publications(job)}
    publications, ends, renewed = [], {}, []
    for log, length in sorted(spools.items()):
        end = journal.log_end(job, log)
        # A log that a unit of this very group is about to write to can't be judged by its length.
        gone = log not in pending and logs.is_gone(layout.logs(job), log, end)
        if length:
            position, ends[log] = logs.plan(end, length, rotate_bytes, renew=gone)
            publications.append(Publication(job, admission, log, length, position))
            renewed += [log] if gone else []
    return tuple(publications), ends, tuple(renewed)
