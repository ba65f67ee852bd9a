"""The demo's files: what is dropped where, in which order, and what must become of it.

Rules: good files are those of config/demo/, in turns over the jobs. From them come the others: the article's samples a
second time in reverse order, a file that was delivered twice, one with a letter in a number, and one to predict.
A file is written beside its place under a hidden name and then renamed, as everybody should.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Fate = Literal["learnt", "duplicate", "refused", "predicted"]

BROKEN_ROW = 5
"""The data row, counted from 0, that gets a letter into its first number."""
PREDICTED_ROWS = 8


@dataclass(frozen=True, slots=True)
class Drop:
    """A file for a job: its name, its bytes, and what must become of it."""

    job: str
    name: str
    content: bytes
    fate: Fate
    why: str = ""

    @property
    def folder(self) -> str:
        return "predict" if self.fate == "predicted" else "inbox"


def drops(folder: Path) -> list[Drop]:
    """Everything to learn from, and what only looks like it, in the order of dropping."""
    good = [_good(path) for path in sorted(folder.iterdir()) if path.is_dir()]
    (article,) = (files for files in good if files[0].job == "article")
    article.append(_reversed(article[0]))
    turns = [drop for turn in itertools.zip_longest(*good) for drop in turn if drop is not None]
    cancer = _of(turns, "breast_cancer")
    return [*turns, _again(_of(turns, "diabetes")[0]), _broken(cancer[-1])]


def to_predict(folder: Path) -> Drop:
    """Rows of a classifier without their labels."""
    (*_, last) = sorted((folder / "breast_cancer").glob("*.csv"))
    lines = last.read_bytes().splitlines()[: PREDICTED_ROWS + 1]
    unlabelled = b"".join(line.rpartition(b",")[0] + b"\n" for line in lines)
    why = f"{PREDICTED_ROWS} rows without a label"
    return Drop("breast_cancer", "new-patients.csv", unlabelled, "predicted", why)


def put(drop: Drop, root: Path) -> None:
    """Puts the file into its folder whole: under a hidden name first, then by a rename."""
    target = root / drop.folder / drop.job / drop.name
    hidden = target.with_name(f".{drop.name}")
    hidden.write_bytes(drop.content)
    os.rename(hidden, target)


def _good(folder: Path) -> list[Drop]:
    return [
        Drop(folder.name, path.name, path.read_bytes(), "learnt")
        for path in sorted(folder.iterdir())
    ]


def _of(found: Sequence[Drop], job: str) -> list[Drop]:
    return [drop for drop in found if drop.job == job]


def _reversed(drop: Drop) -> Drop:
    header, *rows = drop.content.splitlines(keepends=True)
    why = "the same, from last to first"  # its name sorts behind the first's, should both be listed at once
    return Drop(drop.job, "reversed-article.csv", b"".join([header, *rows[::-1]]), "learnt", why)


def _again(drop: Drop) -> Drop:
    why = f"{drop.name}, delivered twice"
    return Drop(drop.job, f"{drop.job}-sent-again.csv", drop.content, "duplicate", why)


def _broken(drop: Drop) -> Drop:
    lines = drop.content.splitlines(keepends=True)
    first, comma, rest = lines[BROKEN_ROW + 1].partition(b",")
    lines[BROKEN_ROW + 1] = first[:-1] + b"l" + comma + rest
    why = "with a letter in a number"
    return Drop(drop.job, f"{drop.job}-broken.csv", b"".join(lines), "refused", why)
