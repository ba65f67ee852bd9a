"""The model and both result logs are a function of the settings and the files: not of workers, chunks, formats or lives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sample_tables
from daemon_root import Outcome, Root, job, root_in, rounds

MLP = {"kernel": "mlp", "hidden": [5, 4], "classes": 3}
SOFTMAX = {"kernel": "softmax", "classes": 3}
JOBS = (
    job("logistic"),
    job("steps", logs={}, training=rounds(7), optimizer={"name": "adam"}),
    job("linear", model={"kernel": "linear", "l2": 0.01}, training=rounds(3, 1, 40)),
    job("softmax", model=SOFTMAX, training=rounds(2, 3, 1), output={"samples": "factored"}),
    job("exact", model=MLP, training=rounds(8, 3, 1)),
    job("local", model=MLP, training=rounds(5, 3, 4), output={"samples": "full"}),
    job("experts", training=rounds(4, 3, 5) | {"class_weight": "balanced"}),
    job("columns", model=MLP, training={"partition": "features", "batch_rows": 16, "lanes": 3}),
    job("products", model={"kernel": "fm", "loss": "logistic"}, training=rounds(8, 2, 2)),
    job("clusters", label=None, model={"kernel": "kmeans", "clusters": 3}, training=rounds(8, 3)),
)
FILES = ((401, 1), (90, 2))


def _job(parts: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in parts.items() if value not in ({}, None)}


def _run(root: Root, workers: int, chunk_bytes: int) -> dict[str, Outcome]:
    root.configure(
        *map(_job, JOBS),
        service={"workers": workers, "chunk_bytes": chunk_bytes},
        logs={"every_rows": 100},
    )
    for one in JOBS:
        for number, (count, seed) in enumerate(FILES):
            classes = one["model"].get("classes", 2)
            root.drop(
                f"{number}.csv",
                sample_tables.csv(sample_tables.rows(count, seed, classes)),
                one["name"],
            )
    root.once()
    assert root.leftovers() == []
    return {one["name"]: root.outcome(one["name"]) for one in JOBS}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """What one worker makes of the files, each in one chunk."""
    with root_in(tmp_path_factory.mktemp("plain")) as root:
        return _run(root, workers=1, chunk_bytes=1 << 22)


@pytest.fixture(
    scope="module",
    params=[(2, 256), (3, 5000)],
    ids=["2-workers-256-bytes", "3-workers-5000-bytes"],
)
def other(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Outcome]:
    """What more workers make of the same files in small chunks."""
    with root_in(tmp_path_factory.mktemp("other")) as root:
        return _run(root, *request.param)


@pytest.mark.parametrize("name", [one["name"] for one in JOBS])
def test_workers_and_chunks_change_no_bit(
    plain: dict[str, Outcome], other: dict[str, Outcome], name: str
) -> None:
    assert plain[name].model is not None
    assert other[name] == plain[name]


@pytest.mark.parametrize("name", [one["name"] for one in JOBS])
def test_a_run_writes_one_record_for_each_row(plain: dict[str, Outcome], name: str) -> None:
    assert plain[name].samples.count(b"\n") == sum(count for count, _ in FILES)


def _learnt(root: Root, name: str) -> tuple[Any, ...]:
    """What may not depend on the format: tensors, sample records, and the metrics without the file's own facts."""
    strange = ("file", "bytes", "sha256", "job")
    metrics = [
        {k: v for k, v in r.items() if k not in strange}
        for r in root.records("metrics.jsonl", name)
    ]
    samples = [{k: v for k, v in r.items() if k != "file"} for r in root.samples(name)]
    return root.tensors(name), metrics, samples


def test_formats_change_no_bit(root: Root) -> None:
    table = sample_tables.rows(333, seed=3)
    root.configure(
        *(job(name) for name in sample_tables.WRITERS),
        job("npy", label=3),
        service={"chunk_bytes": 3000},
    )
    for name, write in sample_tables.WRITERS.items():
        root.drop(f"rows.{name}", write(table), name)
    root.drop("rows.npy", sample_tables.npy(table), "npy")
    root.once()
    found = {name: _learnt(root, name) for name in (*sample_tables.WRITERS, "npy")}
    assert len(found["csv"][2]) == 333
    for name, learnt in found.items():
        assert learnt == found["csv"], name


def test_a_second_life_gives_the_bits_of_one(root: Root, tmp_path: Path) -> None:
    files = [sample_tables.csv(sample_tables.rows(200, seed)) for seed in (5, 6)]
    for number, data in enumerate(files):
        root.drop(f"{number}.csv", data)
        root.once()
    with root_in(tmp_path / "one") as one:
        one.configure()
        for number, data in enumerate(files):
            one.drop(f"{number}.csv", data)
        one.once()
        assert root.outcome() == one.outcome()
