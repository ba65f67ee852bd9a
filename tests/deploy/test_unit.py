"""The systemd unit keeps each promise that the README makes of it."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).resolve().parents[2] / "deploy" / "headrace.service"

Sections = dict[str, dict[str, list[str]]]


def read(text: str) -> Sections:
    """A unit file as systemd reads it: section, key, and every value that the key was given."""
    sections: Sections = {}
    current: dict[str, list[str]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped[0] in "#;":
            continue
        assert not stripped.endswith("\\"), f"line {number} goes on, and comments in it would too"
        if stripped.startswith("["):
            assert stripped.endswith("]"), f"line {number}"
            assert stripped[1:-1] not in sections, f"line {number}: a second {stripped}"
            current = sections.setdefault(stripped[1:-1], {})
            continue
        key, equals, value = stripped.partition("=")
        assert equals, f"line {number} is no assignment"
        current.setdefault(key, []).append(value)
    return sections


@pytest.fixture(scope="module")
def unit() -> Sections:
    return read(UNIT.read_text("utf-8"))


def test_no_key_is_given_twice(unit: Sections) -> None:
    twice = [key for keys in unit.values() for key, values in keys.items() if len(values) > 1]
    assert twice == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Type", "notify"),
        ("NotifyAccess", "main"),
        ("KillMode", "mixed"),
        ("KillSignal", "SIGTERM"),
        ("OOMPolicy", "continue"),
        ("Restart", "on-failure"),
        ("RestartPreventExitStatus", "2"),
    ],
)
def test_the_service_is_run_as_the_design_asks(unit: Sections, key: str, value: str) -> None:
    assert unit["Service"][key] == [value]


@pytest.mark.parametrize("key", ["WatchdogSec", "TimeoutStartSec", "TimeoutStopSec", "RestartSec"])
def test_the_times_are_whole_seconds(unit: Sections, key: str) -> None:
    assert int(unit["Service"][key][0]) > 0


def test_a_stop_has_time_for_a_round_before_the_watchdog_matters(unit: Sections) -> None:
    service = unit["Service"]
    assert int(service["TimeoutStopSec"][0]) > int(service["WatchdogSec"][0])


def test_failing_starts_come_to_an_end(unit: Sections) -> None:
    spacing = int(unit["Service"]["RestartSec"][0]) * int(unit["Unit"]["StartLimitBurst"][0])
    assert spacing < int(unit["Unit"]["StartLimitIntervalSec"][0])


def test_it_runs_the_command_below_its_state_directory(unit: Sections) -> None:
    service = unit["Service"]
    program, *arguments = shlex.split(service["ExecStart"][0])
    assert Path(program).name == "headrace"
    assert Path(program).is_absolute()
    assert arguments[0] == "run"
    root = arguments[arguments.index("--root") + 1]
    assert root == f"/var/lib/{service['StateDirectory'][0]}"
    assert arguments[arguments.index("-c") + 1].startswith("/etc/headrace/")


def test_a_reload_is_a_sighup(unit: Sections) -> None:
    assert unit["Service"]["ExecReload"] == ["/bin/kill -HUP $MAINPID"]


def test_compiled_kernels_go_where_the_service_may_write(unit: Sections) -> None:
    service = unit["Service"]
    name, _, path = service["Environment"][0].partition("=")
    assert name == "NUMBA_CACHE_DIR"
    assert Path(path).is_relative_to(f"/var/cache/{service['CacheDirectory'][0]}")


def test_it_is_nobody_special(unit: Sections) -> None:
    service = unit["Service"]
    assert service["User"] == ["headrace"]
    assert service["NoNewPrivileges"] == ["yes"]
    assert service["CapabilityBoundingSet"] == [""]
    assert service["ProtectSystem"] == ["strict"]


@pytest.mark.parametrize(
    "key", ["MemoryDenyWriteExecute", "PrivateUsers", "ProcSubset", "SystemCallFilter", "LimitAS"]
)
def test_no_hardening_takes_away_what_it_lives_on(unit: Sections, key: str) -> None:
    """Kernels are compiled at run time; workers map the daemon's memory through /proc."""
    assert key not in unit["Service"]


def test_sockets_of_the_machine_stay_allowed(unit: Sections) -> None:
    """The notifications, the control socket and the workers' pairs are all AF_UNIX."""
    assert "AF_UNIX" in unit["Service"]["RestrictAddressFamilies"][0].split()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    """With a program that is there in place of the installed one, which systemd looks for."""
    copy = tmp_path / UNIT.name
    text = UNIT.read_text("utf-8")
    copy.write_text(text.replace("/opt/headrace/.venv/bin/headrace", shutil.which("true") or ""))
    run = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in run.stderr.splitlines() if UNIT.name in line]
    assert ours == []
    assert run.returncode == 0, run.stderr


def test_a_key_given_twice_would_be_seen() -> None:
    assert read("[Service]\nA=1\n# A=3\nA=2\n") == {"Service": {"A": ["1", "2"]}}
