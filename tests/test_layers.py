"""No import runs up: a module imports from its own folder, and from what stands before it in the house."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# From the bottom up; rooms on one floor don't import each other but for what `NEIGHBOURS` allows.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("kernels", "service.core"),  # arrays in, arrays out; values and decisions
    ("service.formats", "service.storage"),  # a file's bytes; how things last
    ("service.runtime",),  # how things run
    ("service.subtasks",),  # what runs in a worker: the meeting of kernels, formats and the arena
    ("service.stages",),  # one coroutine each
    ("service.lines",),  # the stages of a job between their channels, one line after the other
    ("service.daemon",),  # the wiring
    ("service.cli",),  # one module a command
    ("service.__main__",),  # `python -m service` is the command
)

# The settings check a kernel's options, and a Spec is made of them; kernels know nothing of settings.
NEIGHBOURS = {("service.core", "kernels")}

# What a room must not import from anywhere, and why.
FORBIDDEN: dict[str, tuple[frozenset[str], str]] = {
    "service.core": (
        frozenset({"asyncio", "uvloop", "aiofiles", "time", "socket", "subprocess", "apsw"}),
        "no await, no I/O, no clock where decisions are made",
    ),
    "service.formats": (
        frozenset({"asyncio", "uvloop", "aiofiles"}),
        "it runs in workers, which have no event loop",
    ),
    "service.storage": (
        frozenset({"asyncio", "uvloop", "aiofiles"}),
        "what must last is written in order, in one thread",
    ),
    "service.subtasks": (
        frozenset({"asyncio", "uvloop", "aiofiles", "time", "random"}),
        "a sub-task is a pure function of its arguments and may run again",
    ),
}

# Kernels are numpy, numba (which is made of llvmlite) and the standard library, without the parts of it that reach outside.
KERNELS_MAY_IMPORT = frozenset({"numpy", "numba", "llvmlite", "kernels"})
KERNELS_MUST_NOT = frozenset({"os", "time", "random", "pathlib", "asyncio", "subprocess", "socket"})

# (module, what it imports): the exceptions, and why.
EXCEPTIONS = {
    ("kernels.loops", "pathlib.Path"),  # reads its own source, whose digest keys the compiled cache
}

STAGES = frozenset({"intake", "decode", "train", "record", "predict"})

WORKER_SIDE = ("kernels", "service.core.errors", "service.formats", "service.subtasks")


def modules(folder: str = "") -> Iterator[tuple[str, Path]]:
    """(dotted name, path) of every module below a dotted folder of the two packages."""
    for package in ("kernels", "service"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            if f"{name}.".startswith(f"{folder}." if folder else ""):
                yield name, path


def imports(name: str, path: Path) -> Iterator[str]:
    """The dotted names that a module imports, wherever in it; a name from a package comes with it."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            origin = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def room(name: str) -> str | None:
    """The room that a dotted name lies in; None outside the house, and for `service` itself."""
    rooms = (room for floor in FLOORS for room in floor)
    return next((room for room in rooms if f"{name}.".startswith(f"{room}.")), None)


def floor(of: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if of in rooms)


def may_import(one: str, other: str) -> bool:
    return one == other or floor(other) < floor(one) or (one, other) in NEIGHBOURS


def test_every_module_has_its_room() -> None:
    homeless = [name for name, _ in modules() if room(name) is None and name != "service"]
    assert homeless == []


def test_no_import_runs_up() -> None:
    wrong = [
        f"{name} imports {imported}"
        for name, path in modules()
        for imported in imports(name, path)
        if (target := room(imported)) and not may_import(room(name) or "service.core", target)
    ]
    assert wrong == []


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_a_room_keeps_to_its_rules(folder: str) -> None:
    forbidden, reason = FORBIDDEN[folder]
    wrong = [
        f"{name} imports {imported}"
        for name, path in modules(folder)
        for imported in imports(name, path)
        if imported.partition(".")[0] in forbidden
    ]
    assert wrong == [], reason


def test_kernels_are_numpy_numba_and_the_standard_library() -> None:
    allowed = (sys.stdlib_module_names | KERNELS_MAY_IMPORT) - KERNELS_MUST_NOT
    wrong = [
        f"{name} imports {imported}"
        for name, path in modules("kernels")
        for imported in imports(name, path)
        if imported.partition(".")[0] not in allowed and (name, imported) not in EXCEPTIONS
    ]
    assert wrong == []


def test_stages_never_import_one_another() -> None:
    wrong = [
        f"{name} imports {imported}"
        for name, path in modules("service.stages")
        for imported in imports(name, path)
        if name.rpartition(".")[2] in STAGES
        and imported.startswith("service.stages.")
        and imported.split(".")[2] in STAGES - {name.rpartition(".")[2]}
    ]
    assert wrong == []


def test_worker_side_modules_reach_no_event_loop() -> None:
    """Whatever they import in turn, in a fresh interpreter."""
    names = [name for folder in WORKER_SIDE for name, _ in modules(folder)]
    names += ["service.runtime.worker", "service.runtime.arena"]
    program = (
        "import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "print(sorted({'asyncio', 'uvloop', 'aiofiles'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.stderr == ""
    assert run.stdout.strip() == "[]"


def test_an_import_that_runs_up_is_seen(tmp_path: Path) -> None:
    """The reader of imports sees every spelling, also inside functions."""
    path = tmp_path / "learner.py"
    path.write_text(
        "import service.cli\n"
        "from service import daemon\n"
        "def f():\n    from ..stages import train\n    from . import blocks\n"
    )
    seen = list(imports("service.subtasks.learner", path))
    assert seen == [
        "service.cli",
        "service.daemon",
        "service.stages.train",
        "service.subtasks.blocks",
    ]
    assert not may_import("service.subtasks", "service.daemon")
    assert not may_import("kernels", "service.core")
    assert not may_import("service.formats", "service.storage")


def test_a_checksum_of_compiled_code_has_all_of_its_parts() -> None:
    """Else an upgrade would run the machine code of before: of passes, those that they take compiled functions from."""
    entries = 0
    for name, path in modules("kernels"):
        tree = ast.parse(path.read_text())
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        sums = [call for call in calls if getattr(call.func, "id", "") == "checksum"]
        if not name.startswith("kernels.passes.") or not sums:
            continue
        entries += 1
        whole, parts = {}, set()
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and node.module == "kernels.passes":
                whole |= {alias.asname or alias.name: alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and str(node.module).startswith(
                "kernels.passes."
            ):
                parts.add(str(node.module).rpartition(".")[2])
        summed = {whole.get(getattr(argument, "id", "")) for argument in sums[0].args}
        assert parts <= summed, name
    assert entries == 5
