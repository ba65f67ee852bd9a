"""The worked kernel keeps the contract: its three gradients agree with numerical ones, and it learns a ring."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cli_calls import headrace
from marked_blocks import CHECKOUT, of

from kernels import registry
from kernels.contract import Kernel

ROWS, FEATURES, STEP = 7, 3, 1e-6


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    monkeypatch.syspath_prepend(str(CHECKOUT / "docs" / "quadratic"))
    kernel = registry.kernel("quadratic:Quadratic")
    yield kernel(kernel.Options(), FEATURES, 1)
    sys.modules.pop("quadratic", None)


def test_its_package_holds_the_module_that_the_settings_name() -> None:
    package = CHECKOUT / "docs" / "quadratic"
    table = tomllib.loads((package / "pyproject.toml").read_text("utf-8"))
    (module,) = table["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    assert (package / module).is_file()
    assert f'kernel = "{Path(module).stem}:Quadratic"' in of("kernels.md", "file")["quadratic.toml"]


def test_its_gradients_are_the_derivatives_of_its_loss(made: Kernel) -> None:
    random = np.random.default_rng(3)
    x, y = random.normal(size=(ROWS, FEATURES)), random.integers(0, 2, ROWS).astype(float)
    parameters = {
        name: random.normal(size=value.shape) for name, value in made.init(random).items()
    }
    output, tape = made.forward(parameters, x)
    residual = made.loss.residual(output, y)
    gradients = made.gradients(parameters, tape, residual)
    column = 0
    for name in sorted(parameters):
        for i in range(parameters[name].size):
            derivative = np.zeros(ROWS)
            for sign in (1, -1):
                moved = {key: value.copy() for key, value in parameters.items()}
                moved[name][i] += sign * STEP
                derivative += sign * made.loss.value(made.forward(moved, x)[0], y) / (2 * STEP)
            np.testing.assert_allclose(gradients[:, column], derivative, atol=1e-8)
            column += 1
    assert column == gradients.shape[1]
    np.testing.assert_allclose(
        made.norms(parameters, tape, residual), np.linalg.norm(gradients, axis=1)
    )
    summed = made.backward(parameters, tape, residual)
    laid_out = np.concatenate([summed[name] for name in sorted(summed)])
    np.testing.assert_allclose(laid_out, gradients.sum(axis=0))


def test_it_learns_a_ring_that_no_line_can(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    points = random.uniform(-2, 2, (8000, 2))
    inside = ((points**2).sum(axis=1) < 2).astype(int)
    lines = [f"{x:.3f},{y:.3f},{label}\n" for (x, y), label in zip(points, inside, strict=True)]
    (tmp_path / "ring.csv").write_text("x,y,inside\n" + "".join(lines))
    config = of("kernels.md", "file")["quadratic.toml"]
    theirs = {"PYTHONPATH": f"{CHECKOUT}:{CHECKOUT / 'docs' / 'quadratic'}"}
    line = config.replace("quadratic:Quadratic", "logistic")
    accuracies = []
    for name, text in (("quadratic", config), ("logistic", line)):
        (tmp_path / "c.toml").write_text(text)
        root = tmp_path / name
        run = headrace(
            "train",
            "-c",
            tmp_path / "c.toml",
            "--root",
            root,
            tmp_path / "ring.csv",
            environment=theirs,
        )
        assert run.returncode == 0, run.stderr
        last = (root / "logs" / "ring" / "metrics.jsonl").read_text().splitlines()[-1]
        accuracies.append(json.loads(last)["metrics"]["accuracy"])
    assert accuracies[0] > 0.8 > 0.7 > accuracies[1], accuracies
