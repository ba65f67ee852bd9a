"""What a commit holds of the file in progress: the model with its header, and how far its records go."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from service.core.job_settings import Job
from service.core.records import Subject
from service.core.status import ModelStatus
from service.runtime.arena import arrays
from service.runtime.held import Held
from service.runtime.spool import Spool
from service.stages.line import Line
from service.stages.messages import Begun, Schema
from service.storage.checkpoints import Tensors
from service.storage.units import Accepted, Progress
from service.subtasks import parts
from service.subtasks.learn import Shape
from service.subtasks.report import Ending, Segment

V = TypeVar("V")

MODEL_FORMAT = 1


@dataclass(slots=True, eq=False)
class OpenRecords:
    """The file whose results arrive."""

    begun: Begun
    scores: Held
    metrics: Spool
    samples: Spool | None
    segment: Segment = field(default_factory=Segment)
    loss: float | None = None
    digest: str = ""  # of the records so far

    @property
    def spools(self) -> dict[str, Spool]:
        found = {"metrics.jsonl": self.metrics}
        if self.samples is not None:
            found[self.samples.path.name.split(".", 1)[1]] = self.samples
        return found

    @property
    def states(self) -> Tensors:
        """The metric states so far."""
        return arrays(self.scores.region, self.begun.shape.scores_layout)

    async def flush(self) -> None:
        for spool in self.spools.values():
            await spool.flush()

    async def close(self) -> None:
        for spool in self.spools.values():
            await spool.close()


def samples_log(subject: Subject) -> str:
    """The log that a file's sample records go to."""
    return "samples.txt" if subject.samples_format == "text" else "samples.jsonl"


def progress(
    line: Line,
    file: OpenRecords,
    row: int,
    version: int,
    named: Tensors,
    extra: dict[str, Any],
) -> Progress:
    """The file after `row` of its accepted rows, with the model of that point: see `tensors`."""
    begun = file.begun
    subject = begun.subject
    common = header(line, begun.sample.terms.job, begun.shape, begun.schema)
    return Progress(
        job=line.job,
        admission=begun.sample.row.admission,
        row=row,
        version=version,
        sequence=subject.sequence,
        tensors=named,
        header=common | at(version, subject),
        spools={log: spool.length for log, spool in file.spools.items()},
        extra=extra,
    )


@asynccontextmanager
async def saved(line: Line, shape: Shape, state: Held) -> AsyncIterator[Tensors]:
    """What a model file holds of a state, as views: all of it, or of slots those that were touched."""
    if not shape.slots:
        yield arrays(state.region, shape.state_layout)
        return
    packed = line.reserve(shape.part_bytes(shape.slots))
    try:
        run = line.machinery.dispatcher.run
        layout = await run(parts.pack, shape.spec, state.region, packed.region, job=line.job)
        yield arrays(packed.region, layout)
    finally:
        packed.drop()


def tensors(state: Mapping[str, V], scores: Mapping[str, V]) -> dict[str, V]:
    """All that a model file holds, or where it lies, under the names that it has there."""
    named = {f"state/{name}": array for name, array in state.items()}
    return named | {f"scores/{name}": array for name, array in scores.items()}


def header(line: Line, job: Job, shape: Shape, schema: Schema) -> dict[str, Any]:
    """What the header of a model file says of the job; `at` says where the model stands."""
    return {
        "format": MODEL_FORMAT,
        "job": line.job,
        "problem": shape.problem,
        "spec": json.loads(shape.spec),
        "settings": job.model_dump(mode="json"),
        "columns": job.roles,
        "features": list(schema.features),
        "categorical": list(schema.categorical),
        "classes": None if schema.classes is None else list(schema.classes),
        "fingerprint": line.machinery.fingerprint,
    }


def at(version: int, subject: Subject) -> dict[str, Any]:
    """Where a model stands: what its header says beside what all models of the job say."""
    return {"version": version, "sequence": subject.sequence, "last_file": subject.file}


def tell(
    line: Line,
    accepted: Accepted,
    files: Sequence[tuple[Subject, Ending, float | None]],
    seconds: float,
) -> None:
    """Says in status and service log that files, each with its loss, are in the model; they took so long together."""
    for log in accepted.renewed:
        line.note("a result log was gone: begun anew", log=log)
    commit, (_, last, loss) = accepted.commit, files[-1]
    line.status.model = ModelStatus(
        commit.version, commit.model_sha256, commit.model, rows=last.rows, loss=loss
    )
    line.status.done += len(files)
    for subject, ending, loss in files:
        line.note(
            "accepted",
            file=subject.file,
            sequence=subject.sequence,
            epoch=subject.epoch,
            rows=ending.rows,
            rejected=ending.rows_rejected,
            version=ending.version,
            loss=loss,
            seconds=seconds,
        )
