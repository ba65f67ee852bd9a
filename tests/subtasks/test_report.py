"""Records against oracles: what is said of each row, of each stretch of rows, and of the file."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn import metrics as oracle
from subtask_bench import FIELDS, SUBJECT, Bench

from kernels.contract import Spec
from kernels.learner import build
from service.core.records import Subject, json_line
from service.formats.frames import pl
from service.runtime.arena import Arena, arrays, view
from service.subtasks import blocks, report, samples
from service.subtasks.report import Books, Ending, Segment

LOGISTIC = Spec("logistic", 2)
ENDING = Ending(7, 100, 1, 2, {}, 1234, "ab" * 32, 0.1)


def _weighted(bench: Any, fields: Any) -> list[Any]:
    lines = "".join(f"{i * 37 % 101},{i % 2},{1 + i % 3},{i}\n" for i in range(100))
    return bench.decoded(b"a,y,w,t\n" + lines.encode(), replace(fields, weight="w", time="t"))


def test_sample_records_say_what_the_rows_and_results_say(
    bench: Any, table: bytes, subject: Subject
) -> None:
    shape, state, scores = bench.started(LOGISTIC)
    parts = bench.decoded(table)
    _, done = bench.learnt(shape, state, parts)
    samples, _, _, _ = bench.reported(shape, state, scores, replace(done, version=5))
    results = arrays(done.results[0][0], _layout(shape, 100))
    for row, sample in enumerate(samples):
        output, label = results["output"][row, 0], float(row % 2)
        p = 1 / (1 + math.exp(-output))
        assert list(sample) == [
            "file",
            "row",
            "version",
            "loss",
            "prediction",
            "label",
            "gradient_norm",
        ]
        assert (sample["file"], sample["row"], sample["version"], sample["label"]) == (
            "f.csv",
            row,
            5,
            label,
        )
        assert sample["prediction"] == pytest.approx(p, rel=1e-12)
        assert sample["loss"] == pytest.approx(-math.log(p if label else 1 - p), rel=1e-9)
        assert sample["gradient_norm"] == results["norm"][row]


def _layout(shape: Any, rows: int) -> Any:
    return build(shape.spec).results_layout(rows)


def test_metrics_are_those_of_scikit_learn(bench: Any, fields: Any, subject: Subject) -> None:
    shape, state, scores = bench.started(Spec("logistic", 1))
    parts = _weighted(bench, fields)
    _, done = bench.learnt(shape, state, parts)
    samples, progress, after, segment = bench.reported(shape, state, scores, done)
    (record,), _ = bench.closed(shape, after, ENDING, segment)
    y, p, w = (np.array([s[key] for s in samples]) for key in ("label", "prediction", "weight"))
    found, guess = record["metrics"], p > 0.5
    assert found["log_loss"] == pytest.approx(oracle.log_loss(y, p, sample_weight=w), rel=1e-12)
    assert found["accuracy"] == pytest.approx(oracle.accuracy_score(y, guess, sample_weight=w))
    assert found["precision"] == pytest.approx(oracle.precision_score(y, guess, sample_weight=w))
    assert found["recall"] == pytest.approx(oracle.recall_score(y, guess, sample_weight=w))
    assert found["f1"] == pytest.approx(oracle.f1_score(y, guess, sample_weight=w))
    assert found["base_rate"] == pytest.approx(np.average(y, weights=w))
    assert found["mean_prediction"] == pytest.approx(np.average(p, weights=w))
    assert found["auc"] == pytest.approx(oracle.roc_auc_score(y, p), abs=2e-3)
    assert record["weight_sum"] == w.sum()
    for part in progress:
        cut = slice(part["rows_from"], part["rows_to"])
        assert part["loss"] == pytest.approx(
            oracle.log_loss(y[cut], p[cut], sample_weight=w[cut], labels=[0, 1])
        )
        assert (part["time_min"], part["time_max"]) == (part["rows_from"], part["rows_to"] - 1)


def test_the_file_record_says_how_the_file_ended(bench: Any, table: bytes) -> None:
    shape, state, scores = bench.started(LOGISTIC)
    _, done = bench.learnt(shape, state, bench.decoded(table))
    _, _, after, segment = bench.reported(shape, state, scores, done)
    (record,), empty = bench.closed(shape, after, ENDING, segment)
    assert list(record) == [
        "kind", "job", "file", "sequence", "version", "rows", "rows_rejected", "rows_unlabelled", "weight_sum",
        "bytes", "sha256", "loss", "metrics", "before", "lifetime",
    ]  # fmt: skip
    assert [record[k] for k in ("kind", "version", "rows", "rows_rejected", "rows_unlabelled", "bytes")] == [
        "file", 7, 100, 1, 2, 1234,
    ]  # fmt: skip
    assert record["before"]["loss"] == pytest.approx(math.log(2))
    assert record["lifetime"]["loss"] == record["loss"]
    left = arrays(empty, shape.scores_layout)
    assert all(not array.any() for name, array in left.items() if not name.startswith("lifetime/"))


def test_a_later_pass_has_no_sample_and_no_progress_records_and_no_part_in_the_lifetime(
    bench: Any, table: bytes, subject: Subject
) -> None:
    shape, state, scores = bench.started(LOGISTIC)
    second = replace(subject, epoch=2)
    _, done = bench.learnt(shape, state, bench.decoded(table))
    samples, progress, after, segment = bench.reported(shape, state, scores, done, second)
    (record,), _ = bench.closed(shape, after, ENDING, segment, second)
    assert (samples, progress) == ([], [])
    assert (record["kind"], record["epoch"]) == ("epoch", 2)
    assert record["lifetime"]["rows"] == 0


def test_a_report_that_runs_again_gives_the_same_bytes(bench: Any, table: bytes) -> None:
    shape, state, scores = bench.started(LOGISTIC)
    _, done = bench.learnt(shape, state, bench.decoded(table))
    first, again = (bench.reported(shape, state, scores, done) for _ in range(2))
    assert first[:2] == again[:2]
    assert first[3] == again[3]
    one, two = (arrays(found[2], shape.scores_layout) for found in (first, again))
    assert {n: a.tobytes() for n, a in one.items()} == {n: a.tobytes() for n, a in two.items()}


@pytest.mark.parametrize("size", [1, 7, 20, 33, 100])
def test_progress_is_cut_at_the_files_rows_whatever_the_rounds(
    bench: Any, table: bytes, size: int
) -> None:
    shape, state, scores = bench.started(LOGISTIC)
    (part,) = bench.decoded(table)
    before, segment, found = state, Segment(), []
    for start in range(0, 100, size):
        piece = replace(part, start=start, stop=min(start + size, 100))
        state, done = bench.learnt(shape, state, [piece])
        _, records, scores, segment = bench.reported(shape, before, scores, done, segment=segment)
        found += records
    ends = [(record["rows_from"], record["rows_to"]) for record in found]
    assert ends == [(start, start + 20) for start in range(0, 100, 20)]
    (record,), _ = bench.closed(shape, scores, ENDING, segment)
    assert record["loss"] == pytest.approx(np.mean([part["loss"] for part in found]), rel=1e-12)


def test_a_report_says_the_digest_of_its_text(bench: Any, table: bytes) -> None:
    shape, state, scores = bench.started(LOGISTIC)
    _, done = bench.learnt(shape, state, bench.decoded(table))
    text, after = bench.reserve(1 << 20), bench.reserve(shape.scores_bytes)
    found = report.report(SUBJECT, done, Books(shape.spec, state, scores, after, text), Segment())
    whole = view(text).tobytes()[: found.samples_bytes + found.metrics_bytes]
    assert whole.count(b"\n") == 105
    assert found.sha256 == hashlib.sha256(whole).hexdigest()


def test_only_what_is_learnt_again_says_its_revision(bench: Any, table: bytes) -> None:
    shape, state, scores = bench.started(LOGISTIC)
    _, done = bench.learnt(shape, state, bench.decoded(table))
    (first, metrics, after, segment), (second, more, _, _) = (
        bench.reported(shape, state, scores, done, replace(SUBJECT, revision=revision))
        for revision in (0, 2)
    )
    assert not any("revision" in record for record in first + metrics)
    assert {record.pop("revision") for record in second + more} == {2}
    assert (second, more) == (first, metrics)
    (record,), _ = bench.closed(shape, after, ENDING, segment, replace(SUBJECT, revision=2))
    assert record["revision"] == 2


NAMES = st.text(min_size=1, max_size=60)


@given(
    file=NAMES,
    classes=st.lists(NAMES, min_size=2, max_size=2, unique=True),
    ids=st.lists(NAMES, min_size=3, max_size=3),
)
@example(file="\x01" * 300, classes=["\x02" * 300, "b"], ids=["\x03" * 5000] * 3)
def test_any_text_fits_and_comes_back_from_the_records(
    file: str, classes: list[str], ids: list[str]
) -> None:
    with Arena() as arena, tempfile.TemporaryDirectory() as home:
        bench = Bench(arena, Path(home))
        rows = [{"a": n, "y": n % 2, "id": key, "t": f"t{key}"} for n, key in enumerate(ids)]
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        parts = bench.decoded(data, replace(FIELDS, id="id", time="t"), name="f.jsonl")
        shape, state, scores = bench.started(Spec("logistic", 1))
        subject = replace(SUBJECT, file=file, classes=tuple(classes), every_rows=1, samples="full")
        _, done = bench.learnt(shape, state, parts, extra="gradient")
        samples, progress, _, _ = bench.reported(shape, state, scores, done, subject)
        assert [s["id"] for s in samples] == ids == blocks.carried(parts)["id"].to_list()
        assert [s["label"] for s in samples] == [classes[n % 2] for n in range(3)]
        assert {s["file"] for s in samples} == {file}
        assert [p["time_min"] for p in progress] == [f"t{key}" for key in ids]


@pytest.mark.parametrize(
    ("times", "ends"),
    [
        (("10", "9", "1e1"), (9.0, 10.0)),
        (("b", "10", "a"), ("10", "b")),
        (("nan", "1", "2"), ("1", "nan")),
        (("1", "1e999", "2"), ("1", "2")),
        (("inf", "inf", "inf"), ("inf", "inf")),
    ],
)
def test_times_are_compared_as_numbers_where_all_are_finite_ones(
    bench: Any, fields: Any, subject: Subject, times: tuple[str, ...], ends: tuple[Any, Any]
) -> None:
    data = b"a,y,t\n" + b"".join(b"1,0,%s\n" % time.encode() for time in times)
    shape, state, scores = bench.started(Spec("logistic", 1))
    _, done = bench.learnt(shape, state, bench.decoded(data, replace(fields, time="t")))
    _, _, _, segment = bench.reported(shape, state, scores, done)
    assert (segment.time_min, segment.time_max) == ends
    json.dumps((segment.time_min, segment.time_max), allow_nan=False)  # as the journal keeps it


def test_what_is_not_finite_is_null() -> None:
    line = json_line({"loss": math.nan, "metrics": {"auc": -math.inf, "f1": 1.0}, "file": "größe"})
    assert line == '{"loss":null,"metrics":{"auc":null,"f1":1.0},"file":"größe"}\n'.encode()


def test_a_few_rows_and_many_are_written_with_the_same_bytes() -> None:
    few = samples.FEW_ROWS
    random = np.random.default_rng(5)
    bits = random.integers(0, 2**64, 2 * few, dtype=np.uint64)
    floats = pl.Series("float", bits.view(np.float64))
    points = (random.integers(1, 0xD800, (2 * few, 4)) % [0x80, 0x800, 0x3000, 0xD800]).tolist()
    texts = pl.Series("text", ["".join(map(chr, row)) for row in points])
    some = pl.Series("some", [None if i % 3 else f"{i}" for i in range(2 * few)])
    columns = [
        floats,
        texts,
        some,
        pl.Series("rounded", random.normal(size=2 * few).round(3)),
        pl.Series("single", bits.view(np.float32)[::2].copy()),
        pl.Series("whole", bits.view(np.int64)),
        pl.Series("gradient", random.normal(size=(2 * few, 3))),
        pl.DataFrame([floats, pl.Series("delta", random.normal(size=(2 * few, 2)))]).to_struct("f"),
    ]
    frame = pl.DataFrame(columns)
    assert samples.json_lines(frame) == samples.json_lines(frame[:few]) + samples.json_lines(
        frame[few:]
    )
    assert len(samples.json_lines(frame).splitlines()) == 2 * few
    assert samples.json_lines(frame[:0]) == b""
