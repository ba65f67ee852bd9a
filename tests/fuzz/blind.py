"""The search without a guide, where readers may end their process: mutations of the seeds and of what is kept, by number."""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.formats.damage import mutated
from tests.fuzz.targets import Target


def search(
    target: Target, inputs: Sequence[bytes], seconds: float, seed: int
) -> tuple[Counter[str], bytes | None]:
    """What became of how many, and the bytes that broke a rule, if some did."""
    chance, found = random.Random(seed), Counter[str]()
    ends = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder, target.checking(Path(folder)) as check:
        while time.monotonic() < ends:
            data = mutated(chance.choice(inputs), chance)
            try:
                found[str(check(data))] += 1
            except AssertionError as wrong:
                print(wrong, flush=True)
                return found, data
    return found, None
