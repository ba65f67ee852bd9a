"""The records of samples, formatted in bulk: JSON lines, or the article's line of text."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kernels.contract import Array
from service.core.records import Subject
from service.core.spelling import spelt
from service.formats.frames import pl


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


def text(subject: Subject, version: int, table: Table) -> bytes:
    """The records of a round's rows in the job's format."""
    if subject.samples_format == "text":
        return _article_lines(table)
    buffer = io.BytesIO()
    _frame(subject, version, table).write_ndjson(buffer)
    return buffer.getvalue()


def labels(indices: Array, classes: tuple[str | float, ...]) -> pl.Series:
    """Class indices (n,) as the labels that files give; whole numbers lose their point."""
    return pl.Series("label", [*map(spelt, classes)], strict=False)[indices.astype(np.int64)]


def _frame(subject: Subject, version: int, table: Table) -> pl.DataFrame:
    """All columns in the order of a record. No expressions: for each polars makes a plan, which a small file feels."""

    def same(value: str | int) -> pl.Series:
        return pl.Series([value]).new_from_index(0, len(table.row))

    columns = {"file": same(subject.file), "row": pl.Series("row", table.row)}
    if "id" in table.carried.columns:
        columns["id"] = table.carried["id"]
    columns["version"] = same(version)
    if subject.revision:
        columns["revision"] = same(subject.revision)
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
