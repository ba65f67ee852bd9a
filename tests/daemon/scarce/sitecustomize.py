"""Imported by every Python that has this folder on its path: one request for memory by the bundles' code is refused.

    HEADRACE_SCARCE = daemon | number of the request | file that gets one byte per request
    HEADRACE_SCARCE = worker | number of the sub-task | file that gets one byte per sub-task

Rules. Nothing of the service knows of this. Requests of single files are never refused: they would cost the file.
"""

import os
import sys
from pathlib import Path
from typing import Any

told = os.environ.get("HEADRACE_SCARCE")
in_worker = "service.runtime.worker" in sys.orig_argv
if told and told.startswith("worker" if in_worker else "daemon"):
    _, number, counted = told.split("|")

    def refuse() -> None:
        from service.core.errors import ArenaFull

        with Path(counted).open("ab", buffering=0) as log:
            log.write(b".")
            if log.tell() == int(number):
                raise ArenaFull("arena: regions fit the machine's memory, got none: so says a test")

    if in_worker:
        from service.subtasks import bundles

        def scarce(whole: Any) -> Any:
            def ask(*arguments: Any) -> Any:
                refuse()
                return whole(*arguments)

            return ask

        for name in ("read", "run", "account"):
            setattr(bundles, name, scarce(getattr(bundles, name)))
    else:
        from service.runtime.arena import Arena

        reserve = Arena.reserve
        BETWEEN = ("held.py", "line.py", "sitecustomize.py")  # between who asks and the arena

        def scarce_reserve(arena: Arena, nbytes: int, **how: Any) -> Any:
            frame = sys._getframe(1)
            while frame is not None and frame.f_code.co_filename.endswith(BETWEEN):
                frame = frame.f_back
            asks = "" if frame is None else Path(frame.f_code.co_filename).name
            if asks in ("bundling.py", "bundles.py", "accounts.py"):
                refuse()
            return reserve(arena, nbytes, **how)

        Arena.reserve = scarce_reserve  # type: ignore[method-assign]
