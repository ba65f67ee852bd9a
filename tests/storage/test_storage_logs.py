"""Result logs: whole spools, at planned places, once; segments; and what an operator may do to them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.errors import StorageDamaged
from service.storage import logs
from service.storage.logs import LogGone
from service.storage.tables import LogState, Position

LOG = "samples.jsonl"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs"


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    path = tmp_path / "spool"
    path.write_bytes(b"one\ntwo\n")
    return path


def text(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in logs.segments(directory, LOG))


def test_a_plan_goes_on_where_the_log_ends() -> None:
    assert logs.plan(LogState(), 8, 100) == (Position(1, 0), LogState(1, 8))
    assert logs.plan(LogState(3, 99), 8, 100) == (Position(3, 99), LogState(3, 107))


def test_a_full_segment_is_put_away_and_a_spool_is_never_split() -> None:
    assert logs.plan(LogState(1, 100), 8, 100) == (Position(2, 0, rotates=True), LogState(2, 8))
    assert logs.plan(LogState(1, 0), 800, 100) == (Position(1, 0), LogState(1, 800))


def test_without_a_limit_a_log_never_rotates() -> None:
    assert logs.plan(LogState(1, 10**12), 8, 0) == (Position(1, 10**12), LogState(1, 10**12 + 8))


def test_records_go_together_as_far_as_no_log_becomes_full() -> None:
    five = [{"a": 4, "b": 1}] * 5
    assert logs.together({}, five, 0) == 5
    assert logs.together({}, five, 16) == 4  # the fifth begins a new segment of a
    assert logs.together({"a": LogState(1, 20)}, five, 16) == 4  # the first one did
    assert logs.together({"b": LogState(3, 14)}, five, 16) == 2
    assert logs.together({"b": LogState(3, 16)}, [{"a": 4}] * 3, 16) == 3  # b gets nothing


@given(
    st.lists(st.dictionaries(st.sampled_from("ab"), st.integers(0, 9)), max_size=12),
    st.integers(0, 20),
)
def test_records_that_go_together_lie_where_they_lie_one_by_one(
    spools: list[dict[str, int]], rotate_bytes: int
) -> None:
    alone: dict[str, LogState] = {}
    for spool in spools:
        _planned(alone, spool, rotate_bytes)
    together: dict[str, LogState] = {}
    left = spools
    while left:
        count = logs.together(together, left, rotate_bytes)
        assert count
        whole = {log: sum(s.get(log, 0) for s in left[:count]) for log in "ab"}
        _planned(together, whole, rotate_bytes)
        left = left[count:]
    assert together == alone


def _planned(ends: dict[str, LogState], spool: dict[str, int], rotate_bytes: int) -> None:
    for log, length in spool.items():
        if length:
            ends[log] = logs.plan(ends.get(log, LogState()), length, rotate_bytes)[1]


def test_a_log_that_is_gone_begins_anew_and_puts_nothing_away() -> None:
    assert logs.plan(LogState(1, 100), 8, 100, renew=True) == (Position(2, 0), LogState(2, 8))


def test_published_bytes_are_at_their_place_and_again_the_same(directory, spool) -> None:
    (directory / LOG).write_bytes(b"old\n")
    for _ in range(3):
        logs.publish(directory, LOG, Position(1, 4), spool, 8)
        assert text(directory) == b"old\none\ntwo\n"


def test_a_half_published_spool_is_completed(directory, spool) -> None:
    (directory / LOG).write_bytes(b"old\non")
    logs.publish(directory, LOG, Position(1, 4), spool, 8)
    assert text(directory) == b"old\none\ntwo\n"


def test_only_the_committed_part_of_a_spool_is_published(directory, spool) -> None:
    logs.publish(directory, LOG, Position(1, 0), spool, 4)
    assert text(directory) == b"one\n"


def test_a_spool_that_is_gone_has_been_published(directory, spool) -> None:
    (directory / LOG).write_bytes(b"one\ntwo\n")
    spool.unlink()
    logs.publish(directory, LOG, Position(1, 0), spool, 8)
    assert text(directory) == b"one\ntwo\n"


def test_rotation_keeps_every_byte_and_is_not_done_twice(directory, spool) -> None:
    (directory / LOG).write_bytes(b"old\n")
    for _ in range(3):
        logs.publish(directory, LOG, Position(2, 0, rotates=True), spool, 8)
        assert text(directory) == b"old\none\ntwo\n"
        assert sorted(os.listdir(directory)) == ["samples.000001.jsonl", LOG]


def test_rotation_cut_after_the_rename_goes_on(directory, spool) -> None:
    (directory / "samples.000001.jsonl").write_bytes(b"old\n")
    logs.publish(directory, LOG, Position(2, 0, rotates=True), spool, 8)
    assert text(directory) == b"old\none\ntwo\n"


def test_an_older_segment_is_written_under_its_number(directory, spool) -> None:
    (directory / "samples.000001.jsonl").write_bytes(b"old\none\ntw")
    (directory / LOG).write_bytes(b"new\n")
    logs.publish(directory, LOG, Position(1, 4), spool, 8)
    assert text(directory) == b"old\none\ntwo\nnew\n"


def test_a_segment_that_is_no_longer_kept_is_not_written_again(directory, spool) -> None:
    (directory / "samples.000002.jsonl").write_bytes(b"second\n")
    (directory / LOG).write_bytes(b"third\n")
    logs.publish(directory, LOG, Position(1, 0), spool, 8)
    assert text(directory) == b"second\nthird\n"


def test_a_new_segment_after_one_that_was_taken_away_rotates_nothing(directory, spool) -> None:
    for _ in range(2):
        logs.publish(directory, LOG, Position(2, 0), spool, 8)
    assert os.listdir(directory) == [LOG]
    logs.publish(directory, LOG, Position(3, 0, rotates=True), spool, 4)
    assert sorted(os.listdir(directory)) == ["samples.000002.jsonl", LOG]


def test_a_log_that_is_too_short_is_damaged_and_left_alone(directory, spool) -> None:
    (directory / LOG).write_bytes(b"old")
    with pytest.raises(StorageDamaged, match="must have at least 4 bytes, got 3"):
        logs.publish(directory, LOG, Position(1, 4), spool, 8)
    assert text(directory) == b"old"


def test_a_log_taken_away_before_its_publication_is_told_from_a_damaged_one(
    directory, spool
) -> None:
    with pytest.raises(LogGone, match="got no file"):
        logs.publish(directory, LOG, Position(1, 4), spool, 8)
    assert os.listdir(directory) == []


def test_a_spool_that_is_too_short_is_damaged(directory, spool) -> None:
    with pytest.raises(StorageDamaged, match="spool: must have at least 9 bytes, got 8"):
        logs.publish(directory, LOG, Position(1, 0), spool, 9)


def test_a_log_is_whole_gone_or_damaged(directory) -> None:
    assert not logs.is_gone(directory, LOG, LogState())
    assert logs.is_gone(directory, LOG, LogState(1, 4))
    (directory / LOG).write_bytes(b"1234")
    assert not logs.is_gone(directory, LOG, LogState(1, 4))
    for length in (3, 5):
        with pytest.raises(StorageDamaged, match=rf"must have {length} bytes.*, got 4; .*move it"):
            logs.is_gone(directory, LOG, LogState(1, length))


def test_a_spool_is_cut_back_to_its_committed_bytes(spool) -> None:
    logs.truncate_spool(spool, 8)
    logs.truncate_spool(spool, 4)
    assert spool.read_bytes() == b"one\n"
    with pytest.raises(StorageDamaged, match="must have at least 5 bytes, got 4"):
        logs.truncate_spool(spool, 5)
    with pytest.raises(StorageDamaged, match="must have at least 5 bytes, got 4"):
        logs.flush_spool(spool, 5)


def test_segments_are_ordered_by_number_and_logs_are_not_mixed(directory) -> None:
    names = ["samples.000002.jsonl", "samples.000010.jsonl", "samples.1000000.jsonl", LOG]
    for name in [*names, "samples.000001.txt", "samples.1.jsonl", "metrics.000001.jsonl"]:
        (directory / name).touch()
    assert [path.name for path in logs.segments(directory, LOG)] == names


def test_pruning_keeps_the_newest_of_each_log(directory) -> None:
    for number in (1, 2, 3):
        (directory / f"samples.{number:06d}.jsonl").touch()
    (directory / "metrics.000001.jsonl").touch()
    (directory / LOG).touch()
    assert logs.prune(directory, 0) == []
    assert logs.prune(directory, 1) == ["samples.000001.jsonl", "samples.000002.jsonl"]
    assert sorted(os.listdir(directory)) == ["metrics.000001.jsonl", "samples.000003.jsonl", LOG]


@given(
    st.lists(st.binary(min_size=1, max_size=30), max_size=12),
    st.integers(0, 40),
    st.integers(1, 3),
)
def test_the_segments_of_any_history_are_its_spools_in_order(
    tmp_path_factory: pytest.TempPathFactory, spools: list[bytes], rotate: int, times: int
) -> None:
    root = tmp_path_factory.mktemp("history")
    directory, end = root / "logs", LogState()
    directory.mkdir()
    for data in spools:
        (root / "spool").write_bytes(data)
        position, end = logs.plan(end, len(data), rotate)
        for _ in range(times):
            logs.publish(directory, LOG, position, root / "spool", len(data))
    assert text(directory) == b"".join(spools)
    assert not logs.is_gone(directory, LOG, end)
    assert all(0 < rotate <= path.stat().st_size for path in logs.segments(directory, LOG)[:-1])
