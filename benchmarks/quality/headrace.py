"""Headrace itself, as a user runs it: files dropped into an inbox, figures read from its logs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.quality.peers import Predictions
from benchmarks.quality.sets import Set

MODELS = {
    "binary": 'kernel = "logistic"',
    "multiclass": 'kernel = "softmax"',
    "regression": 'kernel = "linear"',
    "counts": 'kernel = "linear"\nloss = "poisson"',
}


def run(data: Set, files: list[range]) -> Predictions:
    """One pass over the files with default settings.

    Progressive predictions are those of the sample records; those of the model before a file come
    from `headrace predict`, by the model that each file left.
    """
    with tempfile.TemporaryDirectory(prefix="headrace-quality-") as home:
        root, config = Path(home) / "root", Path(home) / "headrace.toml"
        classes = f"classes = {data.classes}\n" if data.classes else ""
        config.write_text(
            f'[commit]\nkeep = {len(files) + 1}\n\n[[jobs]]\nname = "q"\nlabel = "y"\n'
            f"[jobs.model]\n{MODELS[data.problem]}\n{classes}"
        )
        inbox = root / "inbox" / "q"
        progressive, before = [], []
        for number, rows in enumerate(files):
            inbox.mkdir(parents=True, exist_ok=True)
            path = Path(home) / f"{number:03}.parquet"
            _frame(data, rows).write_parquet(path)
            before.append(_predicted(config, root, path, data, len(rows)))
            path.rename(inbox / path.name)
            _call("run", "-c", config, "--root", root, "--once")
        progressive = _recorded(root, data)
        return Predictions(progressive, np.concatenate(before))


def _frame(data: Set, rows: range) -> pl.DataFrame:
    part = slice(rows.start, rows.stop)
    x = pl.DataFrame(data.x[part], schema=[f"x{j}" for j in range(data.x.shape[1])])
    return x.with_columns(pl.Series("y", data.y[part]))


def _predicted(config: Path, root: Path, path: Path, data: Set, rows: int) -> Any:
    """What the model as it is predicts for a file; nothing much before there is one."""
    if not (root / "models" / "q" / "current.safetensors").exists():
        shape = (rows, data.classes) if data.problem == "multiclass" else rows
        return np.full(shape, 1 / data.classes if data.classes else 0.0)
    out = path.with_suffix(".predicted.csv")
    _call("predict", "--root", root, "--job", "q", path, "-o", out)
    found = pl.read_csv(out)
    if data.problem == "multiclass":
        return found.select(f"probability_{c}" for c in range(data.classes)).to_numpy()
    return found["prediction"].cast(pl.Float64).to_numpy()


def _recorded(root: Path, data: Set) -> Any:
    """The predictions of the sample records; of many classes what was given to the right one."""
    lines = (root / "logs" / "q" / "samples.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    if data.problem != "multiclass":
        return np.array([record["prediction"] for record in records], np.float64)
    shares = np.zeros((len(records), data.classes))
    for i, record in enumerate(records):  # the loss is -log of the label's probability
        shares[i, int(record["label"])] = np.exp(-record["loss"])
    return shares


def _call(*arguments: object) -> None:
    place = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "service", *map(str, arguments)],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(place)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"headrace {arguments[0]} failed: {done.stderr[-2000:]}")
