"""Lives that end badly, each in a way of its own: nothing is lost, done twice or different.

Deaths at random are the harness's (tests/harness). The oracle is always the same: the bits of an undisturbed run, each
line once, and every file in one place.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path

import pytest
import sample_tables
from daemon_root import Life, Outcome, Root, eventually, job, root_in, rounds

from service.storage.database import Database

HERE = Path(__file__).parent

JOBS = (
    job("plain", training=rounds(16)),
    job("lanes", model={"kernel": "mlp", "hidden": [6], "classes": 2}, training=rounds(8, 3, 2)),
)
FILES: Mapping[str, bytes] = {
    "0-long.csv": sample_tables.csv(sample_tables.rows(6000, 1)),
    "1-short.csv": sample_tables.csv(sample_tables.rows(90, 2)),
    "2-bad.csv": b"a,b,c,y\n1,2,3,0\n1,2,three,0\n",
    "3-long.csv": sample_tables.csv(sample_tables.rows(3000, 3)),
}
GOOD = sum(not name.endswith("bad.csv") for name in FILES)


def _configure(root: Root) -> None:
    root.configure(*JOBS, service={"chunk_bytes": 8000}, logs={"every_rows": 250})


def _drop_all(root: Root) -> None:
    for one in JOBS:
        for name, data in FILES.items():
            root.drop(name, data, one["name"])


def _outcomes(root: Root) -> dict[str, Outcome]:
    return {one["name"]: root.outcome(one["name"]) for one in JOBS}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    with root_in(tmp_path_factory.mktemp("undisturbed")) as root:
        _configure(root)
        _drop_all(root)
        root.once()
        return _outcomes(root)


def _assert_as_if_nothing_had_happened(root: Root, undisturbed: dict[str, Outcome]) -> None:
    assert _outcomes(root) == undisturbed
    assert root.leftovers() == []
    for one in JOBS:
        assert root.names("done", one["name"]) == [name for name in FILES if "bad" not in name]
        assert root.names("failed", one["name"]) == ["2-bad.csv", "2-bad.csv.error.json"]


def test_a_daemon_killed_after_its_first_commits_resumes_inside_the_file(
    root: Root, undisturbed: dict[str, Outcome]
) -> None:
    _configure(root)
    _drop_all(root)
    life = root.start()
    life.see("progress", job="plain")
    life.kill()
    assert root.once().events("started", job="plain", file="0-long.csv")[0]["resumed_at_row"] > 0
    _assert_as_if_nothing_had_happened(root, undisturbed)


def test_a_stopped_worker_is_killed_at_its_deadline_and_its_sub_task_runs_again(
    root: Root, undisturbed: dict[str, Outcome]
) -> None:
    root.configure(
        *JOBS, service={"chunk_bytes": 8000, "deadline_seconds": 3.0}, logs={"every_rows": 250}
    )
    _drop_all(root)
    life = root.start()
    life.see("progress", job="plain")
    os.kill(life.workers()[0], signal.SIGSTOP)
    for one in JOBS:
        life.done(one["name"], GOOD)
    life.stop()
    _assert_as_if_nothing_had_happened(root, undisturbed)


def _stopped_inside_a_file(root: Root) -> Life:
    _configure(root)
    _drop_all(root)
    life = root.start()
    life.see("progress", job="plain")
    life.signal(signal.SIGTERM)
    return life


def test_a_file_resumed_after_sigterm_gives_the_bits_of_one_learnt_in_one_go(
    root: Root, undisturbed: dict[str, Outcome]
) -> None:
    life = _stopped_inside_a_file(root)
    assert life.exit() == 0, life.said
    assert not root.accepted("plain"), "the file was to be interrupted"
    resumed = root.once().events("started", job="plain", file="0-long.csv")
    assert resumed[0]["resumed_at_row"] > 0
    _assert_as_if_nothing_had_happened(root, undisturbed)


def test_sigterm_keeps_what_was_learnt_of_a_file_without_a_commit_so_far(root: Root) -> None:
    slow = job(training=rounds(4))  # status.json is written twice a second: the file takes seconds
    long = sample_tables.csv(sample_tables.rows(5000, 1))
    with root_in(root.home / "calm") as calm:
        for one in (root, calm):
            one.configure(slow, commit={"interval_seconds": 3600.0})
            one.drop("0-long.csv", long)
        calm.once()
        life = root.start()

        def learnt_rows() -> int:
            file = life.status()["jobs"]["j"]["file"]
            return file["rows"] if file else 0

        seen = eventually(learnt_rows, "rows of the file", life)
        life.stop()
        resumed = root.once().events("started", file="0-long.csv")
        assert resumed[0]["resumed_at_row"] >= seen
        assert root.outcome() == calm.outcome()


def test_a_journal_that_somebody_looked_at_with_sqlite3_after_a_crash_is_accepted_when_asked(
    root: Root, undisturbed: dict[str, Outcome]
) -> None:
    _configure(root)
    _drop_all(root)
    life = root.start()
    life.see("accepted")
    life.kill()
    with closing(sqlite3.connect(root.path / "state" / "journal.sqlite")) as connection:
        connection.execute("SELECT count(*) FROM files").fetchall()
    assert "`headrace reseal` accepts it" in root.once(expected=1).said
    done = root.ask("reseal", "--root", str(root.path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "sealed as it is; it knows the jobs: lanes, plain" in done.stdout
    root.once()
    _assert_as_if_nothing_had_happened(root, undisturbed)


def test_a_journal_that_knows_nothing_of_the_models_is_not_accepted(root: Root) -> None:
    root.configure()
    root.drop("1-short.csv", FILES["1-short.csv"])
    root.once()
    (root.path / "state" / "journal.sqlite").write_bytes(b"")
    done = root.ask("reseal", "--root", str(root.path))
    assert done.returncode == 1
    assert "must know the job j" in done.stderr


def test_a_second_sigterm_ends_it_at_once_and_costs_no_bit(
    root: Root, undisturbed: dict[str, Outcome]
) -> None:
    life = _stopped_inside_a_file(root)
    life.signal(signal.SIGINT)
    assert life.exit() in (0, 1), life.said  # 0 where the first was already through
    root.once()
    _assert_as_if_nothing_had_happened(root, undisturbed)


NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


@pytest.mark.skipif(
    not shutil.which("unshare")
    or subprocess.run([*NAMESPACE, "true"], check=False, stderr=subprocess.DEVNULL).returncode != 0,
    reason="no process namespace may be made here",
)
def test_as_the_first_process_of_a_container_it_buries_its_workers_and_stops_well(
    root: Root,
) -> None:
    root.starter = NAMESPACE
    life = root.start()
    (daemon,) = life.children()
    assert life.events("ready")[0]["pid"] == 1
    tasks = Path(f"/proc/{daemon}/task")
    seen = eventually(lambda: _children(tasks), "workers", life)
    os.kill(int(seen[-1]), signal.SIGKILL)
    root.drop("1-short.csv", FILES["1-short.csv"])
    life.done()
    eventually(lambda: not Path(f"/proc/{seen[-1]}").exists(), "a burial", life)
    os.kill(daemon, signal.SIGTERM)
    assert life.exit() == 0, life.said


def _children(tasks: Path) -> list[str]:
    return [pid for path in sorted(tasks.glob("*/children")) for pid in path.read_text().split()]


def test_a_daemon_whose_native_code_fails_says_where_each_of_its_threads_was(root: Root) -> None:
    life = root.start()
    life.signal(signal.SIGSEGV)
    assert life.exit() == -signal.SIGSEGV
    assert "Segmentation fault" in life.said
    for place in ("engine.py", "keeper.py", "writer.py"):  # the loop, the pool, the journal
        assert place in life.said
    root.drop("a.csv", FILES["1-short.csv"])
    root.start().done()


def test_no_worker_outlives_a_killed_daemon(root: Root) -> None:
    life = root.start()
    eventually(lambda: len(life.workers()) == 2, "two workers", life)
    life.kill()  # waits for their end, too


DEADLY = {
    "model": {"kernel": "kernel_of_a_stranger:Deadly"},
    "scaling": {"standardise": False, "target": "none"},
}
POISON = {
    "1-learning.csv": sample_tables.csv([*sample_tables.rows(30, 1), (-2000.0, 50.0, 0.0, 1.0)]),
    "3-reporting.csv": sample_tables.csv([*sample_tables.rows(30, 3), (0.0, 50.0, 0.0, 7.0)]),
}


def test_a_file_that_kills_its_workers_is_refused_and_the_others_are_learnt(
    root: Root, tmp_path: Path
) -> None:
    good = {f"{n}.csv": sample_tables.csv(sample_tables.rows(30, 10 + n)) for n in (0, 2, 4)}
    root.configure(job(**DEADLY))
    for name, data in (good | POISON).items():
        root.drop(name, data)
    root.once(path=[HERE])
    assert root.names("done") == sorted(good)
    for name in POISON:
        assert "leaves its worker alive" in root.note(name)["rule"]
        assert "SIGABRT" in root.note(name)["value"]
    assert root.leftovers() == []
    with root_in(tmp_path / "calm") as calm:
        calm.configure(job(**DEADLY))
        for name, data in good.items():
            calm.drop(name, data)
        calm.once(path=[HERE])
        assert root.outcome() == calm.outcome()


SLOW = {"model": {"kernel": "kernel_of_a_stranger:Slow"}, "training": rounds(5, local_steps=10)}


def _resting(root: Root) -> Life:
    """A daemon of which five workers in a row were killed with one sub-task: eight seconds lie before the next try."""
    root.configure(job(**SLOW))
    life = root.start(path=[HERE])
    root.drop("1-short.csv", FILES["1-short.csv"])

    def kill_on() -> bool:
        status = life.status()
        for worker in status["workers"]:
            if worker["state"] == "busy":
                with suppress(ProcessLookupError):
                    os.kill(worker["pid"], signal.SIGKILL)
        return "5 workers in a row were killed" in status["trouble"]

    eventually(kill_on, "five deaths in a row", life)
    return life


def _assert_as_undisturbed(root: Root, place: Path) -> None:
    with root_in(place) as calm:
        calm.configure(job(**SLOW))
        calm.drop("1-short.csv", FILES["1-short.csv"])
        calm.once(path=[HERE])
        assert root.outcome() == calm.outcome()


def test_a_file_whose_worker_is_killed_five_times_in_a_row_from_outside_is_learnt_when_that_ends(
    root: Root, tmp_path: Path
) -> None:
    life = _resting(root)
    life.done()
    life.stop()
    assert life.status()["trouble"] == ""
    _assert_as_undisturbed(root, tmp_path / "calm")


def test_a_daemon_that_is_to_stop_waits_for_no_rest_and_refuses_nothing(
    root: Root, tmp_path: Path
) -> None:
    life = _resting(root)
    before = life.status()["subtasks"]
    life.stop()
    assert life.status()["subtasks"] == before
    assert (root.names("failed"), len(root.names("work"))) == ([], 1)
    root.once(path=[HERE])
    _assert_as_undisturbed(root, tmp_path / "calm")


def test_a_kernel_that_kills_its_workers_at_once_costs_its_own_job_only(root: Root) -> None:
    deadly = job("deadly", **DEADLY | {"model": DEADLY["model"] | {"at_once": True}})
    root.configure(deadly, job())
    for name in ("deadly", "j"):
        root.drop("0.csv", FILES["1-short.csv"], name)
    root.once(path=[HERE])
    assert "leaves its worker alive" in root.note("0.csv", "deadly")["rule"]
    assert root.names("done") == ["0.csv"]


REGICIDE = {
    "model": {"kernel": "kernel_of_a_stranger:Regicide"},
    "scaling": {"standardise": False, "target": "none"},
}
FATAL_ROW = (-2000.0, 50.0, 0.0, 1.0)


def test_a_file_that_kills_the_daemon_is_refused_in_the_end_and_the_others_are_learnt(
    root: Root, tmp_path: Path
) -> None:
    rows = sample_tables.rows(200, 1)
    fatal = [*rows[:150], FATAL_ROW, *rows[150:]]
    good = {f"{n}.csv": sample_tables.csv(sample_tables.rows(90, 10 + n)) for n in (0, 2)}
    beside = sample_tables.csv(sample_tables.rows(3000, 3))
    quiet = {"interval_seconds": 60}  # so that only suspicion commits within files
    root.configure(job(**REGICIDE), job("beside", training=rounds(8)), commit=quiet)
    for name, data in good.items():
        root.drop(name, data)
    root.drop("1.csv", sample_tables.csv(fatal))
    root.drop("a.csv", beside, "beside")
    lives = 0
    while not root.names("failed"):
        lives += 1
        assert lives < 40, "the file is never refused"
        life = root.start("--once", ready=False, path=[HERE])
        if life.exit() == 0:
            break
        if root.files(name=b"1.csv", deaths=4):
            _as_after_all_its_lives(root)
    assert root.names("failed") == ["1.csv", "1.csv.error.json"]
    note = root.note("1.csv")
    assert note["rule"] == "a file must not end the daemon"
    assert "10 lives" in note["value"]
    assert root.names("done") == sorted(good)
    assert root.names("done", "beside") == ["a.csv"]
    assert root.leftovers() == []
    with root_in(tmp_path / "calm") as calm:
        calm.configure(job(**REGICIDE), job("beside", training=rounds(8)))
        for name, data in good.items():
            calm.drop(name, data)
        calm.drop("a.csv", beside, "beside")
        calm.once(path=[HERE])
        assert root.outcome() == calm.outcome()
        assert root.outcome("beside") == calm.outcome("beside")


def _as_after_all_its_lives(root: Root) -> None:
    """The lives between would be like those before, but for vigils of a minute."""
    assert root.events("quarantined: lives of the daemon have ended with it", file="1.csv")
    with closing(Database(root.path / "state" / "journal.sqlite")) as journal:
        journal.execute("UPDATE files SET deaths = 10 WHERE name = ?", b"1.csv")


def test_stopping_in_good_order_is_no_death(root: Root) -> None:
    root.configure(
        job(model={"kernel": "kernel_of_a_stranger:Slow"}, training=rounds(2)),
        commit={"interval_seconds": 60},
    )
    root.drop("a.csv", sample_tables.csv(sample_tables.rows(100)))
    for _ in range(3):
        life = root.start(path=[HERE])
        life.see("started")
        life.stop()
    events = root.events("quarantined: lives of the daemon have ended with it")
    assert events == []


def test_a_daemon_that_is_still_starting_says_so_and_obeys(root: Root, tmp_path: Path) -> None:
    root.configure()
    root.environment["NUMBA_CACHE_DIR"] = str(tmp_path / "empty")  # so that all is compiled first
    life = root.start(ready=False)
    life.see("waiting for the first worker: after an installation it compiles the kernels")
    assert root.status()["state"] == "starting"
    assert root.ask("status", "--root", str(root.path)).stdout.startswith(f"{root.path}: starting")
    life.stop()
    assert life.events("ready") == []
    assert "Traceback" not in life.said
    assert "never retrieved" not in life.said
    assert root.status()["state"] == "stopped"
