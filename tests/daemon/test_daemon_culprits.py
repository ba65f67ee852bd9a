"""The note of a divergence names the row that made it, in every way in which a job may learn."""

from __future__ import annotations

import random
from typing import Any

import pytest
from daemon_root import Root, job, rounds

from kernels.contract import Spec
from kernels.warming import warm

ROWS, CULPRIT = 80, 53
LINEAR = {"kernel": "linear"}
SPARSE = {"training": {"local_steps": 64}, "hashing": {"bits": 10}, "model": LINEAR}
DENSE: dict[str, dict[str, Any]] = {
    "rows": {"training": rounds(1, 1, 64)},
    "rounds": {"training": rounds(1, 1, CULPRIT + 1)},  # whose last row it is
    "batches": {"training": rounds(5, 1, 4)},
    "exact": {"training": rounds(5, 3), "optimizer": {"name": "adagrad"}},
    "experts": {"training": rounds(5, 3)},
    "local": {"training": rounds(5, 3, 2), "optimizer": {"name": "sgd"}},
    "columns": {"training": {"partition": "features", "batch_rows": 16, "lanes": 3}},
    "mlp": {"model": {"kernel": "mlp", "hidden": [4], "loss": "squared"}, "training": rounds(8, 2)},
    "columns-mlp": {
        "model": {"kernel": "mlp", "hidden": [4], "loss": "squared"},
        "training": {"partition": "features", "batch_rows": 16, "lanes": 3},
    },
}
JOBS = [
    *(job(name, weight="w", **{"model": LINEAR} | parts) for name, parts in DENSE.items()),
    {"name": "svm", "format": "svmlight"} | SPARSE,
    {"name": "svm-ftrl", "format": "svmlight", "optimizer": {"name": "ftrl"}} | SPARSE,
    {"name": "vw", "format": "vw"} | SPARSE,
    {"name": "vw-ftrl", "format": "vw", "optimizer": {"name": "ftrl"}} | SPARSE,
]
NAMES = [one["name"] for one in JOBS]


def _files() -> dict[str, bytes]:
    """The same rows in three formats: one has a weight that no model bears, or a label that single precision doesn't."""
    chance = random.Random(3)
    csv, svm, vw = ["a,b,c,y,w"], [], []
    for row in range(ROWS):
        a, b, c = (round(chance.gauss(0, 1), 3) for _ in range(3))
        y = f"{a - b + 0.1 * c:.3f}"
        far, weight = ("1e30", "1e300") if row == CULPRIT else (y, "1")
        csv.append(f"{a},{b},{c},{y},{weight}")
        svm.append(f"{far} 1:{a} 2:{b} 3:{c}")
        vw.append(f"{far} |f a:{a} b:{b} c:{c}")
    return {
        name: "\n".join(lines).encode()
        for name, lines in (("a.csv", csv), ("a.svmlight", svm), ("a.vw", vw))
    }


def _drop(root: Root, name: str, files: dict[str, bytes]) -> str:
    own = f"a.{name.split('-')[0]}".replace("a.svm", "a.svmlight")
    file = own if own in files else "a.csv"
    root.drop(file, files[file], name)
    return file


@pytest.fixture(scope="module")
def refused(shared: Root) -> dict[str, str]:
    """Each job's file, which is refused."""
    for optimizer in ("normalised", "ftrl"):  # in the cache first: so many jobs have a deadline
        warm([Spec("linear", 2, optimizer={"name": optimizer}, dtype="float32", bits=4)])
    shared.configure(*JOBS)
    files = _files()
    names = {name: _drop(shared, name, files) for name in NAMES}
    shared.once()
    return names


@pytest.mark.parametrize("name", NAMES)
def test_the_row_whose_step_threw_the_model_is_named(
    shared: Root, refused: dict[str, str], name: str
) -> None:
    note = shared.note(refused[name], name)
    assert "stay finite in every step" in note["rule"]
    assert f", data row {CULPRIT}, step to version" in note["place"]


def test_the_last_row_of_a_file_harms_no_later_file(root: Root) -> None:
    """What it leaves is finite, and no output could be: it was the next file that was refused, and each after it."""
    plain = {"standardise": False, "target": "none"}
    root.configure(job(model=LINEAR, weight="w", scaling=plain, optimizer={"name": "sgd"}))
    lines = [f"{i % 5},{i % 7},1\n" for i in range(20)]
    root.drop("a.csv", ("x,y,w\n" + "".join(lines)).encode())
    root.drop("b.csv", ("x,y,w\n" + "".join(lines) + "1,9,1e160\n").encode())
    root.drop("c.csv", ("x,y,w\n" + "".join(lines[7:])).encode())
    root.once()
    assert ", data row 20, step to version" in root.note("b.csv")["place"]
    assert [record["file"] for record in root.accepted()] == ["a.csv", "c.csv"]


def test_rows_that_only_together_throw_a_model_are_named_together(root: Root) -> None:
    """Pushes of a third of what fits into single precision: the mean of a batch fits, and its sum doesn't."""
    root.configure(
        job(
            model=LINEAR,
            scaling={"standardise": False, "target": "none"},
            optimizer={"name": "sgd", "learning_rate": 1e-9},
            training=rounds(8, 2) | {"dtype": "float32"},
        )
    )
    root.drop("a.csv", ("x,y\n" + "1,1\n" * 16 + "1,-1e38\n" * 16).encode())
    root.once()
    note = root.note("a.csv")
    assert ", data rows 16 to 31, step to version" in note["place"]
    assert "these rows together" in note["value"]
