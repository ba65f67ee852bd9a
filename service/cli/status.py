"""`headrace status`: what is running, waiting, done and failed; with the daemon up or down."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from service.cli.options import root_option
from service.core.errors import HeadraceError
from service.core.layout import Layout, shown


@click.command("status")
@root_option
@click.option("--json", "as_json", is_flag=True, help="The whole status as JSON.")
def command(root: Path, as_json: bool) -> int:
    """Say what the daemon of a root does, or did last."""
    layout = Layout(root.absolute())
    status = read(layout)
    if as_json:
        click.echo(json.dumps(status, indent=2))
    else:
        show(status, Console())
    return 0


def read(layout: Layout) -> dict[str, Any]:
    """status.json, with `running` told by the lock, and the files that wait counted anew when nobody runs."""
    try:
        status: dict[str, Any] = json.loads(layout.status.read_text())
    except FileNotFoundError:
        raise HeadraceError(f"{shown(layout.root)}: no daemon has run here (no {layout.status.name})") from None
    except ValueError as error:
        raise HeadraceError(f"{shown(layout.status)}: it is JSON, got {error}") from None
    status["running"] = is_held(layout)
    if not status["running"]:
        status["state"] = "stopped" if status["state"] == "stopped" else "killed"
        for name, job in status["jobs"].items():
            job["waiting"] = _count(layout.inbox(name)) + _count(layout.work(name))
    return status


def is_held(layout: Layout) -> bool:
    """Whether a process holds the root's lock."""
    try:
        lock = os.open(layout.state / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _count(folder: Path) -> int:
    try:
        return sum(not name.startswith(".") for name in os.listdir(folder))
    except FileNotFoundError:
        return 0


def show(status: dict[str, Any], console: Console) -> None:
    """A table of the jobs, below one line on the daemon."""
    pause = status["loop_longest_pause_seconds"] * 1000
    head = f"{status['root']}: {status['state']}, pid {status['pid']}, {len(status['workers'])} workers"
    console.print(f"{head}, longest pause of the loop {pause:.1f} ms", markup=False, highlight=False)
    console.print(table(status))
    for name, job in status["jobs"].items():
        if job["reason"]:
            console.print(f"{name}: {job['reason']}", markup=False, highlight=False)


def table(status: dict[str, Any]) -> Table:
    """One row a job."""
    found = Table(box=None, pad_edge=False)
    for heading in ("job", "state", "waiting", "done", "failed", "file", "rows", "loss", "version", "model"):
        right = heading in ("waiting", "done", "failed", "rows", "loss", "version")
        found.add_column(heading, justify="right" if right else "left", no_wrap=True)
    for name, job in status["jobs"].items():
        found.add_row(name, *_cells(job))
    return found


def _cells(job: dict[str, Any]) -> list[str]:
    file, model = job["file"] or {}, job["model"] or {}
    progress = f"{file['name']} {file['share']:.0%}" if file else ""
    loss = file.get("loss") if file.get("loss") is not None else model.get("loss")
    return [
        job["state"],
        str(job["waiting"]),
        str(job["done"]),
        str(job["failed"]),
        progress,
        f"{file['rows']:,}" if file else "",
        "" if loss is None else f"{loss:.5g}",
        str(model.get("version", "")),
        str(model.get("sha256", ""))[:12],
    ]
