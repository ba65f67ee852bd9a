"""The short form of every fault: some rounds of a seed, spread over all points. Nothing may be violated.

HEADRACE_SEED takes other seeds; HEADRACE_HARNESS=10 ten times as many rounds. The long form: `make harness`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.harness.__main__ import main, one_round
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
    "files": {"files": 1},
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


def _cut_off(number: signal.Signals, *wrong: str) -> Fault:
    """A fault whose second round is interrupted, after it has seen this."""

    def cut_off(seed: int, place: Path) -> Round:
        done = Round(3)
        if seed == 2:
            done.wrong += wrong
            signal.raise_signal(number)
        return done

    return Fault("cut-off", "a signal in its second round", cut_off)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_who_interrupts_the_harness_is_told_so_and_sees_what_was_done(
    number: signal.Signals,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("tests.harness.__main__.FAULTS", {"cut-off": _cut_off(number)})
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    assert main(["--faults", "cut-off", "--rounds", "3"]) == status
    said = capsys.readouterr().out
    assert f"interrupted by {number.name}" in said
    assert "cut-off: 3 injected in 1 rounds of seeds 1–1" in said
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_signal_that_python_swallows_ends_the_harness_after_its_round(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a finaliser, or where logging lets go of its lock after a fork."""

    def swallow(seed: int, place: Path) -> Round:
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        return Round(1)

    fault = Fault("swallows", "a signal that nobody hears", swallow)
    monkeypatch.setattr("tests.harness.__main__.FAULTS", {"swallows": fault})
    assert main(["--faults", "swallows", "--rounds", "3"]) == 143
    assert "swallows: 1 injected in 1 rounds" in capsys.readouterr().out


def test_a_violation_that_was_seen_before_an_interruption_counts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fault = _cut_off(signal.SIGINT, "a process lives")
    monkeypatch.setattr("tests.harness.__main__.FAULTS", {"cut-off": fault})
    assert main(["--faults", "cut-off", "--rounds", "3"]) == 1
    said = capsys.readouterr().out
    assert "VIOLATED cut-off: a process lives" in said
    assert "--faults cut-off --seed 2 --rounds 1" in said


def test_kills_bound_what_is_injected_and_not_the_rounds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def three(seed: int, place: Path) -> Round:
        return Round(3, ready=2)

    monkeypatch.setattr("tests.harness.__main__.FAULTS", {"three": Fault("three", "", three)})
    assert main(["--faults", "three", "--kills", "7"]) == 0
    assert "three: 9 (6 when ready) injected in 3 rounds" in capsys.readouterr().out
