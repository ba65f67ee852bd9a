"""`python benchmarks/peers.py NAME FILE`: one peer learns a file once, as its users have it do, and says how long it took.

Rules: it runs in a process and an environment of its own (`make bench` makes it), and imports nothing of ours. Timed is
from the file to the last row learnt, after the imports; nothing is recorded or durable. Each row is scored before it is
learnt, as peers do it themselves or by batches, so that nobody is fast by learning less. The answer is one line of JSON:
seconds, mean log loss (null: not scored), versions. Exit status 3: something is not installed; the line says what.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from itertools import islice
from typing import Any

import numpy as np

BATCH_ROWS = 1000
WARM_ROWS = 4096
Batches = Iterator[tuple[np.ndarray, np.ndarray]]
Learnt = tuple[float, float | None, str]
"""Seconds, mean log loss, versions."""


def vowpal_wabbit(path: str) -> Learnt:
    """Its defaults with logistic loss, on a file in its own text format."""
    from vowpalwabbit import pyvw

    begun = time.perf_counter()
    workspace = pyvw.Workspace(arg_list=["-d", path, "--loss_function", "logistic", "--quiet"])
    loss = workspace.get_sum_loss() / workspace.get_weighted_examples()
    workspace.finish()
    return time.perf_counter() - begun, loss, _versions("vowpalwabbit")


def scikit_learn_pyarrow(path: str) -> Learnt:
    """`partial_fit` by batches behind a StandardScaler that goes along; the file streamed by pyarrow."""
    from pyarrow import csv

    def batches() -> Batches:
        with csv.open_csv(path) as reader:
            for block in reader:
                table = np.column_stack([column.to_numpy() for column in block.columns])
                yield from _slices(table)

    return _scikit_learn(batches, "pyarrow")


def scikit_learn_pandas(path: str) -> Learnt:
    """The same; the file read by pandas in chunks."""
    import pandas

    def batches() -> Batches:
        for chunk in pandas.read_csv(path, chunksize=BATCH_ROWS):
            yield from _slices(chunk.to_numpy())

    return _scikit_learn(batches, "pandas")


def river(path: str) -> Learnt:
    """LogisticRegression behind a StandardScaler, row by row, as its pages have it."""
    from river import linear_model, preprocessing, stream

    model = preprocessing.StandardScaler() | linear_model.LogisticRegression()
    with open(path) as file:
        names = file.readline().strip().split(",")
    converters: dict[str, Callable[[str], Any]] = dict.fromkeys(names, float)
    begun, loss, rows = time.perf_counter(), 0.0, 0
    for row, label in stream.iter_csv(path, target="y", converters=converters):
        share = model.predict_proba_one(row).get(True, 0.5)
        loss -= np.log(max(share if label else 1 - share, 1e-15))
        model.learn_one(row, bool(label))
        rows += 1
    return time.perf_counter() - begun, float(loss) / rows, _versions("river")


def torch(path: str) -> Learnt:
    """A linear layer and Adam with its defaults, by batches, behind scaling that goes along; the file read by polars."""
    import polars
    import torch

    begun, loss, rows = time.perf_counter(), 0.0, 0
    frame = polars.read_csv(path)
    width = frame.width - 1
    layer = torch.nn.Linear(width, 1)
    optimizer = torch.optim.Adam(layer.parameters())
    mean, spread = torch.zeros(width), torch.zeros(width)
    for x, y in _slices(frame.to_numpy(order="c")):
        table, target = torch.from_numpy(x).float(), torch.from_numpy(y).float()
        rows += len(x)
        off = table - mean
        mean += off.sum(0) / rows
        spread += (off * (table - mean)).sum(0)
        z = (table - mean) / (spread / rows).sqrt().clamp_min(1e-12)
        error = torch.nn.functional.binary_cross_entropy_with_logits(layer(z)[:, 0], target)
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        loss += error.item() * len(x)
    return time.perf_counter() - begun, loss / rows, _versions("torch", "polars")


def torch_mlp(path: str, batch_rows: int) -> Learnt:
    """Two layers, 128 hidden units and plain SGD on a thread per core; an NPY file, the digit in its last column."""
    import torch

    torch.set_num_threads(os.cpu_count() or 1)

    def learnt(table: torch.Tensor) -> float:
        torch.manual_seed(0)
        layers = torch.nn.Sequential(
            torch.nn.Linear(table.shape[1] - 1, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)
        )
        optimizer = torch.optim.SGD(layers.parameters(), lr=0.1)
        loss = 0.0
        for batch in table.split(batch_rows):
            error = torch.nn.functional.cross_entropy(layers(batch[:, :-1]), batch[:, -1].long())
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
            loss += error.item() * len(batch)
        return loss / len(table)

    learnt(torch.zeros(4096, 785))  # its threads and its first step are not what is measured
    begun = time.perf_counter()
    loss = learnt(torch.from_numpy(np.load(path)))
    return time.perf_counter() - begun, loss, _versions("torch")


def polars_alone(path: str) -> Learnt:
    """What nobody who reads the file through polars can beat: it decodes to arrays on all cores, and nothing is learnt."""
    import polars

    begun = time.perf_counter()
    frame = polars.read_csv(path)
    frame.drop("y").to_numpy(order="c")
    frame["y"].to_numpy()
    return time.perf_counter() - begun, None, _versions("polars")


def spark(path: str) -> Learnt:
    """Structured streaming over a folder, each micro-batch learnt from the last one's weights, as MLlib's own streaming regression does.

    Its settings are that one's, behind a StandardScaler: 50 steps of 0.1 at most, each over the whole micro-batch. A file is one
    micro-batch: nothing is learnt before it, so scoring it would only tell what a model of zeros is worth. A small file goes
    first, to a query and a model of its own: starting the JVM and compiling there are not what is measured.
    """
    from pyspark.errors import PySparkRuntimeError
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable  # else its workers are any python3 on the path
    quiet = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false"}
    try:
        session = SparkSession.builder.master("local[*]").config(map=quiet).getOrCreate()
    except PySparkRuntimeError as error:
        raise ModuleNotFoundError(str(error), name="a Java that it runs on") from error
    try:
        with tempfile.TemporaryDirectory(dir=os.path.dirname(path)) as place:
            few = os.path.join(place, "few.csv")
            with open(path) as rows, open(few, "w") as file:
                file.writelines(islice(rows, WARM_ROWS))
            _spark_query(session, few, os.path.join(place, "warm"))
            seconds = _spark_query(session, path, os.path.join(place, "rows"))
        java = session.sparkContext._jvm.System.getProperty("java.version")
        return seconds, None, f"{_versions('pyspark')}, Java {java}"
    finally:
        session.stop()


def _spark_query(session: Any, path: str, place: str) -> float:
    """Seconds from the start to the end of a query that learns what is in a folder; the file is put there before."""
    from pyspark.ml.feature import StandardScaler, VectorAssembler
    from pyspark.mllib.classification import LogisticRegressionWithSGD
    from pyspark.mllib.regression import LabeledPoint

    with open(path) as file:
        *features, label = file.readline().strip().split(",")
    watched = os.path.join(place, "watched")
    os.makedirs(watched)
    os.link(path, os.path.join(watched, "rows.csv"))
    assembler = VectorAssembler(inputCols=features, outputCol="raw")
    scaler = StandardScaler(inputCol="raw", outputCol="scaled", withMean=True)
    weights = [np.zeros(len(features))]

    def learn(batch: Any, number: int) -> None:
        vectors = assembler.transform(batch).select(label, "raw").persist()
        scaled = scaler.fit(vectors).transform(vectors)
        points = scaled.rdd.map(lambda row: LabeledPoint(row[0], row[2].toArray()))
        model = LogisticRegressionWithSGD.train(
            points, iterations=50, step=0.1, initialWeights=weights[-1], regParam=0.0
        )
        vectors.unpersist()
        weights.append(model.weights.toArray())

    schema = ", ".join(f"{name} DOUBLE" for name in (*features, label))
    rows = session.readStream.schema(schema).option("header", True).csv(watched)
    query = rows.writeStream.foreachBatch(learn).trigger(availableNow=True)
    query = query.option("checkpointLocation", os.path.join(place, "checkpoint"))
    begun = time.perf_counter()
    query.start().awaitTermination()
    seconds = time.perf_counter() - begun
    if not weights[-1].any():
        raise RuntimeError("spark: must learn something, got weights of zero")
    return seconds


PEERS: dict[str, Callable[[str], Learnt]] = {
    "vowpal-wabbit": vowpal_wabbit,
    "scikit-learn-pyarrow": scikit_learn_pyarrow,
    "scikit-learn-pandas": scikit_learn_pandas,
    "river": river,
    "torch": torch,
    "spark": spark,
    "torch-mlp-1024": partial(torch_mlp, batch_rows=1024),
    "torch-mlp-32": partial(torch_mlp, batch_rows=32),
    "polars-alone": polars_alone,
}


def _versions(*packages: str) -> str:
    return ", ".join(f"{package} {version(package)}" for package in packages)


def _scikit_learn(batches: Callable[[], Batches], reader: str) -> Learnt:
    from sklearn.linear_model import SGDClassifier
    from sklearn.preprocessing import StandardScaler

    scaler, model = StandardScaler(), SGDClassifier(loss="log_loss", random_state=0)
    begun, loss, rows, learnt = time.perf_counter(), 0.0, 0, False
    for x, y in batches():
        z = scaler.partial_fit(x).transform(x)
        output = model.decision_function(z) if learnt else np.zeros(len(y))
        loss += float((np.logaddexp(0.0, output) - y * output).sum())
        model.partial_fit(z, y, classes=[0, 1])
        rows, learnt = rows + len(y), True
    return time.perf_counter() - begun, loss / rows, _versions("scikit-learn", reader)


def _slices(table: np.ndarray) -> Batches:
    """The label is the last column."""
    for start in range(0, len(table), BATCH_ROWS):
        yield table[start : start + BATCH_ROWS, :-1], table[start : start + BATCH_ROWS, -1]


def main(arguments: list[str]) -> None:
    """Runs the peer and prints its line."""
    name, path = arguments
    try:
        seconds, loss, found = PEERS[name](path)
    except ModuleNotFoundError as error:
        print(json.dumps({"missing": error.name}))
        sys.exit(3)
    print(json.dumps({"seconds": seconds, "loss": loss, "version": found}))


if __name__ == "__main__":
    main(sys.argv[1:])
