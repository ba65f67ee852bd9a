"""`headrace run`: the daemon, in the foreground."""

from __future__ import annotations

from pathlib import Path

import click

from service.cli.configuration import load
from service.cli.engine import serve
from service.cli.options import config_option, root_override
from service.lines.life import Errand


@click.command("run")
@config_option
@root_override
@click.option("--once", is_flag=True, help="Take what lies in the inboxes, finish it, exit.")
def command(config: Path, root: Path | None, once: bool) -> int:
    """Watch the inboxes and learn, until a signal."""
    settings = load(config, root)
    return serve(settings, Errand(once=once), reread=lambda: load(config, root))
