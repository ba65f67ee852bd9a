"""Imported by every Python that has this folder on its path: while a bundle is learnt, one of its files is written to.

    HEADRACE_CHANGING = the file

Rules. Nothing of the service knows of this. It happens once.
"""

import os
import sys
from pathlib import Path
from typing import Any

if "service.runtime.worker" in sys.orig_argv and (changing := os.environ.get("HEADRACE_CHANGING")):
    from service.subtasks import bundles

    learn, done = bundles.run, Path(changing).parents[2] / "changed"

    def change_and_learn(*arguments: Any) -> Any:
        if not done.exists():
            done.touch()
            with Path(changing).open("ab") as file:
                file.write(b"1,2,3,1\n")
        return learn(*arguments)

    setattr(bundles, "run", change_and_learn)  # noqa: B010
