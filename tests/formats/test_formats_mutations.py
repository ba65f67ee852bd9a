"""Damaged files: whatever was done to them, they are read or refused, and in the same way for every chunk size.

Seeds reproduce a run; HEADRACE_MUTATIONS sets how many there are (of each kind of file).
"""

from __future__ import annotations

import os
import random
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from service.formats import Limits
from tests.formats.damage import SEEDS, SPARSE, SPARSE_SEEDS, WILD, fields_of, mutated
from tests.formats.lone_reader import LoneReader
from tests.formats.whole import REFUSED, outcome

COUNT = int(os.environ.get("HEADRACE_MUTATIONS", "150"))
LIMITS = Limits(max_bytes=1 << 20)
FILES = SEEDS | SPARSE_SEEDS


def judged(folder: Path, data: bytes, name: str, chunk_bytes: int) -> object:
    path = folder / "0000000001"
    path.write_bytes(data)
    return outcome(path, name, fields_of(name), chunk_bytes, LIMITS)


@pytest.mark.parametrize("name", [name for name in FILES if name != "t.parquet"])
def test_a_damaged_file_is_read_or_refused_alike_for_every_chunk_size(tmp_path, name):
    for seed in range(COUNT):
        data = mutated(FILES[name], random.Random(f"{name} {seed}"))
        found = {
            repr(judged(tmp_path, data, name, chunk_bytes)) for chunk_bytes in (1, 60, 4 << 20)
        }
        assert len(found) == 1, f"seed {seed}: {data!r}"


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_at_any_length_is_read_or_refused(tmp_path, name):
    data = FILES[name]
    lengths = range(len(data)) if len(data) < 400 else range(0, len(data), len(data) // 200)
    for length in lengths:
        found = judged(tmp_path, data[:length], name, 4 << 20)
        assert found == REFUSED or name in ("t.csv", "t.jsonl", *WILD, *SPARSE), length


def test_the_undamaged_seeds_are_all_read_alike(read):
    found = {
        name: read(data, name, fields_of(name)).bits()
        for name, data in SEEDS.items()
        if name != "w.tsv"  # which can't hold a line break
    }
    assert len({repr(bits) for bits in found.values()}) == 1


def test_a_damaged_parquet_file_is_read_or_refused_or_ends_its_worker_alone(tmp_path):
    """polars' reader allocates what a damaged footer asks for, and aborts: hence decoding in workers that may die."""
    found: Counter[str] = Counter()
    with closing(LoneReader("t.parquet")) as reader:
        for seed in range(COUNT):
            path = tmp_path / f"{seed}"
            path.write_bytes(mutated(SEEDS["t.parquet"], random.Random(f"t.parquet {seed}")))
            found[reader.read(path)] += 1
    assert found[REFUSED] > found["died"], found
