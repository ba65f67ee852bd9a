"""The writer's thread: order, groups, and which errors stop what."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from service.core.errors import DiskFull, StorageError
from service.core.layout import Layout
from service.storage import writer as writer_module
from service.storage.journal import Journal
from service.storage.tables import Entry
from service.storage.writer import Unit, Writer

SECONDS = 30  # a wait that ends only where the code is wrong


def unit(name: str, **parts: Any) -> Unit[Any, Any, Any]:
    """Admits one file of that name; parts replace its steps."""

    def apply(journal: Journal, value: object) -> str:
        entry = Entry(name.encode(), 1, 1, 1)
        journal.admit("j", [entry], settings=("d", "b"), after="archive", at=0)
        return name

    steps = {"prepare": lambda: None, "apply": apply, "finish": lambda value: value} | parts
    return Unit(**steps)


def failing(error: Exception) -> Any:
    def step(*arguments: object) -> None:
        raise error

    return step


@dataclass
class Life:
    """A writer, its journal, and what it called back."""

    writer: Writer
    journal: Journal
    fatal: list[BaseException] = field(default_factory=list)
    full: list[DiskFull | None] = field(default_factory=list)
    commits: list[str] = field(default_factory=list)

    def hold(self) -> threading.Event:
        """Keeps the thread busy until the event is set: what is submitted meanwhile is ready together."""
        go = threading.Event()
        self.writer.run(lambda: go.wait(SECONDS))
        return go

    def names(self) -> list[bytes]:
        return [file.name for file in self.journal.unfinished("j")]


@pytest.fixture
def life(layout: Layout) -> Iterator[Life]:
    journal = Journal(layout.journal)
    fatal: list[BaseException] = []
    full: list[DiskFull | None] = []
    writer = Writer(journal, on_fatal=fatal.append, on_scarce=full.append)
    commits: list[str] = []

    def trace(_: object, sql: str, __: object) -> bool:
        commits.extend([sql] if sql == "COMMIT" else [])
        return True

    journal._database._connection.exec_trace = trace
    yield Life(writer, journal, fatal, full, commits)
    writer.close()
    journal.close()


def test_units_that_are_ready_together_share_a_transaction(life: Life) -> None:
    go = life.hold()
    futures = [life.writer.submit(unit(str(number))) for number in range(50)]
    go.set()
    assert [future.result(SECONDS) for future in futures] == [str(number) for number in range(50)]
    assert len(life.commits) == 1
    assert life.names() == [str(number).encode() for number in range(50)]


def test_a_group_is_bounded(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "GROUP_UNITS", 10)
    go = life.hold()
    futures = [life.writer.submit(unit(str(number))) for number in range(50)]
    go.set()
    for future in futures:
        future.result(SECONDS)
    assert len(life.commits) == 5


def test_the_steps_of_a_group_are_in_order(life: Life) -> None:
    said: list[str] = []

    def steps(name: str) -> Unit[Any, Any, Any]:
        return Unit(
            lambda: said.append(f"prepare {name}"),
            lambda journal, _: said.append(f"apply {name}"),
            lambda _: said.append(f"finish {name}"),
            lambda journal, value, result: said.append(f"mark {name}"),
        )

    go = life.hold()
    futures = [life.writer.submit(steps(name)) for name in "ab"]
    go.set()
    for future in futures:
        future.result(SECONDS)
    life.writer.close()
    expected = ["prepare a", "prepare b", "apply a", "apply b", "finish a", "finish b"]
    assert said == [*expected, "mark a", "mark b"]


def test_a_function_sees_what_was_submitted_before_it_and_nothing_after(life: Life) -> None:
    go = life.hold()
    life.writer.submit(unit("a"))
    names = life.writer.run(life.names)
    last = life.writer.submit(unit("b"))
    go.set()
    assert names.result(SECONDS) == [b"a"]
    assert last.result(SECONDS) == "b"


def test_a_result_does_not_wait_for_the_flush_and_what_comes_later_does(life: Life) -> None:
    said: list[str] = []
    go = threading.Event()

    def flush(value: str) -> None:
        go.wait(SECONDS)
        said.append("flushed")

    first = life.writer.submit(unit("a", flush=flush))
    assert first.result(SECONDS) == "a"
    assert said == []
    second = life.writer.submit(unit("b", prepare=lambda: said.append("prepared")))
    go.set()
    second.result(SECONDS)
    assert said == ["flushed", "prepared"]


def test_a_flush_that_fails_stops_everything(life: Life) -> None:
    first = life.writer.submit(unit("a", flush=failing(StorageError("flush"))))
    assert first.result(SECONDS) == "a"
    later = life.writer.submit(unit("b"))
    assert isinstance(later.exception(SECONDS), StorageError)
    assert [str(error) for error in life.fatal] == ["flush"]


def test_a_journal_that_cant_be_left_is_no_reason_to_keep_an_error(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life.journal, "abandon", failing(RuntimeError("busy")))
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    life.writer.submit(unit("a", finish=failing(StorageError("broken")))).exception(SECONDS)
    life.writer.close()
    assert [str(error) for error in life.fatal] == ["broken"]


def test_marks_go_with_the_transaction_that_comes_next(life: Life) -> None:
    marks: list[str] = []
    first = life.writer.submit(unit("a", mark=lambda journal, value, result: marks.append(result)))
    first.result(SECONDS)
    life.writer.submit(unit("b")).result(SECONDS)
    assert marks == ["a"]
    assert len(life.commits) == 2


def test_marks_are_written_when_nothing_waits(life: Life) -> None:
    marked = threading.Event()
    life.writer.submit(unit("a", mark=lambda journal, value, result: marked.set())).result(SECONDS)
    assert marked.wait(SECONDS)


def test_a_mark_is_written_once_and_rides_in_the_next_transaction(life: Life) -> None:
    marks: list[str] = []
    go = life.hold()
    first = life.writer.submit(unit("a", mark=lambda journal, value, result: marks.append(result)))
    life.writer.run(lambda: marks.append("between"))
    second = life.writer.submit(unit("b"))
    go.set()
    assert (first.result(SECONDS), second.result(SECONDS)) == ("a", "b")
    life.writer.close()
    assert marks == ["between", "a"]
    assert len(life.commits) == 2


def test_a_full_disk_in_prepare_fails_that_unit_only(life: Life) -> None:
    go = life.hold()
    bad = life.writer.submit(unit("a", prepare=failing(DiskFull("full"))))
    good = life.writer.submit(unit("b"))
    go.set()
    with pytest.raises(DiskFull):
        bad.result(SECONDS)
    assert good.result(SECONDS) == "b"
    assert life.fatal == []


def test_a_full_disk_in_the_transaction_fails_the_group_and_nothing_else(life: Life) -> None:
    finished: list[object] = []
    go = life.hold()
    good = life.writer.submit(unit("a", finish=finished.append))
    bad = life.writer.submit(unit("b", apply=failing(DiskFull("full"))))
    go.set()
    for future in (good, bad):
        with pytest.raises(DiskFull):
            future.result(SECONDS)
    assert (finished, life.names(), life.fatal) == ([], [], [])
    assert life.writer.submit(unit("c")).result(SECONDS) == "c"
    assert life.names() == [b"c"]


def test_a_bug_in_apply_takes_back_its_own_part_only(life: Life) -> None:
    def half(journal: Journal, value: object) -> None:
        journal.admit("j", [Entry(b"half", 1, 1, 1)], settings=("d", "b"), after="archive", at=0)
        raise ValueError("bug")

    go = life.hold()
    first = life.writer.submit(unit("a"))
    bad = life.writer.submit(unit("b", apply=half))
    last = life.writer.submit(unit("c"))
    go.set()
    with pytest.raises(ValueError, match="bug"):
        bad.result(SECONDS)
    assert (first.result(SECONDS), last.result(SECONDS)) == ("a", "c")
    assert life.names() == [b"a", b"c"]


def test_a_full_disk_after_the_commit_is_waited_for(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "RETRY_SECONDS", 0.001)
    attempts = iter([DiskFull("full"), DiskFull("full"), None])

    def finish(value: str) -> str:
        error = next(attempts)
        if error is not None:
            raise error
        return value

    assert life.writer.submit(unit("a", finish=finish)).result(SECONDS) == "a"
    assert [type(error) for error in life.full] == [DiskFull, type(None)]
    assert (life.names(), life.fatal) == ([b"a"], [])


def test_closing_while_the_disk_is_full_ends_and_leaves_the_rest_to_recovery(life: Life) -> None:
    full = threading.Event()
    life.writer._on_scarce = lambda error: full.set()
    stuck = life.writer.submit(unit("a", finish=failing(DiskFull("full"))))
    assert full.wait(SECONDS)
    later = life.writer.submit(unit("b"))
    life.writer.close()
    for future in (stuck, later):
        with pytest.raises(DiskFull):
            future.result(SECONDS)
    assert (life.names(), life.fatal) == ([b"a"], [])


def test_who_gives_up_waits_for_no_room_and_leaves_the_rest_to_recovery(life: Life) -> None:
    full = threading.Event()
    life.writer._on_scarce = lambda error: full.set()
    stuck = life.writer.submit(unit("a", finish=failing(DiskFull("full"))))
    assert full.wait(SECONDS)
    life.writer.give_up()
    with pytest.raises(DiskFull):
        stuck.result(SECONDS)
    with pytest.raises(DiskFull):
        life.writer.submit(unit("b")).result(SECONDS)
    assert (life.names(), life.fatal) == ([b"a"], [])


@pytest.mark.parametrize("step", ["prepare", "apply", "finish", "mark"])
def test_a_storage_error_stops_everything_once(life: Life, step: str) -> None:
    error = StorageError("broken")
    go = life.hold()
    bad = life.writer.submit(unit("a", **{step: failing(error)}))
    function = life.writer.run(lambda: None)
    later = life.writer.submit(unit("b"))
    go.set()
    if step == "mark":  # the mark is written with the next group, after the unit's own future
        assert bad.result(SECONDS) == "a"
        assert function.result(SECONDS) is None
    else:
        assert bad.exception(SECONDS) is error
        assert function.exception(SECONDS) is error
    assert later.exception(SECONDS) is error
    assert life.writer.submit(unit("c")).exception(SECONDS) is error
    life.writer.close()
    assert life.fatal == [error]


def test_a_bug_after_the_commit_is_fatal(life: Life) -> None:
    bad = life.writer.submit(unit("a", finish=failing(KeyError("bug"))))
    assert isinstance(bad.exception(SECONDS), KeyError)
    life.writer.close()
    assert [type(error) for error in life.fatal] == [KeyError]


def test_a_functions_bug_is_its_own(life: Life) -> None:
    assert isinstance(life.writer.run(failing(KeyError("bug"))).exception(SECONDS), KeyError)
    assert life.writer.submit(unit("a")).result(SECONDS) == "a"


def test_a_unit_can_be_cancelled_until_it_is_begun(life: Life) -> None:
    go = life.hold()
    future = life.writer.submit(unit("a"))
    assert future.cancel()
    go.set()
    assert life.writer.submit(unit("b")).result(SECONDS) == "b"
    assert life.names() == [b"b"]


def test_closing_does_what_was_submitted_and_refuses_what_comes_after(life: Life) -> None:
    futures = [life.writer.submit(unit(str(number))) for number in range(20)]
    life.writer.close()
    life.writer.close()
    assert all(future.done() for future in futures)
    assert len(life.names()) == 20
    with pytest.raises(RuntimeError, match="must be open"):
        life.writer.submit(unit("late")).result(SECONDS)


def test_many_threads_may_submit(life: Life) -> None:
    def submit(thread: int) -> None:
        for number in range(50):
            life.writer.submit(unit(f"{thread}-{number}")).result(SECONDS)

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = life.writer.run(life.names).result(SECONDS)
    for number in range(6):
        own = [name for name in names if name.startswith(b"%d-" % number)]
        assert own == [b"%d-%d" % (number, index) for index in range(50)]
    assert len(names) == 300


def test_a_long_finish_does_not_hold_up_other_units(journal: Journal) -> None:
    may_finish = threading.Event()
    marked: list[str] = []
    long = Unit(
        prepare=lambda: None,
        apply=lambda journal, _: None,
        finish=lambda _: may_finish.wait() and "long",
        mark=lambda journal, _, result: marked.append(str(result)),
        aside=lambda _: True,
    )
    short = Unit(lambda: None, lambda journal, _: None, lambda _: "short")
    writer = Writer(journal)
    waiting = writer.submit(long)
    assert writer.submit(short).result() == "short"
    assert not waiting.done()
    may_finish.set()
    assert waiting.result() == "long"
    writer.close()
    assert marked == ["long"]


def test_a_long_finish_that_fails_is_fatal(journal: Journal) -> None:
    heard: list[BaseException] = []

    def fail(_: None) -> None:
        raise StorageError("the disk is gone")

    writer = Writer(journal, on_fatal=heard.append)
    failed = writer.submit(Unit(lambda: None, lambda journal, _: None, fail, aside=lambda _: True))
    with pytest.raises(StorageError, match="gone"):
        failed.result()
    writer.close()
    with pytest.raises(StorageError, match="gone"):
        writer.run(lambda: None).result()
    assert [str(error) for error in heard] == ["the disk is gone"]


# --- several jobs


def handed_in(life: Life, units: list[Unit[Any, Any, Any]]) -> list[Any]:
    """Futures of units that are ready together."""
    go = life.hold()
    futures = [life.writer.submit(one) for one in units]
    go.set()
    return futures


@pytest.mark.parametrize("step", ["prepare", "finish", "flush"])
def test_a_step_of_several_jobs_is_done_side_by_side(life: Life, step: str) -> None:
    together = threading.Barrier(3)

    def meet(value: object = None) -> object:
        together.wait(SECONDS)
        return value

    units = [unit(job, job=job, **{step: meet}) for job in "abc"]
    assert [future.result(SECONDS) for future in handed_in(life, units)] == ["a", "b", "c"]
    life.writer.close()
    assert (life.fatal, len(life.commits)) == ([], 1)


def test_more_jobs_than_threads_are_all_done(life: Life) -> None:
    units = [unit(f"{job}-{n}", job=str(job)) for n in range(3) for job in range(20)]
    results = [future.result(SECONDS) for future in handed_in(life, units)]
    assert results == [f"{job}-{n}" for n in range(3) for job in range(20)]
    assert len(life.commits) == 1


def test_units_of_one_job_keep_their_order_beside_others(life: Life) -> None:
    said: dict[str, list[str]] = {job: [] for job in "abcd"}

    def says(job: str, step: str, number: int) -> None:
        for _ in range(1000 * (2 - number)):
            time.sleep(0)  # whoever may run beside it does, and is sooner done
        said[job].append(f"{step} {number}")

    def steps(job: str, number: int) -> Unit[Any, Any, Any]:
        return Unit(
            lambda: says(job, "prepare", number),
            lambda journal, _: None,
            lambda _: says(job, "finish", number),
            lambda journal, value, result: said[job].append(f"mark {number}"),
            flush=lambda _: said[job].append(f"flush {number}"),
            job=job,
        )

    for future in handed_in(life, [steps(job, n) for n in range(3) for job in "abcd"]):
        future.result(SECONDS)
    life.writer.close()
    prepared = [f"prepare {n}" for n in range(3)]
    finished = [f"{step} {n}" for n in range(3) for step in ("finish", "flush")]
    whole = [*prepared, *finished, *(f"mark {n}" for n in range(3))]
    assert said == dict.fromkeys("abcd", whole)


def test_an_error_of_the_disk_in_one_job_is_everybodys(life: Life) -> None:
    error = StorageError("broken")
    units = [unit(job, job=job) for job in "ab"] + [unit("c", job="c", prepare=failing(error))]
    assert [f.exception(SECONDS) for f in handed_in(life, units)] == [error] * 3
    life.writer.close()
    assert life.fatal == [error]


def test_a_bug_in_one_job_fails_its_unit_only(life: Life) -> None:
    bug = IndexError("bug")
    units = [unit("a", job="a", prepare=failing(bug)), unit("b", job="b")]
    bad, good = handed_in(life, units)
    assert (bad.exception(SECONDS), good.result(SECONDS)) == (bug, "b")
    assert life.names() == [b"b"]


def test_without_a_thread_to_be_had_several_jobs_are_done_one_after_the_other(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading.Thread, "start", failing(RuntimeError("no thread")))
    units = [unit(job, job=job) for job in "abc"]
    assert [future.result(SECONDS) for future in handed_in(life, units)] == ["a", "b", "c"]


def test_that_all_goes_on_is_told_when_the_last_does(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A status that says all is well while one job's commit still waits for room would be a lie."""
    monkeypatch.setattr(writer_module, "RETRY_SECONDS", 0.001)
    room = {job: threading.Event() for job in "ab"}
    again = {job: threading.Event() for job in "ab"}  # a second time: that it is held up was told

    def until_room(job: str) -> Unit[Any, Any, Any]:
        tries: list[str] = []

        def finish(value: str) -> str:
            if tries:
                again[job].set()
            tries.append(value)
            if not room[job].is_set():
                raise DiskFull("full")
            return value

        return unit(job, job=job, finish=finish)

    first, last = handed_in(life, [until_room(job) for job in "ab"])
    for event in again.values():
        assert event.wait(SECONDS)
    room["a"].set()
    assert first.result(SECONDS) == "a"
    assert None not in life.full
    room["b"].set()
    assert last.result(SECONDS) == "b"
    assert [type(error) for error in life.full] == [DiskFull, type(None)]
