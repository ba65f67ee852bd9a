"""`headrace train`: the same engine on named files, with a progress bar."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import click
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from service.cli.configuration import load
from service.cli.engine import serve
from service.cli.options import config_option, root_override
from service.cli.terminal import figure, say, terminal
from service.core.errors import ConfigurationError
from service.core.job_settings import Job
from service.core.layout import shown
from service.core.settings import Settings
from service.daemon import Daemon
from service.lines.life import Errand
from service.storage.tables import Entry

REFRESH_SECONDS = 0.1


@click.command("train")
@config_option
@root_override
@click.option("--job", default=None, help="The job to train; needed when there are several.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def command(config: Path, root: Path | None, job: str | None, files: tuple[Path, ...]) -> int:
    """Train a job on FILES, training.epochs times over all of them; the files stay where they are."""
    settings = load(config, root)
    chosen = _job(settings, job)
    entries = _entries(files, chosen.training.epochs)
    told = _Told(sum(entry.size for entry in entries), len(entries))
    status = serve(settings, Errand(job=chosen.name, named=entries), quiet=True, beside=told.follow)
    return told.summary(chosen.name) or status


def _job(settings: Settings, name: str | None) -> Job:
    if name is not None:
        return settings.job(name)
    if len(settings.jobs) == 1:
        return settings.jobs[0]
    names = ", ".join(job.name for job in settings.jobs)
    raise ConfigurationError(f"--job: one of {names} must be named, got none")


def _entries(files: Sequence[Path], epochs: int) -> list[Entry]:
    """Each file once an epoch, in the order given."""
    entries = []
    for epoch in range(1, epochs + 1):
        for file in files:
            try:
                seen = file.stat()
            except OSError as error:
                raise ConfigurationError(
                    f"{shown(file)}: {(error.strerror or '').lower()}"
                ) from None
            name, path = os.fsencode(file.name), os.fsencode(file.absolute())
            entries.append(Entry(name, seen.st_size, seen.st_mtime_ns, seen.st_ino, path, epoch))
    return entries


class _Told:
    """What the terminal is told: a bar over all passes, and at the end how it went."""

    def __init__(self, total_bytes: int, passes: int) -> None:
        self._total = total_bytes
        self._passes = passes
        self._console = terminal(stderr=True)
        self._done_bytes = 0
        self._current: tuple[str, int] | None = None
        self._size = 0
        self._daemon: Daemon | None = None

    async def follow(self, daemon: Daemon) -> None:
        """Shows the bar until it is cancelled."""
        self._daemon = daemon
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[loss]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._console) as progress:
            bar = progress.add_task("starting", total=max(self._total, 1), loss="")
            try:
                while True:
                    self._update(progress, bar)
                    await asyncio.sleep(REFRESH_SECONDS)
            finally:
                finished = daemon.lives and not any(
                    life.leaving or life.status.state == "failed" for life in daemon.lives.values()
                )
                if finished and self._refusals:
                    progress.update(bar, description=f"{len(self._refusals)} refused")
                elif finished:
                    progress.update(bar, completed=self._total, description="done")

    def _update(self, progress: Progress, bar: TaskID) -> None:
        assert self._daemon is not None
        for life in self._daemon.lives.values():
            file = life.status.file
            if file is None:
                continue
            if self._current not in (None, (file.name, file.epoch)):
                self._done_bytes += self._size
            self._current, self._size = (file.name, file.epoch), file.bytes
            loss = "" if file.loss is None else f"loss {figure(file.loss)}"
            progress.update(
                bar,
                completed=self._done_bytes + file.share * file.bytes,
                description=f"{file.name} (epoch {file.epoch})",
                loss=loss,
            )

    @property
    def _refusals(self) -> list[str]:
        """Each once: an epoch may repeat them."""
        assert self._daemon is not None
        return list(dict.fromkeys(map(str, self._daemon.refused)))

    def summary(self, job: str) -> int:
        """Prints how it went; 1 when a file was refused or nothing was learnt."""
        assert self._daemon is not None
        life = self._daemon.lives.get(job)
        if life is None:
            return 1
        for refusal in self._refusals:
            say(self._console, f"refused: {refusal}", style="red")
        status = life.status
        if status.reason:
            say(self._console, f"{status.state}: {status.reason}")
        if life.leaving:
            say(self._console, "stopped: the same command goes on from here")
        if status.model is not None:
            path = self._daemon.layout.models(job) / status.model.file
            loss = status.model.loss
            last = "" if loss is None else f", loss on the last file {figure(loss)}"
            say(self._console, f"model: {shown(path)}, version {status.model.version}{last}")
        return 1 if self._refusals or (status.model is None and not life.leaving) else 0
