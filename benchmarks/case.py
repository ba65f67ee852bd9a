"""Cases: seeded rows in a file. `make`: CSV, two classes that a logistic model tells apart fairly well; `images`: ten classes, NPY.

Rules: rows are a function of their numbers and the seed alone. A table's features have scales from 0.1 to 100, as tables have, and
labels are drawn, so that no model can be perfect. The same rows in other formats are written when they are first asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.lib.format import open_memmap

SEED = 20240501
BLOCK_ROWS = 1 << 19
IMAGE_BLOCK_ROWS = 1 << 13
PIXELS, DIGITS = 784, 10
CONTRAST = 0.15  # of a digit's own shape in the noise of its image: one pass is enough to learn it, some hundred rows are not


@dataclass(frozen=True, slots=True)
class Case:
    """A file of `rows` × `features` numbers and a label in the last column: in CSV `y`, 0 or 1; in NPY the number `features`."""

    path: Path
    rows: int
    features: int

    @property
    def feature_names(self) -> list[str]:
        return [f"x{i}" for i in range(self.features)]

    @property
    def bytes(self) -> int:
        return self.path.stat().st_size

    def head(self, nbytes: int) -> bytes:
        """Whole lines of about so many bytes."""
        with self.path.open("rb") as file:
            return file.read(nbytes).rpartition(b"\n")[0] + b"\n"

    def in_format(self, suffix: str) -> Path:
        """The same rows as `.csv`, `.parquet`, or `.vw`, which is Vowpal Wabbit's text."""
        path = self.path.with_suffix(suffix)
        if not path.exists():
            frame = pl.scan_csv(self.path)
            if suffix == ".parquet":
                frame.sink_parquet(path)
            else:
                frame.select(self._vw_line()).sink_csv(
                    path, include_header=False, quote_style="never"
                )
        return path

    def _vw_line(self) -> pl.Expr:
        label = pl.when(pl.col("y") == 1).then(pl.lit("1 |")).otherwise(pl.lit("-1 |"))
        numbers = [
            pl.concat_str(pl.lit(f" {name}:"), pl.col(name).cast(pl.String))
            for name in self.feature_names
        ]
        return pl.concat_str(label, *numbers)


def make(folder: Path, rows: int, features: int) -> Case:
    """Writes the file, block by block."""
    random = np.random.default_rng(SEED)
    weights = random.normal(size=features) / np.sqrt(features) * 2
    scales = 10.0 ** np.linspace(-1, 2, features)
    case = Case(folder / f"rows-{rows}-{features}.csv", rows, features)
    with case.path.open("wb") as file:
        for start in range(0, rows, BLOCK_ROWS):
            x = random.normal(size=(min(BLOCK_ROWS, rows - start), features))
            y = random.random(len(x)) < 1 / (1 + np.exp(-(x @ weights)))
            table = pl.DataFrame((x * scales).round(6), case.feature_names)
            table = table.with_columns(pl.Series("y", y.astype(np.int8)))
            table.write_csv(file, include_header=start == 0)
    return case


def images(folder: Path, rows: int) -> Case:
    """Writes images and their digits as one float32 array (rows, PIXELS + 1), block by block; pixels are about 0 and alike in scale."""
    random = np.random.default_rng(SEED)
    shapes = random.normal(size=(DIGITS, PIXELS)).astype(np.float32)
    case = Case(folder / f"images-{rows}.npy", rows, PIXELS)
    table = open_memmap(case.path, "w+", np.float32, (rows, PIXELS + 1))
    for start in range(0, rows, IMAGE_BLOCK_ROWS):
        block = table[start : start + IMAGE_BLOCK_ROWS]
        digits = random.integers(0, DIGITS, len(block))
        noise = random.standard_normal((len(block), PIXELS), np.float32)
        block[:, :-1] = noise + CONTRAST * shapes[digits]
        block[:, -1] = digits
    table.flush()
    return case
