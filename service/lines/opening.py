"""Opens a line: the point where the journal says that the job stands, read back into the arena."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass

from kernels.contract import Spec
from service.core.errors import ConfigurationError, Refusal
from service.core.settings import Settings
from service.core.status import JobStatus, ModelStatus
from service.core.terms import incompatible
from service.runtime.held import dropped_on_error
from service.stages.line import Conduct, Line, Machinery, Model
from service.stages.messages import Schema
from service.storage import checkpoints
from service.storage.completion import Keep
from service.storage.journal import Journal
from service.storage.tables import Commit, FileRow, FileState
from service.subtasks import fingerprint, learn


@dataclass(frozen=True, slots=True)
class _Stand:
    """What the journal says of a job."""

    counts: dict[FileState, int]
    unfinished: list[FileRow]
    public: Commit | None
    private: Commit | None
    spools: dict[str, int]


async def open_line(
    job: str, machinery: Machinery, settings: Settings, refused: Callable[[Refusal], None]
) -> Line:
    """A line of the job; `refused` is told of each file that it refuses."""
    journal = machinery.journal
    stand = await asyncio.wrap_future(machinery.writer.run(lambda: _stand(journal, job)))
    line = Line(
        job=job,
        machinery=machinery,
        conduct=_conduct(settings),
        status=_status(stand),
        model=None,
        scores=None,
        sequence=stand.public.sequence if stand.public else 0,
        schema=None,
        unfinished=stand.unfinished,
        resume=stand.private,
        resume_spools=stand.spools,
        refused=refused,
    )
    if stand.public is not None:
        await _restore(line, stand.public)
    return line


def refuse_incompatible(settings: Settings, journal: Journal) -> None:
    """A job that has a model, or files on their way into it, can't be made to mean something else:
    ConfigurationError, with the remedy."""
    for job in settings.jobs:
        commit = journal.commit(job.name, "public")
        files = [] if commit is None else [journal.file(job.name, commit.admission)]
        for digest in {file.settings for file in (*files, *journal.unfinished(job.name))}:
            body = journal.settings_body(digest)
            why = incompatible(body, job, has_model=commit is not None)
            if why:
                raise ConfigurationError(why)


def keep(settings: Settings) -> Keep:
    """What stays of logs and models."""
    return Keep(settings.logs.rotate_bytes, settings.logs.keep, settings.commit.keep)


def _stand(journal: Journal, job: str) -> _Stand:
    private = journal.commit(job, "private")
    return _Stand(
        counts=journal.counts(job),
        unfinished=journal.unfinished(job),
        public=journal.commit(job, "public"),
        private=private,
        spools=journal.spool_lengths(job, private.admission) if private else {},
    )


def _conduct(settings: Settings) -> Conduct:
    return Conduct(
        identity=settings.intake.identity,
        interval_seconds=settings.commit.interval_seconds,
        keep=keep(settings),
        chunk_bytes=settings.service.chunk_bytes,
        max_file_bytes=settings.intake.max_file_bytes,
    )


def _status(stand: _Stand) -> JobStatus:
    return JobStatus(
        state="waiting",
        done=stand.counts.get(FileState.ACCEPTED, 0),
        failed=stand.counts.get(FileState.REFUSED, 0),
        duplicates=stand.counts.get(FileState.DUPLICATE, 0),
        admitted={row.admission: row.admitted_at for row in stand.unfinished},
    )


async def _restore(line: Line, commit: Commit) -> None:
    """The job's newest whole model, into the arena."""
    path = line.machinery.layout.models(line.job) / commit.model
    header = (await asyncio.to_thread(checkpoints.read, path, commit.model_sha256)).header
    spec = Spec.from_json(json.dumps(header["spec"])).to_json()
    shape = await line.shape_of(spec)
    state, scores = line.reserve(shape.state_bytes), line.reserve(shape.scores_bytes)
    with dropped_on_error(state, scores):
        await line.machinery.dispatcher.run(
            learn.restore,
            spec,
            str(path),
            commit.model_sha256,
            state.region,
            scores.region,
            job=line.job,
        )
    classes = header["classes"]
    line.schema = Schema(
        tuple(header["features"]),
        None if classes is None else tuple(classes),
        tuple(header.get("categorical", ())),
    )
    line.model = Model(shape, line.schema, state, commit.version)
    line.scores = scores
    line.status.model = ModelStatus(
        commit.version,
        commit.model_sha256,
        commit.model,
        rows=commit.extra.get("rows"),
        loss=commit.extra.get("loss"),
    )
    _say_what_changed(line, header["fingerprint"])


def _say_what_changed(line: Line, then: dict[str, str]) -> None:
    """The last bits may differ from here on: another machine, or other versions of what computes."""
    what = fingerprint.changed(then, line.machinery.fingerprint)
    if what:
        line.note("fingerprint differs from the model's", changed="; ".join(what))
