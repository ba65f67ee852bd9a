"""The records of samples, formatted in bulk: JSON lines, or the article's line of text."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np

from kernels.contract import Array
from service.core.records import Subject
from service.core.spelling import spelt
from service.formats.frames import pl

FEW_ROWS = 128
"""So many rows are written one by one."""


@dataclass(frozen=True, slots=True)
class Table:
    """What is known of n rows, in their order.

    `prediction` is (n,) or, of several classes, their probabilities (n, k); `weight` and `offset` are
    None without such columns; `results` holds `output`, `residual`, `norm` and perhaps `gradient` or
    `factor/<name>`.
    """

    row: Array
    carried: pl.DataFrame
    weight: Array | None
    offset: Array | None
    label: Array
    loss: Array
    prediction: Array
    results: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Page:
    """The rows of one file's round: whose they are, and the version of the model that they met."""

    subject: Subject
    version: int
    table: Table

    @property
    def kind(self) -> tuple[object, ...]:
        """Pages of the same kind have the same columns."""
        subject, table = self.subject, self.table
        arrays = (table.label, table.loss, table.prediction, *table.results.values())
        return (
            (subject.classes, subject.samples, subject.samples_format, subject.is_clustering),
            bool(subject.revision),
            table.carried.width and tuple(table.carried.schema.items()),
            table.weight is None,
            table.offset is None,
            tuple(table.results),
            tuple((array.dtype, array.shape[1:]) for array in arrays),
        )


def texts(pages: Sequence[Page]) -> list[bytes]:
    """The records of each page's rows in the job's format; pages of one kind are written together, for many are small."""
    found: list[bytes] = []
    for _, alike in groupby(pages, lambda page: page.kind):
        found += _texts_of_a_kind(list(alike))
    return found


def _texts_of_a_kind(pages: Sequence[Page]) -> list[bytes]:
    if pages[0].subject.samples_format == "text":
        return [_article_lines(page.table) for page in pages]
    written = json_lines(_frame(pages))
    if len(pages) == 1:
        return [written]
    after_lines = np.flatnonzero(np.frombuffer(written, np.uint8) == ord("\n")) + 1
    after_pages = np.cumsum([len(page.table.row) for page in pages])
    ends = [0, *after_lines[after_pages - 1].tolist()]
    return [written[start:end] for start, end in pairwise(ends)]


def json_lines(frame: pl.DataFrame) -> bytes:
    """A line of JSON a row. The writer of many has a plan and threads, which take longer to begin than a few rows to write;
    both write the same bytes."""
    if len(frame) <= FEW_ROWS:
        return b"".join(f"{line}\n".encode() for line in frame.to_struct().struct.json_encode())
    buffer = io.BytesIO()
    frame.write_ndjson(buffer)
    return buffer.getvalue()


def labels(indices: Array, classes: tuple[str | float, ...]) -> pl.Series:
    """Class indices (n,) as the labels that files give; whole numbers lose their point."""
    return pl.Series("label", [*map(spelt, classes)], strict=False)[indices.astype(np.int64)]


def _frame(pages: Sequence[Page]) -> pl.DataFrame:
    """All columns in the order of a record. No expressions: for each polars makes a plan, which a small file feels."""
    subject, table = pages[0].subject, _joined([page.table for page in pages])
    rows = [len(page.table.row) for page in pages]

    def each(values: Sequence[str | int]) -> pl.Series:
        return pl.Series(values)[np.repeat(np.arange(len(rows)), rows)]

    columns = {"file": each([page.subject.file for page in pages])}
    columns["row"] = pl.Series("row", table.row)
    if "id" in table.carried.columns:
        columns["id"] = table.carried["id"]
    columns["version"] = each([page.version for page in pages])
    if subject.revision:
        columns["revision"] = each([page.subject.revision for page in pages])
    columns["loss"] = pl.Series("loss", table.loss)
    columns |= _predicted(table.prediction, subject)
    if subject.is_clustering:
        columns["label"] = pl.Series("label", [None] * len(table.row), dtype=pl.Float64)
    elif subject.classes is None:
        columns["label"] = pl.Series("label", table.label)
    else:
        columns["label"] = labels(table.label, subject.classes)
    if table.weight is not None:
        columns["weight"] = pl.Series("weight", table.weight)
    if table.offset is not None:
        columns["offset"] = pl.Series("offset", table.offset)
    if "time" in table.carried.columns:
        columns["time"] = table.carried["time"]
    columns |= _gradients(subject.samples, table.results)
    return pl.DataFrame([series.alias(name) for name, series in columns.items()])


def _joined(tables: Sequence[Table]) -> Table:
    """The rows of tables of one kind, one behind the other."""
    first = tables[0]
    if len(tables) == 1:
        return first

    def joined(arrays: Iterable[Array]) -> Array:
        return np.concatenate(list(arrays))

    return Table(
        row=joined(table.row for table in tables),
        carried=pl.concat([table.carried for table in tables]),
        weight=None if first.weight is None else joined(_known(t.weight) for t in tables),
        offset=None if first.offset is None else joined(_known(t.offset) for t in tables),
        label=joined(table.label for table in tables),
        loss=joined(table.loss for table in tables),
        prediction=joined(table.prediction for table in tables),
        results={name: joined(table.results[name] for table in tables) for name in first.results},
    )


def _known(array: Array | None) -> Array:
    assert array is not None
    return array


def _predicted(prediction: Array, subject: Subject) -> dict[str, pl.Series]:
    if subject.is_clustering:
        return {"prediction": pl.Series("prediction", prediction.astype(np.int64))}
    if prediction.ndim == 1 or subject.classes is None:
        return {"prediction": pl.Series("prediction", prediction.reshape(-1))}
    best = prediction.argmax(axis=1)
    return {
        "prediction": labels(best, subject.classes),
        "probability": pl.Series("probability", prediction[np.arange(len(best)), best]),
    }


def _gradients(wanted: str, results: Mapping[str, Array]) -> dict[str, pl.Series]:
    if wanted == "factored":
        residual = results["residual"]
        one = residual[:, 0] if residual.shape[1] == 1 else residual
        found = {"residual": pl.Series("residual", one)}
        factors = {k.removeprefix("factor/"): a for k, a in results.items() if "/" in k}
        if factors:
            found["factors"] = _nested("factors", factors)
        return found
    if wanted == "full":
        return {"gradient": pl.Series("gradient", results["gradient"])}
    columns = {"gradient_norm": pl.Series("norm", results["norm"])}
    if "gradient" in results:  # recorded with the norms where the model has a single parameter
        columns["gradient"] = pl.Series("gradient", results["gradient"][:, 0])
    return columns


def _nested(name: str, arrays: Mapping[str, Array]) -> pl.Series:
    """Arrays (n, m) by names of two parts, `layer0/delta`, as one object of objects a row."""
    layers: dict[str, list[pl.Series]] = {}
    for path, array in sorted(arrays.items()):
        layer, _, part = path.partition("/")
        layers.setdefault(layer, []).append(pl.Series(part, array))
    parts = [pl.DataFrame(series).to_struct(layer) for layer, series in layers.items()]
    return pl.DataFrame(parts).to_struct(name)


def _article_lines(table: Table) -> bytes:
    """The article's line; of more than one parameter it can give the gradient's norm only."""
    if "gradient" in table.results and table.results["gradient"].shape[1] == 1:
        line, gradient = "Sample %d: gradient = %f, loss = %f\n", table.results["gradient"][:, 0]
    else:
        line, gradient = "Sample %d: gradient_norm = %f, loss = %f\n", table.results["norm"]
    rows = zip(table.row.tolist(), gradient.tolist(), table.loss.tolist(), strict=True)
    return "".join(map(line.__mod__, rows)).encode()
