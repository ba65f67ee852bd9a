"""Tables for the tests of whole lives: the same rows as CSV, JSON lines, Parquet or NPY."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

Row = tuple[float, ...]
FEATURES = ("a", "b", "c")


def rows(count: int, seed: int = 0, classes: int = 2) -> list[Row]:
    """`count` rows (a, b, c, y): three features of different scale, and a class that follows from them."""
    chance = random.Random(seed)
    found = []
    for _ in range(count):
        a, b, c = chance.gauss(0, 1), chance.gauss(50, 9), chance.random() * 1e-3
        score = a + (b - 50) / 9 + chance.gauss(0, 0.5)
        found.append((a, b, c, float(min(max(int(score + classes / 2), 0), classes - 1))))
    return found


def _cell(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def csv(table: Sequence[Row], names: Sequence[str] = (*FEATURES, "y")) -> bytes:
    """With a header; numbers as short as they can be without losing a bit."""
    lines = [",".join(names), *(",".join(map(_cell, row)) for row in table)]
    return ("\n".join(lines) + "\n").encode()


def jsonl(table: Sequence[Row], names: Sequence[str] = (*FEATURES, "y")) -> bytes:
    return "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in table).encode()


def parquet(table: Sequence[Row], names: Sequence[str] = (*FEATURES, "y")) -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame(list(map(list, zip(*table, strict=True))), schema=list(names)).write_parquet(
        buffer, row_group_size=97
    )
    return buffer.getvalue()


def npy(table: Sequence[Row]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array(table))
    return buffer.getvalue()


WRITERS: dict[str, Callable[[Sequence[Row]], bytes]] = {
    "csv": csv,
    "jsonl": jsonl,
    "parquet": parquet,
}
