"""`headrace status`: what is running, waiting, done and failed; with the daemon up or down."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.cli.options import root_option
from service.cli.terminal import figure, say, terminal
from service.core.errors import HeadraceError
from service.core.layout import Layout, shown
from service.core.status import JobStatus, ModelStatus
from service.runtime.control import ask
from service.storage.journal import Journal
from service.storage.tables import FileState

ANSWER_SECONDS = 2.0


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
        show(status, terminal())
    return 0


def read(layout: Layout) -> dict[str, Any]:
    """What the daemon says of itself now; else status.json, with what the journal says of the jobs put right.

    A daemon that was killed, or a command that ran without one, has left status.json behind the journal. `running` is
    told by the lock. A daemon on a full disk can't replace status.json, but answers.
    """
    try:
        live = ask(layout.socket, {"command": "status"}, ANSWER_SECONDS)
    except OSError:
        live = None
    if live is not None and live["ok"]:
        return {**live["status"], "running": True}
    try:
        status: dict[str, Any] = json.loads(layout.status.read_text())
    except FileNotFoundError:
        raise HeadraceError(
            f"{shown(layout.root)}: no daemon has run here (no {layout.status.name})"
        ) from None
    except ValueError as error:
        raise HeadraceError(f"{shown(layout.status)}: it is JSON, got {error}") from None
    status["running"] = is_held(layout)
    if not status["running"]:
        status["state"] = "stopped" if status["state"] == "stopped" else "killed"
        for name, stand in _stands(layout).items():
            status["jobs"].setdefault(name, JobStatus().shown(status["time"])).update(stand)
        for name, job in status["jobs"].items():
            job["waiting"] = _count(layout.inbox(name)) + _count(layout.work(name))
            if job["state"] != "failed":
                job["state"], job["reason"] = "stopped", None
    return status


def _stands(layout: Layout) -> dict[str, dict[str, Any]]:
    """Where the jobs stand, from a copy of the journal: to look at it changes nothing, also where a daemon was killed."""
    with tempfile.TemporaryDirectory(prefix="headrace-status-") as place:
        copy = Path(place) / layout.journal.name
        for suffix in ("", "-wal"):
            theirs = Path(f"{layout.journal}{suffix}")
            if theirs.exists():
                shutil.copyfile(theirs, f"{copy}{suffix}")
        journal = Journal(copy)
        try:
            return {job: _stand(journal, job) for job in journal.jobs()}
        finally:
            journal.close()


def _stand(journal: Journal, job: str) -> dict[str, Any]:
    counts, commit = journal.counts(job), journal.commit(job, "public")
    model = commit and ModelStatus(
        commit.version,
        commit.model_sha256,
        commit.model,
        rows=commit.extra.get("rows"),
        loss=commit.extra.get("loss"),
    )
    unfinished = journal.unfinished(job)
    return {
        "done": counts.get(FileState.ACCEPTED, 0),
        "failed": counts.get(FileState.REFUSED, 0),
        "duplicates": counts.get(FileState.DUPLICATE, 0),
        "model": model and asdict(model),
        "file": None,
        "lag_seconds": max(0.0, time.time() - unfinished[0].admitted_at) if unfinished else None,
    }


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
    """A table of the jobs, below one line on the daemon and above what they are at."""
    pause = status["loop_longest_pause_seconds"] * 1000
    head = f"{status['root']}: {status['state']}, pid {status['pid']}, {len(status['workers'])} workers"
    say(console, f"{head}, longest pause of the loop {pause:.1f} ms")
    if status["trouble"]:
        say(console, f"trouble: {status['trouble']}")
    console.print(table(status))
    for line in at_work(status):
        say(console, line)


def table(status: dict[str, Any]) -> Table:
    """One row a job."""
    found = Table(box=None, pad_edge=False)
    for heading in ("job", "state", "waiting", "done", "failed", "loss", "version", "model"):
        right = heading in ("waiting", "done", "failed", "loss", "version")
        found.add_column(heading, justify="right" if right else "left", overflow="fold")
    for name, job in status["jobs"].items():
        found.add_row(Text(name), *_cells(job))
    return found


def at_work(status: dict[str, Any]) -> Iterator[str]:
    """A line for each job that has a file in progress, or a reason to tell."""
    for name, job in status["jobs"].items():
        file = job["file"]
        if file is not None:
            loss = "" if file["loss"] is None else f", loss {figure(file['loss'])}"
            epoch = "" if file["epoch"] == 1 else f" (epoch {file['epoch']})"
            yield f"{name}: {file['name']}{epoch}, {file['share']:.0%}, {file['rows']:,} rows{loss}"
        if job["reason"]:
            yield f"{name}: {job['reason']}"


def _cells(job: dict[str, Any]) -> list[str]:
    model = job["model"] or {}
    loss = model.get("loss")
    return [
        job["state"],
        str(job["waiting"]),
        str(job["done"]),
        str(job["failed"]),
        "" if loss is None else figure(loss),
        str(model.get("version", "")),
        str(model.get("sha256", ""))[:12],
    ]
