"""Commands beside a running daemon."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from cli_calls import DEADLINE_SECONDS, daemon, drop, headrace, plane, status, wait_until


def done(root: Path, job: str) -> int:
    return int(status(root)["jobs"][job]["done"])


def test_status_and_show_beside_a_daemon(config: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    with daemon(root, config) as process:
        drop(root, "plane", "one.csv", plane(200))
        wait_until(lambda: done(root, "plane") == 1, "the acceptance")
        run = headrace("status", "--root", root)
        assert run.returncode == 0, run.stderr
        assert f"running, pid {process.pid}" in run.stdout
        found = json.loads(headrace("status", "--root", root, "--json").stdout)
        assert found["running"] is True
        assert headrace("show", "--root", root, "--job", "plane").returncode == 0


def test_a_second_daemon_is_refused_with_the_pid_of_the_first(config: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    with daemon(root, config) as process:
        run = headrace("run", "-c", config, "--root", root)
        assert run.returncode == 1
        assert (
            run.stderr
            == f"headrace: {root}: one daemon may hold a root, got pid {process.pid} holding it; if it is only starting, try again soon\n"
        )


def test_reset_goes_through_the_daemon_and_the_next_file_begins_a_model(
    config: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    with daemon(root, config):
        drop(root, "plane", "one.csv", plane(200))
        wait_until(lambda: done(root, "plane") == 1, "the acceptance")
        run = headrace("reset", "--root", root, "--job", "plane")
        assert run.returncode == 0, run.stderr
        assert list((root / "models" / "plane").iterdir()) == []
        drop(root, "plane", "two.csv", plane(100, start=200))
        current = root / "models" / "plane" / "current.safetensors"
        wait_until(current.exists, "a new model")
    files = (root / "logs" / "plane" / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in files if '"kind":"file"' in line]
    assert [(r["file"], r["sequence"], r["version"]) for r in records] == [
        ("one.csv", 1, 1),
        ("two.csv", 1, 1),
    ]
    assert records[1]["lifetime"]["rows"] == 100


def test_reset_of_a_job_that_the_daemon_has_not_is_refused(config: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    with daemon(root, config):
        run = headrace("reset", "--root", root, "--job", "plan")
        assert run.returncode != 0
        assert "must be one of plane, side, got 'plan'" in run.stderr


def test_a_file_in_predict_is_predicted_by_the_newest_model(config: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    with daemon(root, config):
        drop(root, "plane", "one.csv", plane(200))
        wait_until(lambda: done(root, "plane") == 1, "the acceptance")
        drop(root, "plane", "new.csv", b"a,b\n1,2\n3,4\n", "predict")
        out = root / "predictions" / "plane" / "new.csv.csv"
        wait_until(out.exists, "the prediction")
        sha256 = status(root)["jobs"]["plane"]["model"]["sha256"]
    assert [line.split(",")[-1] for line in out.read_text().splitlines()[1:]] == [sha256] * 2


def test_sigterm_and_sigint_end_it_with_status_0(config: Path, tmp_path: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with daemon(tmp_path / "root", config) as process:
            process.send_signal(number)
            assert process.wait(DEADLINE_SECONDS) == 0
        assert status(tmp_path / "root")["state"] == "stopped"


def test_an_optimizer_of_one_step_a_file_is_warned_of_where_files_come_once(
    tmp_path: Path,
) -> None:
    config, root = tmp_path / "c.toml", tmp_path / "root"
    job = (
        '[[jobs]]\nname = "plane"\nlabel = "z"\nmodel.kernel = "linear"\noptimizer.name = "lbfgs"\n'
    )
    config.write_text(job)
    (tmp_path / "plane.csv").write_bytes(plane(20))
    checked = headrace("check", "-c", config)
    warning = "lbfgs takes one step a file"
    assert f"# in `headrace run`, which learns each file once, {warning}" in checked.stdout
    trained = headrace("train", "-c", config, "--root", root, tmp_path / "plane.csv")
    assert trained.returncode == 0, trained.stderr
    log = root / "logs" / "service.jsonl"
    assert warning not in log.read_text()
    run = headrace("run", "-c", config, "--root", root, "--once")
    assert run.returncode == 0, run.stderr
    (told,) = [
        event for event in map(json.loads, log.read_text().splitlines()) if "remedy" in event
    ]
    assert told["job"] == "plane"
    assert told["remedy"].startswith(warning)
