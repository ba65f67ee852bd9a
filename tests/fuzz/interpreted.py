"""The compiled readers as plain Python: then coverage sees into them, and who leaves an array's bounds raises.

Rules: the modules are executed a second time, without compiling, under names that nobody else sees. Both must give
the same bits.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numba
import numpy as np

from service.formats import cells, hashing, scan

COMPILED = (hashing, cells, scan)


def plain_scan(importing: Callable[[str], ModuleType]) -> Callable[..., Any]:
    """scan.scan, all of it in Python; `importing` imports a module by its name."""
    with _without_compiling():
        *_, plain = [importing(module.__name__) for module in COMPILED]
    run = plain._run

    def widened(data: Any, *rest: Any) -> Any:
        """Compiled, a byte becomes a wide number as soon as one counts with it."""
        with np.errstate(all="ignore"):
            return run(data.astype(np.int64), *rest)

    plain._run = widened
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
