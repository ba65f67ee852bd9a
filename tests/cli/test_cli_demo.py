"""The demo shows what it promises, leaves nothing running, and fails when something went wrong."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_calls import CHECKOUT, DEADLINE_SECONDS, headrace, status, wait_until

from service.cli.demo_files import drops, put, to_predict
from service.cli.shipped import shipped
from service.cli.status import is_held
from service.core.layout import Layout


@pytest.fixture(scope="module")
def shown(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    root = tmp_path_factory.mktemp("demo") / "root"
    return root, headrace("demo", "--fast", "--root", root)


def test_the_demo_succeeds_and_leaves_a_whole_root(
    shown: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    root, run = shown
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stderr == ""
    assert status(root)["state"] == "stopped"
    assert not is_held(Layout(root))
    assert list((root / "inbox").glob("*/*")) == []
    assert [path.name for path in (root / "failed").glob("*/*.csv")] == ["breast_cancer-broken.csv"]


def test_every_file_that_ships_is_learnt_and_told_of(
    shown: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    root, run = shown
    for path in shipped("demo").glob("*/*"):
        assert f"{path.name}: learnt" in run.stdout
        assert (root / "done" / path.parent.name / path.name).exists()


@pytest.mark.parametrize(
    "text",
    [
        "diabetes-sent-again.csv: in the model already",
        "column mean radius: a feature is a number, got 14.l",
        "new-patients.csv: predicted 8 rows",
        "What was learnt",
        "digits: log loss",
        "Sample 2: gradient = -8.000000, loss = 4.000000",
        '"remedy": ',
        "row,id,prediction,label,probability_benign,probability_malignant,version,model_sha256",
        "(intercept)",
        "Where everything lies",
    ],
)
def test_the_demo_tells(shown: tuple[Path, subprocess.CompletedProcess[str]], text: str) -> None:
    assert text in shown[1].stdout


def test_a_pipe_gets_plain_text(
    shown: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    assert "\x1b" not in shown[1].stdout


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    run = headrace("demo", "--root", tmp_path)
    assert run.returncode == 2
    assert run.stderr == f"headrace: --root: must be an empty folder, got {tmp_path}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_an_interrupted_demo_takes_its_daemon_along(tmp_path: Path) -> None:
    root = tmp_path / "root"
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "demo", "--root", str(root)],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: status(root)["state"] == "running", "the start of the demo's daemon")
    process.send_signal(signal.SIGTERM)
    _, words = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 1
    assert words.strip() == "headrace: interrupted"
    assert status(root)["state"] == "stopped"
    assert not is_held(Layout(root))


def test_files_come_in_turns_and_each_job_gets_its_own() -> None:
    found = drops(shipped("demo"))
    assert len({drop.job for drop in found[:4]}) == 4
    fates = [drop.fate for drop in found]
    assert fates.count("refused") == fates.count("duplicate") == 1
    assert len({(drop.job, drop.name) for drop in found}) == len(found)


def test_the_broken_file_differs_in_one_letter() -> None:
    (broken,) = (drop for drop in drops(shipped("demo")) if drop.fate == "refused")
    whole = (shipped("demo") / "breast_cancer" / "breast_cancer-3.csv").read_bytes()
    assert len(broken.content) == len(whole)
    different = [pair for pair in zip(broken.content, whole, strict=True) if pair[0] != pair[1]]
    assert [bytes([new]) for new, _ in different] == [b"l"]


def test_what_is_predicted_has_no_labels() -> None:
    content = to_predict(shipped("demo")).content
    assert b"diagnosis" not in content
    assert not {b"malignant", b"benign"} & set(content.replace(b"\n", b",").split(b","))


def test_a_file_appears_whole(tmp_path: Path) -> None:
    drop = drops(shipped("demo"))[0]
    (tmp_path / "inbox" / drop.job).mkdir(parents=True)
    put(drop, tmp_path)
    (only,) = (tmp_path / "inbox" / drop.job).iterdir()
    assert (only.name, only.read_bytes()) == (drop.name, drop.content)
