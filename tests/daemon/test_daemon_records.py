"""What the records say: one life in which each job tries another setting, read against oracles."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sample_tables
from daemon_root import Root, job, rounds
from sklearn.metrics import roc_auc_score

from service import __version__

HERE = Path(__file__).parent
TABLE = sample_tables.rows(120, seed=8)
PLAIN = sample_tables.csv(TABLE)
PROGRESS_KEYS = [
    "kind", "job", "file", "sequence", "rows_from", "rows_to", "version", "loss", "metrics", "gradient_norm",
    "learning_rate",
]  # fmt: skip
FILE_KEYS = [
    "kind", "job", "file", "sequence", "version", "rows", "rows_rejected", "rows_unlabelled", "weight_sum", "bytes",
    "sha256", "loss", "metrics", "before", "lifetime",
]  # fmt: skip
BINARY = {
    "log_loss", "accuracy", "auc", "average_precision", "precision", "recall", "f1", "base_rate", "mean_prediction",
    "skill",
}  # fmt: skip


def _columns() -> bytes:
    """Rows with an id, a weight and a time beside a, b and y; the fifth has no label."""
    lines = ["when,key,a,w,b,y"]
    for row, (a, b, _, y) in enumerate(TABLE):
        label = "" if row == 5 else str(int(y))
        lines.append(f"2024-01-{row % 28 + 1:02},k{row},{a!r},{row % 3},{b!r},{label}")
    return ("\n".join(lines) + "\n").encode()


def _named() -> bytes:
    return sample_tables.csv(TABLE).replace(b",0\n", b",no\n").replace(b",1\n", b",yes\n")


def _reordered() -> bytes:
    names = ("y", "c", "a", "b")
    return sample_tables.csv([(y, c, a, b) for a, b, c, y in TABLE], names)


def _article() -> bytes:
    return b"x,y\n" + b"".join(b"%d,%d\n" % (i, i) for i in range(100))


ARTICLE: dict[str, Any] = {
    "model": {"kernel": "linear", "intercept": False},
    "optimizer": {"name": "sgd", "learning_rate": 1e-4},
    "training": rounds(25, 4),
    "scaling": {"standardise": False, "target": "none"},
}
JOBS: dict[str, tuple[dict[str, Any], bytes]] = {
    "norms": ({}, PLAIN),
    "off": ({"output": {"samples": "off"}}, PLAIN),
    "full": ({"output": {"samples": "full"}}, PLAIN),
    "factored": ({"output": {"samples": "factored"}}, PLAIN),
    "columns": (
        {
            "id": "key",
            "weight": "w",
            "time": "when",
            "features": ["a", "b"],
            "training": rounds(50),
        },
        _columns(),
    ),
    "named": ({"model": {"kernel": "logistic", "positive": "yes"}}, _named()),
    "against": ({"model": {"kernel": "logistic", "positive": "no"}}, _named()),
    "reordered": ({"features": ["a", "b", "c"]}, _reordered()),
    "stranger": ({"model": {"kernel": "kernel_of_a_stranger:Huber", "delta": 0.5}}, PLAIN),
    "softmax": (
        {"model": {"kernel": "softmax"}},
        sample_tables.csv(sample_tables.rows(90, 3, classes=3)),
    ),
    "regression": ({"label": "b", "model": {"kernel": "linear"}}, PLAIN),
    "article": (ARTICLE | {"output": {"samples_format": "text"}}, _article()),
    "article-json": (ARTICLE, _article()),
}


@pytest.fixture(scope="module")
def told(shared: Root) -> Root:
    """The root after a life in which every job learnt its file."""
    jobs = [job(name, **parts) for name, (parts, _) in JOBS.items()]
    shared.configure(*jobs, logs={"every_rows": 50})
    for name, (_, data) in JOBS.items():
        shared.drop("f.csv", data, name)
    shared.once(path=[HERE])
    assert not [name for name in JOBS if shared.names("failed", name)]
    return shared


@pytest.mark.parametrize("name", [n for n in JOBS if n not in ("off", "article")])
def test_each_row_has_one_record_in_their_order(told: Root, name: str) -> None:
    rows = [sample["row"] for sample in told.samples(name)]
    count = JOBS[name][1].count(b"\n") - 1
    assert rows == [row for row in range(count) if (name, row) != ("columns", 5)]


def test_progress_records_have_their_keys_and_cover_the_rows(told: Root) -> None:
    progress = told.records(job="norms", kind="progress")
    assert [(r["rows_from"], r["rows_to"]) for r in progress] == [(0, 50), (50, 100), (100, 120)]
    for record in progress:
        assert list(record) == PROGRESS_KEYS
        assert set(record["metrics"]) == BINARY


def test_file_records_have_their_keys(told: Root) -> None:
    (record,) = told.accepted("norms")
    assert list(record) == FILE_KEYS
    for scored in (record, record["before"], record["lifetime"]):
        assert set(scored["metrics"]) == BINARY
    assert set(told.accepted("softmax")[0]["metrics"]) == {"log_loss", "accuracy", "macro_f1"}
    assert set(told.accepted("regression")[0]["metrics"]) == {"rmse", "mae", "r2", "bias"}


def test_metrics_are_those_of_the_sample_records(told: Root) -> None:
    samples, (record,) = told.samples("norms"), told.accepted("norms")
    label = np.array([s["label"] for s in samples])
    prediction = np.array([s["prediction"] for s in samples])
    assert record["loss"] == pytest.approx(np.mean([s["loss"] for s in samples]), rel=1e-12)
    assert record["metrics"]["log_loss"] == record["loss"]
    assert record["metrics"]["accuracy"] == pytest.approx(np.mean((prediction > 0.5) == label))
    assert record["metrics"]["auc"] == pytest.approx(roc_auc_score(label, prediction), abs=2e-3)
    for part in told.records(job="norms", kind="progress"):
        losses = [s["loss"] for s in samples[part["rows_from"] : part["rows_to"]]]
        norms = [s["gradient_norm"] for s in samples[part["rows_from"] : part["rows_to"]]]
        assert part["loss"] == pytest.approx(np.mean(losses), rel=1e-12)
        assert part["gradient_norm"] == pytest.approx(np.mean(norms), rel=1e-12)


def test_a_first_file_is_scored_before_by_the_untrained_model(told: Root) -> None:
    (record,) = told.accepted("norms")
    assert record["before"]["loss"] == pytest.approx(math.log(2))
    assert record["lifetime"] == {"rows": 120, "loss": record["loss"], "metrics": record["metrics"]}


def test_samples_can_be_left_out(told: Root) -> None:
    assert told.log("samples.jsonl", "off") == b""
    assert told.log("metrics.jsonl", "off").replace(b'"off"', b'"norms"') == told.log(
        "metrics.jsonl", "norms"
    )
    assert told.tensors("off") == told.tensors("norms")


def test_full_gradients_have_the_norms_and_factored_ones_the_residuals(told: Root) -> None:
    samples = zip(
        told.samples("norms"), told.samples("full"), told.samples("factored"), strict=True
    )
    for norms, full, factored in samples:
        assert len(full["gradient"]) == 4
        assert math.hypot(*full["gradient"]) == pytest.approx(norms["gradient_norm"], rel=1e-9)
        assert factored["residual"] == pytest.approx(
            norms["prediction"] - norms["label"], abs=1e-12
        )
        assert any(
            part == pytest.approx(factored["residual"], rel=1e-12) for part in full["gradient"]
        )
    assert told.tensors("full") == told.tensors("norms") == told.tensors("factored")


def test_id_weight_and_time_are_carried_and_unlabelled_rows_counted(told: Root) -> None:
    (record,) = told.accepted("columns")
    assert (record["rows"], record["rows_unlabelled"], record["rows_rejected"]) == (119, 1, 0)
    assert record["weight_sum"] == sum(row % 3 for row in range(120) if row != 5)
    for sample in told.samples("columns"):
        row = sample["row"]
        assert list(sample)[:3] == ["file", "row", "id"]
        assert (sample["id"], sample["weight"]) == (f"k{row}", row % 3)
        assert sample["time"] == f"2024-01-{row % 28 + 1:02}"
    for part in told.records(job="columns", kind="progress"):
        assert part["time_min"] <= part["time_max"]
    assert told.records(job="columns", kind="progress")[0]["time_min"] == "2024-01-01"


def test_losses_are_weighted(told: Root) -> None:
    samples, (record,) = told.samples("columns"), told.accepted("columns")
    weights = [s["weight"] for s in samples]
    assert record["loss"] == pytest.approx(
        np.average([s["loss"] for s in samples], weights=weights)
    )


def test_the_positive_class_is_the_one_that_is_learnt_as_1(told: Root) -> None:
    assert told.header("named")["classes"] == ["no", "yes"]
    assert told.header("against")["classes"] == ["yes", "no"]
    for ours, other in zip(told.samples("named"), told.samples("against"), strict=True):
        assert ours["label"] == other["label"]
        assert ours["label"] in ("yes", "no")
        assert ours["prediction"] + other["prediction"] == pytest.approx(1)
    assert told.tensors("named") == told.tensors("norms")


def test_features_are_found_by_name(told: Root) -> None:
    assert told.header("reordered")["features"] == ["a", "b", "c"]
    assert told.tensors("reordered") == told.tensors("norms")


def test_a_class_comes_with_its_probability(told: Root) -> None:
    for sample in told.samples("softmax"):
        assert sample["prediction"] in (0, 1, 2)
        assert 1 / 3 <= sample["probability"] <= 1
        assert sample["loss"] >= 0


def test_a_number_is_predicted_in_its_own_unit(told: Root) -> None:
    samples, (record,) = told.samples("regression"), told.accepted("regression")
    error = np.array([s["prediction"] - s["label"] for s in samples])
    assert record["metrics"]["rmse"] == pytest.approx(math.sqrt(np.mean(error**2)))
    assert record["metrics"]["bias"] == pytest.approx(np.mean(error))
    assert record["loss"] == pytest.approx(np.mean(error**2))
    assert np.mean(np.abs(error[-40:])) < 30


def test_the_articles_lines_have_their_own_gradients(told: Root) -> None:
    lines = told.log("samples.txt", "article").decode().splitlines()
    assert len(lines) == 100
    assert lines[0] == "Sample 0: gradient = 0.000000, loss = 0.000000"
    assert lines[7] == "Sample 7: gradient = -98.000000, loss = 49.000000"
    for i, line in enumerate(lines[1:], 1):
        assert line == f"Sample {i}: gradient = {-2.0 * i * i:f}, loss = {float(i * i):f}"


def test_a_model_of_one_parameter_has_its_gradient_beside_the_norm(told: Root) -> None:
    for i, sample in enumerate(told.samples("article-json")):
        assert (sample["gradient"], sample["gradient_norm"]) == (-2.0 * i * i, 2.0 * i * i)


def test_a_strangers_kernel_is_learnt_from(told: Root) -> None:
    losses = [s["loss"] for s in told.samples("stranger")]
    assert np.mean(losses[-30:]) < np.mean(losses[:30])
    assert told.header("stranger")["spec"]["kernel"] == "kernel_of_a_stranger:Huber"


def test_the_model_file_says_what_it_is(told: Root) -> None:
    header = told.header("norms")
    assert (header["job"], header["last_file"], header["sequence"]) == ("norms", "f.csv", 1)
    assert header["version"] == told.accepted("norms")[0]["version"]
    assert {"numpy", "numba", "cpu"} <= set(header["fingerprint"])
    assert header["fingerprint"]["headrace"] == __version__


def test_show_names_each_feature_with_its_weight(told: Root) -> None:
    shown = told.ask("show", "--root", str(told.path), "--job", "norms")
    assert shown.returncode == 0, shown.stderr
    for word in ("(intercept)", "a", "b", "c", str(told.model_sha256("norms"))):
        assert word in shown.stdout


def test_steps_give_a_record_for_each_round(root: Root) -> None:
    root.configure(job(training=rounds(50)), logs={"steps": True})
    root.drop("f.csv", PLAIN)
    root.once()
    steps = root.records(kind="step")
    assert [(r["rows_from"], r["rows_to"], r["version"]) for r in steps] == [
        (0, 50, 1),
        (50, 100, 2),
        (100, 120, 3),
    ]
    assert root.records(kind="progress") == []


def _rotated(root: Root) -> list[str]:
    return [name for name in root.names("logs") if name.startswith("samples")]


def test_logs_go_on_in_new_files_without_splitting_a_files_records(root: Root) -> None:
    root.configure(logs={"rotate_bytes": 1000, "keep": 2})
    for number in range(5):
        root.drop(f"{number}.csv", sample_tables.csv(sample_tables.rows(10, number)))
        root.once() if number % 2 else None
    root.once()
    assert _rotated(root) == ["samples.000003.jsonl", "samples.000004.jsonl", "samples.jsonl"]
    for number, name in enumerate(_rotated(root), 2):
        records = map(json.loads, (root.folder("logs") / name).read_text().splitlines())
        assert [(r["file"], r["row"]) for r in records] == [
            (f"{number}.csv", row) for row in range(10)
        ]


def test_the_learning_rate_of_a_schedule_is_recorded_and_goes_on_in_the_next_life(
    root: Root,
) -> None:
    chance = random.Random(1)
    root.configure(
        job(
            schedule={"name": "inverse_scaling", "power": 1.0, "steps": 10.0},
            training=rounds(1, 1, 10),
        ),
        logs={"every_rows": 10},
    )
    for number in range(2):
        root.drop(f"{number}.csv", sample_tables.csv(sample_tables.rows(20, chance.randrange(99))))
        root.once()
    rates = [record["learning_rate"] for record in root.records(kind="progress")]
    assert rates == sorted(rates, reverse=True)
    assert len(set(rates)) == 4


def test_long_ids_and_times_are_recorded_whole(root: Root) -> None:
    long = "\\u0001" * 3000  # as JSON text: 3,000 control characters
    lines = [
        f'{{"a": {i}, "y": {i % 2}, "k": "{i}{long}", "t": "{9 - i}{long}"}}\n' for i in range(5)
    ]
    root.configure(job(id="k", time="t", training=rounds(2)))
    root.drop("f.jsonl", "".join(lines).encode())
    root.once()
    assert [len(sample["id"]) for sample in root.samples()] == [3001] * 5
    (record,) = root.records(kind="progress")
    assert (record["time_min"][0], record["time_max"][0]) == ("5", "9")
