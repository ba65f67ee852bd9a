"""What status.json shows of a job."""

from __future__ import annotations

import json

from service.core.status import FileStatus, JobStatus, ModelStatus


def test_a_job_at_rest_has_neither_file_nor_lag() -> None:
    shown = JobStatus(state="waiting", done=2).shown(now=100.0)
    assert (shown["state"], shown["done"], shown["file"], shown["lag_seconds"]) == (
        "waiting",
        2,
        None,
        None,
    )
    assert not {"admitted", "in_inbox"} & set(shown)


def test_times_are_shown_as_seconds_until_now_and_never_negative() -> None:
    status = JobStatus(
        file=FileStatus("f.csv", 10, started=95.0),
        model=ModelStatus(3, "abc", "m"),
        in_inbox=2,
        admitted={5: 90.0, 6: 95.0},
    )
    shown = json.loads(json.dumps(status.shown(now=100.0)))
    assert (shown["lag_seconds"], shown["file"]["seconds"]) == (10.0, 5.0)
    assert shown["waiting"] == 4
    assert "started" not in shown["file"]
    assert shown["model"]["version"] == 3
    earlier = status.shown(now=80.0)  # the clock was set back
    assert (earlier["lag_seconds"], earlier["file"]["seconds"]) == (0.0, 0.0)


def test_a_directory_that_is_gone_is_the_reason_where_there_is_no_other() -> None:
    status = JobStatus(state="waiting", gone={"inbox/j": "make it again"})
    assert status.shown(now=1.0)["reason"] == "make it again"
    status.state, status.reason = "failed", "a bug"
    shown = status.shown(now=1.0)
    assert shown["reason"] == "a bug"
    assert "gone" not in shown
