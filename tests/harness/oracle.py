"""The oracle: whether a root has come to what an undisturbed one came to, and nothing lies about.

    model bytes · result logs, byte for byte · each file in one place, the journal agreeing · no temporary file ·
    no process · nothing in shared memory

Rules. It reads, and changes nothing: a journal is read in a copy, since opening one can fold it. It says what is wrong in
words; an empty list is a pass. Clocks and inodes are no part of what is compared.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from service.core.layout import Layout, shown
from service.storage.disk import is_temporary

HEALTHY_SECONDS = 60.0  # a start on a busy machine, recovery and all
ORPHAN_SECONDS = 5.0  # a second is promised; two cores may be busy with something else

_CLOCKS = frozenset({"admitted_at", "inode", "mtime_ns"})
_TABLES = ("settings", "jobs", "files", "commits", "spools", "logs")
_PLACE = {"accepted": "done", "duplicate": "done", "refused": "failed", "retracted": "failed"}


def rows(root: Path, table: str) -> list[dict[str, Any]]:
    """A table of the journal as the disk has it, also of one that a crash left."""
    with tempfile.TemporaryDirectory(dir=root.parent) as copy:
        for path in Layout(root).state.glob("journal.sqlite*"):
            shutil.copy(path, copy)
        connection = sqlite3.connect(Path(copy) / "journal.sqlite")
        try:
            connection.row_factory = sqlite3.Row
            known = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (table,))
            if known.fetchone() is None:
                return []  # it was not begun yet
            return [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2")]
        finally:
            connection.close()


def differences(expected: Path, found: Path) -> list[str]:
    """What of a root's every byte, link and row of the journal is not as in the undisturbed root."""
    one, other = _snapshot(expected), _snapshot(found)
    return [
        f"{key}: {_short(other.get(key))} for {_short(one.get(key))}"
        for key in sorted(one.keys() | other.keys())
        if one.get(key) != other.get(key)
    ]


def strays(root: Path, *, finished: bool = True) -> list[str]:
    """What lies where it should not: temporary files, a file in two places or in none, leftovers of what is finished."""
    wrong = [str(p.relative_to(root)) for p in root.rglob(".*") if is_temporary(p.name)]
    if finished:
        for folder in ("inbox", "work", "state/spool", "state/private"):
            found = (root / folder).rglob("*")
            wrong += [str(p.relative_to(root)) for p in found if not p.is_dir()]
    return [f"left over: {path}" for path in wrong] + list(_misplaced(root))


def _misplaced(root: Path) -> Iterator[str]:
    layout, files = Layout(root), rows(root, "files")
    kept: Counter[tuple[str, str, bytes]] = Counter()
    for file in files:
        who = f"{file['job']} {file['admission']} {shown(file['name'])}"
        if file["state"] == "admitted":
            if (
                file["path"] is None
                and not layout.work_file(file["job"], file["admission"]).exists()
            ):
                yield f"{who}: admitted, and not in work/"
        elif not file["settled"]:
            yield f"{who}: {file['state']}, and not settled"
        elif file["settled_as"] is not None and file["state"] in _PLACE:
            place = _PLACE[file["state"]]
            kept[(place, file["job"], file["settled_as"])] += 1
            if not (root / place / file["job"] / os.fsdecode(file["settled_as"])).exists():
                yield f"{who}: {file['state']}, and not in {place}/"
    yield from (f"two files settled as {key}" for key, count in kept.items() if count > 1)
    for job in sorted({file["job"] for file in files}):
        yield from _numbers([file for file in files if file["job"] == job], job)


def _numbers(files: Sequence[dict[str, Any]], job: str) -> Iterator[str]:
    """Admissions are counted without a gap, and so are the accepted files of each generation."""
    if [file["admission"] for file in files] != list(range(1, len(files) + 1)):
        yield f"{job}: admissions {[file['admission'] for file in files]}"
    for generation in {file["generation"] for file in files}:
        mine = [f for f in files if f["generation"] == generation and f["state"] == "accepted"]
        if [file["sequence"] for file in mine] != list(range(1, len(mine) + 1)):
            yield f"{job}: sequence numbers {[file['sequence'] for file in mine]}"


def shared_memory() -> set[str]:
    """What has a name in shared memory and could be ours."""
    return {name for name in os.listdir("/dev/shm") if name.startswith(("headrace-arena", "psm_"))}


def await_gone(pids: Sequence[int]) -> list[str]:
    """Those that still live when a daemon has been dead for so long: its workers, and workers that have no parent."""
    deadline = time.monotonic() + ORPHAN_SECONDS
    while left := {pid for pid in pids if alive(pid)} | _orphans():
        if time.monotonic() > deadline:
            return [f"process {pid} lives {ORPHAN_SECONDS:.0f} s after its daemon" for pid in left]
        time.sleep(0.01)
    return []


def _orphans() -> set[int]:
    """Workers whose daemon is gone, also those that were born while it was killed."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            if b"service.runtime.worker" in (folder / "cmdline").read_bytes():
                parent = (folder / "stat").read_text().rsplit(")", 1)[1].split()[1]
                found |= {int(folder.name)} if parent == "1" else set()
    return found


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def _snapshot(root: Path) -> dict[str, str]:
    """Every file's bytes by path, links by target, and the journal's rows less what only clocks and disks decide."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = shown(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file() and "journal.sqlite" not in name and path.name != "lock":
            found[name] = path.read_bytes().decode("latin-1")
    for table in _TABLES:
        for number, row in enumerate(rows(root, table)):
            found[f"{table} {number}"] = str({k: v for k, v in row.items() if k not in _CLOCKS})
    return found


def _short(value: str | None) -> str:
    return "nothing" if value is None else repr(value if len(value) < 300 else value[:300] + "…")
