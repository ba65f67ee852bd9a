"""The journal: where files stand, what is committed, and that nothing is decided twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.core.errors import DiskFull, HeadraceError, StorageDamaged, StorageError
from service.core.layout import Layout
from service.storage.database import Database, reseal
from service.storage.journal import Journal
from service.storage.tables import (
    Commit,
    Digests,
    Entry,
    FileState,
    LogState,
    Position,
    Publication,
)

A, B = Entry(b"a", 10, 1, 101), Entry(b"b\xff", 20, 2, 102)


def admit(journal: Journal, *entries: Entry, job: str = "j") -> list[int]:
    with journal.transaction():
        return journal.admit(
            job, entries, settings=("digest", '{"body":1}'), after="archive", at=1.5
        )


def public(admission: int, sequence: int, **changes: Any) -> Commit:
    commit = Commit("j", "public", admission, 5, 9, f"{sequence}.model", "cafe", sequence, {"k": 1})
    return replace(commit, **changes)


def accept(journal: Journal, admission: int, sequence: int, sha256: str = "sha") -> None:
    with journal.transaction():
        journal.accept([(public(admission, sequence), Digests(sha256, "records", "print"))])


def test_admissions_are_numbered_in_order_for_each_job(journal: Journal) -> None:
    assert admit(journal, A, B) == [1, 2]
    assert admit(journal, A) == [3]
    assert admit(journal, A, job="other") == [1]
    row = journal.file("j", 2)
    assert (row.name, row.size, row.inode, row.state) == (b"b\xff", 20, 102, FileState.ADMITTED)
    assert (row.settings, row.after, row.admitted_at, row.deaths) == ("digest", "archive", 1.5, 0)
    assert [file.admission for file in journal.unfinished("j")] == [1, 2, 3]
    assert journal.settings_body("digest") == '{"body":1}'
    assert journal.jobs() == ["j", "other"]


def test_what_was_committed_is_there_after_opening_again(layout: Layout) -> None:
    journal = Journal(layout.journal)
    admit(journal, A)
    accept(journal, 1, 1)
    journal.close()
    journal = Journal(layout.journal)
    assert journal.commit("j", "public") == public(1, 1)
    assert journal.file("j", 1).state is FileState.ACCEPTED
    journal.close()


def test_a_copy_is_whole_and_a_place_where_none_can_be_is_not_the_journals_fault(
    journal: Journal, tmp_path: Path
) -> None:
    admit(journal, A)
    accept(journal, 1, 1)
    journal.copy_to(tmp_path / "copy")
    copy = Journal(tmp_path / "copy")
    assert copy.standing("j") == journal.standing("j")
    copy.close()
    with pytest.raises(
        HeadraceError, match="nowhere/copy: must be a copy of the journal"
    ) as raised:
        journal.copy_to(tmp_path / "nowhere" / "copy")
    assert not isinstance(raised.value, StorageError)  # that would stop the daemon
    admit(journal, B)


def test_a_transaction_that_raises_leaves_nothing(journal: Journal) -> None:
    def half() -> None:
        with journal.transaction():
            journal.admit("j", [A], settings=("d", "b"), after="archive", at=0)
            journal.note_sha256("j", 7, "unknown")

    with pytest.raises(KeyError):
        half()
    assert journal.jobs() == []


def test_a_savepoint_that_raises_leaves_the_rest(journal: Journal) -> None:
    def half() -> None:
        with journal.savepoint():
            journal.refuse("j", 1, {})
            journal.note_sha256("j", 7, "unknown")

    with journal.transaction():
        journal.admit("j", [A], settings=("d", "b"), after="archive", at=0)
        with pytest.raises(KeyError):
            half()
    assert journal.file("j", 1).state is FileState.ADMITTED


def test_a_write_outside_a_transaction_is_a_bug(journal: Journal) -> None:
    with pytest.raises(RuntimeError, match="must stand inside a transaction"):
        journal.withdraw("j", 1)


DECISIONS: dict[FileState, Callable[[Journal], None]] = {
    FileState.ACCEPTED: lambda j: j.accept([(public(1, 2), Digests("s", "r", "f"))]),
    FileState.REFUSED: lambda j: j.refuse("j", 1, {"rule": "r"}),
    FileState.DUPLICATE: lambda j: j.duplicate("j", 1, sha256="s"),
    FileState.WITHDRAWN: lambda j: j.withdraw("j", 1),
}


@pytest.mark.parametrize("second", DECISIONS)
def test_a_file_is_decided_once(journal: Journal, second: FileState) -> None:
    admit(journal, A)
    accept(journal, 1, 1)
    again = pytest.raises(RuntimeError, match=f"must be admitted to become {second.value}")
    with again, journal.transaction():
        DECISIONS[second](journal)


@pytest.mark.parametrize("end", [state for state in DECISIONS if state != FileState.ACCEPTED])
def test_an_end_without_the_model_forgets_the_files_progress(
    journal: Journal, end: FileState
) -> None:
    admit(journal, A)
    with journal.transaction():
        journal.commit_private(public(1, 0, scope="private"), {"samples.jsonl": 7})
    with journal.transaction():
        DECISIONS[end](journal)
    row = journal.file("j", 1)
    assert (row.state, row.settled) == (end, False)
    assert journal.commits() == []
    assert journal.spool_lengths("j", 1) == {}
    assert [file.admission for file in journal.unsettled("j")] == [1]
    with journal.transaction():
        journal.settled("j", 1, b"a~2")
    assert journal.unsettled("j") == []
    assert journal.file("j", 1).settled_as == b"a~2"


def test_another_files_end_leaves_the_resume_point_alone(journal: Journal) -> None:
    admit(journal, A, B)
    private = public(1, 0, scope="private")
    with journal.transaction():
        journal.commit_private(private, {"samples.jsonl": 7})
        journal.refuse("j", 2, {})
    assert journal.commit("j", "private") == private
    assert journal.spool_lengths("j", 1) == {"samples.jsonl": 7}


def test_acceptance_moves_everything_at_once(journal: Journal) -> None:
    admit(journal, A)
    publication = Publication("j", 1, "samples.jsonl", 30, Position(2, 0, rotates=True))
    with journal.transaction():
        journal.commit_private(public(1, 0, scope="private"), {"samples.jsonl": 7})
    with journal.transaction():
        journal.accept([(public(1, 1), Digests("s", "r", "f"))])
        journal.plan("j", [publication], {"samples.jsonl": LogState(2, 30)})
    assert journal.commits() == [public(1, 1)]
    assert journal.publications("j") == [publication]
    assert journal.log_end("j", "samples.jsonl") == LogState(2, 30)
    assert journal.log_end("j", "metrics.jsonl") == LogState(1, 0)
    row = journal.file("j", 1)
    assert (row.sequence, row.sha256, row.rows, row.version) == (1, "s", 5, 9)
    assert (row.records_sha256, row.fingerprint) == ("r", "f")
    with journal.transaction():
        journal.published("j", 1)
    assert journal.publications("j") == []


def test_a_sequence_with_a_gap_is_a_bug_and_changes_nothing(journal: Journal) -> None:
    admit(journal, A)
    with pytest.raises(RuntimeError, match="the next sequence must be 1, got 2"):
        accept(journal, 1, 2)
    assert journal.file("j", 1).state is FileState.ADMITTED


def test_deaths_count_until_there_is_progress(journal: Journal) -> None:
    admit(journal, A)
    with journal.transaction():
        journal.set_deaths("j", 1, 3)
        journal.commit_private(public(1, 0, scope="private"), {})
        assert journal.file("j", 1).deaths == 0
        journal.limit_deaths("j", 1, 3)
        assert journal.file("j", 1).deaths == 0, "what progress has forgiven stays forgiven"


def test_the_same_content_is_found_among_earlier_files_of_this_generation(
    journal: Journal,
) -> None:
    admit(journal, A, A, replace(A, epoch=2), B)
    accept(journal, 1, 1, sha256="same")
    found = journal.find_same("j", size=10, sha256="same", before=2)
    assert found is not None
    assert found.admission == 1
    assert journal.find_same("j", size=10, sha256="other", before=2) is None
    assert journal.find_same("j", size=10, sha256="same", before=1) is None
    assert journal.find_same("j", size=10, sha256="same", before=4, epoch=2) is None
    assert journal.find_same("j", size=20, sha256=None, before=4) is None
    assert journal.first_of_each("j", ["same", "other"]) == {(10, "same"): 1}
    named = journal.find_named("j", name=b"a", before=9)
    assert named is not None
    assert named.admission == 1
    with journal.transaction():
        assert journal.reset("j") == 1
    assert journal.find_same("j", size=10, sha256="same", before=2) is None
    assert journal.first_of_each("j", ["same"]) == {}


def test_a_file_is_not_compared_with_all_others_of_its_size(layout: Layout) -> None:
    """In steps of SQLite's machine; also where the journal is of a version that had no index for it."""
    journal = Journal(layout.journal)
    admit(journal, *[A] * 1000)
    for admission in range(1, 1000):
        accept(journal, admission, admission, sha256=f"{admission:064}")
    journal.close()
    database = Database(layout.journal)
    database.execute("DROP INDEX files_by_content")
    database.close()
    journal, steps = Journal(layout.journal), []
    connection = journal._database._connection
    connection.set_progress_handler(lambda: bool(steps.append(10)), 10)
    assert journal.find_same("j", size=10, sha256="another", before=1000) is None
    found = journal.find_same("j", size=10, sha256=f"{500:064}", before=1000)
    assert found is not None
    assert found.admission == 500
    contents = ["another", f"{500:064}", f"{900:064}"]
    assert sorted(journal.first_of_each("j", contents).values()) == [500, 900]
    assert sum(steps) < 1000
    journal.close()


def test_a_refused_file_is_nobodys_duplicate(journal: Journal) -> None:
    admit(journal, A, A)
    with journal.transaction():
        journal.note_sha256("j", 1, "same")
        journal.refuse("j", 1, {})
    assert journal.find_same("j", size=10, sha256="same", before=2) is None


def test_a_reset_forgets_the_model_and_keeps_what_waits(journal: Journal) -> None:
    admit(journal, A, B)
    accept(journal, 1, 1)
    with journal.transaction():
        journal.commit_private(public(2, 1, scope="private"), {"samples.jsonl": 7})
    with journal.transaction():
        assert journal.reset("j") == 1
    assert journal.commits() == []
    assert journal.models("j") == []
    assert [file.generation for file in journal.unfinished("j")] == [1]
    assert journal.spool_lengths("j", 2) == {}
    accept(journal, 2, 1)
    assert journal.models("j") == [("1.model", "cafe")]


def test_models_are_named_newest_first(journal: Journal) -> None:
    admit(journal, A, B, A)
    for number in (1, 2, 3):
        accept(journal, number, number)
    assert [name for name, _ in journal.models("j", 2)] == ["3.model", "2.model"]
    assert len(journal.models("j")) == 3


def test_counts_are_by_state(journal: Journal) -> None:
    admit(journal, A, B, A)
    accept(journal, 2, 1)
    counts = journal.counts("j")
    assert (counts[FileState.ADMITTED], counts[FileState.ACCEPTED]) == (2, 1)
    assert counts[FileState.REFUSED] == 0


def test_a_refusal_is_kept_as_it_was(journal: Journal) -> None:
    admit(journal, A)
    refusal = {"rule": "must ☃", "place": "row 1", "value": "\n", "remedy": "x"}
    with journal.transaction():
        journal.refuse("j", 1, refusal)
    assert journal.file("j", 1).refusal == refusal


def test_an_unknown_admission_says_so(journal: Journal) -> None:
    with pytest.raises(KeyError):
        journal.file("j", 7)


# The file underneath


def test_a_foreign_database_is_refused_and_left_as_it_is(layout: Layout, program) -> None:
    text = f"""
import sqlite3
connection = sqlite3.connect({str(layout.journal)!r})
connection.execute("CREATE TABLE t (x)")
connection.close()
"""
    program(text)
    before = layout.journal.read_bytes()
    with pytest.raises(StorageDamaged, match="must be a journal of headrace"):
        Journal(layout.journal)
    assert layout.journal.read_bytes() == before


def test_another_format_version_is_refused_by_name(layout: Layout) -> None:
    Journal(layout.journal).close()
    database = Database(layout.journal)
    database.execute("PRAGMA user_version = 2")
    database.close()
    with pytest.raises(
        StorageDamaged, match="format must be 3, got 2; run the headrace that wrote it, or"
    ):
        Journal(layout.journal)


def test_a_file_that_is_no_database_is_damaged(layout: Layout) -> None:
    layout.journal.write_bytes(b"x" * 10000)
    with pytest.raises(StorageDamaged, match="must be a whole journal"):
        Journal(layout.journal)


def test_a_torn_journal_is_damaged_wherever_it_is_cut(layout: Layout, tmp_path: Path) -> None:
    journal = Journal(layout.journal)
    admit(journal, *[A] * 200)
    journal.close()
    whole = layout.journal.read_bytes()
    for pages in range(1, len(whole) // 4096):
        layout.journal.write_bytes(whole[: pages * 4096])
        with pytest.raises(StorageDamaged):
            Journal(layout.journal)


def test_every_flipped_bit_is_damage(layout: Layout) -> None:
    """Also in a row, an index or a page that nobody uses: what SQLite's own check does not see."""
    journal = Journal(layout.journal)
    for number in range(1, 21):
        admit(journal, replace(A, name=b"%d.csv" % number, size=number))
        accept(journal, number, number, sha256=f"{number:064}")
    journal.close()
    whole = layout.journal.read_bytes()
    for place in range(0, len(whole), 61):  # 61 and 4096 have no common factor
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        layout.journal.write_bytes(flipped)
        with pytest.raises(StorageDamaged, match=r"begin again|headrace reseal"):
            Journal(layout.journal)
    layout.journal.write_bytes(whole)
    journal = Journal(layout.journal)
    assert len(journal.files("j")) == 20
    journal.close()


def test_a_journal_that_was_emptied_beside_its_log_is_damaged_and_costs_nothing_more(
    layout: Layout,
) -> None:
    journal = Journal(layout.journal)
    admit(journal, A)
    journal.abandon()
    log = layout.journal.with_name("journal.sqlite-wal")
    before = log.read_bytes()
    for spoil in (lambda: layout.journal.write_bytes(b""), layout.journal.unlink):
        spoil()
        for attempt in (Journal, reseal):
            with pytest.raises(StorageDamaged, match="nothing beside a write-ahead log"):
                attempt(layout.journal)
        assert log.read_bytes() == before


def _folded_by_another_program(layout: Layout, program: Callable[[str], str]) -> None:
    """A crash, after which somebody looks at the journal with sqlite3."""
    journal = Journal(layout.journal)
    for number in range(1, 21):
        admit(journal, replace(A, name=b"%d.csv" % number, size=number))
        accept(journal, number, number, sha256=f"{number:064}")
    journal.abandon()
    program(
        "import sqlite3\n"
        f"connection = sqlite3.connect({str(layout.journal)!r})\n"
        "connection.execute('SELECT count(*) FROM files').fetchall()\n"
        "connection.close()"
    )
    assert not layout.journal.with_name("journal.sqlite-wal").exists()
    with pytest.raises(StorageDamaged, match="`headrace reseal` accepts it"):
        Journal(layout.journal)


def test_a_journal_that_another_program_wrote_can_be_accepted_as_it_is(
    layout: Layout, program: Callable[[str], str]
) -> None:
    _folded_by_another_program(layout, program)
    reseal(layout.journal)
    journal = Journal(layout.journal)
    assert [file.sha256 for file in journal.files("j")] == [f"{n:064}" for n in range(1, 21)]
    admit(journal, B)
    journal.close()
    reseal(layout.journal)  # does no harm to a good one
    Journal(layout.journal).close()


def test_a_journal_whose_table_and_index_part_is_not_accepted(
    layout: Layout, program: Callable[[str], str]
) -> None:
    _folded_by_another_program(layout, program)
    data = layout.journal.read_bytes()
    assert data.count(b"17.csv") == 2, "once in a row, once in an index"
    layout.journal.write_bytes(data.replace(b"17.csv", b"71.csv", 1))
    before = layout.journal.read_bytes()
    with pytest.raises(StorageDamaged, match="must be a whole journal"):
        reseal(layout.journal)
    assert layout.journal.read_bytes() == before


def test_a_second_process_cannot_have_it_open(layout: Layout, journal: Journal, program) -> None:
    admit(journal, A)
    said = program(
        "from pathlib import Path\nfrom service.storage.journal import Journal\n"
        "from service.core.errors import StorageError\n"
        f"try: Journal(Path({str(layout.journal)!r}))\n"
        "except StorageError as error: print(error)"
    )
    assert "must be open once" in said


FILL = """
import resource
from pathlib import Path
from service.core.errors import DiskFull
from service.storage.journal import Journal
from service.storage.tables import Entry
journal = Journal(Path("journal.sqlite"))
def admit(count):
    with journal.transaction():
        journal.admit("j", [Entry(b"n" * 200, 1, 1, 1)] * count, settings=("d", "b"), after="archive", at=0)
admit(1)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
{full}
for _ in range(2):
    try:
        admit(20000)
    except DiskFull as error:
        print("full", error)
{room}
admit(1)
print(len(journal.unfinished("j")))
journal.close()
"""


def test_a_file_size_limit_rolls_back_and_it_goes_on_when_there_is_room(program) -> None:
    full = "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))"
    room = "resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))"
    lines = program(FILL.format(full=full, room=room)).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("full journal.sqlite: cannot write")
    assert lines[2] == "2"


def test_no_space_rolls_back_and_it_goes_on_when_there_is_room(program) -> None:
    """strace refuses the writes of the large transactions (the first few hundred writes are the schema's)."""
    text = FILL.format(full="", room="").replace("admit(20000)", "admit(2000)")
    lines = program(text, inject="pwrite64:error=ENOSPC:when=120..121").splitlines()
    assert lines[0].startswith("full journal.sqlite: cannot write")
    assert lines[-1] in ("2002", "2")


@pytest.mark.parametrize("when", [1, 4, 5, 7, 8, 12])
def test_a_failed_flush_of_the_journal_is_fatal(program, when: int) -> None:
    """Numbers 2, 3 and 6 are of the directory: SQLite ignores their errors, so the journal flushes it once more."""
    text = """
from pathlib import Path
from service.core.errors import DiskFull, StorageError
from service.storage.journal import Journal
from service.storage.tables import Entry
journal = None
try:
    journal = Journal(Path("journal.sqlite"))
    for _ in range(9):
        with journal.transaction():
            journal.admit("j", [Entry(b"n", 1, 1, 1)], settings=("d", "b"), after="archive", at=0)
except StorageError as error:
    print(type(error).__name__)
    if journal: journal.abandon()
"""
    assert program(text, inject=f"fdatasync:error=EIO:when={when}") == "StorageError"


def test_an_abandoned_journal_is_left_as_a_crash_leaves_it(layout: Layout) -> None:
    journal = Journal(layout.journal)
    admit(journal, A)
    wal = layout.journal.with_name("journal.sqlite-wal")
    before = wal.read_bytes()
    journal.abandon()
    journal.close()
    del journal
    assert wal.read_bytes() == before


def test_the_wal_is_folded_into_the_file_when_it_is_long(layout: Layout, journal: Journal) -> None:
    for _ in range(4):
        admit(journal, *[replace(A, name=b"n" * 200)] * 2000)
    assert layout.journal.with_name("journal.sqlite-wal").stat().st_size <= 4 * 1024 * 1024
    assert layout.journal.stat().st_size > 1024 * 1024


def test_errors_of_the_journal_are_of_the_storage_family() -> None:
    assert issubclass(DiskFull, StorageError)
    assert issubclass(StorageDamaged, StorageError)
