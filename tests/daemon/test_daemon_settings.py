"""What is asked of a running daemon: new settings, an end, a reset; and what it refuses at its start."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import sample_tables
from daemon_root import Root, eventually, job, root_in, rounds

HERE = Path(__file__).parent
SMALL = sample_tables.csv(sample_tables.rows(30, 1))
LONG = sample_tables.csv(sample_tables.rows(6000, 2))


def _rate(root: Root, name: str, job: str = "j") -> float:
    """The learning rate that a file was learnt with."""
    (record,) = [r for r in root.records(job=job, kind="progress") if r["file"] == name][-1:]
    rate: float = record["learning_rate"]
    return rate


def test_a_reload_takes_effect_at_the_next_admission(root: Root, tmp_path: Path) -> None:
    slow, fast = ({"name": "sgd", "learning_rate": rate} for rate in (0.01, 0.05))
    root.configure(job(optimizer=slow, training=rounds(8)))
    root.drop("0-long.csv", LONG)
    life = root.start()
    life.see("progress")
    root.configure(job(optimizer=fast, training=rounds(8)), job("new"))
    life.signal(signal.SIGHUP)
    life.see("configuration read again", jobs=2)
    root.drop("1-small.csv", SMALL)
    root.drop("first.csv", SMALL, "new")
    life.done("j", 2)
    life.done("new", 1)
    life.stop()
    assert (_rate(root, "0-long.csv"), _rate(root, "1-small.csv")) == (0.01, 0.05)
    with root_in(tmp_path / "calm") as calm:
        for rate, name, data in ((slow, "0-long.csv", LONG), (fast, "1-small.csv", SMALL)):
            calm.configure(job(optimizer=rate, training=rounds(8)))
            calm.drop(name, data)
            calm.once()
        assert root.outcome() == calm.outcome()


def test_a_job_that_leaves_the_settings_stops_and_keeps_its_files(root: Root) -> None:
    root.configure(job(), job("other"))
    life = root.start()
    root.drop("0.csv", SMALL, "other")
    life.done("other")
    root.configure(job())
    life.signal(signal.SIGHUP)
    life.see("configuration read again", jobs=1)
    root.drop("1.csv", LONG, "other")
    root.drop("2.csv", SMALL)
    life.done("j")
    life.stop()
    assert root.names("inbox", "other") == ["1.csv"]
    assert len(root.accepted("other")) == 1


def test_a_job_that_returns_while_it_leaves_goes_on_where_it_was(
    root: Root, tmp_path: Path
) -> None:
    slow = job(
        "slow", model={"kernel": "kernel_of_a_stranger:Slow"}, training=rounds(5, local_steps=10)
    )
    data = sample_tables.csv(sample_tables.rows(250, 4))
    root.configure(job(), slow)
    root.drop("0.csv", data, "slow")
    life = root.start(path=[HERE])

    def learning() -> bool:
        file = life.status()["jobs"]["slow"]["file"]
        return file is not None and file["rows"] > 0

    eventually(learning, "a round has ended, and the next runs", life)
    for number in range(2):
        root.configure(job(), *([slow] if number else []))
        life.signal(signal.SIGHUP)
        life.see("configuration read again", jobs=number + 1)
    life.done("slow")
    life.stop()
    _, second = life.events("started", job="slow")
    assert second["resumed_at_row"] >= 50, "the first life had not ended its round"
    with root_in(tmp_path / "calm") as calm:
        calm.configure(slow)
        calm.drop("0.csv", data, "slow")
        calm.once(path=[HERE])
        assert root.outcome("slow") == calm.outcome("slow")


def test_a_job_that_returns_with_another_kernel_is_refused(root: Root) -> None:
    root.configure(job(), job("other"))
    root.drop("0.csv", SMALL, "other")
    life = root.start()
    life.done("other")
    root.configure(job())
    life.signal(signal.SIGHUP)
    life.see("configuration read again", jobs=1)
    root.configure(job(), job("other", model={"kernel": "linear"}))
    life.signal(signal.SIGHUP)
    refused = eventually(lambda: _refusals(root), "a refusal", life)[0]
    assert "headrace reset --job other" in refused["error"]
    life.stop()


def test_a_new_job_whose_inbox_cannot_be_is_refused_and_the_daemon_lives(root: Root) -> None:
    life = root.start()
    root.configure(job(), job("other"))
    root.folder("inbox", "other").rmdir()
    root.folder("inbox", "other").symlink_to(root.home)
    life.signal(signal.SIGHUP)
    eventually(lambda: _refusals(root), "a refusal", life)
    root.drop("0.csv", SMALL)
    life.done()
    life.stop()


BAD_SETTINGS = {
    "truncated": "[service]\nworkers = ",
    "unknown key": '[service]\nworker = 2\n[[jobs]]\nname = "j"\nlabel = "y"\n[jobs.model]\nkernel = "logistic"\n',
    "impossible": '[[jobs]]\nname = "j"\nlabel = "y"\n[jobs.model]\nkernel = "no"\n',
    "another kernel": '[service]\nworkers = 2\n[[jobs]]\nname = "j"\nlabel = "y"\n[jobs.model]\nkernel = "linear"\n',
}


def test_a_bad_reload_is_refused_and_the_old_settings_stay_in_force(root: Root) -> None:
    life = root.start()
    root.drop("0.csv", SMALL)
    life.done()
    for number, text in enumerate(BAD_SETTINGS.values()):
        root.config.write_text(text)
        life.signal(signal.SIGHUP)
        eventually(lambda n=number: len(_refusals(root)) > n, "a refusal", life)  # type: ignore[misc]
    root.config.unlink()
    life.signal(signal.SIGHUP)
    eventually(lambda: len(_refusals(root)) > len(BAD_SETTINGS), "a refusal of nothing", life)
    root.drop("1.csv", sample_tables.csv(sample_tables.rows(30, 3)))
    life.done("j", 2)
    life.stop()
    assert all(event["error"] for event in _refusals(root))
    assert "reset" in _refusals(root)[3]["error"]


def _refusals(root: Root) -> list[dict[str, str]]:
    return [event for event in root.events() if event["event"].startswith("configuration refused")]


def test_a_kernel_cannot_change_while_the_first_file_is_learnt(root: Root) -> None:
    root.configure(job(training=rounds(16)))
    root.drop("0.csv", LONG)
    life = root.start()
    life.see("progress")
    root.configure(job(model={"kernel": "linear"}))
    life.signal(signal.SIGHUP)
    eventually(
        lambda: _refusals(root) or life.events("configuration read again"), "an answer", life
    )
    life.done()
    life.stop()
    assert _refusals(root)


def test_a_storm_of_reloads_costs_no_bit(root: Root, tmp_path: Path) -> None:
    root.configure(job(training=rounds(16)))
    root.drop("0.csv", LONG)
    life = root.start()
    for _ in range(8):
        before = len(life.events("progress"))
        eventually(
            lambda b=before: len(life.events("progress")) > b or root.accepted(), "progress", life
        )  # type: ignore[misc]
        life.signal(signal.SIGHUP)
    life.done()
    life.stop()
    with root_in(tmp_path / "calm") as calm:
        calm.configure(job(training=rounds(16)))
        calm.drop("0.csv", LONG)
        calm.once()
        assert root.outcome() == calm.outcome()


def test_a_second_daemon_on_a_root_is_turned_away_with_the_firsts_pid(root: Root) -> None:
    life = root.start()
    (root.home / "link").symlink_to(root.path)
    for path in (root.path, root.home / "link"):
        second = root.ask("run", "-c", str(root.config), "--root", str(path))
        assert second.returncode == 1, second.stderr
        assert str(life.process.pid) in second.stderr
        assert second.stderr.count("\n") == 1
    life.stop()


@pytest.mark.parametrize("text", BAD_SETTINGS.values(), ids=BAD_SETTINGS)
def test_a_start_with_bad_settings_is_status_2_and_one_line(root: Root, text: str) -> None:
    if "linear" in text:
        root.drop("0.csv", SMALL)
        root.once()  # of another kernel
    root.config.write_text(text)
    found = root.ask("run", "-c", str(root.config), "--root", str(root.path))
    assert found.returncode == 2, found.stderr
    assert found.stderr.count("\n") == 1
    assert found.stderr.startswith("headrace: ")


def test_a_reset_forgets_the_model_with_the_daemon_up_and_down(root: Root) -> None:
    life = root.start()
    for up in (True, False):
        root.drop("0.csv", SMALL)
        life.done("j", 1 if up else 2)
        if not up:
            life.stop()
        found = root.ask("reset", "--root", str(root.path), "--job", "j")
        assert found.returncode == 0, found.stderr
        assert root.model_sha256() is None
    root.drop("1.csv", SMALL)
    root.once()
    first, *_, last = root.accepted()
    assert last["sequence"] == 1
    assert last["loss"] == first["loss"]
    assert last["lifetime"]["rows"] == 30


def test_sigint_ends_an_idle_daemon_well(root: Root) -> None:
    life = root.start()
    life.signal(signal.SIGINT)
    assert life.exit() == 0
    assert root.status()["state"] == "stopped"


def test_a_small_file_of_one_job_is_not_stuck_behind_a_huge_one_of_another(root: Root) -> None:
    huge = LONG + LONG.partition(b"\n")[2] * 20
    root.configure(
        job("huge", training=rounds(8)), job("small"), service={"workers": 1, "chunk_bytes": 20000}
    )
    root.drop("huge.csv", huge, "huge")
    life = root.start()
    life.see("progress", job="huge")
    for number in range(3):
        root.drop(f"{number}.csv", sample_tables.csv(sample_tables.rows(30, number)), "small")
        life.done("small", number + 1)

    def share() -> float:  # the status is written now and then
        file = root.status()["jobs"]["huge"]["file"]
        return 0.0 if file is None else file["share"]

    assert eventually(share, "progress in the status", life) < 1
    assert not root.accepted("huge"), "it was to be huge"
    life.stop()


def test_a_model_that_was_changed_stops_the_start_with_a_clear_line(root: Root) -> None:
    root.drop("0.csv", SMALL)
    root.once()
    path = root.current().resolve()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    life = root.once(expected=1)
    assert "sha256" in life.said
    assert "Traceback" not in life.said


def test_a_result_log_that_was_shortened_stops_the_start_with_a_clear_line(root: Root) -> None:
    root.drop("0.csv", SMALL)
    root.once()
    log = root.folder("logs") / "samples.jsonl"
    os.truncate(log, log.stat().st_size - 1)
    life = root.once(expected=1)
    assert "samples.jsonl" in life.said
    assert "Traceback" not in life.said


def test_a_result_log_that_was_taken_away_begins_anew(root: Root) -> None:
    root.drop("0.csv", SMALL)
    root.once()
    log = root.folder("logs") / "samples.jsonl"
    log.rename(root.home / "taken.jsonl")
    root.drop("1.csv", sample_tables.csv(sample_tables.rows(30, 3)))
    root.once()
    assert {record["file"] for record in map(json.loads, log.read_text().splitlines())} == {"1.csv"}
    assert len(root.accepted()) == 2


def test_the_event_loop_never_pauses_long_while_it_trains(root: Root) -> None:
    root.configure(job(training=rounds(64)))
    root.drop("0.csv", LONG)
    life = root.start()
    life.done()
    life.stop()
    assert (
        root.status()["loop_longest_pause_seconds"] < 1.0
    )  # a guard against computing on it, no measurement
