"""Missing features, from the file to the record and the prediction: counted, and filled in as the settings say."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from daemon_root import Root, job, root_in, rounds

VALUES = ["NA", "-200"]
LINES = [
    f"{['NA', '-200.0'][i % 2] if i % 7 == 3 else i % 11},{'' if i % 5 == 1 else i * 3 % 13},{i % 2}"
    for i in range(200)
]
GAPPY = "\n".join(("a,b,y", *LINES, "")).encode()
WHOLE = GAPPY.replace(b"NA,", b"0,").replace(b"-200.0,", b"0,").replace(b",,", b",0,")
COUNTS = {"a": sum(i % 7 == 3 for i in range(200)), "b": sum(i % 5 == 1 for i in range(200))}


def _learn(root: Root, content: bytes, fill: str, **service: int) -> Root:
    missing: dict[str, Any] = {"fill": fill, "values": VALUES}
    root.configure(job(missing=missing, training=rounds(4, 2, 3)), service=service)
    root.drop("t.csv", content)
    root.drop("ask.csv", b"a,b\n,3\nnan,3\nNA,3\n9,3\n", into="predict")
    root.once()
    return root


@pytest.fixture(scope="module", params=["zero", "mean"])
def fill(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def filled(fill: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Root]:
    with root_in(tmp_path_factory.mktemp(fill)) as root:
        yield _learn(root, GAPPY, fill)


def test_a_file_s_record_counts_the_gaps_of_each_feature(filled: Root) -> None:
    (record,) = filled.accepted()
    assert record["missing"] == COUNTS
    assert list(record["missing"]) == ["a", "b"]
    assert (record["rows"], record["rows_rejected"]) == (200, 0)


@pytest.mark.parametrize(("workers", "chunk_bytes"), [(1, 256), (3, 300)])
def test_workers_and_chunks_change_nothing(
    filled: Root, fill: str, root: Root, workers: int, chunk_bytes: int
) -> None:
    _learn(root, GAPPY, fill, workers=workers, chunk_bytes=chunk_bytes)
    assert root.outcome() == filled.outcome()


def test_predictions_fill_gaps_as_the_model_was_taught(filled: Root) -> None:
    with (filled.folder("predictions") / "ask.csv.csv").open() as lines:
        found = [line["prediction"] for line in csv.DictReader(lines)]
    assert len(found) == 4
    assert len(set(found[:3])) == 1
    assert found[3] != found[0]


def test_zero_learns_what_a_file_with_zeros_would_have_taught(root: Root) -> None:
    missing = {"fill": "zero", "values": VALUES}
    root.configure(job(missing=missing), job("whole", missing=missing))
    root.drop("t.csv", GAPPY)
    root.drop("t.csv", WHOLE, "whole")
    root.once()
    assert root.tensors() == root.tensors("whole")
    assert "missing" not in root.accepted("whole")[0]


def test_without_a_fill_the_first_gap_refuses_the_file(root: Root) -> None:
    _learn(root, GAPPY, "none")
    note = root.note("t.csv")
    assert note["rule"] == "a feature has a value in every row"
    assert note["place"] == "t.csv:3: row 1, column b"
    assert "missing.fill" in note["remedy"]


def test_a_job_with_a_model_may_turn_to_the_mean_and_not_back(root: Root) -> None:
    _learn(root, WHOLE, "none")
    _learn(root, GAPPY, "mean")
    whole, gappy = root.accepted()
    assert "missing" not in whole
    assert gappy["missing"] == COUNTS
    counts = np.frombuffer(root.tensors()["state/scaling/count"][2])
    assert counts.tolist() == [400.0 - COUNTS["a"], 400.0 - COUNTS["b"]]
    root.configure(job(missing={"fill": "zero"}, training=rounds(4, 2, 3)))
    said = root.once(expected=2).said
    assert 'missing.fill: must stay "mean" while the job has a model' in said


@pytest.mark.parametrize("partition", ["samples", "features"])
def test_indicators_are_features_of_the_model_by_their_name(root: Root, partition: str) -> None:
    training = {"partition": partition, "batch_rows": 16, "lanes": 3}
    missing = {"fill": "mean", "values": VALUES, "indicators": ["b"]}
    parts: dict[str, Any] = {"training": training, "optimizer": {"name": "adagrad"}}
    root.configure(job(missing=missing, **parts))
    root.drop("t.csv", GAPPY)
    root.drop("ask.csv", b"b,a\n,3\n6,3\n", into="predict")
    root.once()
    shown = root.ask("show", "--root", str(root.path), "--job", "j").stdout
    names = [line.split("  ")[0].strip() for line in shown.splitlines()]
    assert {"a", "b", "b is missing"} <= set(names)
    with (root.folder("predictions") / "ask.csv.csv").open() as lines:
        unknown, known = (line["prediction"] for line in csv.DictReader(lines))
    assert unknown != known
    root.configure(job(missing=missing | {"indicators": ["a"]}, **parts))
    assert "missing.indicators: must stay" in root.once(expected=2).said
