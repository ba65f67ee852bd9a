"""Commands that change a root: they reach a running daemon by its socket, and without one take its lock and act themselves."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
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

ANSWER_SECONDS = 2.0
PATIENCE_SECONDS = 24 * 3600.0
"""How long a daemon may take: it reads what is to be learnt again before it says yes."""


def order(
    layout: Layout, request: dict[str, Any], alone: Callable[[Journal], dict[str, Any]]
) -> tuple[dict[str, Any], bool]:
    """The answer of the daemon, or of `alone` where none runs; and whether one does."""
    answer = ask(layout.socket, request, PATIENCE_SECONDS, Waiting(layout, request["job"]).say)
    if answer is None:
        with held(layout) as journal:
            _refuse_unknown(journal, request["job"])
            return alone(journal), False
    if not answer["ok"]:
        raise (ConfigurationError if answer.get("wrong") else HeadraceError)(answer["error"])
    return answer, True


class Waiting:
    """Says on stderr why a daemon lets a command wait, where it knows: once, and again when that changes."""

    def __init__(self, layout: Layout, job: str | None = None) -> None:
        self._layout = layout
        self._job = job
        self._said = ""

    def say(self) -> None:
        why = self._why()
        if why and why != self._said:
            print(f"headrace: the daemon waits, and this command with it: {why}", file=sys.stderr)
            self._said = why

    def _why(self) -> str:
        try:
            answer = ask(self._layout.socket, {"command": "status"}, ANSWER_SECONDS)
        except OSError:
            return ""
        status = answer["status"] if answer is not None and answer["ok"] else {}
        job = status.get("jobs", {}).get(self._job, {})
        return str(status.get("trouble") or job.get("reason") or "")


@contextmanager
def held(layout: Layout, jobs: Iterable[str] = ()) -> Iterator[Journal]:
    """The journal of a root in which nobody runs, recovered: it must know these jobs, if they have models or logs."""
    with locked(layout):
        journal = Journal(layout.journal)
        try:
            recover(layout, journal, {*journal.jobs(), *jobs}, keep=KEEP_ALL)
            yield journal
        finally:
            journal.close()


@contextmanager
def locked(layout: Layout) -> Iterator[None]:
    """A root that has a journal, and in which nobody runs."""
    if not layout.journal.exists():
        raise ConfigurationError(
            f"--root: must be a root that a daemon has run in, got {shown(layout.root)}"
        )
    with RootLock(layout.state):
        yield


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
