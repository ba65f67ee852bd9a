"""The short form of every fault: some rounds of a seed, spread over all points. Nothing may be violated.

HEADRACE_SEED takes other seeds; HEADRACE_HARNESS=10 ten times as many rounds. The long form: `make harness`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.catalogue import FAULTS

CHECKOUT = Path(__file__).parents[2]
SEED = os.environ.get("HEADRACE_SEED", "1")
TIMES = int(os.environ.get("HEADRACE_HARNESS", "1"))

# Rounds in CI. The stride spreads the seeds over the calls of a life: a prime, so that no point is met twice.
ROUNDS = {
    "kill": 25, "torn": 15, "kill-again": 25, "kill-linking": 10, "eio": 15, "broken": 10, "flush": 15,
    "full": 15, "short": 10, "power": 110, "power-again": 50, "flush-lost": 10, "ledger": 1,
    "workers": 1, "stopped": 1, "daemon": 2, "daemon-workers": 1,
    "daemon-disk": 1,
}  # fmt: skip
STRIDE = 41


def test_every_fault_has_a_short_form() -> None:
    assert ROUNDS.keys() == FAULTS.keys()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("fault", ROUNDS)
def test_nothing_is_violated(fault: str) -> None:
    rounds = str(ROUNDS[fault] * TIMES)
    options = ["--faults", fault, "--rounds", rounds, "--seed", SEED, "--stride", str(STRIDE)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.harness", *options],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    if "skipped" in done.stdout:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr
