"""The data sets: real ones from a folder, and made ones that try what real ones rarely have together.

Rules: a set is arrays in stream order, and is the same on every machine. Real files are read where
they lie and never copied. Only columns that are numbers are taken, and rows that have all of them.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

Problem = Literal["binary", "multiclass", "regression", "counts"]
Floats = NDArray[np.float64]

MOST_ROWS = 30_000
"""Some peers learn 2,000 rows a second."""


@dataclass(frozen=True)
class Set:
    """Features (n, f), labels (n,): numbers, or classes from 0."""

    name: str
    problem: Problem
    x: Floats
    y: Floats

    @property
    def classes(self) -> int:
        return int(self.y.max()) + 1 if self.problem in ("binary", "multiclass") else 0


def all_sets(data: Path | None) -> Iterator[Set | str]:
    """Every set; in the place of one whose file is absent, a word that says so."""
    for name, read in _REAL.items():
        try:
            yield _shortened(read(name, data)) if data else f"{name}: left out, no --data"
        except FileNotFoundError as error:
            yield f"{name}: left out, there is no {error.filename}"
    for name, make in _MADE.items():
        yield _shortened(make(name))


def _shortened(whole: Set) -> Set:
    return Set(whole.name, whole.problem, whole.x[:MOST_ROWS], whole.y[:MOST_ROWS])


# Real ones


def _a9a(name: str, data: Path) -> Set:
    rows = (data / "a9a" / "a9a.txt").read_text().splitlines()
    x, y = np.zeros((len(rows), 123)), np.zeros(len(rows))
    for i, row in enumerate(rows):
        label, *cells = row.split()
        y[i] = float(label) > 0
        for cell in cells:
            feature, value = cell.split(":")
            x[i, int(feature) - 1] = float(value)
    return Set(name, "binary", x, y)


def _elec2(name: str, data: Path) -> Set:
    frame = pl.read_csv(data / "elec2" / "electricity.csv")
    y = (frame["class"] == "UP").to_numpy().astype(np.float64)
    return Set(name, "binary", frame.drop("class").cast(pl.Float64).to_numpy(), y)


def _california(name: str, data: Path) -> Set:
    frame = pl.read_csv(data / "california_housing" / "housing.csv").drop("ocean_proximity")
    frame = frame.cast(pl.Float64).drop_nulls()
    y = frame["median_house_value"].to_numpy()
    return Set(name, "regression", frame.drop("median_house_value").to_numpy(), y)


def _bike(name: str, data: Path, problem: Problem = "regression") -> Set:
    frame = pl.read_csv(data / "bike_sharing" / "hour.csv")
    x = frame.drop("instant", "dteday", "casual", "registered", "cnt").cast(pl.Float64).to_numpy()
    return Set(name, problem, x, frame["cnt"].cast(pl.Float64).to_numpy())


def _bike_counts(name: str, data: Path) -> Set:
    return _bike(name, data, "counts")


def _mnist(name: str, data: Path) -> Set:
    def read(part: str, start: int) -> NDArray[np.uint8]:
        with gzip.open(data / "mnist" / part) as file:
            return np.frombuffer(file.read(), np.uint8, offset=start)

    images = read("train-images-idx3-ubyte.gz", 16).reshape(-1, 784)[:10_000]
    labels = read("train-labels-idx1-ubyte.gz", 8)[:10_000]
    return Set(name, "multiclass", images.astype(np.float64), labels.astype(np.float64))


_REAL: dict[str, Callable[[str, Path], Set]] = {
    "a9a": _a9a,
    "elec2": _elec2,
    "California housing": _california,
    "bike sharing": _bike,
    "bike sharing, counts": _bike_counts,
    "MNIST": _mnist,
}


# Made ones


def _binary(name: str, x: Floats, odds: Floats, seed: int) -> Set:
    random = np.random.default_rng(seed)
    y = random.random(len(x)) < 1 / (1 + np.exp(-odds))
    return Set(name, "binary", x, y.astype(np.float64))


def _plain(name: str) -> Set:
    random = np.random.default_rng(1)
    x = random.normal(size=(20_000, 20))
    return _binary(name, x, x @ random.normal(0, 0.5, 20) - 0.3, 2)


def _small(name: str) -> Set:
    random = np.random.default_rng(3)
    x = random.normal(size=(500, 10))
    return _binary(name, x, x @ random.normal(0, 1, 10), 4)


def _separable(name: str) -> Set:
    random = np.random.default_rng(5)
    x = random.normal(size=(10_000, 10))
    y = (x @ random.normal(0, 1, 10) > 0.2).astype(np.float64)
    return Set(name, "binary", x, y)


def _imbalanced(name: str) -> Set:
    random = np.random.default_rng(6)
    x = random.normal(size=(30_000, 15))
    return _binary(name, x, x @ random.normal(0, 0.6, 15) - 6.0, 7)


def _unscaled(name: str) -> Set:
    random = np.random.default_rng(8)
    x = random.normal(size=(20_000, 15))
    odds = x @ random.normal(0, 0.7, 15)
    return _binary(name, x * 10.0 ** random.uniform(-6, 6, 15) + random.normal(0, 100, 15), odds, 9)


def _irrelevant(name: str) -> Set:
    random = np.random.default_rng(10)
    x = random.normal(size=(10_000, 200))
    return _binary(name, x, x[:, :5] @ np.array([1.5, -1.0, 0.8, 0.6, -0.5]), 11)


def _sparse(name: str) -> Set:
    random = np.random.default_rng(12)
    x = (random.random((20_000, 150)) < random.beta(0.5, 6, 150)).astype(np.float64)
    return _binary(name, x, x @ random.normal(0, 1.2, 150) - 0.5, 13)


def _correlated(name: str) -> Set:
    random = np.random.default_rng(14)
    x = random.normal(size=(20_000, 4)) @ random.normal(size=(4, 20))
    x += 0.1 * random.normal(size=x.shape)
    return _binary(name, x, x @ random.normal(0, 0.3, 20), 15)


def _abrupt(name: str) -> Set:
    random = np.random.default_rng(16)
    x = random.normal(size=(20_000, 10))
    weights = np.repeat(random.normal(0, 1, (4, 10)), 5_000, axis=0)
    return _binary(name, x, (x * weights).sum(axis=1), 17)


def _gradual(name: str) -> Set:
    random = np.random.default_rng(18)
    x = random.normal(size=(20_000, 10))
    weights = np.cumsum(random.normal(0, 0.02, (20_000, 10)), axis=0) + random.normal(0, 1, 10)
    return _binary(name, x, (x * weights).sum(axis=1), 19)


def _noisy_labels(name: str) -> Set:
    random = np.random.default_rng(20)
    x = random.normal(size=(20_000, 12))
    y = x @ random.normal(0, 1, 12) > 0
    y ^= random.random(len(y)) < 0.2
    return Set(name, "binary", x, y.astype(np.float64))


def _heavy_tails(name: str) -> Set:
    random = np.random.default_rng(21)
    x = random.standard_t(2.5, (20_000, 10))
    return _binary(name, x, np.clip(x, -3, 3) @ random.normal(0, 0.7, 10), 22)


def _friedman(name: str) -> Set:
    random = np.random.default_rng(23)
    x = random.random((20_000, 10))
    y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2
    return Set(name, "regression", x, y + 10 * x[:, 3] + 5 * x[:, 4] + random.normal(0, 1, 20_000))


def _noiseless(name: str) -> Set:
    random = np.random.default_rng(24)
    x = random.normal(size=(10_000, 10))
    return Set(name, "regression", x, x @ random.normal(0, 3, 10) + 100)


def _dollars(name: str) -> Set:
    random = np.random.default_rng(25)
    x = random.normal(size=(15_000, 12)) * 10.0 ** random.uniform(-4, 4, 12)
    y = (x / x.std(axis=0)) @ random.normal(0, 1, 12)
    return Set(name, "regression", x, 2e5 + 5e4 * (y + random.normal(0, 1, 15_000)))


def _outliers(name: str) -> Set:
    random = np.random.default_rng(26)
    x = random.normal(size=(15_000, 10))
    return Set(name, "regression", x, x @ random.normal(0, 1, 10) + random.standard_t(2.2, 15_000))


def _trend(name: str) -> Set:
    random = np.random.default_rng(27)
    x = random.normal(size=(15_000, 8))
    season = 5 * np.sin(np.arange(15_000) / 1_000)
    y = x @ random.normal(0, 1, 8) + np.arange(15_000) / 1_500 + season
    return Set(name, "regression", x, y + random.normal(0, 0.5, 15_000))


def _areas(name: str) -> Set:
    """Prices in proportion to areas, which are lognormal: most of the spread is in the tail."""
    random = np.random.default_rng(33)
    areas = np.exp(random.normal(4, 1, (15_000, 4)))
    x = np.hstack([areas, random.normal(size=(15_000, 6))])
    y = areas @ random.uniform(500, 3_000, 4) + x[:, 4:] @ random.normal(0, 3e4, 6)
    return Set(name, "regression", x, y + random.normal(0, 5e4, 15_000))


def _waits(name: str) -> Set:
    """Waiting times (exponential) and features whose fourth moment doesn't exist (t, 3 degrees)."""
    random = np.random.default_rng(34)
    x = np.hstack([random.exponential(1, (15_000, 6)), random.standard_t(3, (15_000, 6))])
    return Set(name, "regression", x, x @ random.normal(0, 1, 12) + random.normal(0, 0.3, 15_000))


def _poisson(name: str) -> Set:
    random = np.random.default_rng(28)
    x = random.normal(size=(20_000, 10))
    rate = np.exp(np.clip(x @ random.normal(0, 0.3, 10) + 1.0, -5, 5))
    return Set(name, "counts", x, random.poisson(rate).astype(np.float64))


def _rare_counts(name: str) -> Set:
    random = np.random.default_rng(29)
    x = random.normal(size=(20_000, 8)) * 10.0 ** random.uniform(-3, 3, 8)
    rate = np.exp((x / x.std(axis=0)) @ random.normal(0, 0.3, 8) - 2.5)
    return Set(name, "counts", x, random.poisson(rate).astype(np.float64))


def _five_classes(name: str) -> Set:
    random = np.random.default_rng(30)
    x = random.normal(size=(15_000, 12)) * 10.0 ** random.uniform(-2, 2, 12)
    odds = (x / x.std(axis=0)) @ random.normal(0, 1, (12, 5)) + random.gumbel(size=(15_000, 5))
    return Set(name, "multiclass", x, odds.argmax(axis=1).astype(np.float64))


def _drifting_classes(name: str) -> Set:
    random = np.random.default_rng(31)
    x = random.normal(size=(12_000, 8))
    weights = np.repeat(random.normal(0, 1, (3, 8, 3)), 4_000, axis=0)
    odds = np.einsum("nf,nfk->nk", x, weights) + random.gumbel(size=(12_000, 3))
    return Set(name, "multiclass", x, odds.argmax(axis=1).astype(np.float64))


def _shipped(loader: str, problem: Problem, repeats: int) -> Callable[[str], Set]:
    def read(name: str) -> Set:
        from sklearn import datasets

        x, y = getattr(datasets, loader)(return_X_y=True)
        random = np.random.default_rng(32)
        order = np.concatenate([random.permutation(len(y)) for _ in range(repeats)])
        return Set(name, problem, x[order].astype(np.float64), y[order].astype(np.float64))

    return read


_MADE: dict[str, Callable[[str], Set]] = {
    "logistic": _plain,
    "500 rows": _small,
    "separable": _separable,
    "1 in 200": _imbalanced,
    "unscaled": _unscaled,
    "195 of 200 irrelevant": _irrelevant,
    "sparse 0/1": _sparse,
    "correlated": _correlated,
    "abrupt drift": _abrupt,
    "gradual drift": _gradual,
    "20 % wrong labels": _noisy_labels,
    "heavy tails": _heavy_tails,
    "breast cancer": _shipped("load_breast_cancer", "binary", 3),
    "Friedman": _friedman,
    "noiseless": _noiseless,
    "dollars": _dollars,
    "outliers": _outliers,
    "trend and season": _trend,
    "diabetes": _shipped("load_diabetes", "regression", 4),
    "long-tailed areas": _areas,
    "waiting times": _waits,
    "Poisson": _poisson,
    "rare counts": _rare_counts,
    "5 classes": _five_classes,
    "drifting classes": _drifting_classes,
    "digits": _shipped("load_digits", "multiclass", 2),
    "wine": _shipped("load_wine", "multiclass", 4),
}
