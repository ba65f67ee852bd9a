"""A case: seeded rows in a CSV file, two classes that a logistic model tells apart fairly well.

Rules: rows are a function of their numbers and the seed alone. The features have scales from 0.1 to 100, as tables have, and
labels are drawn, so that no model can be perfect.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

SEED = 20240501


@dataclass(frozen=True, slots=True)
class Case:
    """A file of `rows` × `features` numbers and a label column `y` of 0 and 1."""

    path: Path
    rows: int
    features: int

    @property
    def feature_names(self) -> list[str]:
        return [f"x{i}" for i in range(self.features)]


def make(folder: Path, rows: int, features: int) -> Case:
    """Writes the file."""
    random = np.random.default_rng(SEED)
    x = random.normal(size=(rows, features))
    weights = random.normal(size=features) / np.sqrt(features) * 2
    y = random.random(rows) < 1 / (1 + np.exp(-(x @ weights)))
    scales = 10.0 ** np.linspace(-1, 2, features)
    case = Case(folder / f"rows-{rows}-{features}.csv", rows, features)
    columns = {name: (x[:, i] * scales[i]).round(6) for i, name in enumerate(case.feature_names)}
    pl.DataFrame(columns | {"y": y.astype(np.int8)}).write_csv(case.path)
    return case
