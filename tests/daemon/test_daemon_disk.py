"""A disk in trouble: it fills up, and files change under the daemon's hands."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import sample_tables
from daemon_root import PATIENCE_SECONDS, Outcome, Root, eventually, job, root_in, rounds

from tests.harness import shim
from tests.harness.shim import Action, Kind, Plan

JOB = job(training=rounds(16))
LONG = sample_tables.csv(sample_tables.rows(4000, 1))
LONGER = sample_tables.csv(sample_tables.rows(15_000, 1))
OTHER = sample_tables.csv(sample_tables.rows(30, 4))
MORE = sample_tables.csv(sample_tables.rows(50, 2)).partition(b"\n")[2]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    with root_in(tmp_path_factory.mktemp("undisturbed")) as root:
        root.configure(JOB)
        root.drop("0.csv", LONG)
        root.once()
        return root.outcome()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Root]:
    """A root on a disk of its own, of 8 MiB and 600 files."""
    with root_in(tmp_path) as root:
        root.path.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=8m,nr_inodes=600", "tmpfs", root.path],
            capture_output=True,
            check=False,
        )
        if mounted.returncode:
            pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
        root.staging = root.path / "staging"
        root.staging.mkdir()
        try:
            yield root
        finally:
            root.close()
            subprocess.run(["umount", root.path], check=True)


def _fill(folder: Path) -> Path:
    """Leaves no byte free."""
    filler = folder / "filler"
    for size in (1 << 16, 4096, 1):
        with filler.open("ab", buffering=0) as file, suppress(OSError):  # no space left
            while file.write(b"\0" * size):
                pass
    disk = os.statvfs(folder)
    assert disk.f_bavail == 0
    return filler


def _asked(root: Root) -> dict[str, Any]:
    """What the daemon says of the job: a full disk keeps status.json as it was."""
    said = root.ask("status", "--root", str(root.path), "--json")
    found: dict[str, Any] = json.loads(said.stdout)["jobs"]["j"]
    return found


@pytest.mark.parametrize("when", ["before", "inside"])
def test_a_full_disk_pauses_the_work_until_there_is_room(
    small: Root, undisturbed: Outcome, when: str
) -> None:
    small.configure(JOB)
    life = small.start()
    if when == "before":
        small.drop(
            "0.csv", LONG, into="predict"
        )  # the daemon won't look at it before there is a model
        filler = _fill(small.path)
        os.rename(small.folder("predict") / "0.csv", small.folder("inbox") / "0.csv")
    else:
        small.drop("0.csv", LONG)
        life.see("progress")
        filler = _fill(small.path)
    eventually(lambda: "paused" in life.said, "a pause", life)
    paused = _asked(small)
    assert paused["state"] == "paused"
    assert paused["reason"].endswith(
        "; free some space, or raise the limit that was met (quota, ulimit -f)"
    )
    assert not small.accepted()
    filler.unlink()
    life.done()
    eventually(lambda: _asked(small)["state"] == "waiting", "rest", life)
    assert _asked(small)["reason"] is None
    life.stop()
    assert small.outcome() == undisturbed
    assert small.names("failed") == []


def test_what_waits_is_counted_also_while_a_full_disk_admits_nobody(small: Root) -> None:
    small.configure(JOB)
    names = [f"{number}.csv" for number in range(5)]
    for name in names:
        (small.staging / name).write_bytes(OTHER)
    life = small.start()
    filler = _fill(small.path)
    for there, name in enumerate(names, 1):
        os.rename(small.staging / name, small.folder("inbox") / name)
        eventually(
            lambda there=there: _asked(small)["waiting"] == there, f"{there} that wait", life
        )
    assert _asked(small)["state"] == "paused"
    filler.unlink()
    life.done(files=1)
    eventually(lambda: _asked(small)["waiting"] == 0, "nobody that waits", life)
    life.stop()
    assert small.names("done") == names


class Manager:
    """A service manager that wants to hear from the daemon ten times a second, and restarts whom it doesn't hear."""

    def __init__(self, root: Root) -> None:
        path = str(root.home / "notify")
        root.environment |= {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "200000"}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(path)
        self._socket.settimeout(PATIENCE_SECONDS)

    def hears(self, seconds: float) -> None:
        """Waits for as many signs of life as come in so many seconds, from now on."""
        self._socket.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                self._socket.recv(100)  # what is older
        self._socket.settimeout(PATIENCE_SECONDS)
        signs = 0
        while signs < seconds * 10:
            signs += self._socket.recv(100) == b"WATCHDOG=1"

    def close(self) -> None:
        self._socket.close()


IMPATIENT = {"deadline_seconds": 2.0, "chunk_bytes": 8000}
"""A daemon that got nowhere for two seconds is stuck, unless it is the disk that it waits for."""


def test_the_watchdog_lets_a_daemon_live_that_waits_for_room(small: Root) -> None:
    small.configure(JOB, service=IMPATIENT)
    with closing(Manager(small)) as manager:
        life = small.start()
        small.drop("0.csv", LONG)
        life.see("progress")
        filler = _fill(small.path)
        eventually(lambda: _asked(small)["state"] == "paused", "a pause", life)
        manager.hears(2 * IMPATIENT["deadline_seconds"])
        filler.unlink()
        life.done()
        life.stop()


@pytest.mark.skipif(not shim.library(), reason="no C compiler for the shim before the disk")
def test_a_disk_that_hangs_holds_up_neither_the_loop_nor_the_watchdog(
    root: Root, undisturbed: Outcome
) -> None:
    root.configure(JOB, service=IMPATIENT)
    root.environment |= shim.environment(
        root.path, Plan(Action.HANG, 1, 10**6, kinds=Kind.SYNC, part="/state/private/")
    )
    gate = root.path.with_name("root.hang")
    gate.touch()
    with closing(Manager(root)) as manager:
        life = root.start()
        root.drop("0.csv", LONG)
        eventually(lambda: _asked(root)["state"] == "training", "work", life)
        manager.hears(2 * IMPATIENT["deadline_seconds"])
        assert not root.accepted()
        assert _asked(root)["file"]["name"] == "0.csv"
        gate.unlink()
        life.done()
        life.stop()
    assert root.outcome() == undisturbed


def test_a_daemon_stops_well_on_a_full_disk_and_resumes_when_there_is_room(
    small: Root, undisturbed: Outcome
) -> None:
    small.configure(JOB)
    life = small.start()
    small.drop("0.csv", LONG)
    life.see("progress")
    filler = _fill(small.path)
    eventually(lambda: "paused" in life.said, "a pause", life)
    life.stop()
    filler.unlink()
    small.once()
    assert small.outcome() == undisturbed


@pytest.mark.parametrize("command", ["retract", "verify"])
def test_on_a_full_disk_a_command_says_so_and_changes_nothing(small: Root, command: str) -> None:
    small.configure(JOB)
    small.drop("0.csv", OTHER)
    life = small.start()
    life.done()
    before = small.outcome()
    staged = small.staging / "1.csv"
    staged.write_bytes(LONG)
    filler = _fill(small.path)
    os.rename(staged, small.folder("inbox") / "1.csv")
    eventually(lambda: _asked(small)["state"] == "paused", "a pause", life)
    files = ["0.csv"] if command == "retract" else []
    said = small.ask(command, "--root", str(small.path), "--job", "j", *files)
    (line,) = said.stderr.splitlines()
    assert (said.returncode, said.stdout) == (1, "")
    assert line.startswith("headrace: ")
    assert line.endswith("(quota, ulimit -f), then ask again")
    assert small.outcome() == before
    filler.unlink()
    life.done(files=2)
    life.stop()
    assert [file["name"] for file in small.files(state="accepted")] == [b"0.csv", b"1.csv"]


def test_an_order_whose_client_has_gone_before_it_began_is_not_carried_out(root: Root) -> None:
    root.configure(JOB)
    root.drop("0.csv", OTHER)
    life = root.start()
    life.done()
    root.drop("1.csv", LONG)
    life.see("progress", file="1.csv")
    workers = life.workers()
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)  # the line can't leave its round, so no order begins
    order = {"command": "retract", "job": "j", "files": [["0.csv", "/0.csv"]]}
    with socket.socket(socket.AF_UNIX) as client:
        state = os.open(root.path / "state", os.O_RDONLY)
        client.connect(f"/proc/self/fd/{state}/socket")
        os.close(state)
        client.sendall(json.dumps(order).encode() + b"\n")
        assert _asked(root)["state"] == "training"
    for _ in range(3):
        assert _asked(root)["state"] == "training"
    for pid in workers:
        os.kill(pid, signal.SIGCONT)
    life.done(files=2)
    life.stop()
    assert root.events("retracted") == []
    assert [file["name"] for file in root.files(state="accepted")] == [b"0.csv", b"1.csv"]


def test_a_file_that_changes_while_it_is_learnt_goes_back_and_is_learnt_as_it_is_then(
    root: Root,
) -> None:
    root.configure(JOB, service={"chunk_bytes": 8000})
    root.drop("0.csv", LONG)
    life = root.start()
    life.see("progress")
    (work,) = root.folder("work").iterdir()
    with work.open("ab") as file:
        file.write(MORE)
    life.done()
    life.stop()
    (record,) = root.accepted()
    assert (record["rows"], record["bytes"]) == (4050, len(LONG + MORE))
    assert [sample["row"] for sample in root.samples()] == list(range(4050))
    assert root.names("done") == ["0.csv"]
    assert root.leftovers() == []


@pytest.mark.parametrize("how", ["appended to", "overwritten in secret"])
def test_a_file_that_changes_after_it_was_read_goes_back_and_is_learnt_as_it_is_then(
    root: Root, how: str
) -> None:
    root.configure(JOB)
    root.drop("0.csv", LONGER)
    root.drop("1.csv", OTHER)
    life = root.start()
    eventually(
        lambda: [told for told in life.events("progress", file="0.csv") if told["share"] > 0.99],
        "the last chunk, which has half of the rows: the file has been read to its end",
        life,
    )
    work = root.folder("work") / f"{1:010}"
    if how == "appended to":
        _append(work)
    else:  # with its old size and mtime
        _overwrite(work, LONGER)
    now = work.read_bytes()
    life.see("changed after it was read: back to the inbox", file="0.csv")
    life.done(files=2)
    life.stop()
    records = {record["file"]: record for record in root.accepted()}
    assert records["0.csv"]["sha256"] == hashlib.sha256(now).hexdigest()
    assert (root.folder("done") / "0.csv").read_bytes() == now
    assert [record["sequence"] for record in root.accepted()] == [1, 2]
    assert len(root.samples()) == now.count(b"\n") - 1 + OTHER.count(b"\n") - 1
    assert root.leftovers() == []


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(MORE)


def _overwrite(path: Path, content: bytes) -> None:
    seen = path.stat()
    with path.open("r+b") as file:
        file.write(content[:-2].replace(b"1\n", b"0\n", 1))
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert path.stat().st_size == seen.st_size


def test_a_file_that_is_taken_away_while_it_is_learnt_leaves_no_trace(root: Root) -> None:
    root.configure(JOB, service={"chunk_bytes": 8000})
    root.drop("0.csv", LONG)
    life = root.start()
    life.see("progress")
    (work,) = root.folder("work").iterdir()
    work.unlink()
    life.see("vanished while it was read: nothing was learnt from it")
    root.drop("1.csv", sample_tables.csv(sample_tables.rows(20, 3)))
    life.done()
    life.stop()
    assert {sample["file"] for sample in root.samples()} == {"1.csv"}
    assert root.accepted()[0]["sequence"] == 1
    assert root.leftovers() == []


def test_without_inodes_the_work_pauses_until_there_are_some(
    small: Root, undisturbed: Outcome
) -> None:
    small.configure(JOB)
    life = small.start()
    small.drop("0.csv", LONG)
    life.see("progress")
    made: list[Path] = []

    def starves() -> bool:
        """A commit that was stopped in its middle may give back one, which would do for all others."""
        life.signal(signal.SIGSTOP)
        made.extend(_without_inodes(small.staging, len(made)))
        life.signal(signal.SIGCONT)
        return "paused" in life.said

    eventually(starves, "a pause", life)
    assert _asked(small)["reason"].endswith(
        "; free some space, or raise the limit that was met (quota, ulimit -f)"
    )
    for path in made:
        path.unlink()
    life.done()
    life.stop()
    assert small.outcome() == undisturbed


def _without_inodes(folder: Path, first: int) -> list[Path]:
    """Makes empty files, numbered from `first` on, until no more can be made."""
    names = [folder / str(number) for number in range(first, first + 100_000)]
    for count, path in enumerate(names):
        try:
            path.touch()
        except OSError:
            return names[:count]
    raise AssertionError("the disk has a bound on its files")


def test_a_root_that_can_not_be_written_is_refused_by_name_and_left_as_it_is(
    small: Root, undisturbed: Outcome
) -> None:
    small.configure(JOB)
    small.drop("0.csv", LONG)
    small.start().stop()
    before = sorted(small.path.rglob("*"))
    subprocess.run(["mount", "-o", "remount,ro", small.path], check=True)
    try:
        life = small.start("--once", ready=False)
        assert life.exit() == 1
        assert "Read-only file system" in life.said
        assert str(small.path) in life.said
        assert "Traceback" not in life.said
    finally:
        subprocess.run(["mount", "-o", "remount,rw", small.path], check=True)
    assert sorted(small.path.rglob("*")) == before
    small.once()
    assert small.outcome() == undisturbed


@pytest.mark.skipif(not shim.library(), reason="no C compiler for the shim before the disk")
def test_a_disk_that_turns_read_only_ends_the_daemon_and_costs_no_bit(
    root: Root, undisturbed: Outcome
) -> None:
    """As a kernel does after an error of the disk: from some call on, for good."""
    root.configure(JOB)
    root.drop("0.csv", LONG)
    plan = Plan(Action.FAIL, 60, 10**6, errno.EROFS)
    root.environment |= shim.environment(root.path, plan)
    life = root.start("--once", ready=False)
    assert life.exit() == 1
    assert "Read-only file system" in life.said
    assert not root.accepted()
    root.environment.pop("HEADRACE_SHIM")
    root.once()
    assert root.outcome() == undisturbed
    assert root.names("failed") == []
