"""Rows become batches, lanes and rounds by their numbers alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.job_settings import Training
from service.core.planning import Piece, RoundPlan, RowQueue, pieces_of, plan_of

PLANS = st.builds(RoundPlan, st.integers(1, 7), st.integers(1, 4), st.integers(1, 5))
BLOCKS = st.lists(st.integers(0, 30), max_size=12)


def _filled(blocks: list[int]) -> tuple[RowQueue[int], list[tuple[int, int]]]:
    """A queue of blocks, each known by its number, and all their rows as (block, row)."""
    queue: RowQueue[int] = RowQueue()
    for number, rows in enumerate(blocks):
        queue.put(number, rows)
    return queue, [(number, row) for number, rows in enumerate(blocks) for row in range(rows)]


def _rows(pieces: list[Piece[int]]) -> list[tuple[int, int]]:
    return [(block, row) for block, start, stop in pieces for row in range(start, stop)]


@given(blocks=BLOCKS, plan=PLANS)
def test_rounds_take_each_row_once_and_in_order(blocks: list[int], plan: RoundPlan) -> None:
    queue, rows = _filled(blocks)
    rounds = []
    while queue.rows:
        rounds.append(_rows(queue.take(min(plan.rows, queue.rows))))
    assert [row for one in rounds for row in one] == rows
    assert all(len(one) == plan.rows for one in rounds[:-1])
    assert queue.take(0) == []


@given(blocks=BLOCKS, plan=PLANS)
def test_lanes_share_a_round_in_contiguous_runs(blocks: list[int], plan: RoundPlan) -> None:
    queue, _ = _filled(blocks)
    while queue.rows:
        count = min(plan.rows, queue.rows)
        pieces = queue.take(count)
        lanes = [pieces_of(pieces, lane) for lane in plan.deal(count)]
        assert [row for lane in lanes for row in _rows(lane)] == _rows(pieces)
        assert all(piece.start < piece.stop for lane in lanes for piece in lane)


@given(plan=PLANS, data=st.data())
def test_a_round_is_dealt_in_whole_lanes_but_for_the_last(
    plan: RoundPlan, data: st.DataObject
) -> None:
    rows = data.draw(st.integers(1, plan.rows))
    lanes = plan.deal(rows)
    assert len(lanes) <= plan.lanes
    assert [row for lane in lanes for row in lane] == list(range(rows))
    assert all(len(lane) == plan.batch_rows * plan.local_steps for lane in lanes[:-1])


@given(first=BLOCKS, second=BLOCKS, plan=PLANS)
def test_where_blocks_are_cut_changes_no_round(
    first: list[int], second: list[int], plan: RoundPlan
) -> None:
    total = min(sum(first), sum(second))

    def lane_sizes(blocks: list[int]) -> list[list[int]]:
        queue, _ = _filled(blocks)
        left, sizes = total, []
        while left:
            count = min(plan.rows, left)
            pieces = queue.take(count)
            lanes = plan.deal(count)
            sizes.append([len(_rows(pieces_of(pieces, lane))) for lane in lanes])
            left -= count
        return sizes

    assert lane_sizes(first) == lane_sizes(second)


def test_no_round_has_more_rows_than_its_plan_or_none() -> None:
    for rows in (0, 7):
        with pytest.raises(ValueError, match="1 to 6 rows"):
            RoundPlan(2, 3, 1).deal(rows)


def test_no_more_rows_can_be_taken_than_there_are() -> None:
    queue, _ = _filled([2, 1])
    with pytest.raises(ValueError, match="4 rows wanted, 3 queued"):
        queue.take(4)
    assert queue.rows == 3


@pytest.mark.parametrize(
    ("training", "features", "rows"),
    [
        ({"batch_rows": 1, "lanes": 1, "local_steps": 16384}, 30, 16384),
        ({"batch_rows": 1, "lanes": 1, "local_steps": 16384}, 0, 16384),
        ({"batch_rows": 1, "lanes": 1, "local_steps": 16384}, 4096, 1024),
        ({"batch_rows": 32, "lanes": 1, "local_steps": 256}, 4096, 1024),
        ({"batch_rows": 32, "lanes": 1, "local_steps": 256}, 10**7, 32),
        # of several lanes, or parts, a round's length is part of what is learnt
        ({"batch_rows": 32, "lanes": 2, "local_steps": 256}, 4096, 16384),
        ({"batch_rows": 8192, "lanes": 4, "local_steps": 1, "partition": "features"}, 4096, 8192),
    ],
)
def test_a_single_lane_has_shorter_rounds_of_wide_rows(
    training: dict[str, Any], features: int, rows: int
) -> None:
    assert plan_of(Training(**training), features).rows == rows
