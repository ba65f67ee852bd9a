"""`headrace predict`: predictions of the newest model for a file, labelled or not."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO

import click
from rich.progress import Progress

from service import formats
from service.cli.options import job_option, newest_model, root_option
from service.cli.terminal import terminal
from service.core.errors import FileRefused, HeadraceError
from service.core.layout import shown
from service.formats.contract import Limits, RowRules, Source
from service.runtime.arena import Arena, view
from service.runtime.pool import Pool
from service.subtasks import predict as predicting

DEADLINE_SECONDS = 600.0
CHUNK_BYTES = 4 << 20
PIECE_BYTES = 1 << 20


@click.command("predict")
@root_option
@job_option
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Instead of standard output.")
def command(root: Path, job: str, file: Path, output: Path | None) -> int:
    """Predict every row of FILE, as CSV: row,id,prediction,label,probability_...,version,model_sha256."""
    current = newest_model(root, job)
    try:
        with Pool(1, deadline_seconds=DEADLINE_SECONDS) as pool, Arena() as arena:
            if output is None:
                _print(pool, arena, current, file)
            else:
                _replace(pool, arena, current, file, output)
    except FileRefused as refused:
        raise HeadraceError(f"{refused}; {refused.refusal.remedy}") from None
    return 0


def _print(pool: Pool, arena: Arena, current: Path, file: Path) -> None:
    """Prints the output whole, or nothing where the file is refused at its last row."""
    with tempfile.TemporaryFile(prefix="headrace-") as whole:
        _predict(pool, arena, current, file, whole)
        whole.seek(0)
        shutil.copyfileobj(whole, sys.stdout.buffer, PIECE_BYTES)


def _replace(pool: Pool, arena: Arena, current: Path, file: Path, output: Path) -> None:
    """Writes the output whole or not at all."""
    fresh = output.with_name(f".{output.name}.part")
    try:
        with fresh.open("wb") as out:
            _predict(pool, arena, current, file, out)
        fresh.replace(output)
    except OSError as error:
        raise HeadraceError(f"{shown(output)}: {(error.strerror or str(error)).lower()}") from None
    finally:
        fresh.unlink(missing_ok=True)


def _predict(pool: Pool, arena: Arena, current: Path, file: Path, out: BinaryIO) -> None:
    """The same sub-tasks as the daemon's, in one worker, so that the bits are the same."""
    model = os.path.realpath(current)
    need = pool.submit(predicting.needs, model).result()
    with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
        scratch = os.path.join(folder, "unpacked")
        name = file.name
        source: Source = pool.submit(
            formats.prepare, str(file.absolute()), name, scratch, need.fields, Limits()
        ).result()
        out.write(need.header)
        rows = lines = 0
        console = terminal(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            bar = progress.add_task(shown(file.name), total=source.rows or source.size)
            for chunk in formats.Survey(source, CHUNK_BYTES):
                text = arena.reserve(predicting.room(need, source, chunk), backed=False)
                done = pool.submit(
                    predicting.predict, model, need.sha256, source, chunk, RowRules(), rows, text
                ).result()
                if done.first_bad:
                    bad = formats.placed(source, done.first_bad[0], rows, lines)
                    raise formats.refusal(source, bad)
                out.write(view(text)[: done.bytes].data)
                arena.release(text)
                rows += done.rows_seen
                lines += done.lines
                progress.update(bar, completed=chunk.stop)
