"""Remedies: what a user can do where a job's own settings say what there is left to do."""

from __future__ import annotations

from collections.abc import Iterator

from kernels import registry
from service.core.job_settings import Job

_SAFE_CLIP = 5


def against_divergence(job: Job) -> str:
    """What helps a resolved job whose step was no number any more: only what isn't done already."""
    others = ", or ".join(_calmer(job))
    columns = [
        f"`{key}`" for key in ("weight", "offset", "exposure") if getattr(job, key) is not None
    ]
    among = f" (its {' and '.join(columns)} among them)" if columns else ""
    return f"look for extreme values there{among} and in the rows before; else {others}"


def against_few_steps(job: Job) -> str | None:
    """What helps a resolved job whose optimizer takes one step a file, where each file is learnt once; None where it takes more.

    It is no mistake, for what `headrace train` has learnt may go on to predict in a daemon.
    """
    name = job.optimizer.name
    if not getattr(registry.optimizer(name).make, "ends_files", False):
        return None
    return (
        f'{name} takes one step a file, and none in the first two: set another optimizer.name ("auto"), '
        "or learn one file by `headrace train` with some dozens of training.epochs"
    )


def _calmer(job: Job) -> Iterator[str]:
    takes_ids = job.model.takes_ids
    if not job.scaling.standardise and not takes_ids:
        yield "set scaling.standardise = true"
    elif job.scaling.clip == 0 and not takes_ids:
        yield f"set scaling.clip = {_SAFE_CLIP}"
    options = job.optimizer.options
    if "learning_rate" in options:
        yield f"set a smaller optimizer.learning_rate than {options['learning_rate']:g}"
    if options.get("clip_gradient") == 0:
        yield "set optimizer.clip_gradient = 1"
    if options.keys().isdisjoint(("learning_rate", "clip_gradient")):
        yield 'set optimizer.name = "auto"'
