"""`headrace run`: the daemon, in the foreground."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click

from service.cli.options import config_option, root_override
from service.core.errors import WorkerError
from service.runtime.garbage import made_to_stay
from service.runtime.nursery import Nursery, why_no_process
from service.subtasks import WARM


@click.command("run")
@config_option
@root_override
@click.option("--once", is_flag=True, help="Take what lies in the inboxes, finish it, exit.")
def command(config: Path, root: Path | None, once: bool) -> int:
    """Watch the inboxes and learn, until a signal."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the configuration is yet to be read
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # nothing is begun; the loop has its own
    with _nursery() as nursery:
        # Here and not above: what they import takes as long as what the nursery imports meanwhile.
        with made_to_stay():
            from service.cli.configuration import load
            from service.cli.engine import serve
            from service.lines.life import Errand

        settings = load(config, root)
        errand = Errand(once=once)
        return serve(settings, errand, reread=lambda: load(config, root), nursery=nursery)


def _nursery() -> Nursery:
    """Raises WorkerError where no process is to be had."""
    try:
        return Nursery.spawn(WARM)
    except OSError as error:
        raise WorkerError(f"workers: {why_no_process(error)}") from error
