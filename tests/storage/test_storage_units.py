"""The units that the stages hand in: what is on the disk and in the journal after each."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from service.core.errors import Refusal, StorageDamaged
from service.storage import checkpoints, units
from service.storage.completion import Keep
from service.storage.naming import Named
from service.storage.retrial import retrial
from service.storage.tables import Digests, Entry, FileState, LogState
from service.storage.units import Whole, perform

REFUSAL = Refusal("must be a number", "row 3, column x", "'two'", "write a number")


# Admission


def test_admitted_files_are_in_work_under_their_numbers(hand) -> None:
    first, second = hand.admit("b", "a")
    assert (first.name, second.name) == (b"b", b"a")
    assert hand.names("work") == ["0000000001", "0000000002"]
    assert hand.names("inbox") == []


def test_a_file_that_vanished_is_withdrawn_and_the_others_are_taken(hand) -> None:
    gone, here = hand.drop("gone"), hand.drop("here")
    (hand.layout.inbox("j") / "gone").unlink()
    rows = perform(hand.journal, hand.admission(gone, here))
    assert rows[0] is None
    assert rows[1].name == b"here"
    row = hand.journal.file("j", 1)
    assert (row.state, row.settled) == (FileState.WITHDRAWN, True)
    assert hand.names("work") == ["0000000002"]


@pytest.mark.parametrize("change", ["grown", "touched", "replaced", "link", "folder", "fifo"])
def test_a_file_that_is_not_what_was_admitted_stays_in_the_inbox(hand, change: str) -> None:
    entry = hand.drop("a")
    path = hand.layout.inbox("j") / "a"
    if change == "grown":
        path.write_text("1\n2\n")
    elif change == "touched":
        os.utime(path, ns=(0, 0))
    else:
        path.rename(hand.layout.root / "elsewhere")
        {
            "replaced": lambda: path.write_text("1\n"),
            "link": lambda: path.symlink_to(hand.layout.root / "elsewhere"),
            "folder": path.mkdir,
            "fifo": lambda: os.mkfifo(path),
        }[change]()
    before = path.lstat().st_ino
    assert perform(hand.journal, hand.admission(entry)) == (None,)
    assert path.lstat().st_ino == before
    assert hand.names("work") == []
    assert hand.journal.unfinished("j") == []


def test_an_inbox_that_is_gone_or_a_link_withdraws_what_was_in_it(hand) -> None:
    inbox = hand.layout.inbox("j")
    entry = hand.drop("a")
    inbox.rename(hand.layout.root / "elsewhere")
    assert perform(hand.journal, hand.admission(entry)) == (None,)
    inbox.symlink_to(hand.layout.root / "elsewhere")
    assert perform(hand.journal, hand.admission(entry)) == (None,)
    assert os.listdir(hand.layout.root / "elsewhere") == ["a"]


def test_a_file_named_on_the_command_line_is_never_moved(hand, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("1\n")
    entry = Entry(b"mine.csv", 2, 1, 1, path=os.fsencode(path))
    (row,) = perform(hand.journal, hand.admission(entry))
    accepted = hand.accept(row, 1, samples=b"record\n")
    assert accepted.settled_as == {row.admission: None}
    (row,) = perform(hand.journal, hand.admission(replace(entry, epoch=2)))
    perform(hand.journal, units.refusal(hand.layout, "j", row.admission, REFUSAL))
    assert path.read_text() == "1\n"
    assert (hand.names("done"), hand.names("failed"), hand.names("work")) == ([], [], [])
    assert hand.journal.unsettled("j") == []


# Commits


def test_an_accepted_file_is_in_the_model_the_logs_and_done(hand) -> None:
    (file,) = hand.admit("a.csv")
    accepted = hand.accept(file, 1, samples=b"one\ntwo\n", metrics=b"file\n")
    assert (hand.log(), hand.log("metrics.jsonl")) == (b"one\ntwo\n", b"file\n")
    assert hand.names("done") == ["a.csv"]
    assert accepted.settled_as == {1: b"a.csv"}
    current = checkpoints.read(hand.layout.current("j"), accepted.commit.model_sha256)
    assert current.tensors["w"].tolist() == [1.0, 1.0]
    assert hand.journal.file("j", 1).settled_as == b"a.csv"
    assert hand.journal.publications("j") == []
    assert os.listdir(hand.layout.spools("j")) == []


def test_files_accepted_together_come_to_what_they_come_to_one_by_one(hand, tmp_path) -> None:
    hand.keep = Keep(rotate_bytes=0, segments=0, models=2)
    (hand.layout.done("j") / "b").write_text("somebody's")
    wholes, spooled = [], b""
    for sequence, file in enumerate(hand.admit(*"abc"), 1):
        progress = hand.progress(file, sequence)
        line = b"%d\n" % sequence
        wholes.append(
            Whole(replace(progress, spools={"samples.jsonl": len(line)}), Digests("s", "r", "f"))
        )
        spooled += line
    hand.layout.spool("j", 1, "samples.jsonl").write_bytes(spooled)
    accepted = perform(hand.journal, units.acceptance(hand.layout, wholes, keep=hand.keep))
    assert accepted.settled_as == {1: b"a", 2: b"b~2", 3: b"c"}
    assert hand.names("done") == ["a", "b", "b~2", "c"]
    assert hand.log() == spooled
    assert hand.names("models") == [
        "00000002-v21.safetensors", "00000003-v31.safetensors", "current.safetensors"
    ]  # fmt: skip
    rows = hand.journal.files("j")
    assert [(row.sequence, row.model) for row in rows] == [
        (n, f"{n:08d}-v{n}1.safetensors") for n in (1, 2, 3)
    ]
    assert len({row.model_sha256 for row in rows}) == 3
    assert hand.journal.unsettled("j") == hand.journal.publications("j") == []
    assert hand.names("work") == os.listdir(hand.layout.spools("j")) == []


def test_one_file_that_has_changed_fails_all_that_were_to_be_accepted_with_it(hand) -> None:
    def changed() -> None:
        raise ValueError("changed")

    wholes = [
        Whole(hand.progress(file, sequence), Digests("s", "r", "f"))
        for sequence, file in enumerate(hand.admit(*"ab"), 1)
    ]
    wholes[1] = replace(wholes[1], must_be_unchanged=changed)
    with pytest.raises(ValueError, match="changed"):
        perform(hand.journal, units.acceptance(hand.layout, wholes, keep=hand.keep))
    assert len(hand.journal.unfinished("j")) == 2
    assert hand.names("models") == []


def test_a_resume_point_replaces_the_one_before_and_goes_with_the_file(hand) -> None:
    (file,) = hand.admit("a.csv")
    for row in (1, 2):
        progress = hand.progress(file, 0, row, samples=b"x\n" * row)
        perform(hand.journal, units.private_commit(hand.layout, progress))
    assert os.listdir(hand.layout.private("j")) == ["a1-r2.safetensors"]
    assert hand.journal.spool_lengths("j", 1) == {"samples.jsonl": 4}
    hand.accept(file, 1, samples=b"x\ny\nz\n")
    assert os.listdir(hand.layout.private("j")) == []
    assert hand.log() == b"x\ny\nz\n"


def test_a_later_files_end_leaves_the_resume_point_of_the_file_in_progress(hand) -> None:
    first, second, third = hand.admit("a", "b", "c")
    progress = hand.progress(first, 0, 1, samples=b"x\n")
    perform(hand.journal, units.private_commit(hand.layout, progress))
    perform(hand.journal, units.refusal(hand.layout, "j", second.admission, REFUSAL))
    perform(hand.journal, units.duplicate(hand.layout, "j", third.admission, sha256="s"))
    assert os.listdir(hand.layout.private("j")) == ["a1-r1.safetensors"]
    assert os.listdir(hand.layout.spools("j")) == ["0000000001.samples.jsonl"]
    assert hand.journal.commit("j", "private") is not None


def test_a_spool_shorter_than_told_is_damaged_before_anything_is_committed(hand) -> None:
    (file,) = hand.admit("a")
    progress = replace(hand.progress(file, 1, samples=b"x\n"), spools={"samples.jsonl": 3})
    whole = Whole(progress, Digests("s", "r", "f"))
    unit = units.acceptance(hand.layout, [whole], keep=hand.keep)
    with pytest.raises(StorageDamaged, match="must have at least 3 bytes, got 2"):
        perform(hand.journal, unit)
    assert hand.journal.unfinished("j") == [file]


def test_an_accepted_file_may_be_deleted_instead_of_archived(hand) -> None:
    (file,) = hand.admit("a", after="delete")
    hand.accept(file, 1)
    assert (hand.names("work"), hand.names("done")) == ([], [])
    assert hand.journal.unsettled("j") == []


def test_as_many_models_and_segments_are_kept_as_wished(hand) -> None:
    hand.keep = Keep(rotate_bytes=1, segments=1, models=2)
    for sequence, file in enumerate(hand.admit(*"abcd"), 1):
        hand.accept(file, sequence, samples=b"%d\n" % sequence)
    models = [name for name in hand.names("models") if name != "current.safetensors"]
    assert models == ["00000003-v31.safetensors", "00000004-v41.safetensors"]
    assert hand.names("logs") == ["samples.000003.jsonl", "samples.jsonl"]


def test_at_least_one_model_is_kept() -> None:
    with pytest.raises(ValueError, match="at least 1 model must stay, got 0"):
        Keep(rotate_bytes=0, segments=0, models=0)


def test_a_log_that_was_taken_away_begins_a_new_segment_and_is_reported(hand) -> None:
    first, second, third = hand.admit("a", "b", "c")
    hand.accept(first, 1, samples=b"one\n")
    (hand.layout.logs("j") / "samples.jsonl").rename(hand.layout.root / "taken")
    assert hand.accept(second, 2, samples=b"two\n").renewed == ("samples.jsonl",)
    assert hand.accept(third, 3, samples=b"three\n").renewed == ()
    assert hand.log() == b"two\nthree\n"
    assert hand.journal.log_end("j", "samples.jsonl") == LogState(2, 10)


@pytest.mark.parametrize("data", [b"on", b"one\nnot ours\n"])
def test_a_log_of_another_length_stops_before_the_commit(hand, data: bytes) -> None:
    first, second = hand.admit("a", "b")
    hand.accept(first, 1, samples=b"one\n")
    log = hand.layout.logs("j") / "samples.jsonl"
    log.write_bytes(data)
    with pytest.raises(StorageDamaged, match=rf"must have 4 bytes.*, got {len(data)}"):
        hand.accept(second, 2, samples=b"two\n")
    assert log.read_bytes() == data
    assert hand.journal.unfinished("j") == [second]


def test_files_of_one_job_may_share_a_transaction(hand) -> None:
    hand.keep = Keep(rotate_bytes=8, segments=0, models=1)
    files = hand.admit(*"abcde")
    group = [hand.accepting(file, n, samples=b"%d%d\n" % (n, n)) for n, file in enumerate(files, 1)]
    prepared = [unit.prepare() for unit in group]
    with hand.journal.transaction():
        applied = [
            unit.apply(hand.journal, model) for unit, model in zip(group, prepared, strict=True)
        ]
    for unit, value in zip(group, applied, strict=True):
        unit.finish(value)
    assert hand.log() == b"11\n22\n33\n44\n55\n"
    assert hand.names("logs") == ["samples.000001.jsonl", "samples.jsonl"]
    assert hand.names("done") == list("abcde")
    hand.recover()
    assert hand.log() == b"11\n22\n33\n44\n55\n"


def test_two_resume_points_may_share_a_transaction(hand) -> None:
    (file,) = hand.admit("a")
    group = [
        units.private_commit(hand.layout, hand.progress(file, 0, row, samples=b"x\n" * row))
        for row in (99, 100)
    ]
    prepared = [unit.prepare() for unit in group]
    with hand.journal.transaction():
        applied = [
            unit.apply(hand.journal, model) for unit, model in zip(group, prepared, strict=True)
        ]
    for unit, value in zip(group, applied, strict=True):
        unit.finish(value)
    assert os.listdir(hand.layout.private("j")) == ["a1-r100.safetensors"]
    assert hand.recover() == []


# Other ends


def test_a_refused_file_has_a_note_that_says_why(hand) -> None:
    (file,) = hand.admit("a\n\udcff.csv")
    row = perform(hand.journal, units.refusal(hand.layout, "j", file.admission, REFUSAL))
    assert row.settled_as == b"a\n\xff.csv"
    note = json.loads((hand.layout.failed("j") / "a\n\udcff.csv.error.json").read_text())
    assert note == {
        "file": r"a\n\xff.csv",
        "job": "j",
        "rule": "must be a number",
        "place": "row 3, column x",
        "value": "'two'",
        "remedy": "write a number",
        "admission": 1,
        "sha256": None,
    }


def test_refused_files_of_one_name_have_a_note_each(hand) -> None:
    for _ in range(3):
        (file,) = hand.admit("a.csv")
        perform(hand.journal, units.refusal(hand.layout, "j", file.admission, REFUSAL))
    names = ["a.csv", "a~2.csv", "a~3.csv"]
    assert hand.names("failed") == sorted([*names, *(f"{name}.error.json" for name in names)])
    notes = [json.loads((hand.layout.failed("j") / f"{n}.error.json").read_text()) for n in names]
    assert [note["admission"] for note in notes] == [1, 2, 3]


def test_a_note_that_is_there_alone_keeps_its_name(hand) -> None:
    other = hand.layout.failed("j") / "a.csv.error.json"
    other.write_text("somebody's")
    (file,) = hand.admit("a.csv")
    perform(hand.journal, units.refusal(hand.layout, "j", file.admission, REFUSAL))
    assert other.read_text() == "somebody's"
    assert "a~2.csv" in hand.names("failed")


def test_the_longest_name_leaves_room_for_its_note(hand) -> None:
    name = "n" * 251 + ".csv"
    (file,) = hand.admit(name)
    row = perform(hand.journal, units.refusal(hand.layout, "j", file.admission, REFUSAL))
    assert len(row.settled_as) == 255 - len(".error.json")
    assert row.settled_as.endswith(b".csv")
    assert len(hand.names("failed")) == 2


def test_a_duplicate_goes_to_done_and_says_what_it_holds(hand) -> None:
    (file,) = hand.admit("a")
    row = perform(hand.journal, units.duplicate(hand.layout, "j", file.admission, sha256="s"))
    assert (row.state, row.sha256, row.settled_as) == (FileState.DUPLICATE, "s", b"a")
    assert hand.names("done") == ["a"]


def test_a_withdrawn_file_is_back_in_the_inbox_beside_its_successor(hand) -> None:
    (file,) = hand.admit("a")
    hand.drop("a", "newer")
    row = perform(hand.journal, units.withdrawal(hand.layout, "j", file.admission))
    assert row.settled_as == b"a~2"
    assert hand.names("inbox") == ["a", "a~2"]
    assert (hand.layout.inbox("j") / "a").read_text() == "newer"


def test_what_a_file_was_unpacked_into_goes_with_it(hand) -> None:
    (file,) = hand.admit("a.csv.gz")
    hand.layout.scratch("j", file.admission).write_text("unpacked")
    hand.accept(file, 1)
    assert hand.names("work") == []


def test_a_reset_leaves_files_and_logs_and_no_model(hand) -> None:
    first, second = hand.admit("a", "b")
    hand.accept(first, 1, samples=b"one\n")
    assert perform(hand.journal, units.reset(hand.layout, "j")) == 1
    assert (hand.names("models"), hand.names("done")) == ([], ["a"])
    assert hand.journal.unfinished("j") == []
    assert (hand.names("inbox"), hand.names("work")) == (["b"], [])  # its terms have ended
    entry = hand.layout.inbox("j") / "b"
    seen = entry.stat()
    again = Entry(b"b", seen.st_size, seen.st_mtime_ns, seen.st_ino)
    admission = units.admission(
        hand.layout, "j", [again], settings=("d", "{}"), after="archive", at=0.0
    )
    (second,) = perform(hand.journal, admission)
    accepted = hand.accept(second, 1, samples=b"two\n")
    assert accepted.commit.sequence == 1
    assert hand.log() == b"one\ntwo\n"


def test_a_death_is_counted_and_a_survival_takes_it_back(hand) -> None:
    (file,) = hand.admit("a")
    perform(hand.journal, units.death("j", file.admission, 2))
    assert hand.journal.file("j", file.admission).deaths == 2
    perform(hand.journal, units.survival("j", file.admission, 1))
    assert hand.journal.file("j", file.admission).deaths == 1


def test_a_dropped_resume_point_starts_the_file_again(hand) -> None:
    (file,) = hand.admit("a")
    progress = hand.progress(file, 0, 1, samples=b"x\n")
    perform(hand.journal, units.private_commit(hand.layout, progress))
    perform(hand.journal, units.drop_private(hand.layout, "j"))
    assert hand.journal.commits() == []
    assert os.listdir(hand.layout.private("j")) == []


# The list of bad rows


ROWS = b'{"row":1}\n'


def accept_with_rows(hand, name: str, sequence: int) -> None:
    (file,) = hand.admit(name)
    perform(hand.journal, hand.accepting(file, sequence, rejected=lambda: ROWS))


def test_the_bad_rows_of_an_accepted_file_are_listed_in_failed(hand) -> None:
    accept_with_rows(hand, "a.csv", 1)
    assert hand.names("failed") == ["a.csv.rows.jsonl"]
    assert (hand.layout.failed("j") / "a.csv.rows.jsonl").read_bytes() == ROWS
    assert hand.names("done") == ["a.csv"]
    assert os.listdir(hand.layout.spools("j")) == []


def test_a_list_meets_no_other_list_and_no_file_that_was_refused(hand) -> None:
    accept_with_rows(hand, "a.csv", 1)
    accept_with_rows(hand, "a.csv", 2)
    (file,) = hand.admit("b.csv")
    perform(hand.journal, units.refusal(hand.layout, "j", file.admission, REFUSAL))
    accept_with_rows(hand, "b.csv", 3)
    assert [name for name in hand.names("failed") if "rows" in name] == [
        "a.csv.rows.jsonl",
        "a~2.csv.rows.jsonl",
        "b~2.csv.rows.jsonl",
    ]


def refuse_with_rows(hand, name: str) -> None:
    (file,) = hand.admit(name)
    rows = b'{"admission":%d}\n' % file.admission
    perform(hand.journal, units.refusal(hand.layout, "j", file.admission, REFUSAL, lambda: rows))


def test_the_list_of_a_refused_file_lies_beside_it_under_its_name(hand) -> None:
    refuse_with_rows(hand, "a.csv")
    refuse_with_rows(hand, "a.csv")
    names = ("a.csv", "a~2.csv")
    assert hand.names("failed") == [
        n + suffix for n in names for suffix in ("", ".error.json", ".rows.jsonl")
    ]


def test_the_list_of_a_file_that_is_tried_again_goes_with_its_note(hand) -> None:
    refuse_with_rows(hand, "a.csv")
    refuse_with_rows(hand, "b.csv")
    others = hand.layout.failed("j") / "b.csv.rows.jsonl"
    others.write_bytes(b'{"admission":1}\n')
    named = [Named("a.csv", ""), Named("b.csv", "")]
    perform(hand.journal, retrial(hand.layout, "j", named))
    assert hand.names("inbox") == ["a.csv", "b.csv"]
    assert hand.names("failed") == ["b.csv.rows.jsonl"]


def test_the_longest_name_leaves_room_for_its_list(hand) -> None:
    accept_with_rows(hand, "n" * 251 + ".csv", 1)
    (name,) = hand.names("failed")
    assert name.endswith("nn.csv.rows.jsonl")
    assert len(name) == 255
