"""The demo's files are scikit-learn's data sets, row by row, and fit the jobs that learn from them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from sklearn import datasets

from service.cli.configuration import load
from service.cli.shipped import shipped
from service.core.settings import Settings

FOLDER = shipped("demo")
TWO_MEGABYTES = 2_000_000


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load(shipped("demo.toml"))


def read(job: str) -> tuple[list[str], list[list[str]]]:
    """The header of a job's files, and their rows in the order of the files."""
    header: list[str] = []
    rows: list[list[str]] = []
    for path in sorted((FOLDER / job).iterdir()):
        with path.open(newline="", encoding="utf-8") as file:
            first, *rest = csv.reader(file)
        assert first == (header or first), path
        header = first
        rows.extend(rest)
    return header, rows


def test_every_job_has_its_folder_and_every_folder_its_job(settings: Settings) -> None:
    folders = {path.name for path in FOLDER.iterdir() if path.is_dir()}
    assert folders == {job.name for job in settings.jobs}


def test_every_job_finds_its_columns(settings: Settings) -> None:
    for job in settings.jobs:
        header, rows = read(job.name)
        assert job.label in header
        assert set(job.features or ()) <= set(header)
        assert {len(row) for row in rows} == {len(header)}


def test_the_files_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*.*")) < TWO_MEGABYTES


@pytest.mark.parametrize(
    ("job", "bunch"),
    [
        ("diabetes", datasets.load_diabetes(scaled=False)),
        ("digits", datasets.load_digits()),
        ("breast_cancer", datasets.load_breast_cancer()),
    ],
)
def test_the_rows_are_those_of_scikit_learn(job: str, bunch: datasets.Bunch) -> None:
    header, rows = read(job)
    assert header[:-1] == list(bunch.feature_names)
    ours = np.array([row[:-1] for row in rows], float)
    np.testing.assert_allclose(ours, bunch.data, rtol=1e-12)  # its versions round differently
    labels = [row[-1] for row in rows]
    if job == "breast_cancer":
        assert labels == list(bunch.target_names[bunch.target])
    else:
        assert np.array_equal(np.array(labels, float), bunch.target)


def test_the_articles_samples_are_the_numbers_from_0_to_999() -> None:
    header, rows = read("article")
    assert header == ["x", "y"]
    assert rows == [[str(i), str(i)] for i in range(1000)]


def test_the_demos_article_is_the_article() -> None:
    (article,) = load(shipped("article.toml")).jobs
    assert load(shipped("demo.toml")).job("article") == article


def test_one_step_of_the_articles_job_ends_near_its_solution() -> None:
    (article,) = load(shipped("article.toml")).jobs
    x = np.arange(1000.0)
    weight = article.optimizer.options["learning_rate"] * np.mean(2 * x * x)
    assert weight == pytest.approx(1, abs=0.01)


def test_the_sources_name_every_folder() -> None:
    text = Path(FOLDER / "SOURCES.md").read_text("utf-8")
    for path in FOLDER.iterdir():
        assert path.is_file() or f"`{path.name}/`" in text
