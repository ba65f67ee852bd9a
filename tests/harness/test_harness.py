"""The short form of every fault: some rounds of a seed, spread over all points. Nothing may be violated.

HEADRACE_SEED takes other seeds; HEADRACE_HARNESS=10 ten times as many rounds. The long form: `make harness`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.__main__ import one_round
from tests.harness.catalogue import FAULTS
from tests.harness.fault import Fault, Round, Tally

CHECKOUT = Path(__file__).parents[2]
SEED = os.environ.get("HEADRACE_SEED", "1")
TIMES = int(os.environ.get("HEADRACE_HARNESS", "1"))

# Rounds in CI, by what can share an undisturbed run. The stride spreads the seeds over the calls of a life: a prime, so
# that no point is met twice.
ROUNDS: dict[str, dict[str, int]] = {
    "storage": {
        "kill": 25, "torn": 15, "kill-again": 25, "kill-linking": 10, "eio": 15, "broken": 10, "flush": 15,
        "full": 15, "short": 10,
    },
    "power": {"power": 110, "power-again": 50, "flush-lost": 10},
    "ledger": {"ledger": 2},
    "pool": {"workers": 1, "stopped": 1},
    "daemon": {"daemon": 1, "daemon-retract": 1, "daemon-disk": 1, "daemon-descriptors": 1, "daemon-workers": 1},
}  # fmt: skip
STRIDE = 41


def test_every_fault_has_a_short_form() -> None:
    named = [fault for group in ROUNDS.values() for fault in group]
    assert sorted(named) == sorted(FAULTS)


def test_a_round_that_raises_is_a_violation(tmp_path: Path) -> None:
    def breaks(seed: int, place: Path) -> Round:
        raise TimeoutError(f"{seed}: what was waited for never came")

    tally = Tally(Fault("breaks", "an error of the harness itself", breaks), 7)
    one_round(tally, tmp_path)
    assert (tally.rounds, tally.injected) == (1, 1)
    assert "7: what was waited for never came" in tally.wrong[0]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("group", ROUNDS)
def test_nothing_is_violated(group: str) -> None:
    faults = ",".join(f"{fault}:{rounds * TIMES}" for fault, rounds in ROUNDS[group].items())
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.harness",
            "--faults",
            faults,
            "--seed",
            SEED,
            "--stride",
            str(STRIDE),
        ],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if "skipped" in done.stdout:
        pytest.skip(done.stdout.strip())
