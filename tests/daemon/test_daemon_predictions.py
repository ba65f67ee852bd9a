"""The folder predict/: what is dropped there comes out as predictions of the newest model, and changes nothing."""

from __future__ import annotations

import csv
import io
import os

import pytest
import sample_tables
from daemon_root import Root, eventually, job, root_in

TABLE = sample_tables.rows(40, 5)
FRESH = sample_tables.rows(25, 6)


def _predictions(root: Root, name: str, job: str = "j") -> list[dict[str, str]]:
    text = (root.folder("predictions", job) / f"{name}.csv").read_text()
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture(scope="module")
def trained(shared: Root) -> Root:
    shared.configure(
        job(),
        job("softmax", model={"kernel": "softmax"}),
        job(
            "alone", optimizer={"name": "adagrad"}
        ),  # of experts another mixture serves than scores
        job("linear", label="b", model={"kernel": "linear"}),
        service={"chunk_bytes": 600},
    )
    for name in ("j", "linear", "alone"):
        shared.drop("train.csv", sample_tables.csv(TABLE), name)
    shared.drop("train.csv", sample_tables.csv(sample_tables.rows(40, 5, classes=3)), "softmax")
    for name in ("j", "softmax", "linear", "alone"):
        shared.drop("labelled.csv", sample_tables.csv(FRESH), name, into="predict")
        shared.drop("bad.csv", b"a,b,c,y\n1,x,2,1\n", name, into="predict")
    shared.drop(
        "unlabelled.csv",
        sample_tables.csv([r[:3] for r in FRESH], sample_tables.FEATURES),
        into="predict",
    )
    shared.drop("rows.parquet", sample_tables.parquet(FRESH), into="predict")
    os.symlink(shared.config, shared.folder("predict") / "link.csv")
    shared.once()
    return shared


def test_every_row_is_predicted_in_its_order(trained: Root) -> None:
    found = _predictions(trained, "labelled.csv")
    assert list(found[0]) == [
        "row", "id", "prediction", "label", "probability_0", "probability_1", "version", "model_sha256",
    ]  # fmt: skip
    assert [int(line["row"]) for line in found] == list(range(25))
    assert [float(line["label"]) for line in found] == [row[-1] for row in FRESH]
    for line in found:
        assert float(line["prediction"]) == float(line["probability_1"])
        assert float(line["probability_0"]) + float(line["probability_1"]) == pytest.approx(1)
        assert line["model_sha256"] == trained.model_sha256()
        assert line["version"] == str(trained.accepted()[-1]["version"])


def test_labels_are_not_needed_and_formats_change_no_bit(trained: Root) -> None:
    labelled = _predictions(trained, "labelled.csv")
    assert _predictions(trained, "rows.parquet") == labelled
    assert _predictions(trained, "unlabelled.csv") == [line | {"label": ""} for line in labelled]


def test_predictions_are_those_that_learning_would_have_scored(trained: Root) -> None:
    trained.drop("one.csv", sample_tables.csv(FRESH[:1]), "alone")
    trained.once()
    sample = trained.samples("alone")[-1]
    assert sample["file"] == "one.csv"
    # scored after its own features were taken into the scaling, so not to the bit
    assert sample["prediction"] == pytest.approx(
        float(_predictions(trained, "labelled.csv", "alone")[0]["prediction"]), abs=0.02
    )


def test_classes_and_numbers_are_predicted_as_the_kernel_says(trained: Root) -> None:
    for line in _predictions(trained, "labelled.csv", "softmax"):
        shares = [float(line[f"probability_{c}"]) for c in range(3)]
        assert sum(shares) == pytest.approx(1)
        assert int(line["prediction"]) == shares.index(max(shares))
    linear = _predictions(trained, "labelled.csv", "linear")
    assert list(linear[0]) == ["row", "id", "prediction", "label", "version", "model_sha256"]
    assert all(20 < float(line["prediction"]) < 80 for line in linear)


def test_what_was_predicted_lies_beside_its_result_and_what_was_refused_in_failed(
    trained: Root,
) -> None:
    assert trained.names("predict") == []
    assert set(trained.names("predictions")) == {
        "inputs", "labelled.csv.csv", "unlabelled.csv.csv", "rows.parquet.csv",
    }  # fmt: skip
    assert trained.names("predictions/j/inputs", "") == [
        "labelled.csv",
        "rows.parquet",
        "unlabelled.csv",
    ]
    assert "x" in trained.note("bad.csv")["value"]
    assert "plain" in trained.note("link.csv")["rule"]
    assert trained.leftovers() == []


def test_the_command_gives_the_same_bytes_as_the_folder(trained: Root) -> None:
    with root_in(trained.home / "again") as again:
        again.configure()
        again.drop("train.csv", sample_tables.csv(TABLE))
        again.drop("labelled.csv", sample_tables.csv(FRESH), into="predict")
        again.once()
        file = again.home / "labelled.csv"
        file.write_bytes(sample_tables.csv(FRESH))
        found = again.ask("predict", "--root", str(again.path), "--job", "j", str(file))
        assert found.returncode == 0, found.stderr
        assert found.stdout == (again.folder("predictions") / "labelled.csv.csv").read_text()


def test_files_wait_in_predict_until_there_is_a_model(root: Root) -> None:
    life = root.start()
    root.drop("early.csv", sample_tables.csv(FRESH), into="predict")
    root.drop("train.csv", sample_tables.csv(TABLE))
    eventually(lambda: "early.csv.csv" in root.names("predictions"), "predictions", life)
    eventually(lambda: root.names("predict") == [], "the input's move", life)
    life.stop()
    assert len(_predictions(root, "early.csv")) == 25


def test_results_of_one_name_are_told_apart(root: Root) -> None:
    root.drop("train.csv", sample_tables.csv(TABLE))
    for count in (3, 4):
        root.drop("f.csv", sample_tables.csv(FRESH[:count]), into="predict")
        root.once()
    assert root.names("predictions") == ["f.csv.csv", "f~2.csv.csv", "inputs"]
    assert root.names("predictions/j/inputs", "") == ["f.csv", "f~2.csv"]


def test_ids_are_not_needed_and_unknown_labels_are_none(root: Root) -> None:
    root.configure(job(id="name"), job("linear", label="b", id="name", model={"kernel": "linear"}))
    lines = sample_tables.csv(TABLE).split(b"\n")[:-1]
    named = b"".join(
        b"%s,%s\n" % (line, b"r%d" % i if i else b"name") for i, line in enumerate(lines)
    )
    for name in ("j", "linear"):
        root.drop("train.csv", named, name)
    root.drop("strange.csv", b"a,b,c,y\n1,2,3,1\n1,2,3,maybe\n1,2,3,7\n", into="predict")
    root.drop("strange.csv", b"a,b,c,y\n1,2,3,1\n1,many,3,1\n", "linear", into="predict")
    root.once()
    found = _predictions(root, "strange.csv")
    assert [(line["id"], line["label"]) for line in found] == [("", "1"), ("", ""), ("", "")]
    found = _predictions(root, "strange.csv", "linear")
    assert [(line["id"], line["label"]) for line in found] == [("", "2.0"), ("", "")]


def test_a_model_shows_its_classes_as_files_spell_them(trained: Root) -> None:
    for name, classes in (("j", "0, 1"), ("softmax", "0, 1, 2")):
        shown = trained.ask("show", "--root", str(trained.path), "--job", name).stdout
        assert f"classes      {classes}\n" in shown
        assert ".0" not in next(x for x in shown.splitlines() if x.startswith("feature"))


def test_a_class_is_spelt_alike_beside_one_that_is_no_whole_number(root: Root) -> None:
    root.drop("train.csv", b"a,b,c,y\n" + b"1,2,3,0\n2,2,3,2.5\n" * 4)
    root.drop("few.csv", b"a,b,c,y\n1,2,3,0.0\n1,2,3,2.5\n", into="predict")
    root.once()
    found = _predictions(root, "few.csv")
    assert [line["label"] for line in found] == ["0", "2.5"]
    assert "probability_0" in found[0]


def test_bad_rows_that_are_skipped_have_no_prediction_and_are_listed(root: Root) -> None:
    root.configure(rows={"on_bad_row": "skip", "max_bad_rows": 0.5}, service={"chunk_bytes": 256})
    root.drop("train.csv", sample_tables.csv(TABLE))
    root.drop(
        "some.csv", b"a,b,c\n" + b"1,2,3\n" * 60 + b"1,x,3\n4,5,6\n\n1,2\n7,8,9\n", into="predict"
    )
    root.drop("most.csv", b"a,b,c\n1,x,3\n1,2,3\n1,x,3\n", into="predict")
    root.once()
    found = [int(line["row"]) for line in _predictions(root, "some.csv")]
    assert found == [*range(60), 61, 63]
    listed = root.listed("some.csv")
    assert [(one["row"], one["line"], one["value"].partition(":")[0]) for one in listed] == [
        (60, 62, "x"), (62, 65, "2 fields"),
    ]  # fmt: skip
    assert listed[0]["admission"] is None
    assert "max_bad_rows" in root.note("most.csv")["rule"]
    assert [one["line"] for one in root.listed("most.csv")] == [2, 4]
    assert root.events("predicted")[0]["rejected"] == 2
    assert root.leftovers() == []


def test_a_refused_file_is_predicted_when_it_is_mended_and_tried_again(root: Root) -> None:
    root.configure(rows={"on_bad_row": "skip"})
    root.drop("train.csv", sample_tables.csv(TABLE))
    root.drop("same.csv", b"a,b,c,y\n1,x,3,1\n")
    for name in ("same.csv", "alone.csv"):
        root.drop(name, b"a,b,c\n1,x,3\n", into="predict")
    root.once()
    ask = ("retry", "--root", str(root.path), "--job", "j")
    (root.folder("failed") / "alone.csv").write_bytes(b"a,b,c\n1,2,3\n")
    found = root.ask(*ask, str(root.folder("failed") / "alone.csv"), "same~2.csv")
    assert found.returncode == 0, found.stderr
    assert found.stdout == "j: alone.csv is in predict/ again\nj: same~2.csv is in predict/ again\n"
    assert root.names("predict") == ["alone.csv", "same~2.csv"]
    assert root.names("failed") == ["same.csv", "same.csv.error.json", "same.csv.rows.jsonl"]
    assert root.names("inbox") == []
    life = root.start()
    eventually(lambda: "alone.csv.csv" in root.names("predictions"), "predictions", life)
    eventually(lambda: "same~2.csv" in root.names("failed"), "the refusal", life)
    assert root.ask(*ask, "same.csv", "same~2.csv").returncode == 0
    life.see("tried again", files=["same.csv"], predict=["same~2.csv"])
    assert root.ask(*ask, "none.csv").returncode == 2
    life.stop()
