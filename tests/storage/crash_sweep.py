"""Disturbs a scripted run at each state-changing system call, and says where it did not recover.

Run it under strace, which kills every process at its `CALLS`-th call of any traced kind, or lets that call fail:

    strace -f -qq -o /dev/null -e trace=KINDS -e inject=KINDS:signal=SIGKILL:when=CALLS    (or error=ENOSPC)
        python crash_sweep.py DIRECTORY CALLS SEED STEP NESTED

Rules. strace counts for each process and each kind of call, so a child that is to die at its i-th fsync first makes
CALLS - i that change nothing: one strace and one import serve the whole sweep. Everything that makes calls happens in
children. STEP 1 tries every point, a larger one every STEP-th, from a random one on. With NESTED, every such kill is
followed by a second one during the recovery, at a random call. The last line printed is the result as JSON.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import scripted_run

from service.storage import moves

CRASHED, DONE, FAILED = "crashed", "done", "failed"

# A call of each kind that fails at once: it is counted, and changes nothing.
NO_FILE = 1023
HARMLESS: dict[str, Callable[[], object]] = {
    "write": lambda: os.write(NO_FILE, b""),
    "pwrite64": lambda: os.pwrite(NO_FILE, b"", 0),
    "fsync": lambda: os.fsync(NO_FILE),
    "fdatasync": lambda: os.fdatasync(NO_FILE),
    "ftruncate": lambda: os.ftruncate(NO_FILE, 0),
    "truncate": lambda: os.truncate("", 0),
    "rename": lambda: os.rename("", ""),
    "renameat2": lambda: moves.take(NO_FILE, b"", NO_FILE, ""),
    "unlink": lambda: os.unlink(""),
    "symlink": lambda: os.symlink("", ""),
    "mkdir": lambda: os.mkdir(""),
}


def main(directory: Path, calls: int, seed: int, step: int, nested: bool) -> None:
    rng = random.Random(seed)
    undisturbed = directory / "undisturbed"
    in_child(lambda: whole_run(undisturbed))
    points, wrong = 0, []
    for kind in HARMLESS:
        unharmed = 0
        for point in range(rng.randint(1, step), calls, step):
            root, again = directory / f"{kind}-{point}", rng.choice([*HARMLESS])
            in_child(lambda root=root: scripted_run.prepare(root))
            ended = disturbed(root, kind, calls - point)
            if nested:
                disturbed(root, again, calls - rng.randint(1, 20))
            problem = after_crash(root, undisturbed)
            if problem:
                wrong.append(f"{kind} {point}{f', {again}' if nested else ''}: {problem}")
            # A failed call may be one that is borne (the pid in the lock); three such, and the run makes no more.
            unharmed = unharmed + 1 if ended == DONE else 0
            points += ended != DONE
            if unharmed == 3:
                break
    print(json.dumps({"points": points, "wrong": wrong}))


def after_crash(root: Path, undisturbed: Path) -> str:
    """Goes on to the end; says what is then not as in the undisturbed run."""
    if in_child(lambda: scripted_run.run(root)) != DONE:
        return "the run after the crash failed"
    report = root.with_suffix(".differences")

    def compare() -> None:
        found = differences(scripted_run.snapshot(undisturbed), scripted_run.snapshot(root))
        report.write_text("; ".join(found))
        if not report.read_text():
            shutil.rmtree(root)

    in_child(compare)
    return report.read_text()[:2000]


def whole_run(root: Path) -> None:
    scripted_run.prepare(root)
    scripted_run.run(root)


def disturbed(root: Path, kind: str, burnt: int) -> str:
    """Runs in a child that has `burnt` calls of the kind behind it."""

    def work() -> None:
        for _ in range(burnt):
            try:
                HARMLESS[kind]()
            except Exception:
                continue
        scripted_run.run(root)

    return in_child(work)


def in_child(work: Callable[[], object]) -> str:
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return CRASHED
    return DONE if os.WEXITSTATUS(status) == 0 else FAILED


def differences(expected: dict[str, str], found: dict[str, str]) -> Iterator[str]:
    for key in sorted(expected.keys() | found.keys()):
        if expected.get(key) != found.get(key):
            yield f"{key}: {found.get(key)!r} for {expected.get(key)!r}"


if __name__ == "__main__":
    where, calls, seed, step, nested = sys.argv[1:]
    main(Path(where), int(calls), int(seed), int(step), nested == "nested")
