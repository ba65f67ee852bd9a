"""Resolution: a job with nothing left open, and the Spec that its Learner is built from.

Rules: what is "auto" becomes the kernel's own default, never a function of the machine; resolving twice changes nothing. Only
`scaling.target` keeps its "auto" where labels are numbers, as a rule and not a number: standardise by the labels seen before.
"""

from __future__ import annotations

from typing import Any

from kernels.contract import Spec
from service.core.job_settings import Job, Optimizer, Scaling, Training


def resolve(job: Job) -> Job:
    """The job with every "auto" replaced and every option written out."""
    parts = {
        "optimizer": _optimizer(job),
        "training": _training(job),
        "scaling": _scaling(job),
    }
    return job.model_copy(update=parts)


def spec(job: Job, features: int, outputs: int) -> Spec:
    """What a Learner of the job is built from; `outputs` is the number of classes if there is one output each, else 1."""
    whole = resolve(job)
    return Spec(
        kernel=whole.model.kernel,
        options=dict(whole.model.options),
        features=features,
        outputs=outputs,
        optimizer=_named(whole.optimizer.name, whole.optimizer.options),
        schedule=_named(whole.schedule.name, whole.schedule.options),
        standardise=whole.scaling.standardise,
        clip=whole.scaling.clip,
        scale_target=whole.scaling.target == "auto",
        seed=whole.training.seed,
        dtype=whole.training.dtype,  # type: ignore[arg-type]  # resolved: never "auto"
    )


def _named(name: str, options: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, **options}


def _optimizer(job: Job) -> Optimizer:
    if job.optimizer.name != "auto":
        return job.optimizer
    defaults = job.model.defaults
    rate = {} if defaults.learning_rate is None else {"learning_rate": defaults.learning_rate}
    return Optimizer(name=defaults.optimizer, **(rate | job.optimizer.options))


def _training(job: Job) -> Training:
    defaults = job.model.defaults
    given = job.training
    chosen = {
        key: getattr(defaults, key)
        for key in ("batch_rows", "lanes", "local_steps", "dtype")
        if getattr(given, key) == "auto"
    }
    if given.local_steps == "auto" and given.batch_rows != "auto":
        # a round keeps about the rows that suit the kernel: with larger batches it has fewer of them
        rows = defaults.batch_rows * defaults.local_steps
        chosen["local_steps"] = max(1, rows // given.batch_rows)
    return given.model_copy(update=chosen)


def _scaling(job: Job) -> Scaling:
    given = job.scaling
    chosen: dict[str, Any] = {}
    if not given.standardise:
        chosen["clip"] = 0.0  # what is clipped is what was standardised
    if job.model.problem != "regression":
        chosen["target"] = "none"
    return given.model_copy(update=chosen)
