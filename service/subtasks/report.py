"""What is recorded of a round becomes metrics, progress records and sample records.

    results of a round ─▶ report ─▶ text of both logs, metric states     one a round, in order
    metric states      ─▶ close  ─▶ the file's own record                one a file

Rules: records hold no clock, pid or attempt; their sums are taken round by round, so that their bytes
are a function of settings and files. The text goes to the arena: samples first, metrics behind.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kernels import metrics
from kernels.contract import Array
from kernels.learner import Learner, build
from kernels.metrics import Standing
from service.core.records import Record, Subject, json_line
from service.core.sent import sent
from service.formats.frames import pl
from service.runtime.arena import Region, back, view
from service.subtasks import samples
from service.subtasks.blocks import carried, file_rows, offsets, weights
from service.subtasks.judging import Judged, RoundResults, Scored, score
from service.subtasks.learn import Shape, copied, scopes, scores_layout

Scopes = Mapping[str, dict[str, Array]]
"""The metric states: see `learn.SCORED`."""


@dataclass(frozen=True, slots=True)
class Books:
    """The metric states before and after, the model before the file, and room for the text."""

    spec: str
    before: Region
    scores: Region
    scores_after: Region
    text: Region


@dataclass(frozen=True, slots=True)
class Segment:
    """The rows since the last progress record: what the metric states don't hold of them."""

    rows_from: int = 0
    rows: int = 0
    norm_sum: float = 0.0
    time_min: str | float | None = None
    time_max: str | float | None = None


@dataclass(frozen=True, slots=True)
class Reported:
    """How long the texts in the arena are, their digest (hex), and where the file stands."""

    samples_bytes: int
    metrics_bytes: int
    sha256: str
    segment: Segment
    loss: float | None


@dataclass(frozen=True, slots=True)
class Records:
    """The rows whose samples are recorded, lines for the metrics, and where the file stands after them."""

    page: samples.Page | None
    metrics: bytes
    segment: Segment
    loss: float | None

    def sha256(self, samples_text: bytes) -> str:
        """The digest of the lines of both logs (hex)."""
        digest = hashlib.sha256(samples_text)
        digest.update(self.metrics)
        return digest.hexdigest()


@sent
@dataclass(frozen=True, slots=True)
class Ending:
    """What the file's own record says beside its metrics."""

    version: int
    rows: int
    rows_rejected: int
    rows_unlabelled: int
    missing: Mapping[str, int]
    """Rows without a value, by feature, in the features' order."""
    size: int
    sha256: str
    learning_rate: float
    columns_extra: int = 0
    """Columns that the job's first file didn't have."""


def text_bytes(
    subject: Subject, shape: Shape, round_results: RoundResults, segment: Segment
) -> int:
    """Room that the text of a round's records surely fits in; only what is used is backed by memory.

    A character of text becomes at most 6 bytes of JSON, and a row's time is written at most three
    times: in its own record, and as the first and the last of a progress record.
    """
    names = _names_bytes(subject)
    factored = shape.outputs + sum(shape.factors) + 4 * len(shape.factors)
    gradients = {"full": shape.parameters, "factored": factored}.get(subject.samples, 1)
    labels = 6 * max((len(str(label)) for label in subject.classes or ()), default=0)
    one = 430 + names + 2 * labels + 26 * gradients
    metric_records = round_results.rows // subject.every_rows + 2
    extra = sum(
        math.prod(p.layout["carried"][0]) for p in round_results.parts if "carried" in p.layout
    )
    carried_bytes = 18 * extra + _times_bytes(segment)
    return round_results.rows * one + carried_bytes + metric_records * (2000 + names)


def close_bytes(subject: Subject, ending: Ending, segment: Segment) -> int:
    """Room that the last records of a file surely fit in."""
    missing = sum(6 * len(name) + 24 for name in ending.missing)
    return 8000 + 4 * _names_bytes(subject) + _times_bytes(segment) + missing


def _names_bytes(subject: Subject) -> int:
    return 6 * (len(subject.file) + len(subject.job) + 64)


def _times_bytes(segment: Segment) -> int:
    return 6 * (len(str(segment.time_min)) + len(str(segment.time_max)))


def report(subject: Subject, done: RoundResults, books: Books, segment: Segment) -> Reported:
    """Takes a round's results into the metric states and writes its records."""
    learner = build(books.spec)
    scores = _copied(learner, books)
    (scored,) = score(learner, [done], [books.before])
    return _written(books.text, take(subject, done, scored, scores, segment))


def close(subject: Subject, ending: Ending, books: Books, segment: Segment) -> Reported:
    """Takes the file's metrics into those of the job's life, and writes the record of the file."""
    scores = _copied(build(books.spec), books)
    made = end(subject, ending, scores, segment)
    for name in ("file", "before", "segment"):
        for array in scores[name].values():
            array[...] = 0
    return _written(books.text, made)


def take(
    subject: Subject, done: RoundResults, scored: Scored, scores: Scopes, segment: Segment
) -> Records:
    """Takes a round's results into the metric states, in place, and makes its records."""
    progress = _Progress(subject, done, scores["segment"], segment)
    _take_in(scored, scores)
    progress.take(scored)
    return _recorded(subject, done, scored, metrics.mean_loss(scores["file"]), progress)


def take_whole(
    subject: Subject, done: RoundResults, scored: Scored, scores: Scopes
) -> Records | None:
    """As `take`, of a file that `is_whole`: what is said of it, `end` says again in that record. None of others."""
    if not is_whole(subject, done):
        return None
    _take_in(scored, scores)
    return _taken_whole(subject, done, scored, metrics.mean_loss(scores["file"]))


def is_whole(subject: Subject, done: RoundResults) -> bool:
    """Whether a file is whole before its first progress record is due."""
    return not subject.steps and subject.epoch == 1 and done.rows < subject.every_rows


def count(
    files: Sequence[Scored], scores: Scopes, whole: Array, copies: Array
) -> list[list[Standing]] | None:
    """`metrics.count_files` of files that are whole: what the metric states of the file, `before` and the job's life say after
    each. Only the last is changed; None where the files must go through the states one by one."""
    return metrics.count_files(
        scores["lifetime"],
        np.cumsum([len(scored.rows.y) for scored in files]),
        np.concatenate([scored.rows.y for scored in files]),
        np.concatenate([scored.rows.w for scored in files]),
        _joined([scored.met for scored in files]),
        _joined([scored.before for scored in files]),
        whole,
        copies,
    )


def _joined(judged: Sequence[Judged]) -> metrics.Judgement:
    return (
        np.concatenate([one.output for one in judged]),
        np.concatenate([one.prediction for one in judged]),
        np.concatenate([one.loss for one in judged]),
    )


def take_counted(
    subject: Subject,
    done: RoundResults,
    scored: Scored,
    ending: Ending,
    standings: Sequence[Standing],
) -> tuple[Records, Records]:
    """The records of a whole file that was counted: what `take_whole` and `end` make."""
    file, before, lifetime = standings
    rows = _taken_whole(subject, done, scored, file.loss)
    progress = _last_progress(subject, ending, rows.segment, file)
    return rows, _ended(subject, ending, progress, file, before, lifetime)


def _taken_whole(
    subject: Subject, done: RoundResults, scored: Scored, loss: float | None
) -> Records:
    progress = _Progress(subject, done, {}, Segment())
    progress.note(scored, slice(None))
    return _recorded(subject, done, scored, loss, progress)


def _take_in(scored: Scored, scores: Scopes) -> None:
    rows, floor = scored.rows, scored.floor
    for judged, state in ((scored.met, scores["file"]), (scored.before, scores["before"])):
        metrics.update(state, judged.output, judged.prediction, rows.y, rows.w, judged.loss, floor)


def _recorded(
    subject: Subject, done: RoundResults, scored: Scored, loss: float | None, progress: _Progress
) -> Records:
    page = None
    if subject.samples != "off" and subject.epoch == 1:
        table = samples.Table(
            row=file_rows(done.parts),
            carried=progress.carried,
            weight=weights(done.parts),
            offset=offsets(done.parts),
            label=scored.rows.y,
            loss=scored.met.loss,
            prediction=scored.met.prediction,
            results=scored.results,
        )
        page = samples.Page(subject, done.version, table)
    return Records(page, _lines(progress.records), progress.segment, loss)


def end(
    subject: Subject,
    ending: Ending,
    scores: Scopes,
    segment: Segment,
    since: str = "segment",
) -> Records:
    """Takes the file's metrics into those of the job's life, in place, and makes the record of the file.

    The metrics `since` the last progress record are those of the segment, or of the file. The caller clears what does not
    outlast a file.
    """
    file = metrics.standing(scores["file"])
    progress: list[Record] = []
    if segment.rows and subject.epoch == 1 and not subject.steps:
        part = file if since == "file" else metrics.standing(scores[since])
        progress = _last_progress(subject, ending, segment, part)
    if subject.epoch == 1:
        metrics.merge(scores["lifetime"], scores["file"])
    before, lifetime = metrics.standing(scores["before"]), metrics.standing(scores["lifetime"])
    return _ended(subject, ending, progress, file, before, lifetime)


def _last_progress(
    subject: Subject, ending: Ending, segment: Segment, part: Standing
) -> list[Record]:
    return [_progress_record(subject, segment, part, ending.version, ending.learning_rate)]


def _ended(
    subject: Subject,
    ending: Ending,
    progress: Sequence[Record],
    file: Standing,
    before: Standing,
    lifetime: Standing,
) -> Records:
    record = _file_record(subject, ending, file, before, lifetime)
    return Records(None, _lines([*progress, record]), Segment(), file.loss)


def _file_record(
    subject: Subject, ending: Ending, file: Standing, before: Standing, lifetime: Standing
) -> Record:
    record = subject.head("file" if subject.epoch == 1 else "epoch")
    if subject.epoch > 1:
        record["epoch"] = subject.epoch
    record |= {
        "version": ending.version,
        "rows": ending.rows,
        "rows_rejected": ending.rows_rejected,
        "rows_unlabelled": ending.rows_unlabelled,
    }
    if ending.missing:
        record["missing"] = dict(ending.missing)
    if ending.columns_extra:
        record["columns_extra"] = ending.columns_extra
    record |= {
        "weight_sum": file.weight_sum,
        "bytes": ending.size,
        "sha256": ending.sha256,
    }
    record |= _scored(file)
    record["before"] = _scored(before)
    record["lifetime"] = {"rows": lifetime.rows} | _scored(lifetime)
    return record


class _Progress:
    """Cuts a round's rows at every `every_rows` rows of the file, and writes a record at each cut."""

    def __init__(
        self, subject: Subject, done: RoundResults, state: dict[str, Array], segment: Segment
    ) -> None:
        self.subject = subject
        self.done = done
        self.state = state
        self.segment = segment
        self.carried = carried(done.parts)
        self.records: list[Record] = []

    def take(self, scored: Scored) -> None:
        met, rows = scored.met, scored.rows
        at = 0
        while at < self.done.rows:
            room = self._room()
            stop = min(at + room, self.done.rows)
            cut = slice(at, stop)
            metrics.update(
                self.state,
                met.output[cut],
                met.prediction[cut],
                rows.y[cut],
                rows.w[cut],
                met.loss[cut],
                scored.floor[cut],
            )
            self.note(scored, cut)
            if stop - at == room:
                self._record()
            at = stop

    def _room(self) -> int:
        """Rows until the next record is due."""
        if self.subject.steps:
            return self.done.rows
        return self.subject.every_rows - self.segment.rows

    def note(self, scored: Scored, cut: slice) -> None:
        """What the metric states don't hold of these rows."""
        weights = scored.rows.w[cut]
        self._add(len(weights), float((scored.results["norm"][cut] * weights).sum()))
        if "time" in self.carried.columns:
            self._add_times(self.carried["time"][cut])

    def _add(self, rows: int, norm_sum: float) -> None:
        now = self.segment
        self.segment = Segment(
            now.rows_from, now.rows + rows, now.norm_sum + norm_sum, now.time_min, now.time_max
        )

    def _add_times(self, times: pl.Series) -> None:
        ends = [t for t in _ends(times) if t is not None]
        low = [t for t in (self.segment.time_min, *ends) if t is not None]
        high = [t for t in (self.segment.time_max, *ends) if t is not None]
        if low and high:
            self.segment = replace(
                self.segment, time_min=min(low, key=_order), time_max=max(high, key=_order)
            )

    def _record(self) -> None:
        if self.subject.epoch == 1:
            version, rate = self.done.version + 1, self.done.learning_rate
            part = metrics.standing(self.state)
            self.records.append(_progress_record(self.subject, self.segment, part, version, rate))
        self.segment = Segment(rows_from=self.segment.rows_from + self.segment.rows)
        for array in self.state.values():
            array[...] = 0


def _progress_record(
    subject: Subject, segment: Segment, part: Standing, version: int, rate: float
) -> Record:
    record = subject.head("step" if subject.steps else "progress")
    record |= {
        "rows_from": segment.rows_from,
        "rows_to": segment.rows_from + segment.rows,
        "version": version,
    }
    record |= _scored(part)
    record["gradient_norm"] = segment.norm_sum / part.weight_sum if part.weight_sum else None
    record["learning_rate"] = rate
    if segment.time_min is not None:
        record |= {"time_min": segment.time_min, "time_max": segment.time_max}
    return record


def _scored(standing: Standing) -> Record:
    return {"loss": standing.loss, "metrics": standing.metrics}


def _copied(learner: Learner, books: Books) -> Scopes:
    back(books.scores_after, books.scores_after.length)
    return scopes(copied(books.scores, books.scores_after, scores_layout(learner)))


def _ends(times: pl.Series) -> tuple[str | float | None, str | float | None]:
    """The earliest and latest of some times: as numbers where all are finite ones, else as text."""
    numbers = times.cast(pl.Float64, strict=False)
    if numbers.null_count() == times.null_count() and numbers.is_finite().all():
        return numbers.min(), numbers.max()  # type: ignore[return-value]
    return times.min(), times.max()  # type: ignore[return-value]


def _order(time: str | float) -> tuple[bool, str | float]:
    return isinstance(time, str), time


def _lines(records: Sequence[Record]) -> bytes:
    return b"".join(json_line(record) for record in records)


def _written(region: Region, made: Records) -> Reported:
    text = samples.texts([made.page])[0] if made.page else b""
    start, stop = len(text), len(text) + len(made.metrics)
    back(region, stop)
    room = view(region)
    room[:start] = np.frombuffer(text, np.uint8)
    room[start:stop] = np.frombuffer(made.metrics, np.uint8)
    return Reported(start, len(made.metrics), made.sha256(text), made.segment, made.loss)
