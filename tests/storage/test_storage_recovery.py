"""Recovery: what is finished, what is cleared away, what stops the daemon. Kills are the harness's."""

from __future__ import annotations

import os
import shutil

import pytest

from service.core.errors import Refusal, StorageDamaged
from service.storage import units
from service.storage.completion import Keep
from service.storage.journal import Journal
from service.storage.recovery import recover
from service.storage.tables import FileState, LogState
from service.storage.units import perform

REFUSAL = Refusal("must be a number", "row 3", "x", "write a number")


def test_after_a_clean_end_there_is_nothing_to_do(hand) -> None:
    first, _ = hand.admit("a", "b")
    hand.accept(first, 1, samples=b"one\n")
    assert hand.recover() == []


def test_an_acceptance_is_finished_and_then_there_is_nothing_to_do(hand) -> None:
    (file,) = hand.admit("a")
    hand.commit(hand.accepting(file, 1, samples=b"one\n", metrics=b"file\n"))
    did = hand.recover()
    assert did[:4] == [
        "published: 1 metrics.jsonl",
        "published: 1 samples.jsonl",
        "pointed current: 00000001-v11.safetensors",
        "settled as accepted: a",
    ]
    assert hand.log() == b"one\n"
    assert hand.names("done") == ["a"]
    assert hand.journal.file("j", 1).settled_as == b"a"
    assert hand.recover() == []


def test_what_was_published_is_not_published_again_when_the_operator_has_moved_on(hand) -> None:
    """The crash came between the deleted spool and the mark."""
    (file,) = hand.admit("a")
    unit = hand.accepting(file, 1, samples=b"one\n")
    unit.finish(hand.commit(unit))
    hand.recover()
    assert hand.log() == b"one\n"
    assert hand.recover() == []


def test_a_log_taken_away_in_the_crash_gets_a_new_segment(hand) -> None:
    first, second, third = hand.admit("a", "b", "c")
    hand.accept(first, 1, samples=b"one\n")
    group = [hand.accepting(second, 2, samples=b"two\n"), hand.accepting(third, 3, samples=b"3\n")]
    models = [unit.prepare() for unit in group]
    with hand.journal.transaction():
        for unit, model in zip(group, models, strict=True):
            unit.apply(hand.journal, model)
    (hand.layout.logs("j") / "samples.jsonl").rename(hand.layout.root / "taken")
    assert "began a new segment, the log was taken away: samples.jsonl" in hand.recover()
    assert hand.log() == b"two\n3\n"
    assert hand.journal.log_end("j", "samples.jsonl") == LogState(2, 6)
    assert hand.recover() == []


def test_a_spool_that_is_too_short_for_its_commit_stops(hand) -> None:
    (file,) = hand.admit("a")
    hand.commit(hand.accepting(file, 1, samples=b"one\n"))
    os.truncate(hand.layout.spool("j", 1, "samples.jsonl"), 3)
    with pytest.raises(StorageDamaged, match="must have at least 4 bytes, got 3"):
        hand.recover()


def test_a_damaged_model_stops_with_a_remedy(hand) -> None:
    (file,) = hand.admit("a")
    model = hand.layout.models("j") / hand.accept(file, 1).commit.model
    whole = model.read_bytes()
    model.write_bytes(whole[:-1] + b"x")
    with pytest.raises(StorageDamaged, match=r"sha256 must be .*restore .* or run `headrace reset"):
        hand.recover()
    model.unlink()
    with pytest.raises(StorageDamaged, match="must be there, got no file; restore"):
        hand.recover()
    model.write_bytes(whole)
    assert hand.recover() == []


@pytest.mark.parametrize("data", [b"", b"on", b"one\nnot ours\n"])
def test_a_log_of_another_length_stops_with_a_remedy(hand, data: bytes) -> None:
    (file,) = hand.admit("a")
    hand.accept(file, 1, samples=b"one\n")
    log = hand.layout.logs("j") / "samples.jsonl"
    log.write_bytes(data)
    with pytest.raises(StorageDamaged, match=rf"must have 4 bytes.*, got {len(data)}; .*move it"):
        hand.recover()
    log.rename(hand.layout.root / "moved")
    assert hand.recover() == [
        "found a log taken away, the next file begins a new segment: samples.jsonl"
    ]


def test_a_lost_journal_does_not_cost_the_models(hand) -> None:
    (file,) = hand.admit("a")
    hand.accept(file, 1, samples=b"one\n")
    before = hand.names("models")
    hand.journal.close()
    hand.layout.journal.unlink()
    journal = Journal(hand.layout.journal)
    with pytest.raises(StorageDamaged, match="must know the job j, whose files are in"):
        recover(hand.layout, journal, ["j"], keep=hand.keep)
    journal.close()
    assert hand.names("models") == before


@pytest.mark.parametrize("damage", ["model", "spool", "no model", "no spool"])
def test_a_damaged_resume_point_starts_its_file_again(hand, damage: str) -> None:
    (file,) = hand.admit("a")
    progress = hand.progress(file, 0, 1, samples=b"x\ny\n")
    perform(hand.journal, units.private_commit(hand.layout, progress))
    model = hand.layout.private("j") / "a1-r1.safetensors"
    spool = hand.layout.spool("j", 1, "samples.jsonl")
    {
        "model": lambda: os.truncate(model, 10),
        "no model": model.unlink,
        "spool": lambda: os.truncate(spool, 3),
        "no spool": spool.unlink,
    }[damage]()
    assert hand.recover()[0].startswith("dropped a resume point, its file starts again: ")
    assert hand.journal.commit("j", "private") is None
    assert [row.admission for row in hand.journal.unfinished("j")] == [1]
    assert os.listdir(hand.layout.private("j")) == []
    assert os.listdir(hand.layout.spools("j")) == []


def test_spools_are_cut_back_to_the_resume_point(hand) -> None:
    (file,) = hand.admit("a")
    progress = hand.progress(file, 0, 1, samples=b"x\n")
    perform(hand.journal, units.private_commit(hand.layout, progress))
    spool = hand.layout.spool("j", 1, "samples.jsonl")
    spool.write_bytes(b"x\nnot committed")
    hand.layout.spool("j", 1, "metrics.jsonl").write_bytes(b"not committed")
    hand.recover()
    assert spool.read_bytes() == b"x\n"
    assert os.listdir(hand.layout.spools("j")) == [spool.name]


def test_a_refusal_is_finished_with_the_same_note(hand) -> None:
    (file,) = hand.admit("a.csv")
    row = hand.commit(units.refusal(hand.layout, "j", file.admission, REFUSAL))
    hand.recover()
    assert hand.names("failed") == ["a.csv", "a.csv.error.json"]
    assert row.refusal == hand.journal.file("j", 1).refusal
    assert hand.recover() == []


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("decision", ["accepted", "refused"])
def test_the_list_of_bad_rows_is_brought_to_its_place(hand, decision: str, moved: bool) -> None:
    (file,) = hand.admit("a.csv")
    unit = {
        "accepted": lambda: hand.accepting(file, 1, rejected=lambda: b"{}\n"),
        "refused": lambda: units.refusal(hand.layout, "j", 1, REFUSAL, lambda: b"{}\n"),
    }[decision]()
    applied = hand.commit(unit)
    if moved:
        unit.finish(applied)  # the journal wasn't told
    hand.recover()
    own = ["a.csv", "a.csv.error.json"] if decision == "refused" else []
    assert hand.names("failed") == [*own, "a.csv.rows.jsonl"]
    assert os.listdir(hand.layout.spools("j")) == []
    assert hand.recover() == []


def test_a_list_of_what_was_not_committed_is_cleared_away(hand) -> None:
    (file,) = hand.admit("a.csv")
    hand.accepting(file, 1, rejected=lambda: b"{}\n").prepare()
    assert hand.recover() == [
        "deleted a spool: 0000000001.rows.jsonl",
        "deleted a model: 00000001-v11.safetensors",
    ]
    assert hand.names("failed") == []


def test_admitted_files_that_are_still_in_the_inbox_are_taken(hand) -> None:
    same, grown, gone = hand.drop("same"), hand.drop("grown"), hand.drop("gone")
    hand.commit(hand.admission(same, grown, gone))
    (hand.layout.inbox("j") / "grown").write_text("1\n2\n")
    (hand.layout.inbox("j") / "gone").unlink()
    hand.recover()
    assert hand.names("work") == ["0000000001"]
    assert hand.names("inbox") == ["grown"]
    states = [hand.journal.file("j", number).state for number in (1, 2, 3)]
    assert states == [FileState.ADMITTED, FileState.WITHDRAWN, FileState.WITHDRAWN]


def test_a_root_restored_from_a_copy_goes_on(hand) -> None:
    """Every inode has another number in the copy."""
    first, second = hand.admit("a", "b")
    hand.commit(hand.accepting(first, 1, samples=b"one\n"))
    root = hand.layout.root
    shutil.copytree(root, root.with_name("copy"), symlinks=True)
    shutil.rmtree(root / "work")
    shutil.copytree(root.with_name("copy") / "work", root / "work")
    hand.recover()
    assert hand.names("done") == ["a"]
    assert hand.journal.unfinished("j") == [second]


def test_what_the_journal_does_not_name_is_cleared_away(hand) -> None:
    (file,) = hand.admit("a")
    layout = hand.layout
    stale = [
        layout.scratch("j", file.admission),
        layout.work("j") / "predict-4711.unpacked",
        layout.spool("j", 7, "samples.jsonl"),
        layout.private("j") / "a7-r1.safetensors",
        layout.models("j") / "00000009-v9.safetensors",
        layout.models("j") / ".headrace-0123456789abcdef.tmp",
        layout.failed("j") / ".headrace-0123456789abcdef.tmp",
        layout.state / ".headrace-0123456789abcdef.tmp",
    ]
    kept = [layout.models("j") / "README", layout.done("j") / ".somebody.tmp"]
    for path in stale + kept:
        path.write_text("x")
    hand.recover()
    assert [path for path in stale if path.exists()] == []
    assert all(path.exists() for path in kept)
    assert hand.names("work") == ["0000000001"]


def test_a_work_file_that_nobody_knows_goes_to_failed_with_a_note(hand) -> None:
    (hand.layout.work("j") / "0000000042").write_text("rows")
    hand.recover()
    assert hand.names("failed") == ["0000000042", "0000000042.error.json"]
    note = (hand.layout.failed("j") / "0000000042.error.json").read_text()
    assert "must be known to the journal" in note


def test_more_models_than_are_kept_are_cleared_away(hand) -> None:
    for sequence, file in enumerate(hand.admit(*"abc"), 1):
        hand.accept(file, sequence)
    hand.keep = Keep(rotate_bytes=0, segments=0, models=1)
    hand.recover()
    assert hand.names("models") == ["00000003-v31.safetensors", "current.safetensors"]


def test_a_job_that_is_not_asked_for_is_left_alone(hand) -> None:
    (file,) = hand.admit("a")
    hand.commit(hand.accepting(file, 1, samples=b"one\n"))
    recover(hand.layout, hand.journal, [], keep=hand.keep)
    assert hand.names("work") == ["0000000001"]


def test_a_reset_is_finished(hand) -> None:
    (file,) = hand.admit("a")
    hand.accept(file, 1, samples=b"one\n")
    hand.commit(units.reset(hand.layout, "j"))
    hand.recover()
    assert hand.names("models") == []
    assert hand.log() == b"one\n"
    assert hand.recover() == []
