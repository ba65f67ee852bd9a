"""`headrace retract`: takes files back out of a job's model, as if they had never come."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from service.cli.alone import KEEP_ALL, named, order, pairs
from service.cli.options import files_argument, job_option, root_option
from service.core.layout import Layout
from service.storage import units
from service.storage.archive import look_at
from service.storage.journal import Journal
from service.storage.naming import Named
from service.storage.retraction import planning, refuse_lost, retraction
from service.storage.units import perform


@click.command("retract")
@root_option
@job_option
@files_argument
def command(root: Path, job: str, files: tuple[Path, ...]) -> int:
    """Take FILES, as they are called in done/, back out of a job's model; what came after them is learnt again."""
    layout, asked = Layout(root.absolute()), named(files)

    def alone(journal: Journal) -> dict[str, Any]:
        return _retract(layout, journal, job, asked)

    request = {"command": "retract", "job": job, "files": pairs(asked)}
    answer, runs = order(layout, request, alone)
    click.echo(f"{job}: taken back: {', '.join(answer['taken'])}")
    click.echo(f"{job}: {_what_remains(len(answer['again']), runs)}")
    for name in answer["vanished"]:
        click.echo(f"{job}: {name} was taken away meanwhile, and is not learnt again", err=True)
    return 1 if answer["vanished"] else 0


def _retract(layout: Layout, journal: Journal, job: str, asked: Sequence[Named]) -> dict[str, Any]:
    plan = perform(journal, planning(layout, job, asked))
    found = look_at(layout, plan.files)
    refuse_lost(layout, plan, found)
    perform(journal, units.drop_private(layout, job))
    rotate_bytes = KEEP_ALL.rotate_bytes
    unit = retraction(layout, plan, found, rotate_bytes=rotate_bytes)
    return dict(perform(journal, unit).told())


def _what_remains(files: int, runs: bool) -> str:
    if not files:
        return "for its sake nothing is to be learnt again"
    some = "1 file is" if files == 1 else f"{files} files are"
    which = "what was learnt since the newest model that is kept from before it"
    if runs:
        return f"{some} learnt again now, {which}; see `headrace status`"
    return f"{some} learnt again at the next `headrace run`, {which}; the model lacks it until then"
