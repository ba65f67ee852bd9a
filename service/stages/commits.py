"""What a commit holds of the file in progress: the model with its header, and how far its records go."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from service.core.job_settings import COLUMNS
from service.runtime.arena import arrays
from service.runtime.held import Held
from service.runtime.spool import Spool
from service.stages.line import Line
from service.stages.messages import Begun
from service.storage.checkpoints import Tensors
from service.storage.units import Progress
from service.subtasks.report import Segment

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

    async def flush(self) -> None:
        for spool in self.spools.values():
            await spool.flush()

    async def close(self) -> None:
        for spool in self.spools.values():
            await spool.close()


def progress(
    line: Line, file: OpenRecords, row: int, version: int, state: Held, extra: dict[str, Any]
) -> Progress:
    """The file after `row` of its accepted rows, with the model `state` of that point."""
    return Progress(
        job=line.job,
        admission=file.begun.sample.row.admission,
        row=row,
        version=version,
        sequence=file.begun.subject.sequence,
        tensors=_tensors(file, state),
        header=_header(line, file, version),
        spools={log: spool.length for log, spool in file.spools.items()},
        extra=extra,
    )


def _tensors(file: OpenRecords, state: Held) -> Tensors:
    """Views of all that a model file holds, under the names that it has there."""
    shape = file.begun.shape
    named = {f"state/{k}": a for k, a in arrays(state.region, shape.state_layout).items()}
    named |= {f"scores/{k}": a for k, a in arrays(file.scores.region, shape.scores_layout).items()}
    return named


def _header(line: Line, file: OpenRecords, version: int) -> dict[str, Any]:
    begun = file.begun
    job = begun.sample.terms.job
    return {
        "format": MODEL_FORMAT,
        "job": line.job,
        "problem": begun.shape.problem,
        "spec": json.loads(begun.shape.spec),
        "settings": job.model_dump(mode="json"),
        "columns": {key: getattr(job, key) for key in COLUMNS},
        "features": list(begun.schema.features),
        "classes": None if begun.schema.classes is None else list(begun.schema.classes),
        "version": version,
        "sequence": begun.subject.sequence,
        "last_file": begun.subject.file,
        "fingerprint": line.machinery.fingerprint,
    }
