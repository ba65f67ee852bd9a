"""How a file's rows become batches, lanes and rounds: arithmetic only.

    rows      0 ──────────────────────────────────────────────▶ counted from the file's start
    batches   |b|b|b|b|b|b|b|b|b|b|b|b|…                          batch_rows each, the last may be short
    lanes     |  lane 0  |  lane 1  |  lane 2  |  lane 3  |        local_steps batches each
    rounds    |                 round 0                   |  …     never across files

Everything here depends on row numbers alone: not on chunks, workers or time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from service.core.job_settings import Training

T = TypeVar("T")

ROUND_NUMBERS = 1 << 22
"""The most numbers that the rows of a single lane's round hold: with them a round's blocks take 32 MiB."""


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """The shape of a job's rounds."""

    batch_rows: int
    lanes: int
    local_steps: int

    @property
    def rows(self) -> int:
        """The rows of a whole round."""
        return self.batch_rows * self.lanes * self.local_steps

    @property
    def lane_rows(self) -> int:
        return self.batch_rows * self.local_steps

    def deal(self, rows: int) -> list[range]:
        """Deals a round's rows to lanes in contiguous runs; a short round fills the first lanes."""
        if not 0 < rows <= self.rows:
            raise ValueError(f"a round has 1 to {self.rows} rows, got {rows}")
        starts = range(0, rows, self.lane_rows)
        return [range(start, min(start + self.lane_rows, rows)) for start in starts]


def plan_of(training: Training, features: int) -> RoundPlan:
    """The rounds of resolved settings, for rows of so many features.

    In a single lane steps follow one another wherever a round ends, so that wide rows may have short ones. A step cut by
    features has one lane, of whole rows.
    """
    batch_rows, lanes, steps = map(int, (training.batch_rows, training.lanes, training.local_steps))
    if training.partition == "features":
        return RoundPlan(batch_rows, 1, steps)
    if lanes == 1:
        steps = min(steps, max(1, ROUND_NUMBERS // (batch_rows * max(features, 1))))
    return RoundPlan(batch_rows, lanes, steps)


class Piece(NamedTuple, Generic[T]):
    """Rows [start, stop) of one block."""

    block: T
    start: int
    stop: int


class RowQueue(Generic[T]):
    """The decoded rows of one file that no round has taken yet, in order, whatever blocks hold them."""

    def __init__(self) -> None:
        self._pieces: deque[Piece[T]] = deque()
        self.rows = 0

    def put(self, block: T, rows: int) -> None:
        """Adds a block's rows at the end."""
        if rows:
            self._pieces.append(Piece(block, 0, rows))
            self.rows += rows

    def take(self, rows: int) -> list[Piece[T]]:
        """Removes the first `rows` rows; raises ValueError if there are fewer."""
        if rows > self.rows:
            raise ValueError(f"{rows} rows wanted, {self.rows} queued")
        self.rows -= rows
        taken: list[Piece[T]] = []
        while rows:
            piece = self._pieces.popleft()
            size = piece.stop - piece.start
            if size > rows:
                cut = piece.start + rows
                self._pieces.appendleft(Piece(piece.block, cut, piece.stop))
                piece = Piece(piece.block, piece.start, cut)
            taken.append(piece)
            rows -= piece.stop - piece.start
        return taken


def pieces_of(pieces: Sequence[Piece[T]], rows: range) -> list[Piece[T]]:
    """The part of `pieces` that holds `rows`, counted from the first piece's start."""
    part: list[Piece[T]] = []
    at = 0
    for block, start, stop in pieces:
        low, high = max(rows.start - at, 0), min(rows.stop - at, stop - start)
        if low < high:
            part.append(Piece(block, start + low, start + high))
        at += stop - start
    return part
