"""The Containerfile builds from what is in the repository, and runs the daemon as nobody special."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

Instructions = list[tuple[str, str]]


@pytest.fixture(scope="module")
def instructions() -> Instructions:
    """(instruction, arguments) of each line, continued ones joined, comments left out."""
    text = (ROOT / "deploy" / "Containerfile").read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    words = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(name, arguments) for name, arguments in words]


def last(instructions: Instructions, wanted: str) -> str:
    return [arguments for name, arguments in instructions if name == wanted][-1]


def final_stage(instructions: Instructions) -> Instructions:
    start = max(i for i, (name, _) in enumerate(instructions) if name == "FROM")
    return instructions[start:]


def test_it_starts_from_a_slim_python_that_the_project_supports(instructions: Instructions) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    oldest = int(project["requires-python"].removeprefix(">=3."))
    for image in (arguments for name, arguments in instructions if name == "FROM"):
        found = re.match(r"docker\.io/library/python:3\.(\d+)-slim\b", image)
        assert found, image
        assert int(found[1]) >= oldest


def test_what_it_copies_is_there_and_is_all_that_the_wheel_needs(
    instructions: Instructions,
) -> None:
    copied = {
        source
        for name, arguments in instructions
        if name == "COPY" and not arguments.startswith("--from")
        for source in arguments.split()[:-1]
    }
    assert copied == {"pyproject.toml", "README.md", "LICENSE", "service", "kernels", "config"}
    assert all((ROOT / source).exists() for source in copied - {"README.md"})


def test_it_runs_as_a_user_without_rights_and_the_change_comes_last(
    instructions: Instructions,
) -> None:
    stage = final_stage(instructions)
    names = [name for name, _ in stage]
    assert last(stage, "USER") not in ("root", "0")
    assert "RUN" not in names[names.index("USER") :]


def test_a_stop_is_a_sigterm_that_reaches_the_daemon_itself(instructions: Instructions) -> None:
    """Only the exec form makes the daemon the container's own process, without a shell between."""
    assert last(instructions, "STOPSIGNAL") == "SIGTERM"
    assert json.loads(last(instructions, "ENTRYPOINT")) == ["headrace"]
    assert json.loads(last(instructions, "CMD"))[0] == "run"


def test_its_root_is_a_volume_that_its_user_owns(instructions: Instructions) -> None:
    stage = final_stage(instructions)
    command = json.loads(last(stage, "CMD"))
    root = command[command.index("--root") + 1]
    assert json.loads(last(stage, "VOLUME")) == [root]
    assert root in last(stage, "RUN")
    assert f"--owner {last(stage, 'USER')}" in last(stage, "RUN")


def test_compiled_kernels_go_where_its_user_may_write(instructions: Instructions) -> None:
    stage = final_stage(instructions)
    found = re.search(r"NUMBA_CACHE_DIR=(\S+)", last(stage, "ENV"))
    assert found
    assert found[1] in last(stage, "RUN")
