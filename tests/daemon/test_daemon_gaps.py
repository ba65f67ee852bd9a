"""Missing features, from the file to the record and the prediction: counted, and filled in as the settings say."""

from __future__ import annotations

import csv
from typing import Any

import pytest
from daemon_root import Root, job, rounds

ZERO = {"fill": "zero", "values": ["NA", "-200"]}
LINES = [
    f"{['NA', '-200.0'][i % 2] if i % 7 == 3 else i % 11},{'' if i % 5 == 1 else i * 3 % 13},{i % 2}"
    for i in range(200)
]
GAPPY = "\n".join(("a,b,y", *LINES, "")).encode()
WHOLE = GAPPY.replace(b"NA,", b"0,").replace(b"-200.0,", b"0,").replace(b",,", b",0,")
COUNTS = {"a": sum(i % 7 == 3 for i in range(200)), "b": sum(i % 5 == 1 for i in range(200))}


def _learn(root: Root, content: bytes, missing: dict[str, Any], **service: int) -> Root:
    root.configure(job(missing=missing, training=rounds(4, 2, 3)), service=service)
    root.drop("t.csv", content)
    root.drop("ask.csv", b"a,b\n,3\n0,3\nNA,3\n", into="predict")
    root.once()
    return root


@pytest.fixture(scope="module")
def filled(shared: Root) -> Root:
    return _learn(shared, GAPPY, ZERO)


def test_a_file_s_record_counts_the_gaps_of_each_feature(filled: Root) -> None:
    (record,) = filled.accepted()
    assert record["missing"] == COUNTS
    assert list(record["missing"]) == ["a", "b"]
    assert (record["rows"], record["rows_rejected"]) == (200, 0)


def test_zero_learns_what_a_file_with_zeros_would_have_taught(filled: Root, root: Root) -> None:
    _learn(root, WHOLE, ZERO)
    assert root.tensors() == filled.tensors()
    assert "missing" not in root.accepted()[0]


@pytest.mark.parametrize(("workers", "chunk_bytes"), [(1, 256), (3, 300)])
def test_workers_and_chunks_change_nothing(
    filled: Root, root: Root, workers: int, chunk_bytes: int
) -> None:
    _learn(root, GAPPY, ZERO, workers=workers, chunk_bytes=chunk_bytes)
    assert root.outcome() == filled.outcome()


def test_predictions_fill_gaps_as_the_model_was_taught(filled: Root) -> None:
    with (filled.folder("predictions") / "ask.csv.csv").open() as lines:
        found = [line["prediction"] for line in csv.DictReader(lines)]
    assert len(found) == 3
    assert len(set(found)) == 1


def test_without_a_fill_the_first_gap_refuses_the_file(root: Root) -> None:
    _learn(root, GAPPY, {"values": ["NA", "-200"]})
    note = root.note("t.csv")
    assert note["rule"] == "a feature has a value in every row"
    assert note["place"] == "t.csv:3: row 1, column b"
    assert "missing.fill" in note["remedy"]
