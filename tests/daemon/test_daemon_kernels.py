"""What kernels promise, seen through the daemon: columns with a part, parts of features, factors, guards, whole files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sample_tables
from daemon_root import Root, job, rounds
from safetensors.numpy import load

from kernels import factored
from kernels.contract import Rows, Spec

TABLE = sample_tables.rows(150, seed=4, classes=3)
FILE = sample_tables.csv(TABLE)
X = np.array([row[:3] for row in TABLE])
MLP = {"kernel": "mlp", "hidden": [4], "classes": 3, "activation": "tanh"}
SOFTMAX = {"kernel": "softmax", "classes": 3}
WAYS: dict[str, dict[str, Any]] = {
    "softmax": {"model": SOFTMAX, "training": rounds(1, 1, 20)},
    "lanes": {"model": SOFTMAX, "training": rounds(5, 3), "optimizer": {"name": "adagrad"}},
    "mlp": {"model": MLP, "training": rounds(10, 2) | {"dtype": "float64"}},
}


@pytest.fixture(scope="module")
def gradients(shared: Root) -> Root:
    """Each way with whole gradients, and with what they are products of."""
    shared.configure(
        *(
            job(f"{name}-{samples}", output={"samples": samples}, **parts)
            for name, parts in WAYS.items()
            for samples in ("full", "factored")
        )
    )
    for name in WAYS:
        for samples in ("full", "factored"):
            shared.drop("a.csv", FILE, f"{name}-{samples}")
    shared.once()
    return shared


@pytest.mark.parametrize("name", WAYS)
def test_a_factored_record_and_its_row_give_the_whole_gradient_back(
    gradients: Root, name: str
) -> None:
    whole = gradients.samples(f"{name}-full")
    records = gradients.samples(f"{name}-factored")
    spec = Spec.from_json(json.dumps(gradients.header(f"{name}-factored")["spec"]))
    training = WAYS[name]["training"]
    step_rows = training["batch_rows"] * training["lanes"]
    ones = np.ones(len(X))
    scaled = factored.scaled_rows(spec, None, Rows(X, ones, ones, 0 * ones), step_rows)
    assert len(whole) == len(records) == 150
    for i, (full, record) in enumerate(zip(whole, records, strict=True)):
        found = factored.gradient(record, scaled[i])
        np.testing.assert_allclose(found, full["gradient"], rtol=1e-9, atol=1e-12)


def test_steps_cut_by_features_are_those_of_one_lane(root: Root) -> None:
    ways = {
        "whole": {"batch_rows": 16, "lanes": 1, "local_steps": 1},
        "parts": {"batch_rows": 16, "lanes": 3, "partition": "features"},
    }
    root.configure(
        *(
            job(name, model=MLP, training=training | {"dtype": "float64"})
            for name, training in ways.items()
        )
    )
    for name in ways:
        root.drop("a.csv", FILE, name)
    root.once()
    one, other = (load(root.current(name).read_bytes()) for name in ways)
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_allclose(other[name], array, rtol=1e-9, atol=1e-12, err_msg=name)
    for alone, together in zip(*(root.samples(name) for name in ways), strict=True):
        assert alone["loss"] == pytest.approx(together["loss"], rel=1e-9)


def _visits(rows: int) -> tuple[bytes, list[tuple[float, float, int]]]:
    """Counts over years: rates of e^(0.5 a + 0.2), drawn once and for all."""
    random = np.random.default_rng(2)
    a, years = random.normal(size=rows), random.uniform(0.1, 10, rows)
    counts = random.poisson(np.exp(0.5 * a + 0.2) * years)
    table = list(zip(a.tolist(), years.tolist(), counts.tolist(), strict=True))
    lines = [f"{x!r},{t!r},{n}\n" for x, t, n in table]
    return ("a,years,visits\n" + "".join(lines)).encode(), table


def test_counts_over_an_exposure_are_learnt_as_rates(root: Root) -> None:
    file, table = _visits(3000)
    poisson = {"kernel": "linear", "loss": "poisson"}
    root.configure(job(label="visits", exposure="years", model=poisson))
    root.drop("a.csv", file)
    root.once()
    (accepted,) = root.accepted()
    assert accepted["metrics"]["deviance"] < 1.3
    last = root.samples()[-1]
    assert last["offset"] == pytest.approx(math.log(table[-1][1]))
    shown = root.ask("show", "--root", str(root.path), "--job", "j").stdout
    weight = float(next(line for line in shown.splitlines() if line.startswith("a ")).split()[1])
    assert weight == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("line", "told"),
    [("0.1,0,3", ("exposure", "0")), ("0.1,2,-1", ("label", "-1"))],
)
def test_a_row_outside_the_domain_is_a_bad_row(
    root: Root, line: str, told: tuple[str, str]
) -> None:
    poisson = {"kernel": "linear", "loss": "poisson"}
    root.configure(job(label="visits", exposure="years", model=poisson))
    root.drop("a.csv", f"a,years,visits\n1,1,1\n{line}\n".encode())
    root.once()
    note = root.note("a.csv")
    assert told[0] in note["rule"] + note["place"]
    assert told[1] in note["value"]
    assert "a.csv:3" in note["place"]
    assert root.model_sha256() is None


def test_rare_classes_count_more_in_steps_and_nowhere_else(root: Root) -> None:
    ways: dict[str, Any] = {"none": "none", "balanced": "balanced", "table": {"1": 20.0}}
    rare = [(a, b, c, float(y == 2 and i % 5 == 0)) for i, (a, b, c, y) in enumerate(TABLE * 8)]
    root.config.parent.mkdir(exist_ok=True)
    root.configure(*(job(name) for name in ways))
    text = root.config.read_text()
    for name, value in ways.items():
        weight = '{"1" = 20.0}' if isinstance(value, dict) else json.dumps(value)
        text = text.replace(
            f'name = "{name}"\n', f'name = "{name}"\ntraining.class_weight = {weight}\n'
        )
    root.config.write_text(text)
    for name in ways:
        root.drop("a.csv", sample_tables.csv(rare), name)
    root.once()
    found = {name: root.accepted(name)[0]["metrics"] for name in ways}
    assert (
        found["none"]["base_rate"] == found["balanced"]["base_rate"] == found["table"]["base_rate"]
    )
    for name in ("balanced", "table"):
        assert found[name]["mean_prediction"] > 2 * found["none"]["mean_prediction"]
        assert found[name]["recall"] > found["none"]["recall"]


def test_whole_files_are_what_l_bfgs_steps_by(root: Root, tmp_path: Path) -> None:
    file = tmp_path / "all.csv"
    file.write_bytes(FILE)
    root.configure(
        job(
            model=SOFTMAX | {"l2": 0.01}, optimizer={"name": "lbfgs"}, training=rounds(50) | {"epochs": 25}
        )
    )  # fmt: skip
    done = root.ask(
        "train", "-c", str(root.config), "--root", str(root.path), "--job", "j", str(file)
    )
    assert done.returncode == 0, done.stderr
    losses = [record["loss"] for record in root.records(kind="epoch")]
    assert losses[-1] < losses[0]
    assert losses[-1] == pytest.approx(losses[-3], rel=1e-6)  # it has come to rest


def test_a_divergence_names_the_row_and_the_step_in_lanes_too(root: Root) -> None:
    wild = {"name": "sgd", "learning_rate": 1e300}
    root.configure(
        job("one", model={"kernel": "linear"}, optimizer=wild, training=rounds(5, 1, 4)),
        job("exact", model={"kernel": "linear"}, optimizer=wild, training=rounds(5, 3)),
        job("local", model={"kernel": "linear"}, optimizer=wild, training=rounds(5, 3, 4)),
    )
    for name in ("one", "exact", "local"):
        root.drop("a.csv", FILE, name)
    root.once()
    for name in ("one", "exact", "local"):
        note = root.note("a.csv", name)
        assert "stay finite in every step" in note["rule"]
        assert "data row" in note["place"], name
        assert "step to version" in note["place"]
        assert root.model_sha256(name) is None
        assert root.log("samples.jsonl", name) == b""


def test_a_divergence_names_the_row_that_made_it_and_its_weight(root: Root) -> None:
    root.configure(job(weight="w", model={"kernel": "linear"}))
    rows = [f"{i % 5},{i % 7},{1e300 if i == 7 else 1.0}\n" for i in range(20)]
    root.drop("a.csv", ("x,y,w\n" + "".join(rows)).encode())
    root.once()
    note = root.note("a.csv")
    assert "data row 7," in note["place"]
    assert "its `weight` among them" in note["remedy"]


@pytest.mark.parametrize("optimizer", ["experts", "sgd"])
def test_huber_without_a_delta_learns_cents_as_it_learns_dollars(
    root: Root, optimizer: str
) -> None:
    ways = {"dollars": 1.0, "cents": 100.0}
    model = {"kernel": "linear", "loss": "huber"}
    root.configure(*(job(name, model=model, optimizer={"name": optimizer}) for name in ways))
    random = np.random.default_rng(5)
    for file in ("1.csv", "2.csv"):
        x = random.normal(size=(300, 3))
        y = 3e5 + 1e5 * (x @ [1.0, -0.5, 0.2] + random.standard_t(2.5, 300))
        for name, unit in ways.items():
            table = [
                [*map(float, row), float(label)] for row, label in zip(x, y * unit, strict=True)
            ]
            root.drop(file, sample_tables.csv(table), name)
    root.once()
    dollars, cents = (root.samples(name) for name in ways)
    spread = 1e5**2
    for one, other in list(zip(dollars, cents, strict=True))[2:]:  # till then the labels' unit is 1
        assert math.isclose(one["loss"] * 1e4, other["loss"], rel_tol=1e-6, abs_tol=spread * 1e-6)
        assert math.isclose(one["prediction"] * 100, other["prediction"], rel_tol=1e-6)
    befores = [root.accepted(name)[1]["before"] for name in ways]
    assert math.isclose(befores[0]["loss"] * 1e4, befores[1]["loss"], rel_tol=1e-6)
    assert befores[0]["metrics"]["r2"] > 0.2
