"""Takes files back out of a model: it becomes, bit for bit, the one that had never seen them.

    plan ─▶ look (is everything there that must be learnt again?) ─▶ retraction ─▶ the daemon learns `again`

Rules. The plan is made while no line of the job runs, and carried out before one does. One transaction decides: the public
commit goes back to the newest checkpoint before the first file taken back, what came after it is admitted again under its
old numbers with the next revision, and the files taken back are `retracted`. Result logs are never shortened: a record for each
file taken back says what no longer counts, and the records of the files learnt again follow.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from service.core.errors import HeadraceError, Refusal, StorageDamaged
from service.core.layout import Layout, shown
from service.core.records import Record, json_line
from service.storage import checkpoints, completion
from service.storage.archive import Kept, Lost
from service.storage.disk import names, replace_file
from service.storage.journal import Journal
from service.storage.naming import Named, chosen
from service.storage.tables import Commit, FileRow, FileState, Publication
from service.storage.units import places
from service.storage.writer import Unit

LOG = "metrics.jsonl"
TAKEN_BACK = Refusal(
    rule="a file taken back by `headrace retract` is no part of the model",
    place="the file as a whole",
    value="",
    remedy="to learn it again, after all others: `headrace retry`",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a retraction does: the files taken back, those learnt again, and the file after which the model goes on."""

    job: str
    taken: tuple[FileRow, ...]
    again: tuple[FileRow, ...]
    public: Commit | None

    @property
    def files(self) -> tuple[FileRow, ...]:
        return self.taken + self.again


@dataclass(frozen=True, slots=True)
class Retracted:
    """What was done: the files taken back, those to be learnt again, those that somebody took away in the same moment,
    and the logs that began anew since theirs were gone."""

    taken: tuple[FileRow, ...]
    again: tuple[FileRow, ...]
    vanished: tuple[FileRow, ...]
    renewed: tuple[str, ...]

    def told(self) -> dict[str, list[str]]:
        """The names for people, each file once, whatever its passes."""
        groups = {"taken": self.taken, "again": self.again, "vanished": self.vanished}
        return {
            key: list(dict.fromkeys(shown(file.name) for file in files))
            for key, files in groups.items()
        }


@dataclass(frozen=True, slots=True)
class _Decided:
    """What the transaction has committed."""

    taken: tuple[FileRow, ...]
    again: tuple[FileRow, ...]
    public: Commit | None
    publications: tuple[Publication, ...]
    renewed: tuple[str, ...]
    models: tuple[str, ...]


def planning(layout: Layout, job: str, named: Collection[Named]) -> Unit[None, Plan, Plan]:
    """Makes the plan; ConfigurationError where a name is wrong.

    A unit, not a question: what the units before it have finished is marked in the journal before it is read.
    """

    def apply(journal: Journal, _: None) -> Plan:
        standing = journal.standing(job)
        passes = {f.path for f in standing if f.path is not None and _was_learnt(f)}
        known = [f for f in standing if _was_learnt(f) or f.path in passes]
        taken = chosen(
            known,
            named,
            layout.done(job),
            f"file that {job} has learnt",
            lambda: journal.files(job),
        )
        return _plan(layout, journal, job, taken, standing)

    return Unit(_nothing, apply, lambda plan: plan, job=job)


def refuse_lost(layout: Layout, plan: Plan, found: Mapping[int, Kept | Lost]) -> None:
    """Raises HeadraceError where a file that must be learnt again, or the model before it, was looked at and is lost."""
    lost = []
    if plan.public is not None:
        try:
            checkpoints.verify(
                layout.models(plan.job) / plan.public.model, plan.public.model_sha256
            )
        except StorageDamaged as error:
            lost.append(f"{error} (without it, an older model will do)")
    for file in plan.again:
        one = found.get(file.admission)
        if isinstance(one, Lost):
            lost.append(one.why)
        elif one is not None and file.path is None and one.links > 1:
            lost.append(f"{shown(one.path)}: must have no second name (a hard link)")
    if lost:
        raise HeadraceError(
            f"{plan.job}: what came after a file must be learnt again and can't be, so nothing was changed: "
            + "; ".join(lost)
            + "; put back what was learnt, or reset the job"
        )


def retraction(
    layout: Layout, plan: Plan, found: Mapping[int, Kept | Lost], *, rotate_bytes: int
) -> Unit[int, _Decided, Retracted]:
    """Carries out a plan whose files have been looked at. The job has no resume point then (`drop_private`)."""
    job, key = plan.job, _key(plan)

    def prepare() -> int:
        text = b"".join(json_line(_record(plan, file)) for file in plan.taken)
        replace_file(layout.spool(job, key, LOG), text)
        return len(text)

    def apply(journal: Journal, length: int) -> _Decided:
        publications, ends, renewed = places(layout, journal, job, key, {LOG: length}, rotate_bytes)
        taken = [_where_it_lies(file, found[file.admission]) for file in plan.taken]
        again = [_as_it_is(file, found[file.admission]) for file in plan.again]
        journal.retract(job, taken, again, refusal=asdict(TAKEN_BACK), public=plan.public)
        journal.plan(job, publications, ends)
        return _Decided(
            taken=tuple(journal.file(job, file.admission) for file in taken),
            again=tuple(journal.file(job, file.admission) for file in again),
            public=plan.public,
            publications=publications,
            renewed=renewed,
            models=tuple(name for name, _ in journal.models(job)),
        )

    def finish(decided: _Decided) -> Retracted:
        retracted = _finish(layout, job, decided)
        completion.clear(layout, job, [key])
        return retracted

    def mark(journal: Journal, decided: _Decided, retracted: Retracted) -> None:
        journal.published(job, key)
        for file in retracted.taken:
            journal.settled(job, file.admission, file.settled_as)
        for file in retracted.vanished:
            journal.withdraw(job, file.admission)
            journal.settled(job, file.admission, None)

    return Unit(prepare, apply, finish, mark, job=job)


def _finish(layout: Layout, job: str, decided: _Decided) -> Retracted:
    """What the transaction implies; recovery does the same from what the journal says."""
    models = layout.models(job)
    completion.publish(layout, decided.publications)
    checkpoints.point_current(models, decided.public.model if decided.public else None)
    settled = [completion.settle(layout, file) for file in decided.taken]
    taken = [replace(f, settled_as=name) for f, name in zip(decided.taken, settled, strict=True)]
    back = list(zip(decided.again, completion.take_admitted(layout, decided.again), strict=True))
    completion.flush_admitted(layout, decided.again)
    # Before anything is learnt: a replay may use the same names for other bytes.
    checkpoints.prune(models, decided.models)
    return Retracted(
        taken=tuple(taken),
        again=tuple(file for file, there in back if there),
        vanished=tuple(file for file, there in back if not there),
        renewed=decided.renewed,
    )


def _plan(
    layout: Layout,
    journal: Journal,
    job: str,
    taken: Sequence[FileRow],
    standing: Sequence[FileRow],
) -> Plan:
    numbers = {file.admission for file in taken}
    first = min(numbers)
    there = set(names(layout.models(job)))
    learnt = [file for file in standing if file.state is FileState.ACCEPTED]
    kept = [file for file in learnt if file.admission < first and file.model in there]
    after = kept[-1].admission if kept else 0
    again = (file for file in learnt if file.admission > after and file.admission not in numbers)
    public = journal.commit(job, "public")
    if not kept:
        public = None
    elif public is None or public.admission != after:
        public = _commit(kept[-1])
    return Plan(job, tuple(taken), tuple(again), public)


def _commit(file: FileRow) -> Commit:
    """The public commit as it was when the file had been learnt."""
    assert file.rows is not None
    assert file.version is not None
    assert file.model is not None
    assert file.model_sha256 is not None
    assert file.sequence is not None
    return Commit(
        job=file.job,
        scope="public",
        admission=file.admission,
        row=file.rows,
        version=file.version,
        model=file.model,
        model_sha256=file.model_sha256,
        sequence=file.sequence,
        extra={"rows": file.rows},
    )


def _was_learnt(file: FileRow) -> bool:
    """Whether it is in the model, or was and is to be learnt again."""
    return file.state is FileState.ACCEPTED or file.revision > 0


def _key(plan: Plan) -> int:
    """The admission that the records are spooled under: one that has no other spool."""
    learnt = [file.admission for file in plan.taken if file.state is FileState.ACCEPTED]
    return min(learnt or [file.admission for file in plan.taken])


def _record(plan: Plan, file: FileRow) -> Record:
    public = plan.public
    record: Record = {"kind": "retracted", "job": file.job, "file": shown(file.name)}
    record |= {"sequence": file.sequence, "revision": file.revision}
    if file.epoch > 1:
        record["epoch"] = file.epoch
    record["sha256"] = file.sha256
    record["back_to"] = {
        "sequence": public.sequence if public else 0,
        "version": public.version if public else 0,
    }
    return record


def _where_it_lies(file: FileRow, found: Kept | Lost) -> FileRow:
    """As `completion.settle` has to find it: in done/ under a name, in work/ without; with no inode where it is gone."""
    if isinstance(found, Lost):
        return replace(file, inode=0, settled_as=None)
    settled_as = None if file.state is FileState.ADMITTED else file.settled_as
    return replace(file, inode=found.inode, settled_as=settled_as)


def _as_it_is(file: FileRow, found: Kept | Lost) -> FileRow:
    assert isinstance(found, Kept)
    return replace(file, mtime_ns=found.mtime_ns, inode=found.inode)


def _nothing() -> None:
    """There is nothing to prepare."""
