"""Bad input never stops the daemon and never harms the model: one daemon is given everything that is wrong with files."""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import sample_tables
from daemon_root import Life, Root, eventually, job, rounds

HEADER = b"a,b,c,y\n"
TABLE = sample_tables.rows(60, seed=4)
LATE = sample_tables.csv(sample_tables.rows(600, seed=9))


def _npz_with_a_pickle() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, x=np.zeros((2, 3)), y=np.array([{}, 1], dtype=object))
    return buffer.getvalue()


# name: content, and words that the note must hold: place, column, value
BAD: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "empty.csv": (b"", ()),
    "header-only.csv": (HEADER, ()),
    "blank-lines.csv": (b"\n\n\n", ()),
    "no-label.csv": (b"a,b,c\n1,2,3\n", ("y",)),
    "no-feature.csv": (b"a,b,y\n1,2,1\n", ("c",)),
    "twice.csv": (b"a,b,c,y,a\n1,2,3,1,4\n", ("a",)),
    "short-row.csv": (HEADER + b"1,2,3,1\n1,2,1\n", (":3:",)),
    "long-row.csv": (HEADER + b"1,2,3,1\n\n1,2,3,4,5\n", (":4:",)),
    "letters.csv": (HEADER + b"1,2,3,1\n1,twelve,3,0\n", (":3:", "twelve", "b")),
    "missing-value.csv": (HEADER + b"1,,3,1\n", (":2:", "b")),
    "nan.csv": (HEADER + b"1,nan,3,1\n", (":2:", "nan")),
    "infinite.csv": (HEADER + b"1,2,1e999,1\n", (":2:", "1e999")),
    "strange-label.csv": (HEADER + b"1,2,3,7\n", (":2:", "7")),
    "late.csv": (LATE + b"1,2,x,0\n", (":602:", "x")),
    "quote.csv": (HEADER + b'1,2,"3,1\n', ()),
    "zeros.csv": (HEADER + b"1,2,\0,1\n", ()),
    "not-utf8.csv": (b"a,b,c,y\n1,2,\xff\xfe,1\n", ()),
    "broken.parquet": (sample_tables.parquet(TABLE)[:-9], ()),
    "middle.parquet": (sample_tables.parquet(TABLE)[:60] + sample_tables.parquet(TABLE)[-400:], ()),
    "text.parquet": (sample_tables.csv(TABLE), ()),
    "pickle.npz": (_npz_with_a_pickle(), ()),
    "broken.csv.gz": (b"\x1f\x8b\x08\x00garbage", ()),
    "nested.jsonl": (b'{"a": 1, "b": [2], "c": 3, "y": 1}\n', ("b",)),
    "no-json.jsonl": (b'{"a": 1, "b"\n', ()),
    "unknown.format": (sample_tables.csv(TABLE), ()),
    "esc\x1b[31m\n.csv": (HEADER + b"1,2,\x1b[31m,1\n", ()),
}


@pytest.fixture(scope="module")
def life(shared: Root) -> Iterator[Life]:
    """A daemon with a model, learnt from one good file in many rounds' time."""
    shared.configure(job(training=rounds(16)), service={"chunk_bytes": 2000})
    life = shared.start()
    shared.drop("good.csv", sample_tables.csv(TABLE))
    life.done()
    yield life
    life.stop()


@pytest.fixture
def unharmed(shared: Root, life: Life) -> Iterator[None]:
    """Afterwards model and logs are, to the bit, what they were; and the daemon lives."""
    before = shared.outcome()
    yield
    eventually(lambda: shared.leftovers() == [], "an end of all traces", life)
    eventually(lambda: shared.status()["jobs"]["j"]["state"] == "waiting", "rest", life)
    assert shared.outcome() == before
    assert life.process.poll() is None, life.said


def _refused(root: Root, life: Life, name: str) -> dict[str, str]:
    """Waits for the note, and for the file to lie beside it."""

    eventually(lambda: name in root.names("failed"), f"{name!r} in failed/", life)
    return root.note(name)  # it is there before the file is


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_goes_to_failed_with_a_note(shared: Root, life: Life, name: str) -> None:
    data, words = BAD[name]
    shared.drop(name, data)
    note = _refused(shared, life, name)
    assert set(note) == {"file", "job", "rule", "place", "value", "remedy", "admission", "sha256"}
    assert note["job"] == "j"
    assert note["rule"]
    assert note["place"]
    assert note["remedy"]
    for word in words:
        assert word in f"{note['rule']} {note['place']} {note['value']}"
    assert all(str(value).isprintable() for value in note.values())
    assert (shared.folder("failed") / name).read_bytes() == data


def _link(path: Path, home: Path) -> None:
    (home / "target.csv").write_bytes(sample_tables.csv(TABLE[:10]))
    path.symlink_to(home / "target.csv")


def _hard_link(path: Path, home: Path) -> None:
    (home / "target.csv").write_bytes(sample_tables.csv(TABLE[:11]))
    os.link(home / "target.csv", path)


def _dangling(path: Path, home: Path) -> None:
    path.symlink_to(home / "nothing")


def _fifo(path: Path, _: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path, _: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        folder = os.open(path.parent, os.O_RDONLY)  # a socket's path is short
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
        os.close(folder)


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("make", [_link, _hard_link, _dangling, _fifo, _socket])
def test_what_is_no_plain_file_of_its_own_is_refused(
    shared: Root, life: Life, make: Callable[[Path, Path], None]
) -> None:
    name = f"{make.__name__.strip('_')}.csv"
    make(shared.folder("inbox") / name, shared.staging)
    note = _refused(shared, life, name)
    assert "file" in note["rule"]
    (shared.staging / "target.csv").unlink(missing_ok=True)


@pytest.mark.usefixtures("unharmed")
def test_a_folder_in_the_inbox_is_left_alone(shared: Root, life: Life) -> None:
    folder = shared.folder("inbox") / "folder.csv"
    folder.mkdir()
    shared.drop("beside.csv", b"")
    _refused(shared, life, "beside.csv")
    assert folder.is_dir()
    folder.rmdir()


@pytest.mark.usefixtures("unharmed")
def test_refused_files_of_one_name_are_told_apart(shared: Root, life: Life) -> None:
    for data in (b"one", b"another"):
        before = len(shared.names("failed"))
        shared.drop("same.csv", data)
        eventually(
            lambda before=before: len(shared.names("failed")) == before + 2, "the note", life
        )
    contents = [
        (shared.folder("failed") / name).read_bytes() for name in ("same.csv", "same~2.csv")
    ]
    assert contents == [b"one", b"another"]
    assert shared.note("same~2.csv")["file"] == "same.csv"


def test_a_file_that_makes_the_model_diverge_is_taken_back(
    shared: Root, life: Life, root: Root
) -> None:
    wild = job(
        model={"kernel": "linear"},
        optimizer={"name": "sgd", "learning_rate": 1e200},
        scaling={"standardise": False, "target": "none"},
        training=rounds(4),
    )
    root.configure(wild)
    root.drop("0.csv", sample_tables.csv([(0.0, 0.0, 0.0, 0.0)] * 9))
    root.once()
    before = root.outcome()
    root.drop("1.csv", sample_tables.csv(TABLE))
    root.once()
    assert root.outcome() == before
    assert "finite" in root.note("1.csv")["rule"]
    assert root.leftovers() == []


def test_later_files_may_have_other_columns_too_in_any_order_but_lack_none(root: Root) -> None:
    names = ("a", "b", "c", "y")
    root.drop("0.csv", sample_tables.csv(TABLE, names))
    turned = [(row[3], 7.0, *reversed(row[:3]), 8.0) for row in TABLE]
    root.drop("1.csv", sample_tables.csv(turned, ("y", "new", "c", "b", "a", "newer")))
    root.drop("2.csv", sample_tables.csv(TABLE, ("a", "b", "d", "y")))
    root.drop("3.jsonl", sample_tables.jsonl([row[::-1] for row in TABLE], names[::-1]))
    root.once()
    assert [record.get("columns_extra") for record in root.accepted()] == [None, 2, None]
    assert root.header()["features"] == ["a", "b", "c"]
    note = root.note("2.csv")
    assert note["rule"] == "a file has the feature column c"
    assert note["value"] == "columns a, b, d, y"
    assert "add the column" in note["remedy"]


def test_excluded_columns_are_not_learnt_and_need_not_come_again(root: Root) -> None:
    root.configure(job(exclude=["b", ""]))
    root.drop("0.csv", sample_tables.csv(TABLE, ("a", "b", "", "y")))
    root.drop("1.csv", sample_tables.csv([(row[0], row[3]) for row in TABLE[::-1]], ("a", "y")))
    root.once()
    assert [record.get("columns_extra") for record in root.accepted()] == [None, None]
    assert root.header()["features"] == ["a"]
    root.configure(job(exclude=["b"]))
    told = root.ask("run", "-c", str(root.config), "--root", str(root.path), "--once")
    assert told.returncode != 0
    assert 'jobs.j.exclude: must stay ["b", ""] while the job has a model, got ["b"]' in told.stderr


def test_the_second_file_teaches_a_job_whose_first_is_refused(root: Root) -> None:
    root.drop("0.csv", b"d,y\n1,0\n2,x\n")
    root.drop("1.csv", sample_tables.csv(TABLE))
    root.once()
    assert root.names("failed") == ["0.csv", "0.csv.error.json"]
    assert root.header()["features"] == ["a", "b", "c"]
    assert [record["sequence"] for record in root.accepted()] == [1]


def test_skipped_rows_are_counted_and_not_learnt(root: Root) -> None:
    root.configure(rows={"on_bad_row": "skip", "max_bad_rows": 0.5})
    lines = sample_tables.csv(TABLE).splitlines(keepends=True)
    root.drop("bad.csv", b"".join([*lines[:5], b"1,2\n", *lines[5:9], b"x,1,2,1\n", *lines[9:]]))
    root.once()
    (record,) = root.accepted()
    assert (record["rows"], record["rows_rejected"]) == (60, 2)
    assert [sample["row"] for sample in root.samples()] == [
        row for row in range(62) if row not in (4, 9)
    ]
    listed = root.listed("bad.csv")
    assert [
        (one["row"], one["line"], one["column"], one["value"].partition(":")[0]) for one in listed
    ] == [
        (4, 6, None, "2 fields"),
        (9, 11, "a", "x"),
    ]
    assert all(one["rule"] and one["remedy"] and one["file"] == "bad.csv" for one in listed)
    assert root.names("failed") == ["bad.csv.rows.jsonl"]
    assert root.names("done") == ["bad.csv"]


def test_too_large_a_share_of_bad_rows_refuses_the_file(root: Root) -> None:
    root.configure(rows={"on_bad_row": "skip", "max_bad_rows": 0.1})
    root.drop("bad.csv", sample_tables.csv(TABLE[:9]) + b"1,2\n1,2\n")
    root.once()
    assert "max_bad_rows" in root.note("bad.csv")["rule"]
    assert [one["line"] for one in root.listed("bad.csv")] == [11, 12]
    assert root.model_sha256() is None
    assert root.log("samples.jsonl") == b""


def test_a_file_above_the_limit_is_refused(root: Root) -> None:
    root.configure(intake={"max_file_bytes": 100})
    root.drop("large.csv", sample_tables.csv(TABLE))
    root.once()
    assert "max_file_bytes" in root.note("large.csv")["rule"]


def test_labels_that_teach_no_classes_are_refused_by_the_files_name(root: Root) -> None:
    root.drop("names.csv", HEADER + b"1,2,3,no\n1,2,3,no\n")
    root.once()
    note = root.note("names.csv")
    assert note["place"] == 'names.csv: column "y"'
    assert note["value"] == '"no"'


def test_a_label_of_another_kind_than_most_is_a_bad_row_with_its_line(root: Root) -> None:
    labels = [1, 2, "x", *[1, 2] * 20]
    data = HEADER + b"".join(b"%d,2,3,%s\n" % (i, str(y).encode()) for i, y in enumerate(labels))
    jobs = [job(model={"kernel": "softmax"}), job("two")]
    for rows in ({}, {"on_bad_row": "skip", "max_bad_rows": 0.1}):
        root.configure(*jobs, rows=rows)
        for one in jobs:
            root.drop("skip.csv" if rows else "t.csv", data, one["name"])
        root.once()
        for name in ("j", "two"):
            if rows:
                (bad,) = root.listed("skip.csv", name)
                assert (bad["line"], bad["column"], bad["value"]) == (4, "y", "x")
                assert root.header(name)["classes"] == [1, 2]
            else:
                assert root.note("t.csv", name)["place"] == "t.csv:4: row 2, column y"
                assert root.note("t.csv", name)["value"] == "x"
