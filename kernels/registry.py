"""Names in settings → kernels, optimizers, schedules.

Rules: the tables below are all there is; a kernel may also be a stranger's, named as
`package.module:Name`. An unknown name is an `UnknownName` that says what is allowed.
"""

from __future__ import annotations

from kernels import optimizers, strangers
from kernels.clusters import COUNTING, KMeans
from kernels.contract import Kernel, Spec, lookup
from kernels.experts import EXPERTS
from kernels.factorisation import FactorisationMachine, MatrixFactorisation
from kernels.lbfgs import LBFGS
from kernels.linear import Linear, Logistic, Softmax
from kernels.mlp import Mlp
from kernels.newton import NEWTON
from kernels.normalised import NORMALISED
from kernels.rules import Entry, Rule, Shapes, elementwise
from kernels.schedules import SCHEDULES, Schedule

KERNELS: dict[str, type[Kernel]] = {
    "linear": Linear,
    "logistic": Logistic,
    "softmax": Softmax,
    "mlp": Mlp,
    "fm": FactorisationMachine,
    "mf": MatrixFactorisation,
    "kmeans": KMeans,
}

RULES: dict[str, Entry] = {
    **{name: elementwise(name) for name in optimizers.OPTIMIZERS},
    "experts": EXPERTS,
    "normalised": NORMALISED,
    "newton": NEWTON,
    "lbfgs": LBFGS,
    "counting": COUNTING,
}


def kernel(name: str) -> type[Kernel]:
    """The kernel class called `name`: built in, or `package.module:Name`."""
    if ":" in name:
        return strangers.load(name)
    return lookup("kernel", KERNELS, name, also=" or package.module:Name")


def optimizer(name: str) -> Entry:
    """The optimizer called `name`."""
    return lookup("optimizer", RULES, name)


def schedule(name: str) -> Schedule:
    """The schedule of learning rates called `name`."""
    return lookup("schedule", SCHEDULES, name)


def rule(spec: Spec, made: Kernel, shapes: Shapes) -> Rule:
    """The rule of a spec's optimizer for its kernel, whose parameters have these shapes."""
    settings = dict(spec.optimizer)
    entry = optimizer(settings.pop("name"))
    return entry.make(made, shapes, spec.dtype, entry.Options(**settings))
