"""The list of a file's bad rows."""

from __future__ import annotations

import json

from service.core.records import RejectedRow, rejected_rows

ROW = RejectedRow(4, 6, "a", "a feature is a number", "12.l", "write it as 1234.5")


def test_each_row_is_a_record_that_says_whose_it_is() -> None:
    (line,) = rejected_rows("day.csv", 3, [ROW], 1).splitlines()
    assert json.loads(line) == {
        "file": "day.csv",
        "admission": 3,
        "row": 4,
        "line": 6,
        "column": "a",
        "rule": "a feature is a number",
        "value": "12.l",
        "remedy": "write it as 1234.5",
    }


def test_the_last_record_says_how_many_rows_are_not_listed() -> None:
    lines = rejected_rows("day.csv", 3, [ROW, ROW], 252).splitlines()
    assert len(lines) == 3
    assert json.loads(lines[-1]) == {"file": "day.csv", "admission": 3, "more": 250}


def test_without_bad_rows_there_is_no_list() -> None:
    assert rejected_rows("day.csv", 3, [], 0) == b""
