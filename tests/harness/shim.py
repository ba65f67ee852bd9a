"""The shim between this process and its disk (shim.c): compiled when it is first needed, loaded with LD_PRELOAD, told here.

Rules. `loaded()` is None in a process that was started without it; `restarted_with_shim` starts this one again with it.
Nothing is watched until a child says `watch`; what a child is told ends with the child.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")


class Kind(IntFlag):
    """The kinds of calls that change a disk, as shim.c numbers them."""

    WRITE = 1
    SYNC = 2
    SIZE = 4
    CREATE = 8
    RENAME = 16
    LINK = 32
    UNLINK = 64
    MKDIR = 128
    ALL = 255


class Action(IntEnum):
    """What becomes of a call. TORN: half of a write, or all of another call, and then SIGKILL. HANG: it waits as long as there
    is a file beside the watched folder, of its name and `.hang`."""

    COUNT = 0
    KILL = 1
    TORN = 2
    FAIL = 3
    SHORT = 4
    HANG = 5


@dataclass(frozen=True, slots=True)
class Plan:
    """The calls `first`..`last` of these kinds, on paths that hold `part`, meet the action."""

    action: Action
    first: int
    last: int = 0
    error: int = 0
    kinds: Kind = Kind.ALL
    part: str = ""

    @property
    def until(self) -> int:
        return self.last or self.first

    def __str__(self) -> str:
        what = self.action.name if self.action is not Action.FAIL else errno.errorcode[self.error]
        calls = f"call {self.first}" + (f"..{self.last}" if self.last else "")
        of = "" if self.kinds is Kind.ALL else f" of {self.kinds!r}"
        return f"{what} at {calls}{of}{f' on {self.part}' if self.part else ''}"


NOTHING = Plan(Action.COUNT, 0)


class Shim:
    """The loaded shim."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.shim_met.restype = ctypes.c_char_p

    def watch(
        self,
        folder: Path,
        plan: Plan = NOTHING,
        *,
        record: Path | None = None,
        only_linking: bool = False,
        inodes: Mapping[int, int] | None = None,
    ) -> None:
        """From here on in this process. `inodes`: the numbers that stat is to give, for those that there are."""
        call = self._library
        call.shim_plan(
            int(plan.action),
            plan.error,
            int(plan.kinds),
            plan.part.encode(),
            ctypes.c_long(plan.first),
            ctypes.c_long(plan.until),
        )
        call.shim_record(os.fsencode(record) if record else b"")
        call.shim_only_linking(int(only_linking))
        if inodes is not None:
            pairs = [number for pair in inodes.items() for number in pair]
            call.shim_inodes(ctypes.c_long(len(inodes)), (ctypes.c_uint64 * len(pairs))(*pairs))
        call.shim_watch(os.fsencode(folder))

    def mark(self, text: str) -> None:
        """Puts a word into the record: what is known to the world from here on."""
        self._library.shim_mark(text.encode())

    @property
    def calls(self) -> int:
        """How many calls the plan counted."""
        return int(self._library.shim_calls())

    @property
    def hits(self) -> int:
        """How many of them met its action."""
        return int(self._library.shim_hits())

    @property
    def met(self) -> str:
        """The path of the last call that did."""
        return bytes(self._library.shim_met()).decode(errors="backslashreplace")


@functools.cache
def loaded() -> Shim | None:
    """The shim, where this process was started with it."""
    return Shim() if hasattr(ctypes.CDLL(None), "shim_watch") else None


@functools.cache
def library() -> Path | None:
    """The compiled shim; None where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    target = Path(tempfile.gettempdir()) / f"headrace-shim-{os.getuid()}-{digest}.so"
    if not target.exists():
        part = target.with_suffix(f".{os.getpid()}")
        options = ["-O1", "-shared", "-fPIC", "-o", os.fspath(part), os.fspath(SOURCE)]
        subprocess.run([compiler, *options, "-ldl", "-lpthread"], check=True)
        part.replace(target)
    return target


def environment(folder: Path, plan: Plan = NOTHING, record: Path | None = None) -> dict[str, str]:
    """For a process that is to be watched from its start; nothing where there is no shim."""
    found = library()
    if found is None:
        return {}
    numbers: Iterable[object] = (int(plan.action), plan.error, int(plan.kinds))
    told = [folder, *numbers, plan.part, plan.first, plan.until, record or ""]
    return {"LD_PRELOAD": str(found), "HEADRACE_SHIM": "|".join(map(str, told))}


def restart_with_shim(module: str) -> None:
    """Begins this program anew with the shim loaded; comes back where it is loaded, or can't be."""
    found = library()
    if loaded() is None and found is not None:
        os.environ["LD_PRELOAD"] = str(found)
        os.execv(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]])
    os.environ.pop("LD_PRELOAD", None)  # whom we start is not to be watched unless he is told
