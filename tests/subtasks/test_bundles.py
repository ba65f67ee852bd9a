"""What comes of files in one sub-task is, to the bit, what comes of them in one each."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from subtask_bench import FIELDS, SUBJECT, Bench

from kernels.contract import Spec
from service.core.records import chained
from service.formats.contract import Limits
from service.runtime.arena import Region, arrays, view
from service.runtime.region import pieces, room_for
from service.storage import checkpoints
from service.subtasks import bundles, learn, report
from service.subtasks.bundles import Account, Accounted, Paper
from service.subtasks.judging import RoundResults
from service.subtasks.learn import Shape
from service.subtasks.report import Books, Ending, Segment

SPECS = {
    "two classes": Spec("logistic", 2),
    "two classes, experts": Spec("logistic", 2, optimizer={"name": "experts"}),
    "balanced classes": Spec("logistic", 2, optimizer={"name": "experts"}, class_weight="balanced"),
    "two classes, no likelihood": Spec("linear", 2, {"loss": "hinge"}),
    "numbers": Spec("linear", 2),
    "numbers, a loss in their spreads": Spec(
        "linear", 2, {"loss": "huber"}, optimizer={"name": "experts"}
    ),
    "counts": Spec("linear", 2, {"loss": "poisson"}, optimizer={"name": "experts"}),
    "many classes": Spec("softmax", 2, outputs=2, optimizer={"name": "experts"}),
    "layers": Spec("mlp", 2, {"hidden": [3], "loss": "logistic"}),
    "clusters": Spec("kmeans", 2, {"clusters": 3}, 3, optimizer={"name": "counting"}),
}


def _table(count: int, first: int) -> bytes:
    rows = (f"{i * 37 % 101},{(i * 53 % 89) / 8},{i % 2}\n" for i in range(first, first + count))
    return ("a,b,y\n" + "".join(rows)).encode()


def _each(bench: Bench, size: int, count: int) -> list[Region]:
    return pieces(bench.reserve(room_for([size] * count)), [size] * count)


def _bits(region: Region, layout: Any) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in arrays(region, layout).items()}


def _learnt(
    bench: Bench,
    shape: Shape,
    state: Region,
    files: list[bytes],
    samples: str = "norms",
    every_rows: int = 20,
) -> tuple[list[Account], list[Region]]:
    """The files learnt together; what is to be recorded of each, and the states before them and after the last."""
    parts = [bench.decoded(data)[0] for data in files]
    states = [state, *_each(bench, shape.state_bytes, len(files) - 1)]
    states.append(bench.reserve(shape.state_bytes))
    results = [bench.reserve(shape.results_bytes(part.rows, "")) for part in parts]
    bundled = pieces(
        bench.reserve(room_for(r.length for r in results)), [r.length for r in results]
    )
    rates = bundles.run(shape.spec, state, states[1:], parts, 3, bundled, "")
    assert len(rates) == len(files)
    accounts = []
    for number, (part, result, (before, after)) in enumerate(
        zip(parts, bundled, pairwise(states), strict=True), 1
    ):
        alone = bench.reserve(shape.state_bytes)
        done = learn.run(shape.spec, before, alone, [part], 3, results[number - 1], "")
        assert _bits(alone, shape.state_layout) == _bits(after, shape.state_layout)
        assert done.learning_rate == rates[number - 1]
        subject = replace(SUBJECT, file=f"{number}.csv", sequence=number, samples=samples)
        subject = replace(subject, every_rows=every_rows)
        if number == 2:
            subject = replace(subject, revision=1)  # its records have another field
        results_of = RoundResults((part,), ((result, part.rows),), "", 0, number, 0.1)
        ending = Ending(number, part.rows, 0, 0, {}, 1, "ab" * 32, done.learning_rate)
        accounts.append(Account(subject, results_of, ending, before))
    return accounts, states


def _one_by_one(
    bench: Bench, shape: Shape, accounts: list[Account], scores: Region
) -> tuple[list[Accounted], list[Region], bytes]:
    """What `bundles.account` must come to: a report and a closing for each, in regions of their own."""
    found, afters, samples, metrics = [], [], b"", b""
    for one in accounts:
        text = bench.reserve(1 << 20)
        between, after = bench.reserve(shape.scores_bytes), bench.reserve(shape.scores_bytes)
        books = Books(shape.spec, one.before, scores, between, text)
        rows = report.report(one.subject, one.done, books, Segment())
        lines = view(text).tobytes()[: rows.samples_bytes + rows.metrics_bytes]
        books = Books(shape.spec, one.before, between, after, text)
        file = report.close(one.subject, one.ending, books, rows.segment)
        samples += lines[: rows.samples_bytes]
        metrics += lines[rows.samples_bytes :] + view(text).tobytes()[: file.metrics_bytes]
        digest = chained(chained("", rows.sha256), file.sha256)
        written = rows.metrics_bytes + file.metrics_bytes
        found.append(Accounted(rows.samples_bytes, written, digest, file.loss))
        afters.append(scores := after)
    return found, afters, samples + metrics


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("samples", ["norms", "off"])
@pytest.mark.parametrize("every_rows", [20, 1000])
@pytest.mark.parametrize("longest", [45, 150])
def test_files_accounted_for_together_are_what_they_are_one_by_one(
    bench: Any, kind: str, samples: str, every_rows: int, longest: int
) -> None:
    """Whether each is whole before a progress record is due, or not; whether all are so short that they are counted at once."""
    shape, state, scores = bench.started(SPECS[kind])
    files = [_table(30, 0), _table(7, 50), _table(longest, 11), _table(2, 4), _table(1, 5)]
    accounts, _ = _learnt(bench, shape, state, files, samples, every_rows)
    expected, afters, text = _one_by_one(bench, shape, accounts, scores)
    after, room = bench.reserve(shape.scores_bytes), bench.reserve(1 << 20)
    lasting = _each(bench, shape.lasting_bytes, len(files))
    for _ in range(2):  # a sub-task may run again
        found = bundles.account(shape.spec, accounts, scores, after, lasting, room)
        assert found == expected
        assert view(room).tobytes()[: len(text)] == text
        assert _bits(after, shape.scores_layout) == _bits(afters[-1], shape.scores_layout)
        for one, whole in zip(lasting, afters, strict=True):
            assert _bits(one, shape.lasting_layout) == learn.lasting(
                _bits(whole, shape.scores_layout)
            )


@pytest.mark.parametrize("kind", SPECS)
def test_what_outlasts_a_file_is_all_that_its_model_must_hold(bench: Any, kind: str) -> None:
    shape, state, scores = bench.started(SPECS[kind])
    accounts, states = _learnt(bench, shape, state, [_table(30, 0), _table(9, 3)])
    _, afters, _ = _one_by_one(bench, shape, accounts, scores)
    tensors = {f"state/{n}": a for n, a in arrays(states[-1], shape.state_layout).items()}
    lasting = learn.lasting(arrays(afters[-1], shape.scores_layout))
    assert lasting
    assert len(lasting) < len(shape.scores_layout)
    tensors |= {f"scores/{name}": array for name, array in lasting.items()}
    written = checkpoints.write(bench.home, "m", tensors, {})
    fresh, counted = bench.reserve(shape.state_bytes), bench.reserve(shape.scores_bytes)
    path = str(bench.home / written.name)
    learn.restore(shape.spec, path, written.sha256, fresh, counted)
    assert _bits(counted, shape.scores_layout) == _bits(afters[-1], shape.scores_layout)


@pytest.mark.parametrize("optimizer", ["experts", "sgd"])
@pytest.mark.parametrize("odd", [0, 1, 2])
def test_nothing_is_said_of_files_of_which_one_leaves_no_number(
    bench: Any, optimizer: str, odd: int
) -> None:
    spec = Spec("logistic", 2, optimizer={"name": optimizer}, standardise=False)
    shape, state, _ = bench.started(spec)
    files = [_table(20, 0), _table(7, 50), _table(11, 3)]
    files[odd] += b"1e300,1e300,1\n1e300,-1e300,0\n"
    parts = [bench.decoded(data)[0] for data in files]
    states = [*_each(bench, shape.state_bytes, 2), bench.reserve(shape.state_bytes)]
    results = _each(bench, shape.results_bytes(22, ""), 3)
    assert bundles.run(shape.spec, state, states, parts, 1, results, "") == []


def test_files_are_read_into_one_region_alike_or_not(bench: Any, tmp_path: Path) -> None:
    bad = b"a,b,y\nx,1,0\n"
    contents = [_table(30, 0), _table(7, 50), b"b,y,a\n1,0,2\n", bad, _table(9, 5)]
    fields, papers = replace(FIELDS, features=("a", "b")), []
    for number, data in enumerate(contents):
        (path := tmp_path / f"{number}").write_bytes(data)
        papers.append(Paper(str(path), f"{number}.csv", f"{path}.scratch"))
    region = bench.reserve(sum(bundles.room(len(data)) for data in contents))
    found = bundles.read(papers, fields, Limits(), 1 << 20, region)
    assert found[3] is None
    for clean, data in zip(found, contents, strict=True):
        if data != bad:
            (part,) = bench.decoded(data, fields)
            stored = clean.stored
            assert (stored.layout, stored.rows) == (part.layout, part.rows)
            assert _bits(stored.region, stored.layout) == _bits(part.region, part.layout)
            assert clean.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("name", "data", "is_clean"),
    [
        ("1.csv", b"y,b,a\n1,2,3\n0,5,6", True),
        ("1.csv", b"y,b,a\n1,2,3\n0,5\n", False),  # a row that is none
        ("1.csv", b"y,b,a\n1,2,3\n0,,6\n", False),
        ("1.csv", b"y,b,a\n,2,3\n,5,6\n", False),  # no row has a label
        ("1.jsonl", b'{"y":1,"a":2,"b":3}\n{"y":0,"a":5,"b":6}', True),
        ("1.jsonl", b'{"y":1,"a":2,"b":3}\n{"y":0,"a":[],"b":6}\n', False),
        ("1.jsonl", b'{"y":1,"a":2,"b":3}\n{"y":2,"a":5,"b":6}\n', False),
    ],
)
def test_a_file_that_begins_otherwise_goes_with_the_others_if_its_rows_are_good(
    bench: Any, tmp_path: Path, name: str, data: bytes, is_clean: bool
) -> None:
    contents = {"0.csv": _table(9, 5), name: data}
    papers = []
    for other, content in contents.items():
        (path := tmp_path / other).write_bytes(content)
        papers.append(Paper(str(path), other, f"{path}.scratch"))
    region = bench.reserve(sum(bundles.room(len(content)) for content in contents.values()))
    fields = replace(FIELDS, features=("a", "b"))
    first, second = bundles.read(papers, fields, Limits(), 1 << 20, region)
    assert first is not None
    assert (second is not None) is is_clean
