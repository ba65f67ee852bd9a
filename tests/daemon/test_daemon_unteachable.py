"""A first file that teaches no classes is refused for the row that is at fault, where one is."""

from __future__ import annotations

from typing import Any

from daemon_root import Root, job

LOGISTIC = {"model": {"kernel": "logistic"}}
LABELS = [f"{i % 7},{'yes' if i % 3 else 'no'}" for i in range(50)]
VW = [f"{1 if i % 2 else -1} | a{i % 5}" for i in range(200)]


def _text(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _sparse(name: str, format: str, **parts: Any) -> dict[str, Any]:
    found = job(name, format=format, **parts)
    del found["label"]
    return found


def test_the_row_at_fault_is_told_before_the_labels(root: Root) -> None:
    files = {
        "beyond": ("a.svm", _text("+1 3:1 1355191:0.5", "-1 7:1 1200000:0.2")),
        "unsorted": ("a.svm", _text("+1 3:1 2:1", "-1 7:1 1:1")),
        "half": ("a.svm", _text("-1 3:1", "+1 3:1 2:1", "-1 7:1")),
        "rownames": ("a.csv", _text('"x","y"', '"0",0,"a"', '"1",1,"b"')),
        "words": ("a.csv", _text("x,y", "1,a", "one,b", "2,a")),
        "costs": ("a.vw", _text("1:0 2:1 | a", "1:1 2:0 | b")),
    }
    jobs = [_sparse(n, "svmlight") for n in ("beyond", "unsorted", "half")]
    root.configure(*jobs, *map(job, ("rownames", "words")), _sparse("costs", "vw"))
    for name, (file, data) in files.items():
        root.drop(file, data, name)
    root.once()
    notes = {name: root.note(file, name) for name, (file, _) in files.items()}
    assert "hashing.bits" in notes["beyond"]["remedy"]
    assert notes["beyond"]["place"] == "a.svm:1: row 0"
    assert notes["beyond"]["value"] == "1355191:0.5"
    assert "indices grow" in notes["unsorted"]["rule"]
    assert (notes["half"]["place"], notes["half"]["value"]) == ("a.svm:2: row 1", "2:1")
    assert notes["rownames"]["rule"] == "a row has 2 fields, as the first line has"
    assert (notes["words"]["place"], notes["words"]["value"]) == ("a.csv:3: row 1, column x", "one")
    assert "learners that aren't here" in notes["costs"]["remedy"]


def test_where_bad_rows_are_skipped_the_first_is_told_with_the_labels(root: Root) -> None:
    root.configure(_sparse("j", "svmlight"), rows={"on_bad_row": "skip", "max_bad_rows": 0.5})
    root.drop("a.svm", _text("-1 3:1", "-1 7:1", "+1 3:1 2:1"))
    root.once()
    note = root.note("a.svm")
    assert note["rule"] == "the first file must hold 2 classes"
    assert note["place"] == 'a.svm: column "label"'
    assert note["value"] == "-1"
    assert "model.classes" in note["remedy"]
    assert "a.svm:3: row 2: a row's indices grow" in note["remedy"]


def test_a_slip_of_the_pen_among_the_labels_is_told_with_its_line(root: Root) -> None:
    odd = ["x,y", *LABELS[:29], "3,ye", *LABELS[29:]]
    model = {"kernel": "logistic", "positive": "yes"}
    root.configure(job("three", model=model), job("kinds", model=model))
    root.drop("a.csv", _text(*odd), "three")
    root.drop("a.csv", _text(*odd).replace(b",ye\n", b",7\n").replace(b",no\n", b",yes\n"), "kinds")
    root.once()
    note = root.note("a.csv", "three")
    assert note["place"] == "a.csv:31: row 29, column y"
    assert note["value"] == '"no", "ye", "yes"'
    assert "the rarest, ye, first stands here" in note["remedy"]
    note = root.note("a.csv", "kinds")
    assert note["rule"] == "labels must be all names or all numbers"
    assert note["place"] == "a.csv:31: row 29, column y"
    assert note["value"] == '7, "yes"'


def test_where_bad_rows_are_skipped_a_few_other_labels_are_bad_rows_of_the_first_file_too(
    root: Root,
) -> None:
    skip = {"on_bad_row": "skip", "max_bad_rows": 0.01}
    root.configure(_sparse("few", "vw"), _sparse("many", "vw"), rows=skip)
    odd = [*VW[:90], "7 | a0", *VW[90:]]
    root.drop("a.vw", _text(*odd), "few")
    root.drop("a.vw", _text(*odd, "7 | a0", "7 | a1"), "many")
    root.once()
    assert root.header("few")["classes"] == [-1, 1]
    (row,) = root.listed("a.vw", "few")
    assert (row["line"], row["value"]) == (91, "7")
    note = root.note("a.vw", "many")
    assert note["place"] == "a.vw:91: row 90, column label"
    assert note["rule"] == "the first file must hold 2 classes"
