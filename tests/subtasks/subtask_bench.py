"""One line of sub-tasks without a daemon: files decoded, learnt and reported on an arena."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kernels.contract import Spec
from service import formats
from service.core.records import Subject
from service.formats.contract import Fields, Limits, RowRules
from service.runtime.arena import Arena, Region, arrays, view
from service.subtasks import blocks, learn, report
from service.subtasks.blocks import Part
from service.subtasks.judging import RoundResults
from service.subtasks.report import Books, Ending, Segment

FIELDS = Fields(label="y", labels="class", classes=(0.0, 1.0))
SUBJECT = Subject(
    job="j",
    file="f.csv",
    sequence=1,
    epoch=1,
    classes=(0.0, 1.0),
    every_rows=20,
    steps=False,
    samples="norms",
    samples_format="jsonl",
)


class Bench:
    """Does a line's work in this process; what it keeps lies in the arena until the test's end."""

    def __init__(self, arena: Arena, home: Path) -> None:
        self.arena = arena
        self.home = home

    def reserve(self, nbytes: int) -> Region:
        return self.arena.reserve(nbytes, backed=False)

    def decoded(
        self, data: bytes, fields: Fields = FIELDS, chunk_bytes: int = 1 << 20, name: str = "f.csv"
    ) -> list[Part]:
        """The parts of a file, a whole block each."""
        path = self.home / name
        path.write_bytes(data)
        source = formats.prepare(str(path), name, str(self.home / "scratch"), fields, Limits())
        parts, first_row = [], 0
        for chunk in formats.Survey(source, chunk_bytes):
            region = self.reserve(blocks.room(source, chunk, fields))
            block = blocks.decode(source, chunk, fields, RowRules(), region)
            parts.append(Part(region, block.layout, 0, block.rows, first_row))
            first_row += block.rows_seen
        return parts

    def started(self, spec: Spec) -> tuple[learn.Shape, Region, Region]:
        """A learner's shape, a fresh state, and fresh metric states."""
        shape = learn.shape(spec.to_json())
        state, scores = self.reserve(shape.state_bytes), self.reserve(shape.scores_bytes)
        learn.start(shape.spec, state, scores)
        return shape, state, scores

    def learnt(
        self,
        shape: learn.Shape,
        state: Region,
        parts: Sequence[Part],
        batch_rows: int = 1,
        extra: str = "",
    ) -> tuple[Region, RoundResults]:
        """The state after a round of one lane, and its results."""
        target = self.reserve(shape.state_bytes)
        rows = sum(part.rows for part in parts)
        results = self.reserve(shape.results_bytes(rows, extra))
        done = learn.run(shape.spec, state, target, parts, batch_rows, results, extra)
        return target, RoundResults(
            tuple(parts), ((results, rows),), extra, 0, 0, done.learning_rate
        )

    def reported(
        self,
        shape: learn.Shape,
        before: Region,
        scores: Region,
        done: RoundResults,
        subject: Subject = SUBJECT,
        segment: Segment | None = None,
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]], Region, Segment]:
        """Sample records, metric records, the metric states after them, and where the file stands."""
        segment = segment or Segment()
        text = self.reserve(report.text_bytes(subject, shape, done, segment))
        after = self.reserve(shape.scores_bytes)
        books = Books(shape.spec, before, scores, after, text)
        found = report.report(subject, done, books, segment)
        lines = view(text).tobytes()
        cut, end = found.samples_bytes, found.samples_bytes + found.metrics_bytes
        return _records(lines[:cut]), _records(lines[cut:end]), after, found.segment

    def closed(
        self,
        shape: learn.Shape,
        scores: Region,
        ending: Ending,
        segment: Segment,
        subject: Subject = SUBJECT,
    ) -> tuple[list[dict[str, Any]], Region]:
        text = self.reserve(report.close_bytes(subject, ending, segment))
        after = self.reserve(shape.scores_bytes)
        found = report.close(
            subject, ending, Books(shape.spec, scores, scores, after, text), segment
        )
        return _records(view(text).tobytes()[: found.metrics_bytes]), after

    def bits(self, shape: learn.Shape, state: Region) -> dict[str, bytes]:
        return {name: array.tobytes() for name, array in arrays(state, shape.state_layout).items()}


def _records(text: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.split(b"\n")[:-1]]
