"""The demo's end: what was learnt, how the losses fell, what the logs hold, and where everything lies.

Rules: all of it is read from the files below the root, as anybody could.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from service.cli.chart import Curve, charts
from service.cli.show import show
from service.cli.terminal import figure, invoked, say, show_lines
from service.core.layout import Layout, shown
from service.subtasks.predict import newest

POINTS = 25
"""Of a curve: the eye wants the trend, and a loss of twenty rows is mostly chance."""
SHOWN_JOB = "diabetes"
Record = dict[str, Any]

_PLACES = (
    ("headrace.toml", "the configuration; every key is explained in config/default.toml"),
    ("inbox", "drop more files here, into the folder of their job"),
    ("done", "the files that are in the models"),
    ("failed", "the refused file, and the note that says why"),
    ("predictions", "what was predicted, and the file that it was predicted for"),
    ("logs", "metrics.jsonl and samples.jsonl of each job; service.jsonl says what the daemon did"),
    ("models", "each job's models; current.safetensors is the newest"),
    ("state", "the journal, and status.json: the daemon's own"),
)


def tell(console: Console, layout: Layout, config: Path) -> None:
    """The whole summary, from the files below the root."""
    jobs = sorted(path.name for path in (layout.root / "models").iterdir())
    records = {job: _records(layout, job) for job in jobs}
    _heading(console, "What was learnt")
    console.print(_learnt(records))
    say(
        console,
        "A loss is that of rows that the model had not learnt yet: each row is scored first, and then learnt.",
    )
    _heading(console, "How the losses went, from the first row to the last")
    console.print(charts([_curve(job, found) for job, found in records.items()], console.width))
    say(
        console,
        "article takes all rows of a file in one step: its weight is 0 for the first 1000 samples, then nearly 1.",
    )
    _logs(console, layout, jobs)
    _heading(console, f"The model of {SHOWN_JOB}, in the units of the file")
    show(newest(str(layout.current(SHOWN_JOB).resolve())), console)
    _places(console, layout, config)


def _heading(console: Console, text: str) -> None:
    console.print()
    say(console, text, style="bold underline")


def _records(layout: Layout, job: str) -> list[Record]:
    lines = (layout.logs(job) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def _files(records: Sequence[Record]) -> list[Record]:
    return [record for record in records if record["kind"] == "file"]


def _learnt(records: dict[str, list[Record]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in (
        "job",
        "files",
        "rows",
        "loss: first file",
        "last file",
        "on the last file",
        "version",
    ):
        right = heading not in ("job", "on the last file")
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for job, found in records.items():
        files = _files(found)
        table.add_row(
            job,
            str(len(files)),
            f"{sum(file['rows'] for file in files):,}",
            figure(files[0]["loss"]),
            figure(files[-1]["loss"]),
            _main_metric(files[-1]["metrics"]),
            str(files[-1]["version"]),
        )
    return table


def _main_metric(metrics: dict[str, float | None]) -> str:
    """The one number that most people ask for."""
    for name in ("accuracy", "r2"):
        value = metrics.get(name)
        if value is not None:
            return f"{value:.1%} right" if name == "accuracy" else f"r² {value:.3f}"
    return ""


def _curve(job: str, records: Sequence[Record]) -> Curve:
    """The loss along the rows that the job has seen, one point for each POINTS-th part of them."""
    rows = sum(file["rows"] for file in _files(records))
    points, window, loss, seen = [], 0, 0.0, 0
    for record in records:
        if record["kind"] != "progress":
            continue
        part = record["rows_to"] - record["rows_from"]
        window, loss, seen = window + part, loss + part * record["loss"], seen + part
        if window * POINTS >= rows:
            points.append((seen - window / 2, loss / window))
            window, loss = 0, 0.0
    unit = "log loss" if "log_loss" in records[-1]["metrics"] else "squared error"
    return Curve(job, unit, f"{rows:,} rows", points)


def _logs(console: Console, layout: Layout, jobs: Sequence[str]) -> None:
    _heading(console, "What the logs hold: their first lines")
    _first_lines(console, layout, layout.logs("breast_cancer") / "metrics.jsonl", 1)
    for job in jobs:
        for samples in sorted(layout.logs(job).glob("samples.*")):
            _first_lines(console, layout, samples, 3 if samples.suffix == ".txt" else 1)
    _first_lines(console, layout, layout.service_log, 2)
    _heading(console, "What became of the other files")
    for note in sorted((layout.root / "failed").glob("*/*.error.json")):
        _first_lines(console, layout, note, 20)
    for predictions in sorted((layout.root / "predictions").glob("*/*.csv")):
        _first_lines(console, layout, predictions, 3)


def _first_lines(console: Console, layout: Layout, path: Path, most: int) -> None:
    say(console, f"{path.relative_to(layout.root)}", style="bold")
    show_lines(console, path.read_text().splitlines()[:most])


def _places(console: Console, layout: Layout, config: Path) -> None:
    _heading(console, f"Where everything lies: {layout.root}")
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, what in _PLACES:
        table.add_row(name, what)
    console.print(table)
    _heading(console, "What now?")
    root = shown(layout.root)
    for command, what in _next(root, shown(config)):
        say(console, f"  {command}\n      {what}")


def _next(root: str, config: str) -> Iterator[tuple[str, str]]:
    yield (
        f"{invoked()} run -c {config} --root {root}",
        "start the daemon again: it goes on where it stopped",
    )
    yield f"{invoked()} status --root {root}", "ask how it stands, whether it runs or not"
    yield f"{invoked()} show --root {root} --job digits", "look at a model"
    yield f"rm -r {root}", "throw it all away"
