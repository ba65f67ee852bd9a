"""Names in settings → kernels, optimizers, schedules.

Rules: the three tables below are all there is; a kernel may also be a stranger's, named as
`package.module:Name`. An unknown name is an `UnknownName` that says what is allowed.
"""

from __future__ import annotations

import importlib
from typing import Any

from kernels.contract import Kernel, UnknownName, lookup
from kernels.linear import Linear, Logistic, Softmax
from kernels.mlp import Mlp
from kernels.optimizers import OPTIMIZERS, Optimizer
from kernels.schedules import SCHEDULES, Schedule

KERNELS: dict[str, type[Kernel]] = {
    "linear": Linear,
    "logistic": Logistic,
    "softmax": Softmax,
    "mlp": Mlp,
}

_METHODS = ("problem", "defaults", "init", "forward", "backward", "norms", "gradients")


def kernel(name: str) -> type[Kernel]:
    """The kernel class called `name`: built in, or `package.module:Name`."""
    if ":" in name:
        return _stranger(name)
    return lookup("kernel", KERNELS, name, also=" or package.module:Name")


def optimizer(name: str) -> Optimizer:
    """The optimizer called `name`."""
    return lookup("optimizer", OPTIMIZERS, name)


def schedule(name: str) -> Schedule:
    """The schedule of learning rates called `name`."""
    return lookup("schedule", SCHEDULES, name)


def _stranger(name: str) -> type[Kernel]:
    path, _, attribute = name.partition(":")
    try:
        found: Any = getattr(importlib.import_module(path), attribute)
    except Exception as error:  # a stranger's module may raise anything while it is imported
        raise UnknownName(f"kernel: {name!r} can't be loaded, {error}") from error
    missing = [part for part in ("Options", *_METHODS) if not hasattr(found, part)]
    if missing:
        raise UnknownName(f"kernel: {name!r} is no kernel, it lacks {', '.join(missing)}")
    return found  # type: ignore[no-any-return]
