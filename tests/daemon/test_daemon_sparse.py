"""Sparse rows through whole lives: one model, whatever the workers, the chunks and the deaths."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from daemon_root import Outcome, Root, root_in

from kernels.contract import Spec
from kernels.warming import warm
from service.formats.scan import scan

JOBS: tuple[Mapping[str, Any], ...] = (
    {
        "name": "svm",
        "format": "svmlight",
        "model": {"kernel": "logistic"},
        "training": {"local_steps": 64},
        "hashing": {"bits": 12},
    },
    {
        "name": "vw",
        "format": "vw",
        "id": "tag",
        "model": {"kernel": "linear", "l1": 0.001},
        "optimizer": {"name": "ftrl"},
        "training": {"local_steps": 64},
        "hashing": {"bits": 20},
    },
)


def _svm(rows: int, seed: int) -> bytes:
    chance = random.Random(seed)
    lines = []
    for _ in range(rows):
        indices = sorted(chance.sample(range(1, 1500), chance.randrange(8)))
        features = " ".join(f"{i}:{chance.gauss(0, 1):.3f}" for i in indices)
        lines.append(f"{chance.choice('+-')}1 {features}")
    return "\n".join(lines).encode()


def _vw(rows: int, seed: int) -> bytes:
    chance = random.Random(seed)
    lines = []
    for row in range(rows):
        words = " ".join(f"w{chance.randrange(200)}" for _ in range(chance.randrange(1, 6)))
        lines.append(
            f"{chance.gauss(5, 2):.2f} {chance.choice('12')} r{row}|t {words} |n x:{row % 7}"
        )
    return "\n".join(lines).encode()


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """Nearly all that the daemons here would have to compile, in the cache: they have deadlines."""
    for optimizer in ("normalised", "ftrl"):
        spec = Spec("logistic", 2, optimizer={"name": optimizer}, dtype="float32", bits=4)
        warm([spec])
    scan(b"1 |a b", 4, is_vw=True)


LONG = {"svm": _svm(5000, 1), "vw": _vw(5000, 2)}
SHORT = {"svm": _svm(70, 3), "vw": _vw(70, 4)}
BROKEN = {"svm": LONG["svm"] + b"\n1 7:1 3:1\n", "vw": LONG["vw"] + b"\n1 1 0 0 0 |t x\n"}


def _configure(root: Root, **service: int) -> None:
    root.configure(*JOBS, service={"chunk_bytes": 9000} | service, logs={"every_rows": 250})


def _drop(root: Root, name: str, contents: Mapping[str, bytes]) -> None:
    for job, content in contents.items():
        root.drop(name, content, job)


def _outcomes(root: Root) -> dict[str, Outcome]:
    return {str(one["name"]): root.outcome(one["name"]) for one in JOBS}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Root]:
    with root_in(tmp_path_factory.mktemp("undisturbed")) as root:
        _configure(root)
        for name, contents in (("0-long", LONG), ("1-broken", BROKEN), ("2-short", SHORT)):
            _drop(root, name, contents)
        root.once()
        yield root


def test_both_files_are_learnt_and_the_broken_one_leaves_no_trace(undisturbed: Root) -> None:
    for one in JOBS:
        name = one["name"]
        assert [record["rows"] for record in undisturbed.accepted(name)] == [5000, 70]
        assert undisturbed.names("failed", name) == ["1-broken", "1-broken.error.json"]
        assert undisturbed.note("1-broken", name)["place"].startswith("1-broken:5001: row 5000")
        assert len(undisturbed.samples(name)) == 5070
    assert undisturbed.samples("vw")[0]["id"] == "r0"
    assert undisturbed.samples("vw")[0]["weight"] in (1.0, 2.0)


def test_workers_chunks_and_a_kill_inside_the_file_change_nothing(
    undisturbed: Root, root: Root
) -> None:
    _configure(root, workers=3, chunk_bytes=2500)
    _drop(root, "0-long", LONG)
    life = root.start()
    life.see("progress", job="svm")
    life.see("progress", job="vw")
    life.kill()
    _drop(root, "2-short", SHORT)
    again = root.once()
    assert {e["resumed_at_row"] > 0 for e in again.events("started", file="0-long")} == {True}
    _assert_same(_outcomes(root), _outcomes(undisturbed))
    assert root.leftovers() == []


def _assert_same(found: dict[str, Outcome], expected: dict[str, Outcome]) -> None:
    for name, outcome in expected.items():
        assert found[name].samples == outcome.samples, name
        assert found[name].digests == outcome.digests, name
        assert found[name].model == outcome.model, name


def test_what_is_told_of_a_model_fits_its_last_file(undisturbed: Root) -> None:
    root = undisturbed
    said = root.ask("verify", "--root", str(root.path)).stdout
    assert said.count("same: 2 files") == 2
    shown = root.ask("show", "--root", str(root.path), "--job", "svm").stdout
    assert "slots        4096, of which 1499 have a weight" in shown
    shown = root.ask("show", "--root", str(root.path), "--job", "vw").stdout
    used = int(shown.split("1048576, of which ")[1].split()[0])
    assert 0 < used < 201  # l1 makes some of the 200 words and the number exactly 0
    assert root.current("vw").stat().st_size < 100_000


def test_predictions_are_those_of_the_model_for_rows_with_and_without_labels(
    undisturbed: Root,
) -> None:
    root = undisturbed
    asked = root.home / "ask"
    asked.write_bytes(SHORT["vw"] + b"\n'later|t w1 w2\n")
    said = root.ask("predict", "--root", str(root.path), "--job", "vw", str(asked))
    rows = list(csv.DictReader(said.stdout.splitlines()))
    assert (len(rows), rows[0]["id"], rows[70]["id"], rows[70]["label"]) == (71, "r0", "later", "")
    found = np.array([[float(row["prediction"]), float(row["label"])] for row in rows[:70]])
    assert np.abs(found[:, 0] - found[:, 1]).mean() < 2.5


def test_a_job_with_a_model_keeps_its_slots(undisturbed: Root) -> None:
    root = undisturbed
    root.configure(*JOBS[:1], {**JOBS[1], "hashing": {"bits": 19}})
    assert (
        "jobs.vw.hashing.bits: must stay 20 while the job has a model" in root.once(expected=2).said
    )


TOWNS = ["Ulm", "Bonn", "Köln", ""]


def _towns(rows: int, seed: int, turned: bool = False) -> bytes:
    chance = random.Random(seed)
    lines = ["town,x,y,note" if not turned else "note,y,more,x,town"]
    for _ in range(rows):
        town, x = chance.choice(TOWNS), chance.gauss(0, 1)
        y = int(TOWNS.index(town) > 1)
        cells = [town, f"{x:.3f}", str(y), "so so"]
        lines.append(",".join(cells if not turned else [cells[3], cells[2], "z", *cells[1::-1]]))
    return "\n".join(lines).encode()


def test_a_table_s_names_are_learnt_as_its_first_file_has_them(root: Root) -> None:
    hashing = {"bits": 14, "categorical": "auto", "interactions": [["town", "x"]]}
    one = {"name": "j", "label": "y", "model": {"kernel": "logistic"}, "hashing": hashing}
    root.configure(one)
    root.drop("0.csv", _towns(300, 1))
    root.once()
    root.drop("1.csv", _towns(300, 2, turned=True))
    root.once()
    assert root.header()["features"] == ["x"]
    assert root.header()["categorical"] == ["town", "note"]
    (said,) = root.events("columns of names")
    assert (said["file"], said["categorical"]) == ("0.csv", ["town", "note"])
    shown = root.ask("show", "--root", str(root.path), "--job", "j").stdout
    assert "names        town, note\n" in shown
    assert root.accepted()[1]["metrics"]["accuracy"] > 0.99
    asked = root.home / "ask.csv"
    asked.write_bytes(b"x,town,note\n0,Ulm,so so\n0,K\xc3\xb6ln,\n0,Rom,so so\n")
    said = root.ask("predict", "--root", str(root.path), "--job", "j", str(asked)).stdout
    found = [float(row["prediction"]) for row in csv.DictReader(said.splitlines())]
    assert found[0] < 0.1 < 0.8 < found[1]
    assert found[0] < found[2] < found[1]
    assert "same: 2 files" in root.ask("verify", "--root", str(root.path)).stdout
    root.configure(one | {"hashing": hashing | {"categorical": ["town"]}})
    assert 'hashing.categorical: must stay "auto"' in root.once(expected=2).said
