"""The compiled readers as plain Python: then coverage sees into them, and who leaves an array's bounds raises.

Rules: the modules are executed a second time, without compiling, under names that nobody else sees. Both must give
the same bits.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

import numba
import numpy as np

from service.formats import cells, hashing, nearest, numeric, scan

COMPILED = (hashing, cells, scan, nearest, numeric)
Importing = Callable[[str], ModuleType]


class Plain(NamedTuple):
    """`scan.scan` and `numeric.numbers`, all of them in Python."""

    scan: Callable[..., Any]
    numbers: Callable[..., Any]


def plain_readers(importing: Importing) -> Plain:
    """`importing` imports a module by its name."""
    with _without_compiling():
        plain = {module: importing(module.__name__) for module in COMPILED}
    return Plain(_widened(plain[scan]), _quiet(plain[numeric]))


def _quiet(plain: ModuleType) -> Callable[..., Any]:
    """numeric.numbers. Compiled, a byte that is counted below 0 is large without a word."""
    run = plain._run

    def quiet(*args: Any) -> Any:
        with np.errstate(all="ignore"):
            return run(*args)

    plain._run = quiet  # type: ignore[attr-defined]
    found: Callable[..., Any] = plain.numbers
    return found


def _widened(plain: ModuleType) -> Callable[..., Any]:
    run = plain._run

    def widened(data: Any, *rest: Any) -> Any:
        """Compiled, a byte becomes a wide number as soon as one counts with it."""
        with np.errstate(all="ignore"):
            return run(data.astype(np.int64), *rest)

    plain._run = widened  # type: ignore[attr-defined]
    found: Callable[..., Any] = plain.scan
    return found


@contextmanager
def _without_compiling() -> Iterator[None]:
    """Modules are imported anew within, and forgotten after it."""
    package = sys.modules["service.formats"]
    try:
        numba.config.DISABLE_JIT = True
        for module in COMPILED:
            del sys.modules[module.__name__]
        yield
    finally:
        numba.config.DISABLE_JIT = False
        for module in COMPILED:
            sys.modules[module.__name__] = module
            setattr(package, module.__name__.rpartition(".")[2], module)
