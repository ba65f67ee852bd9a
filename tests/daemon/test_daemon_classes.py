"""Classes as files bring them: a model of many names grows while the stream goes on, and stays a function of the files."""

from __future__ import annotations

import random
from pathlib import Path

import polars as pl
from daemon_root import Root, job, root_in

NAMES = [f"{kind} no. {number}" for number in range(8) for kind in ("oak", "Ulme", "être")][:23]


def _file(names: list[str], rows: int, seed: int) -> bytes:
    chance = random.Random(seed)
    lines = ["größe;farbe;art"]
    for row in range(rows):
        place = row % len(names)
        x, y = place % 5 + chance.gauss(0, 0.1), place // 5 + chance.gauss(0, 0.1)
        lines.append(f'{x:.3f};{y:.3f};"{names[place]}"'.replace(".", ",", 2))
    return ("\r\n".join(lines) + "\r\n").encode("latin-1")


FILES = {
    "1.csv": _file(NAMES[7:2:-1], 150, 1),
    "2.csv": _file(NAMES, 400, 2),
    "3.csv": _file([*NAMES[:3], "beech", "7"], 100, 3),
}
WILD = {"encoding": "latin-1", "decimal": ","}


def _job(name: str, **training: int) -> dict[str, object]:
    model = {"kernel": "softmax", "classes_max": 23}
    return job(name, label="art", model=model, csv=WILD, training=training)


def test_a_job_of_a_few_lines_learns_23_named_classes_as_they_come(root: Root) -> None:
    ways = {"whole": {}, "rounds": {"batch_rows": 1, "local_steps": 20}}
    root.configure(
        *(_job(name, **training) for name, training in ways.items()),
        rows={"on_bad_row": "skip", "max_bad_rows": 0.5},
        service={"chunk_bytes": 300},
    )
    for name in ways:
        for file, data in FILES.items():
            root.drop(file, data, name)
    root.once()
    for name in ways:
        header = root.header(name)
        assert header["classes"] == [*NAMES[7:2:-1], *NAMES[:3], *NAMES[8:]]
        assert header["spec"]["outputs"] == 23
        records = root.accepted(name)
        assert [one["rows"] for one in records] == [150, 400, 60]
        assert records[1]["lifetime"]["rows"] == 550
        assert records[2]["metrics"]["accuracy"] > 0.5  # who guesses among 23 is right in 0.04
        assert {one["value"] for one in root.listed("3.csv", name)} == {"beech", "7"}
    out = root.home / "out.csv"
    file = str(root.folder("done", "whole") / "2.csv")
    asked = root.ask("predict", "--root", str(root.path), "--job", "whole", file, "-o", str(out))
    assert asked.returncode == 0, asked.stderr
    found = pl.read_csv(out)
    assert found["label"].to_list() == [NAMES[row % 23] for row in range(400)]
    right = sum(found["label"] == found["prediction"])
    assert right > 60  # who guesses is right in 17; the last rows learnt were of three classes
    assert root.ask("verify", "--root", str(root.path)).stdout.count("same") == len(ways)


def test_a_file_that_is_refused_brings_no_classes(root: Root) -> None:
    root.configure(_job("j"))
    root.drop("1.csv", FILES["1.csv"])
    root.drop("2.csv", FILES["2.csv"] + b"x;1;oak no. 0\r\n")
    root.drop("3.csv", _file(NAMES[1:3], 50, 4))
    root.once()
    assert root.note("2.csv")["value"] == "x"
    assert root.header()["classes"] == [*NAMES[7:2:-1], *NAMES[1:3]]


def test_a_daemon_killed_in_a_file_with_new_classes_and_bad_rows_goes_on_to_the_same_end(
    tmp_path: Path,
) -> None:
    outcomes, lists = [], []
    late = [*NAMES, "beech"]
    for kills in (False, True):
        with root_in(tmp_path / str(kills)) as root:
            slow = _job("j", batch_rows=1, local_steps=20)
            root.configure(slow, rows={"on_bad_row": "skip", "max_bad_rows": 0.5})
            root.drop("1.csv", FILES["1.csv"])
            root.drop("2.csv", _file(late, 2_400, 5))
            if kills:
                life = root.start()
                life.see("progress", file="2.csv")
                life.kill()
            root.once()
            if kills:
                assert any(event["resumed_at_row"] for event in root.events("started"))
            outcomes.append(root.outcome())
            lists.append((root.folder("failed") / "2.csv.rows.jsonl").read_bytes())
    assert outcomes[0] == outcomes[1]
    assert lists[0] == lists[1]
    assert lists[0].count(b"\n") == 100


def test_a_first_file_of_one_class_is_learnt_where_later_ones_may_bring_more(root: Root) -> None:
    models = {
        "softmax": {"kernel": "softmax", "classes_max": 3},
        "mlp": {"kernel": "mlp", "hidden": [4], "classes_max": 3},
    }
    hashing = {"bits": 8, "categorical": ["b"]}
    root.configure(
        *(job(name, model=model) for name, model in models.items()),
        job("slots", model=models["softmax"], hashing=hashing),
    )
    names = (*models, "slots")
    for name in names:
        root.drop("1.csv", b"a,b,y\n1,2,p\n2,3,p\n", name)
        root.drop("2.csv", b"a,b,y\n" + b"1,2,p\n9,1,q\n" * 30, name)
    root.once()
    for name in names:
        one, both = root.accepted(name)
        assert one["loss"] == 0.0
        assert both["metrics"]["accuracy"] > 0.6  # who guesses is right in 0.5
        assert root.header(name)["classes"] == ["p", "q"]
        assert root.samples(name)[0]["prediction"] == "p"
    assert "same: 2 files" in root.ask("verify", "--root", str(root.path)).stdout
