"""Classes have one order: settings decide it, or the first file does, and of two the positive one is the last."""

from __future__ import annotations

import pytest

from service.core.classes import grown, known, learnt, odd_one
from service.core.errors import FileRefused
from service.core.job_settings import Job
from service.core.settings import parse


def job(kernel: str = "logistic", model: str = "") -> Job:
    text = f'[[jobs]]\nname = "a"\nlabel = "y"\n[jobs.model]\nkernel = "{kernel}"\n{model}'
    return parse(text, "c").jobs[0]


@pytest.mark.parametrize(
    ("kernel", "model", "expected"),
    [
        ("linear", "", ()),
        ("logistic", "", None),
        ("softmax", "", None),
        ("logistic", "positive = 0", None),
        ("softmax", "classes = 4", (0, 1, 2, 3)),
        ("softmax", 'classes = ["b", "a", "c"]', ("b", "a", "c")),
        ("logistic", "classes = 2", (0, 1)),
        ("logistic", "classes = 2\npositive = 0", (1, 0)),
        ("logistic", "classes = [1, -1]", (-1, 1)),
        ("logistic", 'classes = ["yes", "no"]', ("yes", "no")),
        ("logistic", 'classes = ["yes", "no"]\npositive = "yes"', ("no", "yes")),
    ],
)
def test_the_settings_order_the_classes(kernel: str, model: str, expected: object) -> None:
    assert known(job(kernel, model)) == expected


@pytest.mark.parametrize(
    ("kernel", "model", "found", "expected"),
    [
        ("logistic", "", {0.0, 1.0}, (0, 1)),
        ("logistic", "", {1.0}, (0, 1)),
        ("logistic", "", {2.0, -1.0}, (-1, 2)),
        ("logistic", "positive = -1", {1.0, -1.0}, (1, -1)),
        ("logistic", "positive = 2", {1.0}, (1, 2)),
        ("logistic", 'positive = "UP"', {"UP", "DOWN"}, ("DOWN", "UP")),
        ("logistic", 'positive = "DOWN"', {"UP", "DOWN"}, ("UP", "DOWN")),
        ("logistic", 'positive = "UP"', {"DOWN"}, ("DOWN", "UP")),
        ("logistic", "", {"true", "false"}, ("false", "true")),
        ("logistic", "", {"true"}, ("false", "true")),
        ("logistic", 'positive = "false"', {"true"}, ("true", "false")),
        ("softmax", "", {10.0, 9.0, 2.5}, (2.5, 9, 10)),
        ("softmax", "", {"b", "B", "a"}, ("B", "a", "b")),
    ],
)
def test_the_first_file_says_what_the_settings_leave_open(
    kernel: str, model: str, found: set[str | float], expected: object
) -> None:
    assert learnt(job(kernel, model), dict.fromkeys(found, 1)) == expected


@pytest.mark.parametrize(
    ("kernel", "model", "found", "key"),
    [
        ("logistic", "", {"UP", "DOWN"}, "model.positive"),
        ("logistic", "", {-1.0}, "model.classes"),
        ("logistic", "", {0.0, 1.0, 2.0}, 'model.kernel = "softmax"'),
        ("logistic", 'positive = "a"', {"a", "b", "c"}, 'model.kernel = "softmax", without'),
        ("mlp", 'loss = "logistic"', {0.0, 1.0, 2.0}, 'model.loss = "softmax"'),
        ("logistic", 'positive = "UP"', {"UP"}, "model.classes"),
        ("logistic", 'positive = "UP"', {"A", "B"}, "model.positive"),
        ("logistic", 'positive = "p"', {1.0}, "model.positive"),
        ("softmax", "", {3.0}, "model.classes"),
        ("softmax", "", {3.0, "a"}, "labels"),
        ("logistic", "", set(), "labelled"),
        ("softmax", "", set(), "labelled"),
    ],
)
def test_a_first_file_that_leaves_it_open_is_refused_with_the_remedy(
    kernel: str, model: str, found: set[str | float], key: str
) -> None:
    with pytest.raises(FileRefused) as caught:
        learnt(job(kernel, model), dict.fromkeys(found, 1))
    refusal = caught.value.refusal
    assert refusal.place == 'column "y"'
    assert key in refusal.remedy


@pytest.mark.parametrize(
    ("classes", "found", "expected"),
    [
        (("b", "a"), ["c", "a", "B"], ("b", "a", "c", "B")),
        (("b", "a"), ["e", "d", "c"], ("b", "a", "e", "d")),
        (("b", "a"), [1.0, "c"], ("b", "a", "c")),
        ((2, 1), ["c", 1.0, 0.5], (2, 1, 0.5)),
        (("a", "b", "c", "d"), ["e"], ("a", "b", "c", "d")),
    ],
)
def test_later_files_bring_classes_as_they_appear_while_there_is_room(
    classes: tuple[str | float, ...], found: list[str | float], expected: object
) -> None:
    assert grown(job("softmax", "classes_max = 4"), classes, found) == expected
    assert grown(job("softmax"), classes, found) == classes


def test_with_room_for_more_the_first_file_gives_the_order() -> None:
    assert learnt(job("softmax", "classes_max = 2"), dict.fromkeys("bca", 1)) == ("b", "c")
    assert learnt(job("softmax", "classes_max = 2"), {"b": 1}) == ("b",)


def test_a_note_names_a_few_of_many_labels() -> None:
    with pytest.raises(FileRefused) as caught:
        learnt(job(), {float(i): 1 for i in range(100)})
    assert caught.value.refusal.value == "0, 1, 2, 3, 4 and 95 more"


def test_a_note_spells_labels_as_files_and_settings_do() -> None:
    with pytest.raises(FileRefused) as caught:
        learnt(job(), dict.fromkeys([7.0, "no", 0.5, 3.0], 1))
    assert caught.value.refusal.value == '0.5, 3, 7, "no"'


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({1.0: 2, "x": 1, 2.0: 2}, (1.0, 2.0)),
        ({1.0: 2, "x": 3, 2.0: 2, "y": 2}, ("x", "y")),
        ({"x": 1, 1.0: 2, 2.0: 1, "y": 2}, ("x", "y")),
        ({1.0: 1, "x": 2, "y": 2, 2.0: 3}, (1.0, 2.0)),
    ],
)
def test_labels_of_the_kind_that_most_rows_have_are_the_classes(
    found: dict[str | float, int], expected: object
) -> None:
    assert learnt(job("softmax"), found) == expected


def test_a_positive_class_that_is_not_among_the_labels_is_told() -> None:
    with pytest.raises(FileRefused, match='positive, "p", must be one of the labels') as caught:
        learnt(job("logistic", 'positive = "p"'), {"x": 1, "z": 1})
    assert caught.value.refusal.value == '"x", "z"'


@pytest.mark.parametrize("kernel", ["logistic", "mlp"])
def test_the_remedy_for_a_third_class_is_one_that_the_settings_take(kernel: str) -> None:
    model = 'positive = "a"' + ('\nloss = "logistic"' if kernel == "mlp" else "")
    found = {"a": 1, "b": 1, "c": 1}
    with pytest.raises(FileRefused) as caught:
        learnt(job(kernel, model), found)
    key, value = caught.value.refusal.remedy.split(" set model.")[1].split(",")[0].split(" = ")
    followed = job("mlp", f"{key} = {value}") if key == "loss" else job(value.strip('"'))
    assert learnt(followed, found) == ("a", "b", "c")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"no": 30, "ye": 1, "yes": 20}, "ye"),
        ({"no": 30, "yes": 20}, None),
        ({"a": 1, "b": 1, "c": 1}, "c"),
        ({1.0: 1, "a": 30, "b": 2}, 1.0),
        ({1.0: 3, "a": 1}, "a"),
        ({}, None),
    ],
)
def test_the_odd_label_is_the_rarest_or_of_the_rarer_kind(
    found: dict[str | float, int], expected: str | float | None
) -> None:
    assert odd_one(found) == expected


def test_of_two_classes_others_that_are_few_enough_to_be_bad_are_none() -> None:
    found = {-1.0: 50, 7.0: 1, 1.0: 49}
    assert learnt(job(), found, most_bad=0.01) == (-1, 1)
    for most_bad in (0.0, 0.009):
        with pytest.raises(FileRefused, match="must hold 2 classes"):
            learnt(job(), found, most_bad)
    assert learnt(job("softmax"), found, most_bad=0.01) == (-1, 1, 7)
    with pytest.raises(FileRefused, match="must hold 2 classes"):
        learnt(job(model="positive = 7"), found, most_bad=0.01)
