"""docs/records.md explains every key of every record, and its examples have the keys of real ones."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_calls import drop, headrace, side
from marked_blocks import CHECKOUT, marked, of
from page_user import at_home, runs

Record = dict[str, Any]

JOB = """\
[logs]
every_rows = 50
steps = {steps}
[[jobs]]
name = "visits"
label = "label"
id = "visit"
time = "at"
weight = "weight"
model.kernel = "{kernel}"
output.samples = "{samples}"
"""
VISITS = "visit,at,weight,age,income,label\n" + "".join(
    f"v{i:03d},2024-05-{1 + i // 10:02d},{1 + i % 2},{20 + i * 7 % 60},{30000 + i * 771 % 9000},{i * 7 % 60 // 30}\n"
    for i in range(60)
)


def _learnt(folder: Path, **choices: str) -> Path:
    settings = {"steps": "false", "kernel": "logistic", "samples": "norms"} | choices
    (folder / "c.toml").write_text(JOB.format(**settings))
    drop(folder / "root", "visits", "visits.csv", VISITS.encode())
    run = headrace("run", "-c", folder / "c.toml", "--root", folder / "root", "--once")
    assert run.returncode == 0, run.stderr
    return folder / "root" / "logs"


def _records(path: Path) -> list[Record]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _keys(record: Record) -> set[str]:
    """Its keys, and those of what is in it."""
    inner = [value for value in record.values() if isinstance(value, dict)]
    return set(record).union(*map(_keys, inner))


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _learnt(tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="module")
def explained() -> set[str]:
    """Every word in backticks on the page."""
    text = (CHECKOUT / "docs" / "records.md").read_text("utf-8")
    return {word.rstrip("_") for word in re.findall(r"`([a-z0-9_]+)`", text)}


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"steps": "true"},
        {"kernel": "linear"},
        {"kernel": "softmax", "samples": "factored"},
        {"samples": "full"},
    ],
)
def test_every_key_of_every_record_is_explained(
    choices: dict[str, str], explained: set[str], tmp_path: Path
) -> None:
    logs = _learnt(tmp_path, **choices)
    records = _records(logs / "visits" / "metrics.jsonl")
    records += _records(logs / "visits" / "samples.jsonl")
    keys = set().union(*map(_keys, records))
    assert keys <= explained
    assert {record["kind"] for record in records if "kind" in record} <= explained


def test_every_event_that_happened_is_explained(logs: Path, explained: set[str]) -> None:
    keys: set[str] = set().union(*map(_keys, _records(logs / "service.jsonl")))
    assert keys <= explained


@pytest.mark.parametrize("kind", ["progress", "file"])
def test_the_examples_have_the_keys_of_real_records_in_their_order(kind: str, logs: Path) -> None:
    example = json.loads(of("records.md", "json")[kind])
    real = next(r for r in _records(logs / "visits" / "metrics.jsonl") if r["kind"] == kind)
    assert list(example) == list(real)
    assert list(example["metrics"]) == list(real["metrics"])


def test_the_example_of_a_sample_has_the_keys_of_a_real_one(logs: Path) -> None:
    example = json.loads(of("records.md", "json")["sample"])
    assert list(example) == list(_records(logs / "visits" / "samples.jsonl")[0])


def test_the_example_of_a_retraction_is_what_the_log_says(tmp_path: Path) -> None:
    metrics = _learnt(tmp_path) / "visits" / "metrics.jsonl"
    run = headrace("retract", "--root", tmp_path / "root", "--job", "visits", "visits.csv")
    assert run.returncode == 0, run.stderr
    assert metrics.read_text().splitlines()[-1] + "\n" == of("records.md", "json")["retracted"]


def test_the_header_of_predictions_is_as_shown(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(
        '[[jobs]]\nname = "side"\nlabel = "over"\nmodel = {kernel = "logistic", positive = "yes"}\n'
    )
    (tmp_path / "side.csv").write_bytes(side(50))
    root = tmp_path / "root"
    assert (
        headrace(
            "train", "-c", tmp_path / "c.toml", "--root", root, tmp_path / "side.csv"
        ).returncode
        == 0
    )
    run = headrace("predict", "--root", root, "--job", "side", tmp_path / "side.csv")
    (header,) = of("records.md", "header").values()
    assert run.stdout.startswith(header)


def test_every_key_of_a_model_files_header_is_explained(logs: Path, explained: set[str]) -> None:
    from service.storage import checkpoints

    models = logs.parent / "models" / "visits"
    header = checkpoints.read(models / "current.safetensors", None).header
    assert set(header) <= explained


def test_the_example_of_factors_puts_whole_gradients_back(tmp_path: Path) -> None:
    """Of a later file, too, whose rows are scaled by what the model before it knew."""
    (example,) = (m.text for m in marked(CHECKOUT / "docs" / "records.md") if "factored" in m.text)
    at_home(tmp_path)
    run = runs(example, tmp_path)
    assert run.returncode == 0, run.stderr
    put_back = [line.split() for line in run.stdout.splitlines()]
    config = (tmp_path / "factored.toml").read_text().replace("factored", "full")
    (tmp_path / "full.toml").write_text(config)
    files = [tmp_path / name for name in ("three.csv", "later.csv")]
    run = headrace("train", "-c", tmp_path / "full.toml", "--root", tmp_path / "full", *files)
    assert run.returncode == 0, run.stderr
    whole = [record["gradient"] for record in _records(tmp_path / "full/logs/side/samples.jsonl")]
    np.testing.assert_allclose(np.array(put_back, float), whole, rtol=1e-9, atol=1e-12)
