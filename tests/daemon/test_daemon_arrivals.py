"""How files arrive, and that each row of each of them reaches the model and the logs once."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator

import pytest
import sample_tables
from daemon_root import QUICK, Life, Root, eventually, job

SETTLE_SECONDS = QUICK["intake"]["settle_seconds"]
TABLE = sample_tables.rows(50, seed=1)
DATA = sample_tables.csv(TABLE)


def _other(seed: int, count: int = 20) -> bytes:
    return sample_tables.csv(sample_tables.rows(count, seed))


@pytest.fixture(scope="module")
def life(shared: Root) -> Iterator[Life]:
    shared.configure(job(), job("second"), job("third"))
    life = shared.start()
    yield life
    life.stop()


def test_a_file_renamed_in_is_learnt_once_and_moved_to_done(root: Root) -> None:
    life = root.start()
    root.drop("0.csv", DATA)
    life.done()
    life.stop()
    (record,) = root.accepted()
    assert (record["job"], record["file"], record["sequence"], record["rows"]) == (
        "j",
        "0.csv",
        1,
        50,
    )
    assert (record["bytes"], record["sha256"]) == (len(DATA), hashlib.sha256(DATA).hexdigest())
    assert [(s["file"], s["row"]) for s in root.samples()] == [("0.csv", row) for row in range(50)]
    assert [s["label"] for s in root.samples()] == [row[-1] for row in TABLE]
    assert (root.folder("done") / "0.csv").read_bytes() == DATA
    assert root.leftovers() == []


def test_a_copy_in_place_is_not_taken_while_its_writer_holds_it(shared: Root, life: Life) -> None:
    data = _other(11)
    before = len(shared.accepted())
    with (shared.folder("inbox") / "slow.csv").open("wb") as file:
        file.write(data[:100])
        file.flush()
        shared.drop("quick.csv", _other(12))
        life.done("j", before + 1)
        settled = os.stat(file.name).st_mtime + 3 * SETTLE_SECONDS
        eventually(lambda: shared.status()["time"] > settled, "several listings", life)
        assert "slow.csv" in shared.names("inbox")
        file.write(data[100:])
    life.done("j", before + 2)
    assert shared.accepted()[-1]["sha256"] == hashlib.sha256(data).hexdigest()
    assert shared.accepted()[-1]["rows"] == 20


def test_a_slow_cp_is_taken_whole(shared: Root, life: Life) -> None:
    data = _other(13)
    before = len(shared.accepted())
    target = shared.folder("inbox") / "copied.csv"
    copy = subprocess.Popen(["cp", "/dev/stdin", target], stdin=subprocess.PIPE)
    assert copy.stdin is not None
    for start in range(0, len(data), 150):
        copy.stdin.write(data[start : start + 150])
        copy.stdin.flush()
        beat = shared.status()["time"]
        eventually(lambda beat=beat: shared.status()["time"] > beat, "a beat of the daemon", life)  # type: ignore[misc]
    copy.stdin.close()
    assert copy.wait() == 0
    life.done("j", before + 1)
    assert shared.accepted()[-1]["sha256"] == hashlib.sha256(data).hexdigest()


def test_a_file_is_taken_when_rsync_renames_its_dot_file(shared: Root, life: Life) -> None:
    data = _other(14)
    before = len(shared.accepted())
    inbox = shared.folder("inbox")
    for name in (".r.csv.Xy12ab", "r.csv.part", "r.csv.tmp", "r.csv~"):
        (inbox / name).write_bytes(data)
    shared.drop("beside.csv", _other(15))
    life.done("j", before + 1)
    os.rename(inbox / ".r.csv.Xy12ab", inbox / "r.csv")
    life.done("j", before + 2)
    assert shared.accepted()[-1]["file"] == "r.csv"
    assert shared.names("inbox") == ["r.csv.part", "r.csv.tmp", "r.csv~"]
    for name in shared.names("inbox"):
        (inbox / name).unlink()


def test_the_same_content_under_another_name_is_not_learnt_again(shared: Root, life: Life) -> None:
    data = _other(16)
    shared.drop("d0.csv", data)
    _settled(shared, life, "d0.csv")
    before = shared.outcome()
    shared.drop("d1.csv", data)
    _settled(shared, life, "d1.csv")
    assert shared.outcome() == before
    assert life.see("duplicate", file="d1.csv")


def test_other_content_under_the_same_name_is_learnt_and_told_apart(
    shared: Root, life: Life
) -> None:
    before = len(shared.accepted())
    shared.drop("same.csv", _other(17))
    life.done("j", before + 1)
    shared.drop("same.csv", _other(18))
    life.done("j", before + 2)
    assert (shared.folder("done") / "same.csv").read_bytes() == _other(17)
    assert (shared.folder("done") / "same~2.csv").read_bytes() == _other(18)


def test_several_jobs_learn_at_once(shared: Root, life: Life) -> None:
    for name in ("second", "third"):
        for number in range(3):
            shared.drop(f"{number}.csv", _other(20 + number), name)
    for name in ("second", "third"):
        life.done(name, 3)
        assert [record["sequence"] for record in shared.accepted(name)] == [1, 2, 3]
    assert shared.tensors("second") == shared.tensors("third")


NAMES = (
    b"two words.csv",
    b"tab\there.csv",
    b"line\nbreak.csv",
    b"quo\"te'.csv",
    "größe-数.csv".encode(),
    b"odd\xff.csv",
    b"-rf.csv",
)


def test_odd_names_are_learnt_under_them_and_shown_escaped(shared: Root, life: Life) -> None:
    before = len(shared.accepted())
    for number, name in enumerate(NAMES):
        shared.drop(name, _other(30 + number))
    life.done("j", before + len(NAMES))
    assert set(NAMES) <= set(os.listdir(os.fsencode(shared.folder("done"))))
    shown = [record["file"] for record in shared.accepted()[before:]]
    assert len(set(shown)) == len(NAMES)
    assert all(name.isprintable() for name in shown)
    assert {"tab\\there.csv", "line\\nbreak.csv", "größe-数.csv", "odd\\xff.csv"} <= set(shown)


def test_an_inbox_that_was_deleted_and_made_again_is_watched_again(
    shared: Root, life: Life
) -> None:
    inbox = shared.folder("inbox", "third")
    inbox.rmdir()
    life.see("directory is gone", job="third")

    def reason() -> str | None:
        told: str | None = life.status()["jobs"]["third"]["reason"]
        return told

    gone = f"{inbox}: this directory is gone, no file can come; make it again (mkdir {inbox})"
    eventually(lambda: reason() == gone, "a status that says so", life)
    inbox.mkdir()
    life.see("directory was made again", job="third")
    eventually(lambda: reason() is None, "a status without trouble", life)
    before = len(shared.accepted("third"))
    shared.drop("again.csv", _other(40), "third")
    life.done("third", before + 1)


def test_a_file_system_mounted_over_an_inbox_is_waited_out(shared: Root, life: Life) -> None:
    inbox = shared.folder("inbox", "third")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "tmpfs", inbox], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        (inbox / "elsewhere.csv").write_bytes(_other(41))
        event = life.see("directory lies on another file system", job="third")
        assert event["remedy"] == "unmount it"
    finally:
        subprocess.run(["umount", inbox], check=True)
    before = len(shared.accepted("third"))
    shared.drop("beneath.csv", _other(42), "third")
    life.done("third", before + 1)
    assert "elsewhere.csv" not in shared.names("done", "third")


def test_once_takes_what_lies_there_in_the_order_of_names(root: Root) -> None:
    for number in (10, 9, 1):
        root.drop(f"{number:02}.csv", _other(number))
    root.once()
    assert [record["file"] for record in root.accepted()] == ["01.csv", "09.csv", "10.csv"]
    before = root.outcome()
    root.once()
    assert root.outcome() == before


def test_once_waits_for_a_file_that_is_still_being_written(root: Root) -> None:
    with (root.folder("inbox") / "slow.csv").open("wb") as file:
        file.write(DATA[:50])
        file.flush()
        life = root.start("--once")
        eventually(lambda: root.status()["state"] == "running", "a run", life)
        file.write(DATA[50:])
    assert life.exit() == 0
    assert root.accepted()[0]["rows"] == 50


def test_files_named_the_same_are_duplicates_where_names_tell_them_apart(root: Root) -> None:
    root.configure(intake={"identity": "name", "after": "delete"})
    root.drop("0.csv", DATA)
    root.once()
    root.drop("0.csv", _other(2))
    root.drop("1.csv", DATA)
    root.once()
    assert [record["file"] for record in root.accepted()] == ["0.csv", "1.csv"]
    assert root.names("done") == []
    assert root.leftovers() == []


def test_a_hundred_small_files_are_each_learnt_once(root: Root) -> None:
    for number in range(100):
        root.drop(f"{number:03}.csv", _other(100 + number, 2))
    root.once()
    assert [record["file"] for record in root.accepted()] == [f"{n:03}.csv" for n in range(100)]
    assert len(root.samples()) == 200
    lifetime = root.accepted()[-1]["lifetime"]
    assert lifetime["rows"] == 200


def test_the_status_command_answers_with_the_daemon_up_and_down(root: Root) -> None:
    life = root.start()
    root.drop("0.csv", DATA)
    life.done()
    eventually(lambda: root.status()["jobs"]["j"]["done"] == 1, "a status that says so", life)
    up = json.loads(root.ask("status", "--root", str(root.path), "--json").stdout)
    life.stop()
    down = json.loads(root.ask("status", "--root", str(root.path), "--json").stdout)
    assert (up["running"], up["state"]) == (True, "running")
    assert (down["running"], down["state"]) == (False, "stopped")
    for status in (up, down):
        assert status["jobs"]["j"]["model"]["sha256"] == root.model_sha256()


def _settled(root: Root, life: Life, name: str) -> None:
    eventually(
        lambda: name in root.names("done") and not root.names("work"), f"{name} in done/", life
    )


def test_status_counts_all_that_wait_in_the_inbox_or_taken_also_while_the_line_is_full(
    root: Root,
) -> None:
    life = root.start()
    workers = life.workers()
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)

    def waiting() -> int:
        count: int = life.status()["jobs"]["j"]["waiting"]
        return count

    for number in range(150):
        root.drop(f"{number:03}.csv", _other(100 + number, 1))
    eventually(lambda: len(root.names("work")) >= 32, "a full channel", life)
    eventually(lambda: waiting() == 150, "all that wait, once", life)
    (root.folder("inbox") / "folder").mkdir()
    for number in range(150, 160):
        root.drop(f"{number:03}.csv", _other(100 + number, 1))
    eventually(lambda: waiting() == 160, "those that came since", life)
    for pid in workers:
        os.kill(pid, signal.SIGCONT)
    life.done(files=160)
    eventually(lambda: waiting() == 0, "nobody that waits", life)
    life.stop()
