"""One job's settings: what it learns, with which model, and how.

Rules: everything here is valid from birth, also where two keys must fit each other. The kernel, the optimizer and the schedule
bring options of their own, which stand in the same table as our keys. The word "auto" stays until `resolution` puts the
kernel's own default in its place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from kernels import registry, strangers
from kernels.contract import CLIP, Defaults, Kernel, KernelFault, Problem
from kernels.losses import LOSSES
from kernels.optimizers import OPTIMIZERS as ELEMENTWISE
from kernels.schedules import SCHEDULES
from service.core import sparse_settings
from service.core.complaints import Says, below, broken, shown
from service.core.sections import (
    AutoCount,
    Classes,
    Column,
    Columns,
    Count,
    Encoding,
    Excluded,
    Label,
    Lanes,
    Name,
    OpenSection,
    Section,
    Text,
    Words,
)
from service.core.sparse_settings import PLACES, SPARSE_OPTIMIZERS, SPARSE_TEXTS, Hashing, Times
from service.core.spelling import as_name, missing_name, spelt

COLUMNS = ("label", "id", "weight", "time", "offset", "exposure")
"""The keys of the columns that have a part of their own."""
ClassWeights = dict[str, float]
_DELIMITERS = "\t !#$%&'*,/:;<=>?@\\^_`|~"
_CLASS_WEIGHT = 'must be "none", "balanced", or a table of numbers above 0 by class'


def _delimits(text: str) -> str:
    if text != "auto" and not (len(text) == 1 and text in _DELIMITERS):
        raise ValueError
    return text


class Model(OpenSection):
    """`[jobs.model]`: the kernel, the classes it tells apart, and the kernel's own options."""

    OWN = ("kernel", "positive", "classes", "classes_max")
    BUILT_IN = registry.KERNELS

    kernel: Text
    positive: Label | None = None
    classes: Classes | None = None
    classes_max: Annotated[
        Annotated[int, Field(ge=2, le=1000)] | None, Says("a whole number from 2 to 1000")
    ] = None

    @staticmethod
    def meant(name: str) -> type[Kernel]:
        return registry.kernel(name)

    @classmethod
    def idle(cls, meant: Any, given: Mapping[str, Any]) -> tuple[str, ...]:
        names = {field.name for field in dataclasses.fields(meant.Options)}
        if "loss" in given.keys() - names and isinstance(given["loss"], str):
            rule = "must be left out: this kernel has a loss of its own"
            if given["loss"] in LOSSES:
                rule += ', take kernel = "linear" for another'
            raise broken(rule, "loss", value=given["loss"])
        try:
            options = meant.Options(**{key: given[key] for key in given.keys() & names})
            problem = meant.problem(options)
        except (
            Exception
        ):  # what is wrong with them, or with a stranger's kernel, is told in its own words
            return ()
        if problem == "binary":
            return ("classes_max",)
        return ("positive",) if problem == "multiclass" else ("classes", "classes_max", "positive")

    @property
    def problem(self) -> Problem:
        """What the labels are: "regression", "binary" or "multiclass"."""
        kernel = registry.kernel(self.kernel)
        return kernel.problem(kernel.Options(**self.options))

    @property
    def defaults(self) -> Defaults:
        """The training settings that suit the kernel with these options."""
        kernel = registry.kernel(self.kernel)
        return kernel.defaults(kernel.Options(**self.options))

    @property
    def takes_ids(self) -> bool:
        """Whether features are names: nothing to be scaled, or filled in."""
        return bool(getattr(registry.kernel(self.kernel), "takes_ids", False))

    @property
    def loss(self) -> Any:
        """The loss that the kernel minimises with these options."""
        return self.made(2, 2).loss

    def rehearse(self, features: int) -> None:
        """Tries every function of a stranger's kernel. It may hang or die of it: nothing for a daemon's own
        process. Raises KernelFault."""
        if ":" in self.kernel:
            outputs = 2 if self.problem == "multiclass" else self.outputs(None)
            kernel = self.made(features, outputs)
            inspected = strangers.Inspected(self.kernel, kernel, outputs)
            strangers.rehearse(inspected, features, self.problem)

    def made(self, features: int, outputs: int) -> Any:
        """The kernel itself, for so many features and outputs."""
        kernel = registry.kernel(self.kernel)
        options = kernel.Options(**self.options)
        if ":" in self.kernel:
            return strangers.made(self.kernel, kernel, options, features, outputs)
        return kernel(options, features, outputs)

    def outputs(self, classes: tuple[Any, ...] | None) -> int:
        """How many outputs the kernel has: one, or one for each class or cluster."""
        if self.problem == "clustering":
            return int(self.options["clusters"])
        return len(classes or ()) if self.problem == "multiclass" else 1

    @model_validator(mode="after")
    def _check_kernel(self) -> Self:
        """A stranger's kernel says what its options make of it; all else here asks it for that."""
        if ":" in self.kernel:
            kernel = registry.kernel(self.kernel)
            with _blamed():
                strangers.tried(self.kernel, kernel, kernel.Options(**self.options))
        return self

    @model_validator(mode="after")
    def _check_classes(self) -> Self:
        if self.problem not in ("binary", "multiclass"):
            learns = "no classes" if self.problem == "clustering" else "numbers"
            self._refuse("classes", f"must be left out: kernel {self.kernel} learns {learns}")
        if self.problem != "binary":
            self._refuse("positive", "must be left out: it belongs to kernels of two classes")
        if self.problem != "multiclass":
            self._refuse("classes_max", "must be left out: it belongs to kernels of many classes")
        if self.problem == "binary" and self.classes is not None:
            self._check_pair()
        if isinstance(self.classes, tuple):
            _check_distinct(self.classes)
        named = self.classes if isinstance(self.classes, int) else len(self.classes or ())
        if self.classes_max is not None and self.classes_max < named:
            rule = f"must be {named} or more, the number of classes"
            raise broken(rule, "classes_max", value=self.classes_max)
        return self

    def _refuse(self, key: str, rule: str) -> None:
        value = getattr(self, key)
        if value is not None:
            raise broken(rule, key, value=value)

    def _check_pair(self) -> None:
        classes = range(self.classes) if isinstance(self.classes, int) else self.classes or ()
        if len(classes) != 2:
            raise broken(
                f"must be 2 classes for kernel {self.kernel}", "classes", value=self.classes
            )
        if self.positive is not None and self.positive not in classes:
            rule = f"must be one of the classes {shown(tuple(classes))}"
            raise broken(rule, "positive", value=self.positive)


@contextmanager
def _blamed(*place: str) -> Iterator[None]:
    """What a stranger's kernel breaks of its contract, as a wrong setting: it was the wrong kernel to name."""
    try:
        yield
    except KernelFault as fault:
        raise broken(f"must keep to docs/kernels.md: {fault}", *place, "kernel") from None


def _check_distinct(classes: tuple[str | int | float, ...]) -> None:
    if len(set(classes)) < len(classes):
        raise broken("must be distinct", "classes", value=classes)
    if len({isinstance(label, str) for label in classes}) > 1:
        raise broken("must be all names or all numbers", "classes", value=classes)


class Optimizer(OpenSection):
    """`[jobs.optimizer]`: its name ("auto": the kernel's default), and its own options."""

    OWN = ("name",)
    BUILT_IN = registry.RULES

    name: Text = "auto"

    @staticmethod
    def meant(name: str) -> Any:
        return registry.optimizer(name)


class Schedule(OpenSection):
    """`[jobs.schedule]`: how the learning rate goes on, and the schedule's own options."""

    OWN = ("name",)
    BUILT_IN = SCHEDULES

    name: Text = "constant"

    @staticmethod
    def meant(name: str) -> Any:
        return registry.schedule(name)


class Training(Section):
    """`[jobs.training]`: how rows become steps."""

    batch_rows: AutoCount = "auto"
    lanes: Lanes = "auto"
    local_steps: AutoCount = "auto"
    epochs: Count = 1
    seed: Annotated[int, Field(ge=0, lt=2**63), Says("a whole number from 0 to 2**63 - 1")] = 0
    dtype: Literal["auto", "float32", "float64"] = "auto"
    partition: Literal["samples", "features"] = "samples"
    class_weight: Literal["none", "balanced"] | ClassWeights = "none"

    @field_validator("class_weight", mode="before")
    @classmethod
    def _check_class_weight(cls, value: Any) -> Any:
        """One rule for both forms: a union would only tell of the first."""
        if not isinstance(value, Mapping):
            if value not in ("none", "balanced"):
                raise broken(_CLASS_WEIGHT, value=value)
            return value
        if not value:
            raise broken(_CLASS_WEIGHT)
        for name, weight in value.items():
            is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
            if not (is_number and 0 < weight < float("inf")):
                raise broken("must be a number above 0", name, value=weight)
        weights = {as_name(name): float(weight) for name, weight in value.items()}
        if len(weights) < len(value):
            raise broken("must name each class once", value=tuple(value))
        return weights

    @model_validator(mode="after")
    def _check_partition(self) -> Self:
        if self.partition == "features" and self.local_steps not in ("auto", 1):
            rule = "must be 1, or left out, where a step is cut by features"
            raise broken(rule, "local_steps", value=self.local_steps)
        return self


class Scaling(Section):
    """`[jobs.scaling]`: what is brought to mean 0 and standard deviation 1 before it is learnt."""

    standardise: Annotated[bool | Literal["auto"], Says('true, false, or "auto"')] = "auto"
    clip: Annotated[
        Annotated[float, Field(ge=0)] | Literal["auto"],
        Says('a number from 0, in standard deviations, or "auto"'),
    ] = "auto"
    half_life: Annotated[float, Field(ge=0), Says("a number of rows from 0")] = 0.0
    target: Literal["auto", "none"] = "auto"

    @model_validator(mode="after")
    def _check_clip(self) -> Self:
        if self.clip not in ("auto", 0) and self.standardise is False:
            raise broken(
                "must be left out, or 0, where standardise is false", "clip", value=self.clip
            )
        return self


class Csv(Section):
    """`[jobs.csv]`: how CSV files are written, where that is not what their first lines show."""

    delimiter: Annotated[
        Annotated[str, AfterValidator(_delimits)],
        Says('"auto", or one ASCII character that delimits'),
    ] = "auto"
    encoding: Encoding = "auto"
    decimal: Literal[".", ","] = "."
    quote: Literal['"', "'", ""] = '"'
    comment: Annotated[
        Annotated[str, StringConstraints(pattern=r"^[!-~]{0,8}$")],
        Says("at most 8 printable ASCII characters without spaces"),
    ] = ""

    @model_validator(mode="after")
    def _check_marks(self) -> Self:
        if self.quote and self.quote == self.delimiter:
            raise broken("must be another character than quote", "delimiter", value=self.delimiter)
        if self.comment[:1] and self.comment[0] in (self.quote, self.delimiter):
            rule = "must not begin with the quote or the delimiter"
            raise broken(rule, "comment", value=self.comment)
        return self


class Missing(Section):
    """`[jobs.missing]`: which features count as missing, and what becomes of them."""

    fill: Literal["none", "zero", "mean"] = "none"
    values: Words = ("NA", "N/A", "null", "?")
    indicators: Columns | None = None

    @model_validator(mode="after")
    def _check_indicators(self) -> Self:
        if self.indicators is not None and self.fill == "none":
            rule = 'must be left out where fill is "none": no row without a value is learnt from'
            raise broken(rule, "indicators", value=self.indicators)
        if self.indicators is not None and len(set(self.indicators)) < len(self.indicators):
            raise broken("must be distinct", "indicators", value=self.indicators)
        return self


class Output(Section):
    """`[jobs.output]`: what is written of each sample."""

    samples: Literal["off", "norms", "factored", "full"] = "norms"
    samples_format: Literal["jsonl", "text"] = "jsonl"


class Job(Section):
    """`[[jobs]]`: one model trained from one inbox."""

    @classmethod
    def useless(cls, table: Mapping[str, Any]) -> tuple[str, ...]:
        """The columns that the kernel has no use for."""
        try:
            problem = Model.model_validate(table["model"]).problem
        except Exception:  # what is wrong with the model is told in its own words
            return ()
        return {
            "clustering": ("label", "offset", "exposure"),
            "multiclass": ("offset", "exposure"),
            "counts": (),
        }.get(problem, ("exposure",))

    name: Name
    format: Literal["auto", "svmlight", "vw"] = "auto"
    label: Column | None = None
    features: Columns | None = None
    exclude: Excluded | None = None
    id: Column | None = None
    weight: Column | None = None
    time: Column | None = None
    offset: Column | None = None
    exposure: Column | None = None
    times: Times | None = None
    model: Model
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    training: Training = Training()
    scaling: Scaling = Scaling()
    csv: Csv = Csv()
    missing: Missing = Missing()
    hashing: Hashing = Hashing()
    output: Output = Output()

    @property
    def columns(self) -> dict[str, str | int]:
        """The columns that have a part of their own, by key, as far as they are given."""
        named = {key: getattr(self, key) for key in COLUMNS}
        return {key: column for key, column in named.items() if column is not None}

    @property
    def is_sparse(self) -> bool:
        """Whether its rows have slots, instead of features or beside them."""
        return self.format in SPARSE_TEXTS or self.hashing.hashes

    @property
    def roles(self) -> dict[str, str | int | None]:
        """The columns that have a part of their own, by key; None where there is none. In sparse text they have
        their places."""
        return {key: getattr(self, key) for key in COLUMNS} | PLACES.get(self.format, {})

    @model_validator(mode="after")
    def _check_sparse(self) -> Self:
        """What sparse rows can't be, or have already."""
        if not self.is_sparse:
            return self
        if self.format in SPARSE_TEXTS:
            sparse_settings.check_places(self)
        sparse_settings.check_steps(self)
        return self

    @model_validator(mode="after")
    def _check_columns(self) -> Self:
        taken: dict[Any, str] = {}
        features = {f"features[{i}]": column for i, column in enumerate(self.features or ())}
        exclude = {f"exclude[{i}]": column for i, column in enumerate(self.exclude or ())}
        if features and exclude:
            rule = "must be left out where `features` are listed: they say already what is learnt"
            raise broken(rule, "exclude", value=self.exclude)
        columns = self.columns | features | exclude
        first = next(iter(columns), None)
        for key, column in columns.items():
            kind = type(columns[first])  # type: ignore[index]  # there is one
            if type(column) is not kind:
                word = "a name" if kind is str else "a number"
                rule = f"must be {word}, as {'the label' if first == 'label' else first} is"
                raise broken(rule, key, value=column)
            if column in taken:
                raise broken(f"must be another column than {taken[column]}", key, value=column)
            taken[column] = key
        sparse_settings.check_hashed(self, taken)
        sparse_settings.check_times(self)
        return self

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        """The columns that the kernel's problem asks for, or has no use for."""
        problem, kernel = self.model.problem, self.model.kernel
        if self.roles["label"] is None and problem != "clustering":
            raise broken(f"must be given: kernel {kernel} learns from labels", "label")
        if self.label is not None and problem == "clustering":
            rule = f"must be left out: kernel {kernel} learns without labels"
            raise broken(rule, "label", value=self.label)
        if self.offset is not None and problem in ("multiclass", "clustering"):
            rule = f"must be left out: kernel {kernel} has several outputs"
            raise broken(rule, "offset", value=self.offset)
        if self.exposure is not None and problem != "counts":
            rule = "must be left out: it belongs to losses with a logarithmic link (poisson, gamma, tweedie)"
            raise broken(rule, "exposure", value=self.exposure)
        if self.exposure is not None and self.offset is not None:
            rule = "must be left out where there is an exposure, whose logarithm is the offset"
            raise broken(rule, "offset", value=self.offset)
        if self.training.class_weight != "none" and problem not in ("binary", "multiclass"):
            rule = f"must be left out: kernel {kernel} learns no classes"
            raise broken(rule, "training", "class_weight", value=self.training.class_weight)
        return self

    @model_validator(mode="after")
    def _check_missing(self) -> Self:
        """The mean is that of the scaling, where a missing value lies in the middle."""
        if self.model.takes_ids:
            self._check_ids()
        given = self.scaling.standardise
        standardise = self.model.defaults.standardise if given == "auto" else given
        if self.missing.fill == "mean" and not standardise:
            rule = 'must be "zero" or "none" where features are not standardised'
            raise broken(rule, "missing", "fill", value="mean")
        for i, column in enumerate(self.missing.indicators or ()):
            if column in (self.exclude or ()):
                rule = "must be another column than those of `exclude`"
                raise broken(rule, "missing", "indicators", i, value=column)
            if self.features is not None and column not in self.features:
                raise broken(
                    "must be one of the features", "missing", "indicators", i, value=column
                )
            for key, taken in self.columns.items():
                if column == taken:
                    rule = f"must be one of the features: this is the column of `{key}`"
                    raise broken(rule, "missing", "indicators", i, value=column)
            if missing_name(column) in (self.features or ()):
                rule = (
                    f'must have a name of its own for its feature, "{missing_name(column)}" is one '
                    "already: rename that column, or leave one of them out"
                )
                raise broken(rule, "missing", "indicators", i, value=column)
        return self

    def _check_ids(self) -> None:
        """A number that stands in for a user would be another user's."""
        names = f"the features of kernel {self.model.kernel} are names, not amounts"
        if self.scaling.standardise is True:
            rule = f"must be false, or left out: {names}"
            raise broken(rule, "scaling", "standardise", value=True)
        if self.missing.fill != "none":
            rule = f'must be "none": {names}; rows.on_bad_row = "skip" leaves rows without one of them out'
            raise broken(rule, "missing", "fill", value=self.missing.fill)

    @model_validator(mode="after")
    def _check_class_weights(self) -> Self:
        """A class that isn't there is a slip of the pen; where the first file names the classes, it is refused then."""
        given, classes = self.training.class_weight, self.model.classes
        if isinstance(given, str) or classes is None:
            return self
        some = range(classes) if isinstance(classes, int) else classes
        names = [str(spelt(label)) for label in some]
        for name, weight in given.items():
            if name not in names:
                rule = f"must be the weight of one of the classes {', '.join(names)}"
                raise broken(rule, "training", "class_weight", name, value=weight)
        return self

    @model_validator(mode="after")
    def _check_optimizer(self) -> Self:
        """Some optimizers are made for some kernels."""
        name = self.optimizer.name
        if name == "auto":
            name = self.defaults.optimizer
        outputs = 2 if self.model.problem == "multiclass" else 1
        with _blamed("model"):
            try:
                kernel = self.model.made(self.width, outputs)
            except ValueError as error:
                raise broken(f"must fit kernel {self.model.kernel}: {error}", "features") from None
        misfit = registry.optimizer(name).misfit(kernel)
        if misfit is not None:
            raise broken(f"must be another one: {misfit}", "optimizer", "name", value=name)
        if name == "lbfgs" and self.model.classes_max is not None:
            rule = "must be left out: lbfgs remembers steps of a fixed number of parameters"
            raise broken(rule, "model", "classes_max", value=self.model.classes_max)
        if self.training.partition == "features":
            self._check_columns_apart(name)
        return self

    def _check_columns_apart(self, optimizer: str) -> None:
        """Who can learn by parts of the columns: see `kernels.columns`."""
        if not hasattr(registry.kernel(self.model.kernel), "wide"):
            rule = f'must be "samples": kernel {self.model.kernel} can\'t be cut by features'
            raise broken(rule, "training", "partition", value="features")
        if optimizer not in ELEMENTWISE:
            rule = (
                f'must treat each number alike for partition = "features": {", ".join(ELEMENTWISE)}'
            )
            raise broken(rule, "optimizer", "name", value=optimizer)
        if self.optimizer.options.get("clip_gradient"):
            rule = 'must be 0 for partition = "features", where no part knows the whole gradient'
            value = self.optimizer.options["clip_gradient"]
            raise broken(rule, "optimizer", "clip_gradient", value=value)
        if self.output.samples == "factored":
            rule = 'must be another one: partition = "features" has no factors'
            raise broken(rule, "output", "samples", value="factored")

    @model_validator(mode="after")
    def _check_factors(self) -> Self:
        """A gradient is put back from its factors where it is a product: of a linear kernel, or one that says so."""
        made = self.model.made(self.width, 2 if self.model.problem == "multiclass" else 1)
        is_product = getattr(made, "is_linear", False) or hasattr(made, "factors")
        if self.output.samples == "factored" and ":" not in self.model.kernel and not is_product:
            rule = f'must be another one: kernel {self.model.kernel} has no factors; "full" has whole gradients'
            raise broken(rule, "output", "samples", value="factored")
        return self

    @property
    def defaults(self) -> Defaults:
        """What "auto" stands for in this job: the kernel's defaults, or those of steps cut by features."""
        own = chosen = self.model.defaults
        if self.is_sparse:
            chosen = own._replace(
                batch_rows=1,
                lanes=1,
                dtype="float32",
                optimizer=SPARSE_OPTIMIZERS[0],
            )
        elif self.training.partition == "features":
            optimizer = own.optimizer if own.optimizer in ELEMENTWISE else "adagrad"
            chosen = own._replace(
                batch_rows=max(own.batch_rows, 256), lanes=4, local_steps=1, optimizer=optimizer
            )
        named = self.optimizer.name
        optimizer = chosen.optimizer if named == "auto" else named
        if own.clip == 0 and optimizer != own.optimizer:
            chosen = chosen._replace(clip=CLIP)  # a plain step along a far-out feature shoots past
        return chosen

    @property
    def width(self) -> int:
        """How many features the kernel gets, as far as it is known before there is a file: else 2."""
        return (len(self.features) if self.features else 2) + len(self.missing.indicators or ())

    @model_validator(mode="after")
    def _check_automatic(self) -> Self:
        """The options of an optimizer that is left to the kernel are those of the kernel's own."""
        if self.optimizer.name == "auto":
            with below("optimizer"):
                Optimizer.completed(self.defaults.optimizer, self.optimizer.options)
        return self
