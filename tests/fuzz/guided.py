"""The search itself: atheris gives bytes, sees which places they reach, and goes on from those that reached new ones.

    python -m tests.fuzz.guided TARGET OPTIONS OF LIBFUZZER

Rules: a process of its own, since libFuzzer never gives it back. The readers are instrumented while they are imported, so nothing
of theirs is imported before; what is compiled is seen through its plain twin.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

COMPILED = [
    f"service.formats.{name}" for name in ("cells", "hashing", "scan", "nearest", "numeric")
]


def main(name: str, options: list[str]) -> None:
    import atheris

    with atheris.instrument_imports(include=["service.formats"], exclude=COMPILED):
        from tests.fuzz import targets
    from tests.fuzz.interpreted import plain_readers

    def importing(module: str) -> Any:
        with atheris.instrument_imports(include=COMPILED):
            return importlib.import_module(module)

    target = targets.targets(plain_readers(importing))[name]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        atheris.Setup([sys.argv[0], *options], lambda data: target.check(data, place))
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
