"""`headrace show`: the model, as far as people can read one.

Linear ones have intercept and weights, and clusters their centres, in the features' own units; of others
there are the sizes of their parameters. What would be wider than a page has a paragraph for each class or
cluster, with the features that tell most.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kernels import sparse
from kernels.contract import Array
from service.cli.options import job_option, newest_model, root_option
from service.cli.terminal import say, terminal
from service.core.layout import shown
from service.core.spelling import spelt
from service.subtasks.predict import Model, newest

MOST_COLUMNS = 6
"""Classes side by side; of more, each has a paragraph."""
MOST_SLOTS = 20
"""Slots that are told of a model of sparse rows."""
MOST_TOLD = 8
"""Features of a class or a cluster that are told, where there are more."""


@click.command("show")
@root_option
@job_option
def command(root: Path, job: str) -> int:
    """Show a job's newest model: what it is, and for a linear one its weights, largest first."""
    show(newest(str(newest_model(root, job).resolve())), terminal())
    return 0


def show(model: Model, console: Console) -> None:
    """Prints what a model is, and then its weights, its centres, or the sizes of its parameters."""
    for key, value in _facts(model):
        say(console, f"{key:12} {value}")
    coefficients = model.learner.coefficients(model.state)
    if model.learner.slots:
        _show_slots(model, console)
    if model.learner.problem == "clustering" and "parameters/centres" in model.state:
        _show_centres(model, console)
    elif model.learner.slots and not model.names:
        return
    elif coefficients is None:
        console.print(_parameters(model))
    elif len(coefficients[0]) > MOST_COLUMNS:
        _show_classes(model, console, *coefficients)
    else:
        console.print(_weights(model, *coefficients))


def _facts(model: Model) -> list[tuple[str, Any]]:
    header = model.header
    classes, names = header["classes"], header.get("categorical")
    return [
        ("job", header["job"]),
        ("kernel", header["spec"]["kernel"]),
        ("version", header["version"]),
        ("files", header["sequence"]),
        ("last file", header["last_file"]),
        ("sha256", model.sha256),
        *([("classes", ", ".join(str(spelt(c)) for c in classes))] if classes else []),
        *([("names", ", ".join(map(shown, names)))] if names else []),
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
        name = shown(model.names[index])
        table.add_row(Text(name), *(f"{value + 0.0:.6g}" for value in weights[:, index]))
    return table


def _show_slots(model: Model, console: Console) -> None:
    """Of sparse rows: how many slots have a weight, and the largest weights, each output's own."""
    learner, state = model.learner, model.state
    slots = sparse.touched(state)
    weights = learner.slot_weights(state, slots)
    used = np.flatnonzero(weights.any(axis=0))
    say(console, f"slots        {learner.slots}, of which {len(used)} have a weight")
    coefficients = learner.coefficients(state)
    assert coefficients is not None  # only linear kernels have slots
    outputs = [""] if len(weights) == 1 else [f" of {spelt(c)}" for c in model.classes or ()]
    for output, intercept, own in zip(outputs, coefficients[0], weights, strict=True):
        say(
            console, f"(intercept){output} {intercept:.6g}" if not model.names else f"slots{output}"
        )
        largest = np.argsort(-np.abs(own), kind="stable")[:MOST_SLOTS]
        for place in largest[own[largest] != 0]:
            say(console, f"  slot {slots[place]:<10} {own[place]:.6g}")


def _show_classes(model: Model, console: Console, intercept: Array, weights: Array) -> None:
    """A paragraph a class: its intercept, and its largest weights."""
    _say_most(model, console, "weights")
    for label, base, own in zip(model.classes or (), intercept, weights, strict=True):
        say(console, f"class {spelt(label)}: (intercept) {base:.6g}")
        _show_features(model, console, own, np.abs(own))


def _show_centres(model: Model, console: Console) -> None:
    """A paragraph a cluster: its share of the rows, and its centre where it is farthest from the others."""
    centres, weight = model.state["parameters/centres"], model.state["optimizer/weight"]
    if not weight.any():
        say(console, "no centres yet: they are chosen among the first distinct rows")
        return
    shares = weight / weight.sum()
    _say_most(model, console, "coordinates")
    for index in np.argsort(-shares, kind="stable"):
        say(console, f"cluster {index}: {shares[index]:.1%} of the rows")
        apart = np.abs(centres[index] - shares @ centres)
        own = model.learner.unscaled(model.state, centres[index : index + 1])[0]
        _show_features(model, console, own, apart)


def _say_most(model: Model, console: Console, what: str) -> None:
    count = len(model.header["features"])
    if count > MOST_TOLD:
        say(console, f"the {MOST_TOLD} largest of {count} {what} each; all are in the model file")


def _show_features(model: Model, console: Console, values: Array, size: Array) -> None:
    """A line a feature, the largest in size first."""
    chosen = np.argsort(-size, kind="stable")[:MOST_TOLD]
    names = [shown(model.header["features"][index]) for index in chosen]
    width = max(map(len, names))
    for name, index in zip(names, chosen, strict=True):
        say(console, f"  {name:{width}} {values[index] + 0.0:.6g}")


def _parameters(model: Model) -> Table:
    """A row a parameter: its shape, its norm and its least and largest number."""
    table = Table(box=None, pad_edge=False)
    for heading in ("parameter", "shape", "dtype"):
        table.add_column(heading)
    for heading in ("norm", "least", "largest"):
        table.add_column(heading, justify="right")
    for name, array in sorted(model.state.items()):
        if name.startswith("parameters/"):
            numbers = (np.linalg.norm(array), array.min(), array.max())
            shape = " × ".join(map(str, array.shape))
            told = (f"{number + 0.0:.6g}" for number in numbers)
            table.add_row(Text(name.removeprefix("parameters/")), shape, str(array.dtype), *told)
    return table
