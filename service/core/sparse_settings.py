"""Settings of sparse rows: `[jobs.hashing]`, the parts of times, and what a job of sparse rows can't have.

Rules: those of `sections`. Whether rows are sparse is known from the settings alone, never from a file, since the settings
choose the optimizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from kernels.sparse import MOST_BITS
from service.core.complaints import Says, broken, shown
from service.core.sections import Column, Columns, Section

if TYPE_CHECKING:
    from service.core.job_settings import Job

SPARSE_TEXTS = ("svmlight", "vw")
"""The formats whose rows are sparse."""
CALLED = {"svmlight": "qid", "vw": "tag"}
"""What a row of theirs is called."""
PLACES: dict[str, dict[str, str | int | None]] = {
    "svmlight": {"label": "label"},
    "vw": {"label": "label", "weight": "importance"},
}
"""The columns of theirs that have a part by themselves."""
SPARSE_KERNELS = ("linear", "logistic", "softmax")
SPARSE_OPTIMIZERS = ("normalised", "ftrl")
"""Those that have a pass over sparse rows, the default first."""


class Hashing(Section):
    """`[jobs.hashing]`: the slots of sparse rows, and which columns are hashed into them."""

    bits: Annotated[
        int, Field(ge=1, le=MOST_BITS), Says(f"a whole number from 1 to {MOST_BITS}")
    ] = 18
    categorical: (
        Annotated[Columns | Literal["auto"], Says('a list of at least one column, or "auto"')]
        | None
    ) = None
    text: Columns | None = None
    ngrams: Annotated[int, Field(ge=1, le=5), Says("a whole number from 1 to 5")] = 1
    interactions: (
        Annotated[tuple[tuple[Column, Column], ...], Says("a list of pairs of columns")] | None
    ) = None

    @property
    def hashes(self) -> bool:
        """Whether anything of a table is hashed."""
        return any(part is not None for part in (self.categorical, self.text, self.interactions))

    @model_validator(mode="after")
    def _check_columns(self) -> Self:
        seen: dict[Any, str] = {}
        for key in ("categorical", "text"):
            columns = getattr(self, key)
            for i, column in enumerate(columns if isinstance(columns, tuple) else ()):
                if column in seen:
                    raise broken(
                        f"must be another column than {seen[column]}", key, i, value=column
                    )
                seen[column] = f"{key}[{i}]"
        for i, pair in enumerate(self.interactions or ()):
            for column in pair:
                if column in (self.text or ()):
                    raise broken("must be no column of text", "interactions", i, value=column)
        if self.ngrams > 1 and self.text is None:
            raise broken(
                "must be 1, or left out, without a column of text", "ngrams", value=self.ngrams
            )
        return self


TimePart = Literal["year", "month", "day", "weekday", "yearday", "hour", "minute", "days"]
Times = dict[
    str,
    Annotated[
        Annotated[tuple[TimePart, ...], Field(min_length=1)],
        Says("a list of some of year, month, day, weekday, yearday, hour, minute, days"),
    ],
]


def check_places(job: Job) -> None:
    """In sparse text all parts of a row have their places."""
    mine = f'for format = "{job.format}"'
    own = CALLED[job.format]
    if job.id not in (None, own):
        raise broken(f'must be "{own}", or left out, {mine}', "id", value=job.id)
    for key in ("label", "features", "exclude", "weight", "time", "offset", "exposure", "times"):
        if getattr(job, key) is not None:
            rule = f"must be left out {mine}, whose rows have their own places for all"
            raise broken(rule, key, value=getattr(job, key))
    for key in ("categorical", "text", "interactions"):
        if getattr(job.hashing, key) is not None:
            rule = f"must be left out {mine}, whose features have slots by themselves"
            raise broken(rule, "hashing", key, value=getattr(job.hashing, key))
    if job.missing.indicators is not None:
        rule = f"must be left out {mine}, whose features have no names"
        raise broken(rule, "missing", "indicators", value=job.missing.indicators)


def check_steps(job: Job) -> None:
    """Sparse rows are learnt one by one, by few optimizers, and have gradients as long as the slots."""
    if job.model.kernel not in SPARSE_KERNELS:
        rule = f"must be one of {', '.join(SPARSE_KERNELS)} where rows are sparse"
        raise broken(rule, "model", "kernel", value=job.model.kernel)
    name, model = job.optimizer.name, job.model.options
    if name not in ("auto", *SPARSE_OPTIMIZERS):
        rule = f"must be one of {', '.join(SPARSE_OPTIMIZERS)} where rows are sparse"
        raise broken(rule, "optimizer", "name", value=name)
    if job.optimizer.options.get("clip_gradient"):
        rule, value = "must be 0 where rows are sparse", job.optimizer.options["clip_gradient"]
        raise broken(rule, "optimizer", "clip_gradient", value=value)
    for key in ("l1", "l2"):
        if model[key] and name != "ftrl":
            rule = 'must be 0 where rows are sparse, or optimizer.name "ftrl"'
            raise broken(rule, "model", key, value=model[key])
    for key, only in (("batch_rows", 1), ("lanes", 1), ("partition", "samples")):
        if getattr(job.training, key) not in ("auto", only):
            rule = f"must be {shown(only)}, or left out, where rows are sparse"
            raise broken(rule, "training", key, value=getattr(job.training, key))
    if job.output.samples in ("full", "factored"):
        rule = 'must be "norms" or "off" where rows are sparse'
        raise broken(rule, "output", "samples", value=job.output.samples)


def check_hashed(job: Job, taken: Mapping[Any, str]) -> None:
    """Columns that are hashed are among the features where these are named, and have no other part."""
    for key in ("categorical", "text"):
        columns = getattr(job.hashing, key)
        for i, column in enumerate(columns if isinstance(columns, tuple) else ()):
            if column in job.columns.values():
                rule = f"must be another column than {taken[column]}"
                raise broken(rule, "hashing", key, i, value=column)
            made = [part for time in job.times or () for part in _made(job, time)]
            if column in (job.exclude or ()):
                raise broken(
                    "must be another column than those of `exclude`",
                    "hashing",
                    key,
                    i,
                    value=column,
                )
            if job.features is not None and column not in (*job.features, *made):
                raise broken("must be one of the features", "hashing", key, i, value=column)
    for i, pair in enumerate(job.hashing.interactions or ()):
        for column in pair:
            if column in (job.exclude or ()):
                rule = "must be a pair of other columns than those of `exclude`"
                raise broken(rule, "hashing", "interactions", i, value=column)


def check_times(job: Job) -> None:
    """Where the features are named, so are the times, or else all their parts: others would be asked for and never learnt."""
    for time in job.times or ():
        if time in map(str, job.exclude or ()):
            raise broken(
                "must be another column than those of `exclude`", "times", time, value=time
            )
    if job.features is None:
        return
    categorical = job.hashing.categorical
    hashed = categorical if isinstance(categorical, tuple) else ()
    learnt = {*map(str, job.features), *map(str, hashed)}
    for time in job.times or ():
        if time not in map(str, job.features) and not learnt.issuperset(_made(job, time)):
            raise broken("must be one of the features", "times", time, value=time)


def _made(job: Job, time: str) -> list[str]:
    """The features that a column of times becomes."""
    return [f"{time} {part}" for part in (job.times or {})[time]]
