"""`headrace verify`: says same where it is, and where it isn't, at which file and record they part."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sample_tables
from daemon_root import Root, job, root_in, rounds

from service.storage.database import Database

JOBS = (
    job("plain", training=rounds(16)),
    job("lanes", model={"kernel": "mlp", "hidden": [4], "classes": 2}, training=rounds(8, 3, 2)),
    job("idle"),
)
FILES = {
    "0.csv": sample_tables.csv(sample_tables.rows(900, 1)),
    "1.csv": sample_tables.csv(sample_tables.rows(120, 2)),
    "bad.csv": b"a,b,c,y\n1,2,3,0\n1,2,three,0\n",
    "2.csv": sample_tables.csv(sample_tables.rows(300, 3)),
}


def _configure(root: Root, **sections: Any) -> None:
    root.configure(*JOBS, service={"chunk_bytes": 8000}, logs={"every_rows": 100}, **sections)


def _verify(root: Root, *arguments: str) -> tuple[int, str]:
    scratch = root.home / "scratch"
    scratch.mkdir(exist_ok=True)
    done = root.ask("verify", "--root", str(root.path), "--scratch", str(scratch), *arguments)
    assert os.listdir(scratch) == []
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A root whose daemon was killed now and then; the last time with files still to come."""
    with root_in(tmp_path_factory.mktemp("killed")) as root:
        _configure(root)
        for name in ("plain", "lanes"):
            for file, data in FILES.items():
                root.drop(file, data, name)
        for _ in range(3):
            life = root.start()
            time.sleep(0.2)
            life.kill()
        root.once()
        yield root


@pytest.fixture
def copy(killed: Root, tmp_path: Path) -> Any:
    """The same root again, to be damaged."""
    with root_in(tmp_path / "copy") as root:
        shutil.copytree(killed.path, root.path, symlinks=True)
        shutil.copy(killed.config, root.config)
        yield root


def _sql(root: Root, text: str) -> None:
    with closing(Database(root.path / "state" / "journal.sqlite")) as journal:
        assert journal.execute(text) == 1


def test_after_kills_it_is_the_same(killed: Root) -> None:
    before = sorted(path.relative_to(killed.path) for path in killed.path.rglob("*"))
    status, said = _verify(killed)
    assert status == 0, said
    lines = said.splitlines()[:3]
    assert (
        lines[0] == "idle: nothing was learnt, so there is nothing to verify" or "idle" not in said
    )
    for name in ("plain", "lanes"):
        version = killed.header(name)["version"]
        sha256 = killed.model_sha256(name)
        assert f"{name}: same: 3 files, version {version}, model {sha256}\n" in said
    assert sorted(path.relative_to(killed.path) for path in killed.path.rglob("*")) == before


def test_it_does_not_need_the_logs_and_shows_a_running_daemon(copy: Root) -> None:
    for path in copy.folder("logs", "plain").iterdir():
        path.unlink()
    life = copy.start()
    copy.drop("3.csv", sample_tables.csv(sample_tables.rows(100, 9)), "lanes")
    status, said = _verify(copy, "--job", "plain")
    assert status == 0, said
    assert said.startswith("plain: same: 3 files, ")
    assert "lanes" not in said
    assert list((copy.path / "state").glob(".headrace-*")) == []
    life.done("lanes", files=4)
    life.stop()


def test_a_manipulated_archive_is_told_by_name(copy: Root) -> None:
    one, other = (copy.folder("done", "plain") / name for name in ("0.csv", "2.csv"))
    one.write_bytes(one.read_bytes().replace(b"1", b"2"))
    other.unlink()
    status, said = _verify(copy)
    assert status == 1
    (line,) = (line for line in said.splitlines() if line.startswith("plain: "))
    assert f"can't be verified: {one}: must have the sha256 " in line
    assert f"{other}: no such file or directory" in line
    assert "1.csv" not in line
    assert "lanes: same: 3 files" in said


@pytest.mark.parametrize(
    ("column", "why"),
    [
        ("records_sha256", "its records are others"),
        ("model_sha256", "the model after it is another"),
    ],
)
def test_a_manipulated_journal_is_told_with_the_file(copy: Root, column: str, why: str) -> None:
    _sql(
        copy,
        f"UPDATE files SET {column} = 'beef' WHERE job = 'plain' AND name = CAST('1.csv' AS BLOB)",
    )
    status, said = _verify(copy, "--job", "plain")
    assert status == 1
    assert said.startswith(f"plain: differs from 1.csv on (file 2): {why}")


def test_where_results_part_the_first_record_is_shown(copy: Root) -> None:
    """A root that learnt something else from a file's row: its log and its digests are whole, and wrong."""
    _sql(
        copy,
        "UPDATE files SET records_sha256 = 'beef' WHERE job = 'plain' AND name = CAST('1.csv' AS BLOB)",
    )
    log = copy.folder("logs", "plain") / "samples.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    row = 900 + 77
    assert '"file":"1.csv","row":77,' in lines[row]
    lines[row] = lines[row].replace('"loss":0', '"loss":9')
    log.write_text("".join(lines))
    status, said = _verify(copy, "--job", "plain")
    assert status == 1
    head, was, now = said.splitlines()[:3]
    assert head.startswith(
        "plain: differs from 1.csv on (file 2): its records are others, first in row 77, version "
    )
    assert was.removeprefix("  was: ") + "\n" == lines[row]
    assert now.replace('"loss":0', '"loss":9').removeprefix("  now: ") == was.removeprefix(
        "  was: "
    )


def test_other_versions_are_told_and_are_no_difference_in_themselves(copy: Root) -> None:
    _sql(
        copy,
        "UPDATE files SET fingerprint = 'other', model_sha256 = 'other' WHERE job = 'plain' AND sequence = 1",
    )
    status, said = _verify(copy, "--job", "plain")
    assert status == 0, said
    assert (
        "1 of 3 files were learnt with other versions or on another CPU, so bits may differ" in said
    )


def test_a_retracted_file_is_no_part_of_it(copy: Root) -> None:
    done = copy.ask("retract", "--root", str(copy.path), "--job", "plain", "0.csv")
    assert done.returncode == 0, done.stderr
    status, said = _verify(copy, "--job", "plain")
    assert (status, said) == (0, "plain: nothing was learnt, so there is nothing to verify\n")
    copy.once()
    status, said = _verify(copy, "--job", "plain")
    assert status == 0, said
    assert said.startswith("plain: same: 2 files, ")


def test_trained_files_and_changed_settings_are_learnt_as_they_were(root: Root) -> None:
    one = job(training=rounds(16) | {"epochs": 2})
    root.configure(one)
    (root.home / "a.csv").write_bytes(FILES["1.csv"])
    life = root.spawn("train", str(root.home / "a.csv"), ready=False)
    assert life.exit() == 0, life.said
    root.configure(one | {"training": rounds(5, 2), "optimizer": {"learning_rate": 0.01}})
    root.drop("b.csv", FILES["2.csv"])
    root.drop("c.csv.gz", gzip.compress(FILES["0.csv"]))
    root.once()
    status, said = _verify(root)
    assert status == 0, said
    assert said.startswith("j: same: 4 files, ")


def test_what_was_deleted_after_learning_can_not_be_verified_or_learnt_again(root: Root) -> None:
    root.configure(intake={"after": "delete"})
    for name in ("1.csv", "2.csv"):
        root.drop(name, FILES[name])
    root.once()
    status, said = _verify(root)
    assert status == 1
    assert "1.csv: deleted after it was learnt (intake.after)" in said
    done = root.ask("retract", "--root", str(root.path), "--job", "j", "1.csv")
    assert done.returncode == 1
    assert "2.csv: deleted after it was learnt (intake.after)" in done.stderr
    done = root.ask("retract", "--root", str(root.path), "--job", "j", "2.csv")
    assert done.returncode == 0, done.stderr
    assert [record["file"] for record in root.records(kind="retracted")] == ["2.csv"]
    checked = root.ask("check", "-c", str(root.config))
    assert '# intake.after = "delete": ' in checked.stdout


@pytest.mark.parametrize("kibibytes", [64, 600])
def test_a_scratch_place_without_room_is_told(killed: Root, tmp_path: Path, kibibytes: int) -> None:
    """A daemon would wait for room; whoever verifies waits for an answer."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        done = killed.ask("verify", "--root", str(killed.path), "--scratch", str(tmp_path))
        assert os.listdir(tmp_path) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    assert done.returncode == 1
    assert "headrace: --scratch: must be a folder on a disk with room, got " in done.stderr


def test_a_job_or_a_root_that_is_not_there(killed: Root, tmp_path: Path) -> None:
    status, said = _verify(killed, "--job", "none")
    assert (status, said.startswith("headrace: --job: must be one of ")) == (2, True)
    done = killed.ask("verify", "--root", str(tmp_path / "nowhere"))
    assert done.returncode == 2
    assert "--root: must be a root that a daemon has run in" in done.stderr
