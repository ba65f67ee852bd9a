"""The contract between kernels and the service: what a model family is, and the words for its arrays.

Rules: this module imports nothing of ours. A kernel is pure functions on arrays: it keeps nothing
between calls, opens no file, reads no clock, and its sums have a fixed order, so that the same rows
give the same bits. Names and shapes, with n rows, f features, k outputs and P parameters:

    x (n, f)   the rows, scaled if the job asks for it, C-order, of the job's dtype
    y (n,)     float64: a number to predict, or the index of the class (0.0, 1.0, ... k-1)
    w (n,)     float64: the rows' weights, 1 where there is no weight column
    offset (n,)  float64: what is added to a row's raw output, 0 where there is no such column

A stranger's kernel is any class that fulfils `Kernel`; `kernel = "package.module:Name"` loads it.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
"""An array whose dtype the docstring beside it gives."""
Parameters = dict[str, Array]
"""A model's arrays by name; where they are laid end to end, it is in the order of their names."""
State = dict[str, Array]
"""All that a job has learnt, by name (`parameters/weights`, `scaling/mean`, `steps`, ...)."""
Layout = dict[str, tuple[tuple[int, ...], str]]
"""Shape and dtype of named arrays, in a fixed order."""
Results = Mapping[str, Array]
"""What is recorded of n rows, float64: `output` (n, k), `residual` (n, k), `norm` (n,), and
`gradient` (n, P) where it is asked for. Arrays that are given are filled."""
Problem = Literal["regression", "counts", "binary", "multiclass", "clustering"]
"""What labels are: numbers; numbers that are never negative, by a logarithmic link; two classes; many
classes; or nothing at all."""
Precision = Literal["float32", "float64"]


T = TypeVar("T")


class UnknownName(ValueError):
    """A kernel, optimizer or schedule that nobody has; the text lists what there is."""


class KernelFault(Exception):
    """A stranger's kernel breaks the contract; the text says which function, what was expected, what came."""


def lookup(kind: str, table: Mapping[str, T], name: str, also: str = "") -> T:
    """The entry called `name`; `UnknownName` says what else is allowed, and what is spelled nearly so."""
    if name not in table:
        near = difflib.get_close_matches(name, table, n=1)
        nearest = f"; the nearest is {near[0]}" if near else ""
        raise UnknownName(f"{kind}: must be one of {', '.join(table)}{also}, got {name!r}{nearest}")
    return table[name]


class Sparse(NamedTuple):
    """The features of n rows that are mostly 0, as those that aren't (compressed sparse rows).

    Row i has the values `values[starts[i]:starts[i + 1]]` in the slots `slots[...]`, which grow and differ
    within a row. `starts` (n + 1,) int64, `slots` (m,) uint32, `values` (m,) float32.
    """

    starts: Array
    slots: Array
    values: Array

    def slice(self, start: int, stop: int) -> Sparse:
        """The rows from `start` up to `stop`, as views."""
        return self._replace(starts=self.starts[start : stop + 1])

    def chosen(self, keep: Array) -> Sparse:
        """The rows that `keep` (n,) marks, in arrays of their own; of rows whose first start is 0."""
        sizes = np.diff(self.starts)
        entries = np.repeat(keep, sizes)
        starts = np.concatenate([[0], np.cumsum(sizes[keep])])
        return Sparse(starts, self.slots[entries], self.values[entries])


class Rows(NamedTuple):
    """Rows of samples: `x` (n, f) float64 or float32 in C-order; `y`, `w`, `offset` (n,) float64; and what
    is sparse of them, where the model has slots."""

    x: Array
    y: Array
    w: Array
    offset: Array
    sparse: Sparse | None = None

    def slice(self, start: int, stop: int) -> Rows:
        """The rows from `start` up to `stop`, as views."""
        x, y, w, offset = (a[start:stop] for a in (self.x, self.y, self.w, self.offset))
        return Rows(x, y, w, offset, self.sparse and self.sparse.slice(start, stop))


class Domain(NamedTuple):
    """The labels that a loss knows: numbers from `least` on, `least` itself among them or not."""

    least: float = -math.inf
    is_open: bool = True

    def holds(self, y: Array) -> Array:
        """Which labels (n,) lie inside, as booleans (n,)."""
        return np.asarray(y > self.least if self.is_open else y >= self.least)


ANY = Domain()
"""Every number."""


CLIP = 5.0
"""Standard deviations at which a scaled feature is cut, unless something speaks against it."""


class Defaults(NamedTuple):
    """The training settings that suit a kernel where the user gives none.

    `learning_rate` goes with `optimizer`; None leaves it to the optimizer's own default. `standardise`
    is whether features are scaled at all, `clip` where they are cut then: 0 is nowhere. That is for
    `optimizer` alone: others of its kind of kernel cut at ±`CLIP`.
    """

    batch_rows: int
    lanes: int
    local_steps: int
    dtype: Precision
    optimizer: str
    learning_rate: float | None = None
    standardise: bool = True
    clip: float = CLIP


@dataclass(frozen=True, slots=True)
class Spec:
    """Everything that a learner is made from; two equal specs make two equal learners.

    `optimizer` and `schedule` hold `name` beside their own options. `outputs` is the number of
    classes where the model has one output per class, else 1. `clip` bounds a standardised feature
    on both sides, in standard deviations; 0 is no bound. After `half_life` rows what is known of
    features and labels counts half; 0 is for ever. With `gaps` a feature may be NaN, which stands for
    a missing value: it isn't taken in, and is 0 once standardised. `scale_target` means something where labels are
    numbers, `class_weight` where they are classes: the factor of each class's steps by its index,
    or "balanced". A model of sparse rows has 2^`bits` slots, each with weights of its own, beside the
    features; with 0 bits all rows are dense.
    """

    kernel: str
    features: int
    options: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    optimizer: dict[str, Any] = field(default_factory=lambda: {"name": "adagrad"})
    schedule: dict[str, Any] = field(default_factory=lambda: {"name": "constant"})
    standardise: bool = True
    clip: float = 0.0
    half_life: float = 0.0
    gaps: bool = False
    scale_target: bool = True
    class_weight: Literal["balanced"] | tuple[float, ...] | None = None
    seed: int = 0
    dtype: Precision = "float64"
    bits: int = 0

    def to_json(self) -> str:
        """One line of JSON with sorted keys: equal specs give equal text."""
        return json.dumps(asdict(self), sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Spec:
        """The spec that `to_json` wrote. Lists stay lists: options turn them into tuples."""
        return cls(**json.loads(text))


class Loss(Protocol):
    """A loss of raw outputs `o` (n, k) and labels `y` (n,); all methods are stable for any finite o."""

    def value(self, output: Array, y: Array) -> Array:
        """The loss of each row, (n,) float64."""

    def residual(self, output: Array, y: Array) -> Array:
        """Its derivative by each raw output, (n, k) float64."""

    def link(self, output: Array) -> Array:
        """What is predicted: numbers (n,), P(positive) (n,), or the classes' probabilities (n, k)."""


class Kernel(Protocol):
    """A model family: raw outputs and gradients as pure functions of parameters and rows.

    A kernel is made as `Kernel(options, features, outputs)`, with an instance of its own `Options`,
    a frozen dataclass of plain annotated fields with defaults (unknown keys are refused before; a
    `ValueError` from `__post_init__` becomes a configuration error). It has

    loss        what is minimised, a `Loss`
    l2          the penalty l2/2 · |θ|² of the parameters that `penalised` names: a step adds l2 · θ
    l1          (where there is one) the penalty l1 · |θ|₁ of the same parameters: a proximal step

    One with `takes_ids` = True has features that are names, not amounts: they are never scaled, and
    nothing can stand for one that is missing. It is given `seed` afterwards, the job's. A kernel that drops units at random has `draws` = True,
    and a third argument of `forward`: the rows' numbers over the job's life (n,) int64 when a step is
    learnt; what it drops is a function of these and the seed. A kernel whose gradients are products
    may have `factors(parameters, tape, residual)` and `factors_layout(rows)`, the named float64 arrays
    (n, m) that rows' gradients are rebuilt from.

    Parameters may be of float32 or float64; `x` comes in the same dtype and results may stay in it.
    What lies between `forward` and the gradients is the tape, which nobody else looks into. The sum
    over rows in `backward` has a fixed order. The residual that is given is not always that of
    `loss`: rows are weighted and targets are scaled before.
    """

    Options: ClassVar[type]
    l2: float
    penalised: tuple[str, ...]

    @property
    def loss(self) -> Loss: ...

    def __init__(self, options: Any, features: int, outputs: int) -> None: ...

    @classmethod
    def problem(cls, options: Any) -> Problem:
        """What the labels are: numbers, two classes with one output, or classes with one each."""

    @classmethod
    def defaults(cls, options: Any) -> Defaults:
        """The training settings that suit this family."""

    def init(self, generator: np.random.Generator) -> Parameters:
        """Fresh parameters, float64; random ones only from `generator`."""

    def forward(self, parameters: Parameters, x: Array) -> tuple[Array, Any]:
        """Raw outputs (n, k) of the rows `x` (n, f), and the tape."""

    def backward(self, parameters: Parameters, tape: Any, residual: Array) -> Parameters:
        """The sum over rows of residual (n, k) times the outputs' derivatives, shaped as parameters."""

    def norms(self, parameters: Parameters, tape: Any, residual: Array) -> Array:
        """The Euclidean norm (n,) of each row's gradient by all parameters, never materialised."""

    def gradients(self, parameters: Parameters, tape: Any, residual: Array) -> Array:
        """Each row's gradient (n, P), the parameters laid end to end in the order of their names."""

    def coefficients(self, parameters: Parameters) -> tuple[Array, Array] | None:
        """Intercept (k,) and weights (k, f) if outputs = intercept + weights · x, else None."""


CompiledPass = Callable[[State, Rows, Array, int, Array, Results], None]
"""(state, rows, pushes, batch_rows, rates, results): learns from the rows in place, batch after batch,
and fills the results; `pushes` (n,) are the rows' weights in the step, class weights included, and
`rates` (batches,) float64. It equals the learner's own pass to rounding, and leaves the state settled."""


class Ends(NamedTuple):
    """Where files end whose rows are one lane, and what is kept of the state at the end of each but the last.

    `stops` (files,) int64 is the row behind each file's last one. `whole` (words,) int64 is the memory that all arrays of the state lie
    in, and a row of `copies` (files - 1, words) becomes what it holds at a file's end; without `copies` it may be empty.
    """

    stops: Array
    whole: Array
    copies: Array


class FilesPass(Protocol):
    """A compiled pass that also learns from several files in one call: to take the state's arrays apart costs as much as a
    small file's rows."""

    def __call__(
        self,
        state: State,
        rows: Rows,
        pushes: Array,
        batch_rows: int,
        rates: Array,
        results: Results,
    ) -> None: ...

    def files(
        self,
        state: State,
        rows: Rows,
        pushes: Array,
        batch_rows: int,
        rates: Array,
        results: Results,
        ends: Ends,
    ) -> None:
        """As the pass, of files one after the other: no batch crosses an end, and at each the state is what it would be
        had the file been a lane of its own, to the bit."""


class CompiledKernel(Protocol):
    """A kernel that also has a compiled pass for some optimizers."""

    def compiled(self, spec: Spec) -> CompiledPass | None:
        """The pass for this spec, or None where there is none."""
