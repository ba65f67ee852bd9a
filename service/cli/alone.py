"""Commands that change a root: they reach a running daemon by its socket, and without one take its lock and act themselves."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from service.core.errors import ConfigurationError, HeadraceError
from service.core.layout import Layout, shown
from service.runtime.control import ask
from service.storage.completion import Keep
from service.storage.journal import Journal
from service.storage.naming import Named
from service.storage.recovery import recover
from service.storage.root import RootLock

T = TypeVar("T")

KEEP_ALL = Keep(rotate_bytes=0, segments=0, models=2**62)
"""Without a configuration nothing is too old."""

PATIENCE_SECONDS = 24 * 3600.0
"""How long a daemon may take: it reads what is to be learnt again before it says yes."""


def order(
    layout: Layout, request: dict[str, Any], alone: Callable[[Journal], dict[str, Any]]
) -> tuple[dict[str, Any], bool]:
    """The answer of the daemon, or of `alone` where none runs; and whether one does."""
    answer = ask(layout.socket, request, PATIENCE_SECONDS)
    if answer is None:
        with held(layout) as journal:
            _refuse_unknown(journal, request["job"])
            return alone(journal), False
    if not answer["ok"]:
        raise (ConfigurationError if answer.get("wrong") else HeadraceError)(answer["error"])
    return answer, True


@contextmanager
def held(layout: Layout) -> Iterator[Journal]:
    """The journal of a root in which nobody runs, recovered."""
    if not layout.journal.exists():
        raise ConfigurationError(
            f"--root: must be a root that a daemon has run in, got {shown(layout.root)}"
        )
    with RootLock(layout.state):
        journal = Journal(layout.journal)
        try:
            recover(layout, journal, keep=KEEP_ALL)
            yield journal
        finally:
            journal.close()


def named(files: Sequence[Path]) -> list[Named]:
    """The files as another process can understand them."""
    return [Named(os.fspath(file), os.path.abspath(file)) for file in files]


def pairs(files: Sequence[Named]) -> list[list[str]]:
    """The same as JSON."""
    return [[file.typed, file.path] for file in files]


def _refuse_unknown(journal: Journal, job: str) -> None:
    if job not in journal.jobs():
        names = ", ".join(journal.jobs()) or "none yet"
        raise ConfigurationError(f"--job: must be one of {names}, got {shown(job)!r}")
