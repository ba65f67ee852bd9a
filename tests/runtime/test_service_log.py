"""The operational log: what is written comes out in order, and a disk in trouble stops nothing."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.runtime import service_log
from service.runtime.service_log import ServiceLog


def _log(path: Path, people: io.StringIO | None = None, rotate_bytes: int = 1 << 30) -> ServiceLog:
    return ServiceLog(path, rotate_bytes=rotate_bytes, keep=2, people=people)


def _written(log: ServiceLog, write: Callable[[], None]) -> None:
    """Runs the log for what `write` writes, to its end."""

    async def life() -> None:
        writing = asyncio.create_task(log.run())
        write()
        await asyncio.sleep(0)
        log.close()
        await writing

    asyncio.run(life())


def _events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_events_are_written_in_order_with_their_time_and_facts(tmp_path: Path) -> None:
    log = _log(tmp_path / "service.jsonl")

    def write() -> None:
        for number in range(1000):
            log.write("counted", number=number, path=tmp_path)

    _written(log, write)
    events = _events(tmp_path / "service.jsonl")
    assert [event["number"] for event in events] == list(range(1000))
    assert list(events[0]) == ["time", "event", "number", "path"]
    assert events[0]["time"].endswith("Z")


def test_what_was_written_before_and_after_the_run_is_not_lost(tmp_path: Path) -> None:
    log = _log(tmp_path / "service.jsonl")
    log.write("early")
    _written(log, lambda: log.write("late"))
    assert [event["event"] for event in _events(tmp_path / "service.jsonl")] == ["early", "late"]


@pytest.mark.parametrize("before", [b"", b"{}\n", b"{}\n{", b"{"])
def test_the_first_event_after_a_crash_begins_on_a_line_of_its_own(
    tmp_path: Path, before: bytes
) -> None:
    path = tmp_path / "service.jsonl"
    path.write_bytes(before)
    log = _log(path)
    _written(log, lambda: log.write("one"))
    assert path.read_bytes().startswith(before)
    *_, last = path.read_bytes().removeprefix(before).splitlines()
    assert json.loads(last)["event"] == "one"
    assert path.read_bytes()[: -len(last) - 1] == before + b"\n" * before.endswith(b"{")


def test_people_are_told_in_one_line_without_traces(tmp_path: Path) -> None:
    people = io.StringIO()
    log = _log(tmp_path / "service.jsonl", people)
    _written(
        log, lambda: log.write("failed", job="j", loss=0.123456789, nothing=None, trace="a\nb")
    )
    assert people.getvalue().split(" ", 1)[1] == "failed: job=j loss=0.123457\n"


def test_a_large_log_goes_on_in_a_new_file_and_the_oldest_goes(tmp_path: Path) -> None:
    path = tmp_path / "service.jsonl"
    for number in range(5):
        log = _log(path, rotate_bytes=1)
        _written(log, lambda n=number, log=log: log.write("event", n=n))  # type: ignore[misc]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["service.1.jsonl", "service.2.jsonl"]
    assert [_events(tmp_path / f"service.{n}.jsonl")[0]["n"] for n in (1, 2)] == [4, 3]


def test_a_disk_that_takes_nothing_costs_events_and_nothing_else(tmp_path: Path) -> None:
    log = _log(tmp_path / "nothing" / "service.jsonl")
    _written(log, lambda: [log.write("event") for _ in range(3)] and None)
    assert log.dropped == 3


def test_a_rotation_that_fails_costs_no_event(tmp_path: Path) -> None:
    path = tmp_path / "service.jsonl"
    (tmp_path / "service.1.jsonl").mkdir()
    (tmp_path / "service.1.jsonl" / "full").touch()
    (tmp_path / "service.2.jsonl").mkdir()
    (tmp_path / "service.2.jsonl" / "full").touch()
    log = _log(path, rotate_bytes=1)
    _written(log, lambda: log.write("event"))
    assert [event["event"] for event in _events(path)] == ["event"]


def test_more_events_than_can_wait_are_dropped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_log, "MOST_WAITING", 10)
    log = _log(tmp_path / "service.jsonl")
    for number in range(13):
        log.write("event", n=number)
    assert log.dropped == 3
    _written(log, lambda: None)
    assert [event["n"] for event in _events(tmp_path / "service.jsonl")] == list(range(3, 13))
