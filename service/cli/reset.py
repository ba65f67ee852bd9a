"""`headrace reset`: forgets a job's model; its files stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from service.cli.alone import order
from service.cli.options import job_option, root_option
from service.core.layout import Layout
from service.storage import units
from service.storage.journal import Journal


@click.command("reset")
@root_option
@job_option
def command(root: Path, job: str) -> int:
    """Forget a job's model: the next file begins a new one. Files and logs stay where they are."""
    layout = Layout(root.absolute())

    def alone(journal: Journal) -> dict[str, Any]:
        units.perform(journal, units.reset(layout, job))
        return {}

    order(layout, {"command": "reset", "job": job}, alone)
    click.echo(
        f"{job}: its model is forgotten; to learn its files again, move them from done/ to inbox/"
    )
    return 0
