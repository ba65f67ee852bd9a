"""`headrace reseal`: accepts a journal that another program has written, which the daemon calls damaged."""

from __future__ import annotations

from pathlib import Path

import click

from service.cli.alone import held, locked
from service.cli.options import root_option
from service.core.layout import Layout, shown
from service.storage.database import reseal
from service.storage.disk import names


@click.command("reseal")
@root_option
def command(root: Path) -> int:
    """Accept a journal that another program (sqlite3) has written. Copy the root first: what it says is believed."""
    layout = Layout(root.absolute())
    with locked(layout):
        reseal(layout.journal)
    with held(layout, names(layout.root / "models")) as journal:
        jobs = ", ".join(journal.jobs()) or "none yet"
    click.echo(f"{shown(layout.journal)}: sealed as it is; it knows the jobs: {jobs}")
    click.echo("whether its models are what their files make: headrace verify")
    return 0
