"""The records of a root whose files were taken back: which of them count, as docs/records.md says how to find them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol


class Recorded(Protocol):
    """A root, as far as its result logs go."""

    def records(self, *, job: str) -> Iterable[dict[str, Any]]: ...

    def samples(self, job: str) -> Iterable[dict[str, Any]]: ...


def live(root: Recorded, job: str = "j") -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """The metric records and the sample records that count."""
    samples = iter(root.samples(job))
    stack: list[tuple[list[Any], list[Any]]] = []  # of each accepted file: metrics, samples
    pending: list[Any] = []
    for record in root.records(job=job):
        if record["kind"] == "retracted":
            del stack[record["back_to"]["sequence"] :]
            continue
        pending.append(record)
        if record["kind"] in ("file", "epoch"):
            rows = record["rows"] if record["kind"] == "file" else 0
            stack.append((pending, [next(samples) for _ in range(rows)]))
            assert len(stack) == record["sequence"]
            pending = []
    assert pending == []
    assert next(samples, None) is None
    return (
        [_unrevised(r) for metrics, _ in stack for r in metrics],
        [_unrevised(r) for _, found in stack for r in found],
    )


def _unrevised(record: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: value for key, value in record.items() if key != "revision"}
