"""Work that is done in a child of this process, which may die of it."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from enum import Enum
from typing import NoReturn


class End(Enum):
    """How a child ended."""

    DONE = "done"
    FAILED = "failed"
    KILLED = "killed"


def in_child(work: Callable[[], object], *, quiet: bool = False) -> End:
    """Runs it in a child; an error is told on stderr, unless it is what one waits for."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        _live(work, quiet)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return End.KILLED
    return End.DONE if os.WEXITSTATUS(status) == 0 else End.FAILED


def _live(work: Callable[[], object], quiet: bool) -> NoReturn:
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        if not quiet:
            traceback.print_exc()
    finally:
        os._exit(status)
