"""One job's settings: what it learns, with which model, and how.

Rules: everything here is valid from birth, also where two keys must fit each other. The kernel, the optimizer and the schedule
bring options of their own, which stand in the same table as our keys. The word "auto" stays until `resolution` puts the
kernel's own default in its place.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from kernels import registry
from kernels.contract import Defaults, Kernel, Problem
from service.core.complaints import Says, below, broken, shown
from service.core.sections import (
    AutoCount,
    Classes,
    Column,
    Columns,
    Count,
    Label,
    Lanes,
    Name,
    OpenSection,
    Section,
    Switch,
    Text,
)


class Model(OpenSection):
    """`[jobs.model]`: the kernel, the classes it tells apart, and the kernel's own options."""

    OWN = ("kernel", "positive", "classes")

    kernel: Text
    positive: Label | None = None
    classes: Classes | None = None

    @staticmethod
    def meant(name: str) -> type[Kernel]:
        return registry.kernel(name)

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

    @model_validator(mode="after")
    def _check_classes(self) -> Self:
        if self.problem == "regression":
            self._refuse("classes", f"must be left out: kernel {self.kernel} learns numbers")
        if self.problem != "binary":
            self._refuse("positive", "must be left out: it belongs to kernels of two classes")
        if self.problem == "binary" and self.classes is not None:
            self._check_pair()
        if isinstance(self.classes, tuple):
            _check_distinct(self.classes)
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


def _check_distinct(classes: tuple[str | int | float, ...]) -> None:
    if len(set(classes)) < len(classes):
        raise broken("must be distinct", "classes", value=classes)
    if len({isinstance(label, str) for label in classes}) > 1:
        raise broken("must be all names or all numbers", "classes", value=classes)


class Optimizer(OpenSection):
    """`[jobs.optimizer]`: its name ("auto": the kernel's default), and its own options."""

    OWN = ("name",)

    name: Text = "auto"

    @staticmethod
    def meant(name: str) -> Any:
        return registry.optimizer(name)


class Schedule(OpenSection):
    """`[jobs.schedule]`: how the learning rate goes on, and the schedule's own options."""

    OWN = ("name",)

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


class Scaling(Section):
    """`[jobs.scaling]`: what is brought to mean 0 and standard deviation 1 before it is learnt."""

    standardise: Switch = True
    clip: Annotated[float, Field(ge=0), Says("a number from 0, in standard deviations")] = 5.0
    target: Literal["auto", "none"] = "auto"

    @model_validator(mode="after")
    def _check_clip(self) -> Self:
        if "clip" in self.model_fields_set and self.clip and not self.standardise:
            raise broken(
                "must be left out, or 0, where standardise is false", "clip", value=self.clip
            )
        return self


class Output(Section):
    """`[jobs.output]`: what is written of each sample."""

    samples: Literal["off", "norms", "factored", "full"] = "norms"
    samples_format: Literal["jsonl", "text"] = "jsonl"


class Job(Section):
    """`[[jobs]]`: one model trained from one inbox."""

    name: Name
    label: Column
    features: Columns | None = None
    id: Column | None = None
    weight: Column | None = None
    time: Column | None = None
    model: Model
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    training: Training = Training()
    scaling: Scaling = Scaling()
    output: Output = Output()

    @property
    def columns(self) -> dict[str, str | int]:
        """The columns that have a part of their own, by key: label, and id, weight, time if given."""
        named = {key: getattr(self, key) for key in ("label", "id", "weight", "time")}
        return {key: column for key, column in named.items() if column is not None}

    @model_validator(mode="after")
    def _check_columns(self) -> Self:
        kind = type(self.label)
        taken: dict[Any, str] = {}
        features = {f"features[{i}]": column for i, column in enumerate(self.features or ())}
        for key, column in (self.columns | features).items():
            if type(column) is not kind:
                rule = (
                    "must be a name, as the label is"
                    if kind is str
                    else "must be a number, as the label is"
                )
                raise broken(rule, key, value=column)
            if column in taken:
                raise broken(f"must be another column than {taken[column]}", key, value=column)
            taken[column] = key
        return self

    @model_validator(mode="after")
    def _check_automatic(self) -> Self:
        """The options of an optimizer that is left to the kernel are those of the kernel's own."""
        if self.optimizer.name == "auto":
            with below("optimizer"):
                Optimizer.completed(self.model.defaults.optimizer, self.optimizer.options)
        return self
