"""`headrace retry`: puts files from failed/ back into the inbox."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from service.cli.alone import named, order, pairs
from service.cli.options import files_argument, job_option, root_option
from service.core.layout import Layout
from service.storage.journal import Journal
from service.storage.retrial import retrial, told
from service.storage.units import perform


@click.command("retry")
@root_option
@job_option
@files_argument
def command(root: Path, job: str, files: tuple[Path, ...]) -> int:
    """Put FILES, as they are called in failed/, back into the inbox under the names that they came with, or into predict/."""
    layout, asked = Layout(root.absolute()), named(files)

    def alone(journal: Journal) -> dict[str, Any]:
        return dict(told(perform(journal, retrial(layout, job, asked))))

    request = {"command": "retry", "job": job, "files": pairs(asked)}
    answer, _ = order(layout, request, alone)
    for name in answer["files"]:
        click.echo(f"{job}: {name} is in the inbox again")
    for name in answer["predict"]:
        click.echo(f"{job}: {name} is in predict/ again")
    return 0
