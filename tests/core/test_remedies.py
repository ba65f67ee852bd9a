"""What a user is told to do is what isn't done already."""

from __future__ import annotations

import pytest

from service.core.remedies import against_divergence, against_few_steps
from service.core.resolution import resolve
from service.core.settings import parse


@pytest.mark.parametrize(
    ("kernel", "tables", "remedy"),
    [
        (
            "linear",
            "[jobs.optimizer]\nname = 'sgd'\nlearning_rate = 100",
            "set a smaller optimizer.learning_rate than 100, or set optimizer.clip_gradient = 1",
        ),
        (
            "linear",
            "[jobs.optimizer]\nname = 'sgd'\nclip_gradient = 2\n[jobs.scaling]\nstandardise = false",
            "set scaling.standardise = true, or set a smaller optimizer.learning_rate than 0.01",
        ),
        ("linear", "", "set scaling.clip = 5, or set a smaller optimizer.learning_rate than 1"),
        ("logistic", "", "set a smaller optimizer.learning_rate than 1"),
        ("logistic", "[jobs.optimizer]\nname = 'lbfgs'", 'set optimizer.name = "auto"'),
        (
            "mf",
            "",
            "set a smaller optimizer.learning_rate than 0.1, or set optimizer.clip_gradient = 1",
        ),
    ],
)
def test_a_divergence_is_met_by_what_is_not_done_already(
    kernel: str, tables: str, remedy: str
) -> None:
    text = f'[[jobs]]\nname = "a"\nlabel = "y"\n[jobs.model]\nkernel = "{kernel}"\n{tables}'
    told = against_divergence(resolve(parse(text, "c").jobs[0]))
    assert told == f"look for extreme values there and in the rows before; else {remedy}"


@pytest.mark.parametrize(("name", "is_told"), [("lbfgs", True), ("auto", False), ("sgd", False)])
def test_only_who_takes_one_step_a_file_is_told_so(name: str, is_told: bool) -> None:
    text = f'[[jobs]]\nname = "a"\nlabel = "y"\nmodel.kernel = "linear"\noptimizer.name = "{name}"'
    told = against_few_steps(resolve(parse(text, "c").jobs[0]))
    assert (told is not None) == is_told
    if told is not None:
        assert told.startswith(
            "lbfgs takes one step a file, and none in the first two: set another"
        )


def test_columns_that_multiply_or_move_a_row_are_looked_at_too() -> None:
    text = """
[[jobs]]
name = "a"
label = "y"
weight = "w"
exposure = "e"
model = {kernel = "linear", loss = "poisson"}
"""
    told = against_divergence(resolve(parse(text, "c").jobs[0]))
    assert told.startswith(
        "look for extreme values there (its `weight` and `exposure` among them) and in the rows before; else "
    )
