"""Resolution: a job with nothing left open, and the Spec that its Learner is built from.

Rules: what is "auto" or left out becomes the kernel's own default, never a function of the machine; resolving twice changes
nothing. What is a rule and not a number stays: `scaling.target` keeps its "auto" where labels are numbers (standardise by the
labels seen before), and a loss's length that follows these labels is left out (`follows_labels`).
"""

from __future__ import annotations

from typing import Any, Literal

from kernels import registry
from kernels.contract import Spec
from kernels.experts import default_rates, serve_slow
from kernels.losses import LOSSES, LossOptions, Number
from kernels.sparse import MOST_BITS
from service.core.errors import FileRefused
from service.core.job_settings import Job, Model, Optimizer, Scaling, Training
from service.core.spelling import spelt


def resolve(job: Job) -> Job:
    """The job with every "auto" replaced and every option written out."""
    whole = _chosen(job)
    return whole.model_copy(update={"model": _model(whole), "optimizer": _shared(whole)})


def follows_labels(job: Job) -> Number | None:
    """The number of a resolved job's loss that is so many standard deviations of the labels so far; None where there is none."""
    number = _open_number(job)
    is_rule = number is not None and number.is_length and job.scaling.target == "auto"
    return number if is_rule else None


def spec(job: Job, features: int, classes: tuple[str | float, ...] | None) -> Spec:
    """What a Learner of the job is built from, for so many features and these classes, by index.

    An option that is left out stays so, for the Learner knows it: terms from before `resolve` wrote it out give the same
    model files as ever. Raises FileRefused where the features are not as many as the kernel needs.
    """
    whole = _chosen(job)
    outputs = whole.model.outputs(classes)
    try:
        whole.model.made(features, outputs)
    except ValueError as error:
        raise FileRefused(
            f"kernel {whole.model.kernel} fits the file",
            place=f"{features} feature columns",
            value=str(error),
            remedy="name the columns to learn from in `features`, or those not to in `exclude`",
        ) from None
    if whole.is_sparse:
        _check_weights(whole, outputs)
    return Spec(
        kernel=whole.model.kernel,
        options=dict(whole.model.options),
        features=features,
        outputs=outputs,
        optimizer=_named(whole.optimizer.name, whole.optimizer.options),
        schedule=_named(whole.schedule.name, whole.schedule.options),
        standardise=bool(whole.scaling.standardise),
        clip=float(whole.scaling.clip),
        half_life=whole.scaling.half_life,
        gaps=whole.missing.fill == "mean",
        class_weight=_class_weight(whole, classes),
        scale_target=whole.scaling.target == "auto",
        seed=whole.training.seed,
        dtype=whole.training.dtype,  # type: ignore[arg-type]  # resolved: never "auto"
        bits=whole.hashing.bits if whole.is_sparse else 0,
    )


def _check_weights(job: Job, outputs: int) -> None:
    """Raises FileRefused where the classes and the slots make more weights than a model may have."""
    most = MOST_BITS - (outputs - 1).bit_length()
    if job.hashing.bits > most:
        raise FileRefused(
            f"a model of sparse rows has at most {1 << MOST_BITS} weights",
            place=f"{outputs} classes with 2^{job.hashing.bits} slots each",
            value=str(outputs << job.hashing.bits),
            remedy=f"lower hashing.bits to {most} (headrace reset, where the job has a model), or tell fewer classes apart",
        )


def _class_weight(
    job: Job, classes: tuple[str | float, ...] | None
) -> Literal["balanced"] | tuple[float, ...] | None:
    """The factors of the classes' steps in the order of the classes; 1 for those that aren't named.

    Raises FileRefused where one is named that the job doesn't have: a slip of the pen would go unseen.
    """
    given = job.training.class_weight
    if given == "none":
        return None
    if given == "balanced":
        return "balanced"
    names = [str(spelt(label)) for label in classes or ()]
    unknown = sorted(given.keys() - set(names))
    if unknown and job.model.classes_max is None:  # else they may come yet
        raise FileRefused(
            f"training.class_weight names classes that the job has: {', '.join(names)}",
            place="the settings that the file was admitted with",
            value=unknown[0],
            remedy="mend its name in training.class_weight, and drop the file again",
        )
    return tuple(given.get(name, 1.0) for name in names)


def _named(name: str, options: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, **options}


def _chosen(job: Job) -> Job:
    """The job with every "auto" replaced."""
    parts = {
        "optimizer": _optimizer(job),
        "training": _training(job),
        "scaling": _scaling(job),
    }
    return job.model_copy(update=parts)


def _open_number(job: Job) -> Number | None:
    """The number that the job's loss brings, where the job leaves it out."""
    options = job.model.options
    if not issubclass(registry.kernel(job.model.kernel).Options, LossOptions):
        return None
    formula = LOSSES.get(options["loss"])
    number = formula.number if formula else None
    return number if number is not None and options[number.key] is None else None


def _model(job: Job) -> Model:
    """With the number of its loss, unless it follows the labels."""
    number = _open_number(job)
    if number is None or follows_labels(job) is not None:
        return job.model
    options = job.model.options | {number.key: number.default}
    return job.model.model_copy(update={"options": options})


def _shared(job: Job) -> Optimizer:
    """With the rates of experts, and what a look moves at most to the slower half of them."""
    options = job.optimizer.options
    if job.optimizer.name != "experts":
        return job.optimizer
    rates = options["rates"]
    found = {
        "rates": default_rates(job.model.loss) if rates is None else rates,
        "serve_slow": serve_slow(options["serve_slow"]),
    }
    return job.optimizer.model_copy(update={"options": options | found})


def _optimizer(job: Job) -> Optimizer:
    if job.optimizer.name != "auto":
        return job.optimizer
    defaults = job.defaults
    rate = {} if defaults.learning_rate is None else {"learning_rate": defaults.learning_rate}
    return Optimizer(name=defaults.optimizer, **(rate | job.optimizer.options))


def _training(job: Job) -> Training:
    defaults = job.defaults
    given = job.training
    chosen = {
        key: getattr(defaults, key)
        for key in ("batch_rows", "lanes", "local_steps", "dtype")
        if getattr(given, key) == "auto"
    }
    if given.local_steps == "auto" and given.batch_rows != "auto" and defaults.local_steps > 1:
        # a round keeps about the rows that suit the kernel: with larger batches it has fewer of them
        rows = defaults.batch_rows * defaults.local_steps
        chosen["local_steps"] = max(1, rows // given.batch_rows)
    return given.model_copy(update=chosen)


def _scaling(job: Job) -> Scaling:
    given, defaults = job.scaling, job.defaults
    chosen: dict[str, Any] = {}
    standardise = defaults.standardise if given.standardise == "auto" else given.standardise
    chosen["standardise"] = standardise
    if not standardise:
        chosen["clip"] = 0.0  # what is clipped is what was standardised
    elif given.clip == "auto":
        chosen["clip"] = defaults.clip
    if job.model.problem not in ("regression", "counts"):
        chosen["target"] = "none"
    return given.model_copy(update=chosen)
