"""`headrace show`: the model; of linear ones intercept and weights in the features' own units."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kernels.contract import Array
from service.cli.options import job_option, newest_model, root_option
from service.cli.terminal import say, terminal
from service.core.layout import shown
from service.core.spelling import spelt
from service.subtasks.predict import Model, newest


@click.command("show")
@root_option
@job_option
def command(root: Path, job: str) -> int:
    """Show a job's newest model: what it is, and for a linear one its weights, largest first."""
    show(newest(str(newest_model(root, job).resolve())), terminal())
    return 0


def show(model: Model, console: Console) -> None:
    """Prints what a model is and, if it is linear, its weights; else the sizes of its parameters."""
    for key, value in _facts(model):
        say(console, f"{key:12} {value}")
    coefficients = model.learner.coefficients(model.state)
    console.print(_layers(model) if coefficients is None else _weights(model, *coefficients))


def _facts(model: Model) -> list[tuple[str, Any]]:
    header = model.header
    classes = header["classes"]
    return [
        ("job", header["job"]),
        ("kernel", header["spec"]["kernel"]),
        ("version", header["version"]),
        ("files", header["sequence"]),
        ("last file", header["last_file"]),
        ("sha256", model.sha256),
        *([("classes", ", ".join(str(spelt(c)) for c in classes))] if classes else []),
    ]


def _weights(model: Model, intercept: Array, weights: Array) -> Table:
    """A row a feature, the largest weight first."""
    table = Table(box=None, pad_edge=False)
    table.add_column("feature")
    outputs = ["weight"] if len(weights) == 1 else [str(spelt(c)) for c in model.classes or ()]
    for heading in outputs:
        table.add_column(heading, justify="right")
    table.add_row("(intercept)", *(f"{value:.6g}" for value in intercept))
    for index in np.argsort(-np.abs(weights).max(axis=0), kind="stable"):
        name = shown(model.header["features"][index])
        table.add_row(Text(name), *(f"{value + 0.0:.6g}" for value in weights[:, index]))
    return table


def _layers(model: Model) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("parameter", "shape", "dtype", "norm"):
        table.add_column(heading)
    for name, array in sorted(model.state.items()):
        if name.startswith("parameters/"):
            norm = f"{np.linalg.norm(array):.6g}"
            table.add_row(
                Text(name.removeprefix("parameters/")), str(array.shape), str(array.dtype), norm
            )
    return table
