"""`headrace reset`: forgets a job's model; its files stay."""

from __future__ import annotations

from pathlib import Path

import click

from service.cli.options import job_option, root_option
from service.core.errors import ConfigurationError, HeadraceError
from service.core.layout import Layout, shown
from service.runtime.control import ask
from service.storage import units
from service.storage.completion import Keep
from service.storage.journal import Journal
from service.storage.recovery import recover
from service.storage.root import RootLock


@click.command("reset")
@root_option
@job_option
def command(root: Path, job: str) -> int:
    """Forget a job's model: the next file begins a new one. Files and logs stay where they are."""
    layout = Layout(root.absolute())
    answer = ask(layout.socket, {"command": "reset", "job": job})
    if answer is None:
        _reset_alone(layout, job)
    elif not answer["ok"]:
        raise (ConfigurationError if answer.get("wrong") else HeadraceError)(answer["error"])
    click.echo(
        f"{job}: its model is forgotten; to learn its files again, move them from done/ to inbox/"
    )
    return 0


def _reset_alone(layout: Layout, job: str) -> None:
    """Nobody runs: takes the daemon's lock and does it here."""
    if not layout.journal.exists():
        raise ConfigurationError(
            f"--root: a root that a daemon has run in, got {shown(layout.root)}"
        )
    with RootLock(layout.state):
        journal = Journal(layout.journal)
        try:
            if job not in journal.jobs():
                names = ", ".join(journal.jobs()) or "none yet"
                raise ConfigurationError(f"--job: must be one of {names}, got {shown(job)!r}")
            recover(layout, journal, keep=Keep(rotate_bytes=0, segments=0, models=2**62))
            units.perform(journal, units.reset(layout, job))
        finally:
            journal.close()
