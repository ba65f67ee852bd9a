"""Taking files back, and trying refused ones again: what is decided, what is on the disk after, and after a crash between."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from service.core.errors import ConfigurationError, HeadraceError, Refusal
from service.storage import units
from service.storage.archive import look_at
from service.storage.completion import Keep
from service.storage.naming import Named
from service.storage.retraction import Plan, planning, refuse_lost, retraction
from service.storage.retrial import retrial
from service.storage.tables import Entry, FileState
from service.storage.units import perform
from service.storage.writer import Unit

REFUSAL = Refusal("must be a number", "row 3", "x", "write a number")


def learn(hand: Any, *names: str) -> None:
    public = hand.journal.commit("j", "public")
    start = (public.sequence if public else 0) + 1
    for sequence, file in enumerate(hand.admit(*names), start):
        name = os.fsencode(file.name)
        hand.accept(file, sequence, samples=name + b"\n", metrics=b"file " + name + b"\n")


def plan(hand: Any, *names: str) -> Plan:
    named = [Named(name, str(hand.layout.done("j") / name)) for name in names]
    return perform(hand.journal, planning(hand.layout, "j", named))


def carrying_out(hand: Any, plan: Plan) -> Unit[Any, Any, Any]:
    found = look_at(hand.layout, plan.files)
    refuse_lost(hand.layout, plan, found)
    perform(hand.journal, units.drop_private(hand.layout, "j"))
    return retraction(hand.layout, plan, found, rotate_bytes=hand.keep.rotate_bytes)


def retract(hand: Any, *names: str) -> Any:
    return perform(hand.journal, carrying_out(hand, plan(hand, *names)))


def states(hand: Any) -> list[tuple[str, int]]:
    numbers = range(1, 1 + len(hand.journal.standing("j")) + sum(_gone(hand)))
    files = [hand.journal.file("j", number) for number in numbers]
    return [(str(file.state), file.revision) for file in files]


def _gone(hand: Any) -> Sequence[int]:
    counts = hand.journal.counts("j")
    return [n for state, n in counts.items() if state not in ("accepted", "admitted")]


def records(hand: Any) -> list[dict[str, Any]]:
    lines = hand.log("metrics.jsonl").splitlines()
    return [json.loads(line) for line in lines if line.startswith(b"{")]


def assert_taken_back(hand: Any) -> None:
    """b is taken back out of a, b, c, d; the model after a is kept."""
    assert states(hand) == [("accepted", 0), ("retracted", 0), ("admitted", 1), ("admitted", 1)]
    assert hand.names("models") == ["00000001-v11.safetensors", "current.safetensors"]
    assert os.readlink(hand.layout.current("j")) == "00000001-v11.safetensors"
    public = hand.journal.commit("j", "public")
    assert public is not None
    assert (public.admission, public.sequence, public.version) == (1, 1, 11)
    assert (hand.names("done"), hand.names("work")) == (["a"], ["0000000003", "0000000004"])
    assert hand.names("failed") == ["b", "b.error.json"]
    assert hand.log() == b"a\nb\nc\nd\n"
    (record,) = records(hand)
    assert record == {
        "kind": "retracted",
        "job": "j",
        "file": "b",
        "sequence": 2,
        "revision": 0,
        "sha256": hand.journal.file("j", 2).sha256,
        "back_to": {"sequence": 1, "version": 11},
    }
    assert os.listdir(hand.layout.spools("j")) == []
    assert os.listdir(hand.layout.private("j")) == []
    assert hand.journal.publications("j") == []
    assert hand.journal.unsettled("j") == []
    assert hand.recover() == []


@pytest.fixture
def four(hand: Any) -> Any:
    hand.keep = Keep(rotate_bytes=0, segments=0, models=9)
    learn(hand, "a", "b", "c", "d")
    return hand


def test_the_model_goes_back_to_the_checkpoint_and_what_came_after_is_admitted_again(
    four: Any,
) -> None:
    retract(four, "b")
    assert_taken_back(four)


@pytest.mark.parametrize("done", range(7))
def test_a_crash_after_the_decision_is_finished_wherever_it_comes(four: Any, done: int) -> None:
    """Some of the moves are made, some are not."""
    layout = four.layout
    decided = four.commit(carrying_out(four, plan(four, "b")))
    steps = [
        lambda: layout.current("j").unlink(),
        lambda: (layout.done("j") / "b").rename(layout.failed("j") / "b"),
        lambda: (layout.done("j") / "c").rename(layout.work("j") / "0000000003"),
        lambda: (layout.done("j") / "d").rename(layout.work("j") / "0000000004"),
        lambda: (layout.models("j") / "00000004-v41.safetensors").unlink(),
        lambda: (layout.models("j") / "00000003-v31.safetensors").unlink(),
    ]
    for step in steps[:done]:
        step()
    assert decided.models == ("00000001-v11.safetensors",)
    assert four.recover() != []
    assert_taken_back(four)


def test_a_plan_that_was_not_carried_out_leaves_nothing(four: Any) -> None:
    carrying_out(four, plan(four, "b")).prepare()
    before = states(four)
    assert four.recover() == ["deleted a spool: 0000000002.metrics.jsonl"]
    assert states(four) == before
    assert records(four) == []


def test_without_a_checkpoint_before_it_everything_begins_anew(four: Any) -> None:
    done = retract(four, "a")
    assert [row.name for row in done.again] == [b"b", b"c", b"d"]
    assert four.journal.commit("j", "public") is None
    assert four.names("models") == []
    assert records(four)[0]["back_to"] == {"sequence": 0, "version": 0}
    assert four.recover() == []


def test_models_that_are_no_longer_kept_are_no_checkpoints(hand: Any) -> None:
    hand.keep = Keep(rotate_bytes=0, segments=0, models=2)
    learn(hand, "a", "b", "c", "d")
    assert [file.name for file in plan(hand, "c").again] == [b"a", b"b", b"d"]
    assert [file.name for file in plan(hand, "d").again] == []


def test_files_learnt_again_keep_their_place_before_those_that_wait(four: Any) -> None:
    (waiting,) = four.admit("e")
    perform(
        four.journal,
        units.private_commit(four.layout, four.progress(waiting, 4, 1, samples=b"e\n")),
    )
    retract(four, "c")
    assert [file.name for file in four.journal.unfinished("j")] == [b"d", b"e"]
    assert four.journal.commit("j", "private") is None
    assert os.listdir(four.layout.private("j")) == os.listdir(four.layout.spools("j")) == []
    (again, after) = four.journal.unfinished("j")
    four.accept(again, 3, samples=b"d again\n")
    four.accept(after, 4, samples=b"e\n")
    assert four.names("done") == ["a", "b", "d", "e"]
    assert four.log() == b"a\nb\nc\nd\nd again\ne\n"
    assert four.recover() == []


def test_what_is_to_be_learnt_again_is_taken_back_out_of_work(four: Any) -> None:
    retract(four, "b")
    perform(four.journal, units.duplicate(four.layout, "j", four.admit("d")[0].admission))
    assert four.names("done") == ["a", "d"]  # another d, which came meanwhile
    unit = carrying_out(four, plan(four, "d"))
    decided = four.commit(unit)
    unit.finish(decided)
    four.recover()  # the mark was lost
    assert four.names("done") == ["a", "d"]
    assert four.names("failed") == ["b", "b.error.json", "d", "d.error.json"]
    assert four.names("work") == ["0000000003"]
    assert records(four)[1]["sequence"] is None
    assert four.recover() == []


def test_a_reset_gives_back_what_waits_to_be_learnt_again(four: Any) -> None:
    retract(four, "b")
    perform(four.journal, units.reset(four.layout, "j"))
    assert four.names("inbox") == ["c", "d"]
    assert four.recover() == []


def test_nothing_is_decided_where_a_file_can_not_be_learnt_again(four: Any) -> None:
    path = four.layout.done("j") / "c"
    path.write_text("2\n")
    (four.layout.done("j") / "d").unlink()
    with pytest.raises(HeadraceError, match=r"c: must have the sha256 .*; .*d: no such file"):
        carrying_out(four, plan(four, "a"))
    four.layout.done("j").joinpath("c").write_text("1\n")
    os.link(path, four.layout.done("j") / "another")
    with pytest.raises(HeadraceError, match="c: must have no second name"):
        carrying_out(four, plan(four, "b"))
    assert [state for state, _ in states(four)] == ["accepted"] * 4


def test_a_damaged_checkpoint_is_told_and_an_older_one_will_do(four: Any) -> None:
    model = four.layout.models("j") / "00000002-v21.safetensors"
    model.write_bytes(b"x")
    with pytest.raises(
        HeadraceError, match=r"00000002-v21\.safetensors: the model's sha256 must be"
    ):
        carrying_out(four, plan(four, "c"))
    model.unlink()
    assert [file.name for file in plan(four, "c").again] == [b"b", b"d"]


def test_a_file_that_changes_between_the_look_and_the_move_is_not_taken(four: Any) -> None:
    unit = carrying_out(four, plan(four, "b"))
    (four.layout.done("j") / "c").write_text("1\n2\n")
    done = perform(four.journal, unit)
    assert [row.name for row in done.vanished] == [b"c"]
    assert [row.name for row in done.again] == [b"d"]
    assert four.names("done") == ["a", "c"]
    assert four.journal.file("j", 3).state is FileState.WITHDRAWN
    assert four.recover() == []


@pytest.mark.parametrize("instead", [None, "2\n"], ids=["deleted", "replaced"])
def test_a_file_that_is_gone_or_another_can_still_be_taken_back(
    four: Any, instead: str | None
) -> None:
    path = four.layout.done("j") / "d"
    path.unlink()
    if instead is not None:
        path.write_text(instead)
    retract(four, "d")
    assert four.names("failed") == []
    assert ("d" in four.names("done")) is (instead is not None)
    assert [state for state, _ in states(four)][3] == "retracted"
    assert four.recover() == []


# Names


def test_a_file_is_named_as_it_lies_or_by_its_path_or_as_it_came(hand: Any) -> None:
    (hand.layout.done("j") / "a").write_text("somebody's")
    learn(hand, "a", "b")
    learn(hand, "a")
    assert [f.admission for f in plan(hand, "a~2").taken] == [1]
    assert [f.admission for f in plan(hand, "a~3", "b").taken] == [2, 3]
    path = str(hand.layout.done("j") / "a~2")
    named = [Named("a~2", path), Named("../anywhere", path)]
    assert [
        f.admission for f in perform(hand.journal, planning(hand.layout, "j", named)).taken
    ] == [1]
    wrong = r"FILE: must name one file that j has learnt each, got a \(one of a~2, a~3 in done/\); x \(no such file\)"
    with pytest.raises(ConfigurationError, match=wrong):
        plan(hand, "a", "x")


def test_a_name_in_done_that_was_used_again_means_the_file_that_has_it_now(hand: Any) -> None:
    learn(hand, "a")
    (hand.layout.done("j") / "a").unlink()
    learn(hand, "a")
    assert [f.admission for f in plan(hand, "a").taken] == [2]


def test_all_passes_over_a_trained_file_are_one_file(hand: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine"
    path.write_text("1\n")
    seen = path.stat()
    entries = [
        Entry(b"mine", 2, seen.st_mtime_ns, seen.st_ino, os.fsencode(path), epoch)
        for epoch in (1, 2, 3)
    ]
    rows = perform(hand.journal, hand.admission(*entries))
    for sequence, row in enumerate(rows[:2], 1):
        hand.accept(row, sequence)
    done = perform(
        hand.journal,
        carrying_out(
            hand, perform(hand.journal, planning(hand.layout, "j", [Named("x", str(path))]))
        ),
    )
    assert [(row.epoch, row.state) for row in done.taken] == [(n, "retracted") for n in (1, 2, 3)]
    assert done.told() == {"taken": ["mine"], "again": [], "vanished": []}
    assert path.exists()
    assert hand.names("failed") == []
    assert hand.recover() == []


# Trying again


def refuse(hand: Any, name: str) -> None:
    (file,) = hand.admit(name)
    perform(hand.journal, units.refusal(hand.layout, "j", file.admission, REFUSAL))


def trying_again(hand: Any, *names: str) -> Unit[Any, Any, Any]:
    return retrial(hand.layout, "j", [Named(n, str(hand.layout.failed("j") / n)) for n in names])


def test_a_refused_file_is_in_the_inbox_again_under_its_own_name(hand: Any) -> None:
    refuse(hand, "a")
    refuse(hand, "a")
    hand.drop("a", "newer")
    (row,) = perform(hand.journal, trying_again(hand, "a~2")).rows
    assert (row.admission, row.settled_as) == (2, b"a~2")
    assert hand.names("inbox") == ["a", "a~2"]
    assert hand.names("failed") == ["a", "a.error.json"]
    assert hand.journal.file("j", 2).state is FileState.WITHDRAWN
    assert hand.recover() == []


@pytest.mark.parametrize("done", range(3))
def test_a_crash_while_a_file_is_tried_again_is_finished(hand: Any, done: int) -> None:
    refuse(hand, "a")
    hand.commit(trying_again(hand, "a"))
    if done > 0:
        (hand.layout.failed("j") / "a").rename(hand.layout.inbox("j") / "a")
    if done > 1:
        (hand.layout.failed("j") / "a.error.json").unlink()
    assert hand.recover() == ["settled as withdrawn: a"]
    assert (hand.names("inbox"), hand.names("failed")) == (["a"], [])
    assert hand.recover() == []


def test_a_file_that_was_mended_in_place_is_the_one_that_goes(hand: Any) -> None:
    refuse(hand, "a")
    mended = hand.layout.failed("j") / "mended"
    mended.write_text("9\n")
    mended.rename(hand.layout.failed("j") / "a")
    unit = trying_again(hand, "a")
    unit.finish(hand.commit(unit))
    hand.recover()
    assert (hand.layout.inbox("j") / "a").read_text() == "9\n"
    assert hand.names("failed") == []


def test_only_what_lies_in_failed_can_be_tried_again_and_a_wrong_name_moves_nothing(
    hand: Any,
) -> None:
    learn(hand, "good")
    for name in ("a", "b"):
        refuse(hand, name)
    (hand.layout.failed("j") / "b").unlink()
    (hand.layout.failed("j") / "strange").write_text("x")
    with pytest.raises(ConfigurationError, match=r"got b \(no .*\); strange \(no .*\); good \(no"):
        perform(hand.journal, trying_again(hand, "a", "b", "strange", "good"))
    assert hand.names("inbox") == []
