"""Small files that wait together are learnt and accepted together: fewer trips and flushes, and the same bits."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
import sample_tables
from daemon_root import Life, Outcome, Root, eventually, job, root_in, rounds

HOLES = {"model": {"kernel": "linear"}, "missing": {"fill": "mean", "values": ["?"]}}
JOBS = (
    job("whole", output={"samples": "full"}),
    job("off", output={"samples": "off"}),
    job("words", output={"samples_format": "text"}, training=rounds(4, 1, 400)),
    job("lanes", training=rounds(4, 3, 5)),
    job("holes", **HOLES),
)
NAMES = [one["name"] for one in JOBS]


def _files() -> dict[str, bytes]:
    """Small files of all kinds that do not go together with others, and of some that do."""
    files = {
        f"{n:02}.csv": sample_tables.csv(sample_tables.rows(20 + 7 * n, seed=n)) for n in range(14)
    }
    two = files["02.csv"]
    files["03-again.csv"] = two  # a duplicate of one before
    files["05-bad.csv"] = two.replace(b"\n", b"\nx,y,z,1\n", 1)
    files["05-empty.csv"] = b""
    files["06-gone.csv"] = b"a,b,y\n1,2,1\n"  # a column is not there
    files["08-packed.csv.gz"] = gzip.compress(
        sample_tables.csv(sample_tables.rows(33, 40)), mtime=0
    )
    files["09-lines.jsonl"] = sample_tables.jsonl(sample_tables.rows(33, 41))
    files["10-none.csv"] = b"a,b,c,y\n" + b"1,2,3,\n" * 3  # no row has a label
    files["11-some.csv"] = sample_tables.csv(sample_tables.rows(9, 42)) + b"4,5,6,\n"
    more = [sample_tables.csv(sample_tables.rows(9, seed)) for seed in range(50, 57)]
    files["12-a.csv"] = more[0].replace(b"\n", b"\r\n")
    files["12-b.csv"] = b"\xef\xbb\xbf" + more[1]
    files["12-c.csv"] = more[2] + b'"4","5","6","1"\n'
    files["12-d.csv"] = more[3][:-1]
    files["12-e.csv"] = more[4].replace(b"\n", b",9\n").replace(b",9", b",z", 1)
    files["12-f.csv"] = b"y,c,b,a\n" + b"1,2,3,4\n0,7,6,5\n"
    files["12-g.csv"] = more[5] + b"?,2,,1\n"
    files["12-h.csv"] = more[6] + b"# 1,2,3,1\n"
    return files


def _configured(root: Root, **parts: Any) -> None:
    logs = {"every_rows": 30, "rotate_bytes": 9000, "keep": 100}
    root.configure(*JOBS, logs=logs, commit={"keep": 4, "interval_seconds": 60}, **parts)


def _state(root: Root, name: str) -> Any:
    """All that a job has come to: every log's segments and models by their names, the journal's rows."""
    below = [*(root.path / "logs" / name).iterdir(), *(root.path / "models" / name).iterdir()]
    files = {path.name: path.read_bytes() for path in below}
    return (
        files,
        sorted(path.name for path in (root.path / "done" / name).iterdir()),
        root.outcome(name),
    )


def _decided(life: Life) -> list[int]:
    """How many files of each job are decided."""
    counts = [life.status()["jobs"][name] for name in NAMES]
    return [one["done"] + one["failed"] + one["duplicates"] for one in counts]


def test_files_that_wait_together_come_to_what_they_come_to_alone(
    root: Root, tmp_path: Path
) -> None:
    files = _files()
    _configured(root)
    for name in NAMES:
        for file, data in files.items():
            root.drop(file, data, name)
    root.once()
    assert root.leftovers() == []
    trips = root.status()["subtasks"]
    with root_in(tmp_path / "alone") as alone:
        _configured(alone)
        life = alone.start()
        for count, (file, data) in enumerate(sorted(files.items()), 1):
            for name in NAMES:
                alone.drop(file, data, name)
            eventually(lambda count=count: _decided(life) == [count] * len(NAMES), file, life)
        life.stop()
        for name in NAMES:
            assert _state(root, name) == _state(alone, name), name
        assert (
            trips < alone.status()["subtasks"] - 100
        )  # of some 650; the job with lanes makes as many


def test_a_file_that_is_not_learnt_smoothly_costs_its_neighbours_nothing(
    root: Root, tmp_path: Path
) -> None:
    files = {f"{n}.csv": sample_tables.csv(sample_tables.rows(30, seed=n)) for n in range(6)}
    files["4.csv"] = b"a,b,c,y\n" + b"1e300,-1e300,1e300,1\n" * 20
    linear = job(
        model={"kernel": "linear"},
        scaling={"standardise": False},
        optimizer={"name": "sgd", "learning_rate": 1e-9},
    )
    for one in (root, alone := Root(tmp_path / "alone")):
        one.configure(linear)
    for file, data in files.items():
        root.drop(file, data)
        alone.drop(file, data)
        alone.once()
    root.once()
    assert root.outcome() == alone.outcome()
    assert root.events("learnt one by one from here")
    assert [event["file"] for event in root.events("refused")] == ["4.csv"]


def test_a_file_that_changes_after_its_bundle_was_read_is_learnt_as_it_is_then(
    root: Root, tmp_path: Path
) -> None:
    files = {f"{n}.csv": sample_tables.csv(sample_tables.rows(30, seed=n)) for n in range(6)}
    for one in (root, alone := Root(tmp_path / "alone")):
        one.configure(job(output={"samples": "full"}))
    for file, data in files.items():
        root.drop(file, data)
    root.environment = {"HEADRACE_CHANGING": str(root.folder("work") / f"{4:010}")}
    life = root.start(path=[Path(__file__).with_name("changing")])
    life.see("learnt one by one from here")
    life.see("changed while it was read: back to the inbox", file="3.csv")
    life.done(files=6)
    life.stop()
    files["3.csv"] = files.pop("3.csv") + b"1,2,3,1\n"  # the last one now
    for file, data in files.items():
        alone.drop(file, data)
        alone.once()
    assert root.outcome().model == alone.outcome().model
    assert root.leftovers() == []


@pytest.mark.parametrize("where", ["daemon", "worker"])
def test_a_bundle_that_finds_no_memory_goes_one_by_one(
    root: Root, tmp_path: Path, where: str
) -> None:
    """Whichever of its requests for memory is refused, one after the other until none is left."""
    files = {f"{n}.csv": sample_tables.csv(sample_tables.rows(30, seed=n)) for n in range(6)}

    def life(place: Root, scarce: str) -> Outcome:
        place.environment = {"HEADRACE_SCARCE": scarce}
        place.configure(job(output={"samples": "full"}))
        for file, data in files.items():
            place.drop(file, data)
        place.once(path=[Path(__file__).with_name("scarce")])
        assert place.leftovers() == []
        assert sorted(place.names("done")) == sorted(files)
        return place.outcome()

    log = tmp_path / "all"
    calm = life(root, f"{where}|0|{log}")
    requests = log.stat().st_size
    assert requests >= 3  # to read, to learn, to record
    for number in range(1, requests + 1):
        with root_in(tmp_path / f"{number}") as one:
            assert life(one, f"{where}|{number}|{tmp_path / str(number)}.log") == calm, number
