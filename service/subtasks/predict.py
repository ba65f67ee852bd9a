"""Predictions of a model file for the rows of a chunk, labelled or not, as CSV."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from kernels.contract import ANY, Array, Spec
from kernels.learner import Learner, build
from service import formats
from service.core.spelling import missing_name, spelt
from service.formats.contract import (
    BadRow,
    Block,
    Chunk,
    Dialect,
    Fields,
    Gaps,
    Hashed,
    RowRules,
    Source,
)
from service.formats.frames import pl
from service.runtime.arena import Region, back, view
from service.storage import checkpoints
from service.subtasks.blocks import CARRIED_BYTES
from service.subtasks.learn import state_of
from service.subtasks.samples import labels


@dataclass(frozen=True, slots=True)
class Model:
    """A model file, read: what predicting needs of it."""

    learner: Learner
    state: dict[str, Array]
    header: dict[str, Any]
    sha256: str

    @property
    def classes(self) -> tuple[str | float, ...] | None:
        found = self.header["classes"]
        return None if found is None else tuple(found)

    @property
    def gaps(self) -> Gaps:
        """Which features are missing, and what becomes of them: as when the model learnt."""
        found = self.header["settings"].get("missing", {})
        indicators = found.get("indicators") or ()
        return Gaps(found.get("fill", "none"), tuple(found.get("values", ())), tuple(indicators))

    @property
    def names(self) -> list[str]:
        """What the model's columns are: the features, and the indicators of those that may be missing."""
        return [*self.header["features"], *map(missing_name, self.gaps.indicators)]

    @property
    def fields(self) -> Fields:
        """How a file is read for this model: its features by name, all else optional."""
        columns = self.header["columns"]
        return Fields(
            label=columns["label"],
            features=tuple(self.header["features"]),
            id=columns["id"],
            offset=columns.get("offset"),
            exposure=columns.get("exposure"),
            labels="number" if self.classes is None else "class",
            domain=getattr(self.learner.kernel.loss, "domain", ANY),
            classes=self.classes,
            unlabelled="keep",
            gaps=self.gaps,
            dialect=Dialect(**self.header["settings"].get("csv", {})),
            format=self.header["settings"].get("format", "auto"),
            hashed=self.hashed,
            times=tuple(
                (column, tuple(parts))
                for column, parts in (self.header["settings"].get("times") or {}).items()
            ),
        )

    @property
    def hashed(self) -> Hashed:
        """What of a row has slots: as when the model learnt."""
        given = self.header["settings"].get("hashing", {})
        return Hashed(
            bits=self.learner.spec.bits,
            categorical=tuple(self.header.get("categorical", ())),
            text=tuple(given.get("text") or ()),
            ngrams=given.get("ngrams", 1),
            interactions=tuple(map(tuple, given.get("interactions") or ())),
        )


def newest(path: str) -> Model:
    """Reads the model file that is there now; raises FileNotFoundError, or StorageDamaged."""
    with open(path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return load(path, sha256)


@lru_cache(maxsize=8)
def load(path: str, sha256: str) -> Model:
    """Reads a model file; raises StorageDamaged when it isn't the whole one with this digest."""
    checkpoint = checkpoints.read(Path(path), sha256)
    spec: str = Spec(**checkpoint.header["spec"]).to_json()
    learner = build(spec)
    state = state_of(checkpoint.tensors, learner)
    return Model(learner, state, checkpoint.header, sha256)


@dataclass(frozen=True, slots=True)
class Needs:
    """What the daemon must know of a model file to have a file predicted by it."""

    sha256: str
    fields: Fields
    header: bytes


@dataclass(frozen=True, slots=True)
class Predicted:
    """What became of a chunk: the length of its text, the rows and line breaks it has, and its bad rows, which have no prediction."""

    bytes: int
    rows_seen: int
    lines: int
    rejected: int
    first_bad: tuple[BadRow, ...]


def needs(path: str) -> Needs:
    """Reads a model file; raises FileNotFoundError, or StorageDamaged when it isn't a whole one."""
    model = newest(path)
    return Needs(model.sha256, model.fields, header(model))


def room(need: Needs, source: Source, chunk: Chunk) -> int:
    """Bytes that a chunk's predictions surely fit in; only what they need is backed by memory."""
    features = len(need.fields.features or ())
    rows = formats.block_bytes(source, chunk, need.fields) // (8 * (features + 1)) + 1
    return rows * (256 + 32 * need.header.count(b",")) + CARRIED_BYTES


def predict(
    path: str,
    sha256: str,
    source: Source,
    chunk: Chunk,
    rules: RowRules,
    first_row: int,
    text: Region,
) -> Predicted:
    """Writes a chunk's predictions to `text`."""
    lines, block = csv_lines(load(path, sha256), source, chunk, rules, first_row)
    back(text, len(lines))
    view(text)[: len(lines)] = np.frombuffer(lines, np.uint8)
    return Predicted(len(lines), block.rows_seen, block.lines, block.rejected, block.first_bad)


def csv_lines(
    model: Model, source: Source, chunk: Chunk, rules: RowRules, first_row: int
) -> tuple[bytes, Block]:
    """The predictions of a chunk's rows as CSV without its header line."""
    block = formats.decode(source, chunk, model.fields, rules)
    frame = _frame(model, block, first_row)
    buffer = io.BytesIO()
    frame.write_csv(buffer, include_header=False)
    return buffer.getvalue(), block


def header(model: Model) -> bytes:
    """The CSV's header line."""
    probabilities = [f"probability_{c}" for c in _class_names(model)]
    names = ["row", "id", "prediction", "label", *probabilities, "version", "model_sha256"]
    frame = pl.DataFrame({name: pl.Series(name, [], dtype=pl.Int64) for name in names})
    return frame.write_csv().encode()


def _frame(model: Model, block: Block, first_row: int) -> pl.DataFrame:
    output = model.learner.predict(model.state, block.x, block.offset, block.sparse)
    prediction = model.learner.prediction(output)
    n, classes = len(block.y), model.classes
    ids = (block.carried or {}).get("id", pl.Series("id", [None] * n, dtype=pl.String))
    if classes is None:
        clusters = model.learner.problem == "clustering"
        shown = pl.Series(prediction.astype(np.int64) if clusters else prediction.reshape(-1))
        label = pl.Series(block.y).fill_nan(None)
        shares: list[Array] = []
    else:
        known = np.nan_to_num(block.y, nan=0.0)
        names = tuple(_class_names(model))  # text: a column of 0 and 2.5 would write 0.0
        label = labels(known, names).set(pl.Series(np.isnan(block.y)), None)
        binary = prediction.ndim == 1
        shown = pl.Series(prediction) if binary else labels(prediction.argmax(axis=1), names)
        shares = [1.0 - prediction, prediction] if binary else list(prediction.T)
    columns = [pl.Series("row", block.row + first_row), ids.alias("id")]
    columns += [shown.alias("prediction"), label.alias("label")]
    columns += [
        pl.Series(f"probability_{c}", share)
        for c, share in zip(_class_names(model), shares, strict=True)
    ]
    return pl.DataFrame(columns).with_columns(
        pl.lit(model.header["version"]).alias("version"), pl.lit(model.sha256).alias("model_sha256")
    )


def _class_names(model: Model) -> list[str]:
    return [str(spelt(c)) for c in model.classes or ()]
