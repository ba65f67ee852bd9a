"""Commands without a daemon: what they print, and their exit statuses; errors are one line."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tomllib
from pathlib import Path

import pytest
from cli_calls import CONFIG, headrace, plane

from service import __version__
from service.cli import check
from service.cli.status import read
from service.core.errors import ConfigurationError
from service.core.layout import Layout
from service.core.resolution import resolve
from service.core.settings import parse


def one_line(stderr: str) -> str:
    assert stderr.startswith("headrace: "), stderr
    assert stderr.count("\n") == 1, stderr
    assert "Traceback" not in stderr
    return stderr.removeprefix("headrace: ").strip()


# Exit statuses

NO_ROOT = "--root: must be a root that a daemon has run in, got "


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["frob"],
            "command: must be one of run, train, predict, status, show, check, verify, retract, retry, reset, reseal, demo",
        ),
        (["run", "--frob"], "--frob"),
        (["run", "-c", "absent.toml"], "absent.toml: can't be read: no such file or directory"),
        (["check", "-c", "absent.toml"], "absent.toml: can't be read"),
        (["train", "-c", "absent.toml", "a.csv"], "absent.toml: can't be read"),
        (["train"], "missing argument 'FILES...'"),
        (["show", "--root", "nowhere"], "missing option '--job'"),
        (["show", "--root", "nowhere", "--job", "a"], NO_ROOT),
        (["predict", "--root", "nowhere", "--job", "a", __file__], NO_ROOT),
        (
            ["reset", "--root", "nowhere", "--job", "a"],
            "--root: must be a root that a daemon has run in",
        ),
        (["retract", "--root", "nowhere", "--job", "a", "f"], "--root: must be a root that"),
        (["retry", "--root", "nowhere", "--job", "a", "f"], "--root: must be a root that"),
        (["retract", "--job", "a"], "missing argument"),
        (["predict", "--root", "nowhere", "--job", "a", "absent.csv"], "'absent.csv'"),
    ],
)
def test_a_wrong_command_line_is_status_2_and_one_line(
    tmp_path: Path, arguments: list[str], told: str
) -> None:
    run = headrace(*arguments, cwd=tmp_path)
    assert run.returncode == 2
    assert told in one_line(run.stderr)
    assert run.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("label = 'z'", "jobs[0].name: must be given"),
        (
            "name = 'a b'",
            'jobs[0].name: must be 1 to 64 of the letters A to Z and a to z, digits, - and _, got "a b"',
        ),
        (
            "name = 'a'\nlabel = 'z'\nmodel.kernel = 'lin'",
            "must be one of linear, logistic, softmax, mlp",
        ),
        (
            "name = 'a'\nlabel = 'z'\nmodel.kernel = 'linear'\noptimizer = {name = 'sgd', learning_rate = -1}",
            "job a: optimizer.learning_rate: must be greater than 0 and finite, got -1",
        ),
        (
            "name = 'a'\nlabel = 'z'\nmodel.kernel = 'linear'\nlable = 1",
            "job a: lable: unknown key, the nearest is label",
        ),
    ],
)
@pytest.mark.parametrize("command", ["check", "run"])
def test_a_wrong_setting_is_status_2_and_says_where_and_what_is_allowed(
    tmp_path: Path, command: str, wrong: str, told: str
) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[[jobs]]\n" + wrong)
    run = headrace(command, "-c", path, cwd=tmp_path)
    assert run.returncode == 2
    assert told in one_line(run.stderr)
    assert [path.name for path in tmp_path.iterdir()] == ["c.toml"]


def test_no_command_prints_the_list_of_commands() -> None:
    run = headrace()
    assert run.returncode == 2
    assert "Commands:" in run.stderr
    helped = headrace("--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "Commands:" in helped.stdout


def test_the_version_is_that_of_the_package() -> None:
    assert headrace("--version").stdout.strip().endswith(__version__)


def test_a_reader_that_leaves_is_no_traceback(trained: Path) -> None:
    import subprocess
    import sys

    from cli_calls import CHECKOUT

    command = f"{sys.executable} -m service status --root {trained} --json | true"
    run = subprocess.run(
        command, shell=True, cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert run.stderr == ""


@pytest.mark.parametrize(
    "arguments",
    [("show", "--job", "plane"), ("status", "--json"), ("predict", "--job", "plane", "plane.csv")],
)
def test_a_full_disk_behind_standard_output_is_status_1_and_one_line(
    trained: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "plane.csv").write_bytes(plane(3))
    with open("/dev/full", "wb") as full:
        run = headrace(*arguments, "--root", trained, cwd=tmp_path, stdout=full)
    assert run.returncode == 1
    assert one_line(run.stderr) == "no space left on device"


@pytest.mark.parametrize("command", ["show", "predict"])
def test_a_job_without_a_model_is_status_2(trained: Path, tmp_path: Path, command: str) -> None:
    file = tmp_path / "plane.csv"
    file.write_bytes(plane(3))
    run = headrace(command, "--root", trained, "--job", "b", *([file] * (command == "predict")))
    assert run.returncode == 2
    assert "--job: the job must have a model, got 'b'" in one_line(run.stderr)


# check


def test_check_prints_what_is_in_force_as_a_configuration(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(CONFIG)
    run = headrace("check", "-c", path)
    assert run.returncode == 0
    printed = tomllib.loads(run.stdout)
    plane_job = printed["jobs"][0]
    rates = [job["optimizer"]["rates"] for job in printed["jobs"]]
    assert rates == [[0.02, 0.1, 0.5, 2.0], [0.0, 0.02, 0.1, 0.2, 0.5, 1.0, 2.0, 8.0]]
    assert "delta" not in plane_job["model"]  # squared error has no use for it
    assert plane_job["training"]["batch_rows"] == 1
    shares = [job["optimizer"]["serve_slow"] for job in printed["jobs"]]
    assert shares == [0.3, 0.3]
    again, given = parse(run.stdout, "printed"), parse(CONFIG, "given")
    assert again.service == given.service
    assert [resolve(job) for job in again.jobs] == [resolve(job) for job in given.jobs]


def test_check_says_of_a_number_that_follows_the_labels_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(
        '[[jobs]]\nname = "a"\nlabel = "y"\nmodel = {kernel = "linear", loss = "huber"}\n'
    )
    run = headrace("check", "-c", path)
    model = run.stdout.partition("[jobs.model]\n")[2].partition("\n\n")[0]
    rule = "# delta is left out: 1.345 standard deviations of the labels so far"
    assert rule in model.splitlines()


def test_check_tries_a_strangers_kernel_and_names_what_it_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kernel_of_norms.py").write_text(
        "from kernels.linear import Logistic\n\nclass Odd(Logistic):\n"
        "    def norms(self, parameters, tape, residual):\n        return residual\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "c.toml"
    path.write_text('[[jobs]]\nname = "a"\nlabel = "y"\nmodel.kernel = "kernel_of_norms:Odd"\n')
    with pytest.raises(ConfigurationError) as caught:
        check.command.callback(config=path)  # type: ignore[misc]  # click's own function
    assert str(caught.value) == (
        f"{path}: job a: model.kernel: must keep to docs/kernels.md: kernel_of_norms:Odd: norms must give "
        "float64 or float32 of shape (7,), got float64 of shape (7, 1)"
    )


def test_what_check_prints_means_the_same(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(CONFIG)
    once = headrace("check", "-c", path).stdout
    path.write_text(once)
    assert headrace("check", "-c", path).stdout == once


# status and show, of a root in which nobody runs


def test_status_of_a_stopped_root_shows_each_job(trained: Path) -> None:
    run = headrace("status", "--root", trained)
    assert (run.returncode, run.stderr) == (0, "")
    rows = {line.split()[0]: line.split() for line in run.stdout.splitlines()[2:] if line}
    assert rows["plane"][1:5] == ["stopped", "0", "1", "1"]
    assert rows["side"][1:5] == ["stopped", "0", "1", "0"]


def test_status_as_json_is_json_and_says_that_nobody_runs(trained: Path) -> None:
    found = json.loads(headrace("status", "--root", trained, "--json").stdout)
    assert found["running"] is False
    assert found["jobs"]["plane"]["model"]["version"] == 1


def test_status_counts_the_files_that_wait_for_a_daemon(trained: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(trained, root, symlinks=True)
    (root / "inbox" / "plane" / "new.csv").write_bytes(plane(3))
    (root / "inbox" / "plane" / ".hidden").write_bytes(b"")
    assert read(Layout(root))["jobs"]["plane"]["waiting"] == 1


def test_status_of_a_killed_daemon_says_so(trained: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(trained, root, symlinks=True)
    path = root / "state" / "status.json"
    path.write_text(
        path.read_text().replace('"state": "stopped", "pid"', '"state": "running", "pid"')
    )
    assert read(Layout(root))["state"] == "killed"


def test_status_without_a_daemon_tells_what_the_journal_says(trained: Path, tmp_path: Path) -> None:
    """status.json is what the last daemon saw; the commands that came after it are in the journal."""
    root = tmp_path / "root"
    shutil.copytree(trained, root, symlinks=True)
    before = read(Layout(root))["jobs"]["plane"]
    assert (before["done"], before["failed"], before["model"]["version"]) == (1, 1, 1)
    (failed,) = (path.name for path in (root / "failed" / "plane").glob("*.csv"))
    assert headrace("retry", "--root", root, "--job", "plane", failed).returncode == 0
    retried = read(Layout(root))["jobs"]["plane"]
    assert (retried["failed"], retried["waiting"]) == (0, 1)
    assert headrace("reset", "--root", root, "--job", "plane").returncode == 0
    assert read(Layout(root))["jobs"]["plane"]["model"] is None
    state = {path.name: path.read_bytes() for path in (root / "state").glob("journal*")}
    headrace("status", "--root", root)
    assert state == {path.name: path.read_bytes() for path in (root / "state").glob("journal*")}


def test_a_file_that_was_never_learnt_is_told_what_it_is_instead(trained: Path) -> None:
    (failed,) = (path.name for path in (trained / "failed" / "plane").glob("*.csv"))
    run = headrace("retract", "--root", trained, "--job", "plane", failed)
    assert run.returncode == 2
    assert f"{failed} (it was refused, and is in no model)" in one_line(run.stderr)


def test_status_where_no_daemon_has_run_is_status_1(tmp_path: Path) -> None:
    run = headrace("status", "--root", tmp_path)
    assert run.returncode == 1
    assert "no daemon has run here" in one_line(run.stderr)


def test_show_gives_weights_in_the_features_own_units_the_largest_first(trained: Path) -> None:
    run = headrace("show", "--root", trained, "--job", "plane")
    assert run.returncode == 0, run.stderr
    *_, intercept, first, second = run.stdout.splitlines()
    assert intercept.split()[0] == "(intercept)"
    assert (first.split()[0], second.split()[0]) == ("a", "b")
    assert abs(float(first.split()[1]) - 2) < 0.5
    assert abs(float(second.split()[1]) + 1) < 0.5


# predict


def test_predictions_come_as_csv_in_the_rows_order(trained: Path, tmp_path: Path) -> None:
    file = tmp_path / "some.csv"
    file.write_bytes(b"b,a\n1,10\n10,1\n")
    run = headrace("predict", "--root", trained, "--job", "side", file)
    assert run.returncode == 0, run.stderr
    rows = list(csv.DictReader(io.StringIO(run.stdout)))
    assert [row["row"] for row in rows] == ["0", "1"]
    assert float(rows[0]["probability_yes"]) > 0.5 > float(rows[1]["probability_yes"])
    assert {row["label"] for row in rows} == {""}


def test_predictions_for_a_file_appear_whole_or_not_at_all(trained: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "some.csv", tmp_path / "out.csv"
    file.write_bytes(plane(10))
    run = headrace("predict", "--root", trained, "--job", "plane", file, "-o", out)
    assert (run.returncode, run.stdout) == (0, "")
    assert len(out.read_text().splitlines()) == 11
    out.unlink()
    file.write_bytes(plane(10) + b"1,x,2\n")
    run = headrace("predict", "--root", trained, "--job", "plane", file, "-o", out)
    assert run.returncode == 1
    assert "a feature is a number, got x" in one_line(run.stderr)
    assert [path.name for path in tmp_path.iterdir()] == ["some.csv"]


def test_standard_output_stays_empty_when_the_file_is_refused(
    trained: Path, tmp_path: Path
) -> None:
    file = tmp_path / "some.csv"
    file.write_bytes(plane(10) + b"1,x,2\n")
    run = headrace("predict", "--root", trained, "--job", "plane", file)
    assert (run.returncode, run.stdout) == (1, "")
    assert "a feature is a number, got x" in one_line(run.stderr)


# train


def test_train_on_no_terminal_says_how_it_went_and_leaves_the_files(
    config: Path, tmp_path: Path
) -> None:
    file = tmp_path / "plane.csv"
    file.write_bytes(plane(50))
    root = tmp_path / "root"
    run = headrace("train", "-c", config, "--root", root, "--job", "plane", file)
    assert run.returncode == 0, run.stderr
    assert "\x1b" not in run.stderr
    assert run.stderr.splitlines()[-1].startswith(
        f"model: {root}/models/plane/00000001-v1.safetensors"
    )
    assert file.read_bytes() == plane(50)
    assert not (root / "inbox" / "side").exists() or not list((root / "inbox" / "side").iterdir())


def test_train_with_a_refused_file_is_status_1_and_tells_the_rule(
    config: Path, tmp_path: Path
) -> None:
    file = tmp_path / "plane.csv"
    file.write_bytes(plane(5) + b"1,x,2\n")
    run = headrace("train", "-c", config, "--root", tmp_path / "root", "--job", "plane", file)
    assert run.returncode == 1
    assert "refused: " in run.stderr
    assert "a feature is a number, got x" in run.stderr
    assert "1 refused" in run.stderr
    assert "100%" not in run.stderr  # a full bar says that all went well
    assert file.exists()


def test_train_must_be_told_which_job_of_several(config: Path, tmp_path: Path) -> None:
    run = headrace("train", "-c", config, "--root", tmp_path / "root", config)
    assert run.returncode == 2
    assert "--job: one of plane, side must be named" in one_line(run.stderr)


# reset, where nobody runs


def test_reset_forgets_the_model_and_leaves_files_and_logs(trained: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(trained, root, symlinks=True)
    logs = (root / "logs" / "plane" / "samples.jsonl").read_bytes()
    run = headrace("reset", "--root", root, "--job", "plane")
    assert run.returncode == 0, run.stderr
    assert list((root / "models" / "plane").iterdir()) == []
    assert (root / "logs" / "plane" / "samples.jsonl").read_bytes() == logs
    assert (root / "done" / "plane" / "plane-1.csv").exists()
    assert (root / "models" / "side" / "current.safetensors").exists()


def test_reset_of_an_unknown_job_lists_those_there_are(trained: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(trained, root, symlinks=True)
    run = headrace("reset", "--root", root, "--job", "plan")
    assert run.returncode == 2
    assert one_line(run.stderr) == "--job: must be one of plane, side, got 'plan'"
