"""A file's fields: which of its columns are what, by the terms that it was admitted with and the job's schema."""

from __future__ import annotations

from typing import Literal

from kernels.contract import ANY
from service.core import classes
from service.core.job_settings import Job
from service.formats.contract import Dialect, Fields, Gaps, Hashed, Label
from service.stages.messages import Sample, Schema


def fields_of(sample: Sample, schema: Schema | None) -> Fields:
    """Which columns of a file are what; its features and classes are the schema's, if there is one."""
    job = sample.terms.job
    roles = job.roles
    return Fields(
        label=roles["label"],
        features=schema.features if schema else job.features,
        exclude=job.exclude or (),
        id=roles["id"],
        weight=roles["weight"],
        time=roles["time"],
        offset=roles["offset"],
        exposure=roles["exposure"],
        labels=labels_of(job),
        domain=getattr(job.model.loss, "domain", ANY),
        classes=_classes(job, schema),
        dialect=Dialect(**job.csv.model_dump()),
        gaps=Gaps(job.missing.fill, job.missing.values, job.missing.indicators or ()),
        format=job.format,
        hashed=_hashed(job, schema),
        times=tuple((job.times or {}).items()),
    )


def _classes(job: Job, schema: Schema | None) -> tuple[Label, ...] | None:
    if labels_of(job) != "class":
        return None
    return schema.classes if schema else classes.known(job)


def _hashed(job: Job, schema: Schema | None) -> Hashed:
    """What of the job's rows is hashed; columns that the first file is to name are none until it has."""
    if not job.is_sparse:
        return Hashed()
    given, asked = job.hashing, job.hashing.categorical
    return Hashed(
        bits=given.bits,
        categorical=schema.categorical if schema else asked if isinstance(asked, tuple) else (),
        text=given.text or (),
        ngrams=given.ngrams,
        interactions=given.interactions or (),
    )


def labels_of(job: Job) -> Literal["number", "class", "none"]:
    """What a file's labels are to the job's problem."""
    if job.model.problem == "clustering":
        return "none"
    return "class" if job.model.problem in ("binary", "multiclass") else "number"
