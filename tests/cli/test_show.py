"""What `headrace show` says of each kind of model, of any size, in a pipe."""

from __future__ import annotations

import io

import numpy as np
from rich.console import Console

from kernels.contract import Rows, Spec
from kernels.learner import Learner
from service.cli.show import MOST_TOLD, show
from service.subtasks.predict import Model


def shown(spec: Spec, x: np.ndarray, y: np.ndarray, classes: tuple[str, ...] | None = None) -> str:
    """What is printed of a model after these rows."""
    learner = Learner(spec)
    state = {key: np.zeros(*shape) for key, shape in learner.layout().items()}
    learner.init(state)
    results = {key: np.zeros(*shape) for key, shape in learner.results_layout(len(y)).items()}
    learner.run(state, Rows(x, y, np.ones(len(y)), np.zeros(len(y))), 16, results)
    header = {
        "job": "j",
        "spec": {"kernel": spec.kernel},
        "version": 1,
        "sequence": 1,
        "last_file": "a.csv",
        "classes": classes,
        "features": [f"x{i}" for i in range(spec.features)],
    }
    out = io.StringIO()
    show(Model(learner, state, header, "0"), Console(file=out, width=120))
    return out.getvalue()


def test_many_classes_have_a_paragraph_each_with_their_largest_weights() -> None:
    random = np.random.default_rng(0)
    y = random.integers(0, 30, 900).astype(np.float64)
    x = random.normal(size=(900, 20))
    x[:, 3] += 9.0 * (y == 7)
    classes = tuple(f"class-{i}" for i in range(30))
    spec = Spec("softmax", 20, outputs=30, optimizer={"name": "adagrad"})
    lines = shown(spec, x, y, classes).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("class class-7: (intercept) "))
    assert lines[at + 1].split()[0] == "x3"
    assert lines[at + 1 + MOST_TOLD].startswith("class class-8: ")
    assert "the 8 largest of 20 weights each; all are in the model file" in lines
    assert sum(line.startswith("class class-") for line in lines) == 30


def test_clusters_have_their_shares_and_their_centres_in_the_features_own_units() -> None:
    random = np.random.default_rng(1)
    near = random.random(4000) < 0.25
    x = random.normal(0.0, 1.0, (4000, 2)) + np.array([100.0, 5.0])
    x[near, 0] += 50.0
    spec = Spec("kmeans", 2, {"clusters": 2}, 2, optimizer={"name": "counting"})
    lines = shown(spec, x, np.zeros(4000)).splitlines()
    heads = [i for i, line in enumerate(lines) if line.startswith("cluster ")]
    shares = [float(lines[i].split()[2].rstrip("%")) for i in heads]
    centres = [float(lines[i + 1].split()[1]) for i in heads]
    assert all(lines[i + 1].split()[0] == "x0" for i in heads)
    np.testing.assert_allclose(shares, [75.0, 25.0], atol=2.0)
    np.testing.assert_allclose(centres, [100.0, 150.0], atol=1.5)


def test_other_models_have_the_shapes_norms_and_bounds_of_their_parameters() -> None:
    random = np.random.default_rng(2)
    text = shown(Spec("fm", 3, {"factors": 2}), random.normal(size=(64, 3)), np.arange(64.0))
    heading, *rows = (line.split() for line in text.splitlines()[-4:])
    assert heading == ["parameter", "shape", "dtype", "norm", "least", "largest"]
    assert [row[0] for row in rows] == ["bias", "factors", "weights"]
    assert rows[1][1:5] == ["3", "×", "2", "float64"]
