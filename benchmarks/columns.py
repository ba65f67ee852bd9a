"""`python -m benchmarks.columns`: from which width on do sub-tasks over features pay? Prints the table of docs/learning.md.

Rules: one linear kernel and one MLP, each with the same exact steps in three ways, the rows' decoding paid by all; a step's
rows are all learnt by one sub-task (`whole`), dealt to two lanes (`rows`), or cut by features (`features`). Each way runs as a
user runs it, with `headrace train`, and is timed by the daemon's own record of the file; the ways take turns, and medians
count. Figures are rows a second.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

WAYS = {
    "whole": "lanes = 1\nlocal_steps = 1\nbatch_rows = {rows}",
    "rows": "lanes = 2\nlocal_steps = 1\nbatch_rows = {half}",
    "features": 'lanes = 2\npartition = "features"\nbatch_rows = {rows}',
}
CONFIG = """
[[jobs]]
name = "wide"
label = {width}
[jobs.model]
kernel = "{kernel}"
{options}
[jobs.optimizer]
name = "adagrad"
[jobs.training]
{training}
[jobs.output]
samples = "off"
"""
KERNELS = {
    "logistic": "",
    "mlp": 'loss = "logistic"\nhidden = [32]',
}
WIDTHS = (300, 2000, 16000)
STEP_ROWS = 512
HEADING = """\
| kernel | features | one lane | two lanes of rows | two parts of features |
| --- | ---: | ---: | ---: | ---: |"""


def main() -> None:
    options = _options()
    print(HEADING)
    for kernel in KERNELS:
        for width in options.widths:
            print(line(kernel, width, options.step, options.rounds), flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.columns", description=__doc__)
    parser.add_argument("--widths", type=int, nargs="*", default=WIDTHS)
    parser.add_argument("--step", type=int, default=STEP_ROWS, help="rows of a step")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def line(kernel: str, width: int, step: int, rounds: int) -> str:
    """A row of the table."""
    rows = min(max(20_000_000 // width // step, 4) * step, 40_000)
    with tempfile.TemporaryDirectory(prefix="headrace-columns-") as folder:
        file = _file(Path(folder), rows, width)
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        for number in range(rounds):
            for way in WAYS:
                seconds[way].append(_seconds(Path(folder), file, kernel, way, step, number))
    rates = [f"{rows / statistics.median(found):,.0f}" for found in seconds.values()]
    return f"| {kernel} | {width:,} | {' | '.join(rates)} |"


def _file(folder: Path, rows: int, width: int) -> Path:
    random = np.random.default_rng(1)
    x = random.normal(size=(rows, width + 1)).astype(np.float32)
    x[:, -1] = x[:, :10].sum(axis=1) > 0
    np.save(folder / "wide.npy", x)
    return folder / "wide.npy"


def _seconds(folder: Path, file: Path, kernel: str, way: str, step: int, number: int) -> float:
    training = WAYS[way].format(rows=step, half=step // 2)
    config, root = folder / "c.toml", folder / f"{way}-{number}"
    config.write_text(
        CONFIG.format(width=_width(file), kernel=kernel, options=KERNELS[kernel], training=training)
    )
    place = Path(__file__).parents[1]
    subprocess.run(
        [sys.executable, "-m", "service", "train", "-c", config, "--root", root, file],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(place)},
        capture_output=True,
        check=True,
    )
    events = map(json.loads, (root / "logs" / "service.jsonl").read_text().splitlines())
    return float(next(event["seconds"] for event in events if event["event"] == "accepted"))


def _width(file: Path) -> int:
    return int(np.load(file, mmap_mode="r").shape[1]) - 1


if __name__ == "__main__":
    main()
