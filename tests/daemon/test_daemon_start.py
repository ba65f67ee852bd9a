"""A start: what the daemon's own process is spared."""

from __future__ import annotations

from pathlib import Path

import pytest
import sample_tables
from daemon_root import Root, eventually, job

TABLE = sample_tables.rows(40, 1)


def _has(library: str, pid: int) -> bool:
    return library in Path(f"/proc/{pid}/maps").read_text()


def test_tables_are_read_by_workers_alone_whatever_their_format(root: Root) -> None:
    root.configure(job(output={"samples": "norms"}))
    life = root.start()
    files = {
        "rows.csv": sample_tables.csv(TABLE),
        "rows.jsonl": sample_tables.jsonl(TABLE),
        "rows.parquet": sample_tables.parquet(TABLE),
    }
    for number, (name, data) in enumerate(files.items(), 1):
        root.drop(name, data)
        life.done(files=number)
        root.drop(name, data, into="predict")
    root.drop("bad.csv", b"a,b,c,y\n1,x,2,1\n")
    root.drop("last.csv", sample_tables.csv(sample_tables.rows(41, 2)))
    life.done(files=len(files) + 1)
    assert root.names("failed") == ["bad.csv", "bad.csv.error.json"]
    predicted = {f"{name}.csv" for name in files}
    eventually(lambda: predicted <= set(root.names("predictions")), "predictions", life)
    for library in ("polars", "llvmlite"):  # the second is numba's
        assert all(_has(library, worker) for worker in life.workers())
        assert not _has(library, life.process.pid)
    life.stop()


def test_who_hears_that_it_is_ready_finds_the_jobs_in_its_status(root: Root) -> None:
    root.configure(job("a"), job("b"))
    root.start()
    status = root.status()
    assert (status["state"], sorted(status["jobs"])) == ("running", ["a", "b"])


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_who_closes_its_streams_gets_workers_all_the_same(root: Root, closed: str) -> None:
    root.starter = ["sh", "-c", f'exec "$@" {closed}', "sh"]
    root.configure()
    root.drop("rows.csv", sample_tables.csv(TABLE))
    root.once()
    assert root.names("done") == ["rows.csv"]
