"""Terms: the settings that a file was admitted with, kept in the journal and obeyed to the file's end.

Rules: the body holds everything that can change a model or a result log, with every default written out, and nothing of how
it runs (workers, intervals, chunk sizes). It is canonical: equal terms give equal bytes, and so one digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from service.core import classes
from service.core.complaints import complaint, shown
from service.core.errors import ConfigurationError
from service.core.job_settings import Job
from service.core.resolution import resolve
from service.core.sections import Count, Section, Switch
from service.core.settings import Rows, Settings, frozen

_PENALTIES = {"l1", "l2"}
"""The options of a kernel that may change under a model: they change the next step, not what the numbers mean."""


class Terms(Section):
    """What a file is trained with; `job` is resolved."""

    job: Job
    rows: Rows
    every_rows: Count
    steps: Switch


def digest(settings: Settings, job: Job) -> tuple[str, str]:
    """The sha256 (hex) and the canonical JSON body of the terms on which the job's files are admitted now."""
    logs = settings.logs
    terms = Terms(
        job=resolve(job), rows=settings.rows, every_rows=logs.every_rows, steps=logs.steps
    )
    body = json.dumps(
        terms.model_dump(exclude_none=True), sort_keys=True, separators=(",", ":"), allow_nan=False
    )
    return hashlib.sha256(body.encode("ascii")).hexdigest(), body


def parse_body(body: str) -> Terms:
    """The terms that `digest` wrote; `ConfigurationError` where this version knows them no more."""
    try:
        return Terms.model_validate(frozen(json.loads(body)))
    except ValidationError as error:
        raise ConfigurationError(complaint(error, "settings in the journal")) from None


def incompatible(old_body: str, new_job: Job, *, has_model: bool = True) -> str | None:
    """Why a model trained on the old terms can't go on as `new_job`, with the remedy; None where it can.

    Without a model the old terms are those of files that wait: what they left open may be said now. Both are resolved, for
    old terms may lack a default that is written out by now.
    """
    old, new = resolve(parse_body(old_body).job), resolve(new_job)
    for key, before, after in _meanings(old, new):
        if before == after or (not has_model and before is None and key in _LABELS):
            continue
        because = "the job has a model" if has_model else "files wait that were admitted with it"
        return (
            f"jobs.{new.name}.{key}: must stay {_worded(before)} while {because}, got {_worded(after)};"
            f" to start again: headrace reset --job {new.name}"
        )
    return None


_LABELS = ("model.classes", "model.positive")


def _meanings(old: Job, new: Job) -> Iterator[tuple[str, Any, Any]]:
    """What gives the numbers of a model their meaning: (key, before, after)."""
    for key in ("format", "label", "features", "exclude", "offset", "exposure", "times"):
        yield key, getattr(old, key), getattr(new, key)
    if old.features is None:  # every other column: then these choose the features, too
        for key in ("id", "weight", "time"):
            yield key, getattr(old, key), getattr(new, key)
    yield "model.kernel", old.model.kernel, new.model.kernel
    if classes.known(old) is None or classes.known(old) != classes.known(
        new
    ):  # by index, however it is said
        yield "model.classes", old.model.classes, new.model.classes
        yield "model.positive", old.model.positive, new.model.positive
    for key in sorted((old.model.options.keys() | new.model.options.keys()) - _PENALTIES):
        yield f"model.{key}", old.model.options.get(key), new.model.options.get(key)
    yield "optimizer.name", old.optimizer.name, new.optimizer.name
    yield "training.dtype", old.training.dtype, new.training.dtype
    for key in ("standardise", "target"):
        yield f"scaling.{key}", getattr(old.scaling, key), getattr(new.scaling, key)
    if old.is_sparse or new.is_sparse:
        for key in ("bits", "categorical", "text", "ngrams", "interactions"):
            yield f"hashing.{key}", getattr(old.hashing, key), getattr(new.hashing, key)
    yield "missing.indicators", old.missing.indicators, new.missing.indicators
    if old.missing.fill == "mean":  # each feature has a count of its own, of no use to the others
        yield "missing.fill", old.missing.fill, new.missing.fill


def _worded(value: Any) -> str:
    return "left out" if value is None else shown(value)
