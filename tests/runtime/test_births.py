"""When the pool spawns: pure bookkeeping, the clock is ours."""

from __future__ import annotations

import pytest

from service.runtime.births import (
    BIRTH_SECONDS,
    FIRST_BIRTH_SECONDS,
    FIRST_WAIT_SECONDS,
    KILLS_LIKE_ONE_FAILURE,
    LONGEST_WAIT_SECONDS,
    TRIES,
    Births,
)


def test_a_birth_takes_longest_where_caches_are_to_be_filled_or_where_the_last_one_was_too_slow() -> (
    None
):
    births = Births()
    assert births.seconds == FIRST_BIRTH_SECONDS
    births.succeeded()
    assert births.seconds == BIRTH_SECONDS
    births.failed(1000.0, "killed by SIGKILL", by_others=True)
    assert births.seconds == BIRTH_SECONDS
    births.failed(1000.0, "deadline of its birth", overdue=True)
    assert births.seconds == 2 * BIRTH_SECONDS
    for _ in range(100):
        births.failed(1000.0, "deadline of its birth", overdue=True)
    assert births.seconds == FIRST_BIRTH_SECONDS


def test_each_failed_birth_in_a_row_doubles_the_wait_up_to_a_limit() -> None:
    births = Births()
    waits = []
    for _ in range(9):
        births.failed(1000.0, "exit status 1")
        waits.append(births.not_before - 1000.0)
    doubled = [FIRST_WAIT_SECONDS * factor for factor in (1, 2, 4, 8, 16, 32, 64, 128, 256)]
    assert waits == pytest.approx([min(wait, LONGEST_WAIT_SECONDS) for wait in doubled])
    assert doubled[-1] > LONGEST_WAIT_SECONDS


def test_a_thousand_failures_are_still_counted() -> None:
    births = Births()
    for _ in range(5000):
        births.failed(0.0, "")
    assert births.not_before == LONGEST_WAIT_SECONDS


def test_hope_ends_after_some_failures_in_a_row_and_comes_back_with_a_success() -> None:
    births = Births()
    for _ in range(TRIES):
        assert not births.hopeless
        births.failed(0.0, "exit status 1")
    assert births.hopeless
    assert births.trouble == "exit status 1"
    births.succeeded()
    assert births.trouble == ""
    assert not births.hopeless
    assert births.not_before == 0.0


def test_workers_that_others_killed_cost_less_hope() -> None:
    births = Births()
    for _ in range(TRIES * KILLS_LIKE_ONE_FAILURE):
        assert not births.hopeless
        births.failed(0.0, "killed by SIGKILL", by_others=True)
    assert births.hopeless
