"""Peers that need more than Python: what they do where their tools are, and the word that is said where they are not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
SAMPLES = CHECKOUT / "config" / "demo" / "article" / "article.csv"


@pytest.fixture(scope="module", autouse=True)
def _importable() -> None:
    sys.path.append(str(CHECKOUT))


def _go_lines(samples: Path, folder: Path) -> list[str]:
    from benchmarks import golang
    from benchmarks.contestants import Missing

    try:
        program = golang.article(folder)
    except Missing as missing:
        pytest.skip(str(missing))
    assert golang.seconds(program, samples, folder / "lines.txt") > 0
    return (folder / "lines.txt").read_text().splitlines()


def _index(line: str) -> int:
    return int(line.split()[1].rstrip(":"))


def test_the_articles_go_program_says_the_lines_that_headrace_says(tmp_path: Path) -> None:
    lines = _go_lines(SAMPLES, tmp_path)
    config, root = CHECKOUT / "config" / "article.toml", tmp_path / "root"
    command = [sys.executable, "-m", "service", "train", "-c", str(config), "--root", str(root)]
    subprocess.run([*command, str(SAMPLES)], cwd=CHECKOUT, capture_output=True, check=True)
    ours = (root / "logs" / "article" / "samples.txt").read_text().splitlines()
    assert len(ours) == 1000
    assert sorted(lines, key=_index) == ours  # its goroutines end in whatever order


def test_a_cell_that_is_no_number_ends_the_articles_program(tmp_path: Path) -> None:
    (bad := tmp_path / "bad.csv").write_text("x,y\n1,1\n2,two\n")
    with pytest.raises(subprocess.CalledProcessError):
        _go_lines(bad, tmp_path)


def test_without_go_its_measure_is_left_out_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import __main__, golang
    from benchmarks.case import make

    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(golang, "OWN_PLACE", tmp_path / "bin" / "python")
    absent: list[str] = []
    found = __main__._measured(["article-go"], make(tmp_path, 100, 2), 2, absent)
    assert found == {}
    assert absent == ["article-go: left out, Go is neither on the path nor in .venv-peers"]


def _spark() -> Any:
    from benchmarks.contestants import CONTESTANTS

    (spark,) = (one for one in CONTESTANTS if one.name == "Spark")
    return spark


@pytest.mark.timeout(900)  # a JVM that starts while others work takes its time
def test_spark_learns_a_file_or_says_what_it_lacks(tmp_path: Path) -> None:
    from benchmarks.case import make
    from benchmarks.contestants import Missing

    case = make(tmp_path, 1000, 3)
    try:
        run = _spark().run(case)
    except Missing as missing:
        pytest.skip(str(missing))
    assert run.seconds > 0
    assert run.loss is None
    assert "pyspark" in run.version
    assert "Java" in run.version
    assert [*tmp_path.iterdir()] == [case.path]


def test_what_each_environment_lacks_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import contestants
    from benchmarks.case import make

    (own := tmp_path / "python").symlink_to(sys.executable)
    (script := tmp_path / "lacking.py").write_text(
        "import json, sys\n"
        f"lacks = 'Java' if sys.orig_argv[0] == {str(own)!r} else 'pyspark'\n"
        "print(json.dumps({'missing': lacks}))\n"
        "sys.exit(3)\n"
    )
    monkeypatch.setattr(contestants, "OWN_PLACE", own)
    monkeypatch.setattr(contestants, "PEERS", script)
    with pytest.raises(
        contestants.Missing,
        match=r"^Java or pyspark is not installed \(500 MB.*pip install pyspark",
    ):
        _spark().run(make(tmp_path, 10, 2))
