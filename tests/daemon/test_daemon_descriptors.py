"""Descriptors run out: the daemon pauses, says why, and goes on by itself to the same bytes."""

from __future__ import annotations

import gzip
import os
import resource
import signal
from contextlib import suppress
from pathlib import Path

import pytest
import sample_tables
from daemon_root import Life, Outcome, Root, eventually, job, none_left, root_in, rounds

JOB = job(training=rounds(16))
FILES = {f"{n}.csv": sample_tables.csv(sample_tables.rows(1500, n)) for n in range(3)}
REMEDY = "raise the limit of open files"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    with root_in(tmp_path_factory.mktemp("undisturbed")) as root:
        root.configure(JOB)
        for name, data in FILES.items():
            root.drop(name, data)
        root.once()
        return root.outcome()


@pytest.mark.parametrize("when", ["before", "inside"])
def test_without_descriptors_the_job_pauses_until_there_are_some(
    root: Root, undisturbed: Outcome, when: str
) -> None:
    root.configure(JOB)
    life = root.start()
    first, *others = FILES
    if when == "inside":
        root.drop(first, FILES[first])
        life.see("progress")
    with none_left(life):
        if when == "before":
            root.drop(first, FILES[first])
        for name in others:
            root.drop(name, FILES[name])
        eventually(lambda: "paused: no more files can be opened" in life.said, "a pause", life)
        assert REMEDY in life.said
    life.done(files=len(FILES))
    life.stop()
    assert root.outcome() == undisturbed
    assert root.names("failed") == []
    assert root.events("failed") == []


def test_a_daemon_without_descriptors_stops_well_when_it_is_asked_to(
    root: Root, undisturbed: Outcome
) -> None:
    root.configure(JOB)
    life = root.start()
    with none_left(life):
        for name, data in FILES.items():
            root.drop(name, data)
        eventually(lambda: "paused" in life.said, "a pause", life)
        life.stop()
    root.once()
    assert root.outcome() == undisturbed


@pytest.mark.parametrize("limit", [0, 5])
def test_a_daemon_whose_limit_is_below_what_it_holds_stops_well(root: Root, limit: int) -> None:
    root.configure(JOB)
    life = root.start()
    _, hard = resource.prlimit(life.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(life.process.pid, resource.RLIMIT_NOFILE, (limit, hard))
    life.stop()
    assert "Traceback" not in life.said
    assert life.said.endswith("stopped\n"), life.said


def test_a_worker_that_dies_while_there_are_no_descriptors_is_replaced_when_there_are(
    root: Root, undisturbed: Outcome
) -> None:
    root.configure(JOB)
    life = root.start()
    with none_left(life, -16):  # what the dead ones had is not to be had, either
        for pid in life.workers():
            os.kill(pid, signal.SIGKILL)
        for name, data in FILES.items():
            root.drop(name, data)
        eventually(lambda: "paused" in life.said, "a pause", life)
    life.done(files=len(FILES))
    life.stop()
    assert root.outcome() == undisturbed


@pytest.mark.parametrize("spare", [1, 2, 3, 4])
def test_a_few_descriptors_are_too_few_or_enough_but_never_change_a_bit(
    root: Root, undisturbed: Outcome, spare: int
) -> None:
    """Each number has another step be the first that finds none."""
    root.configure(JOB)
    life = root.start()
    first, *others = FILES
    with none_left(life, spare):
        root.drop(first, FILES[first])
        eventually(lambda: "paused" in life.said or root.accepted(), "a pause, or a file", life)
    for name in others:
        root.drop(name, FILES[name])
    life.done(files=len(FILES))
    life.stop()
    assert root.outcome() == undisturbed
    assert root.names("failed") == []
    assert root.events("failed") == []


def test_a_start_raises_the_soft_limit_to_the_hard_one(root: Root) -> None:
    root.configure(JOB)
    _limit(root, "ulimit -n 4096; ulimit -Sn 24")
    life = root.start()
    assert resource.prlimit(life.process.pid, resource.RLIMIT_NOFILE) == (4096, 4096)
    life.stop()


def test_the_least_limit_that_a_start_asks_for_is_enough(root: Root, undisturbed: Outcome) -> None:
    root.configure(JOB)
    for name, data in FILES.items():
        root.drop(name, data)
    _limit(root, "ulimit -n 34")
    root.once()
    assert root.outcome() == undisturbed


@pytest.mark.parametrize("limit", [12, 24])
def test_a_limit_with_which_no_start_is_possible_is_told_in_one_line(
    root: Root, limit: int
) -> None:
    root.configure(JOB)
    _limit(root, f"ulimit -n {limit}")
    life = root.once(expected=1)
    (line,) = life.said.splitlines()
    assert line == (
        f"headrace: open files: their limit must be at least 34 for 2 workers and 1 job, got {limit};"
        " raise it (ulimit -n, LimitNOFILE=), or have fewer"
    )


def _limit(root: Root, limits: str) -> None:
    """The shell's words for the limits that the root's daemons are born with."""
    root.starter = ["sh", "-c", f'{limits}; exec "$@"', "sh"]


def test_a_file_is_closed_when_its_fate_is_known(root: Root) -> None:
    """Not when Python collects the traces of its refusal: what was unpacked from it has its room on the disk until then."""
    root.configure(job(training=rounds(2)), service={"chunk_bytes": 256})
    life = root.start()
    good = sample_tables.csv(sample_tables.rows(60, 1))
    for number in range(20):
        bad = good.replace(b"\n", b"\nx,1,1,1\n", 1 + number % 2)
        root.drop(f"{number:02}.csv.gz", gzip.compress(bad + b"%d,1,1,1\n" % number))
    eventually(
        lambda: len(root.names("failed")) == 40 and not root.leftovers(), "the refusals", life
    )
    assert [path for path in _opened(life) if "/work/" in path or "/failed/" in path] == []
    life.stop()


def _opened(life: Life) -> list[str]:
    found = []
    for descriptor in Path(f"/proc/{life.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.append(os.readlink(descriptor))
    return found
