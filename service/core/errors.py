"""The tree of errors: each says who is at fault, and so what happens next.

    HeadraceError
    ├── ConfigurationError    the settings or the command line: exit status 2, one line
    ├── FileRefused           a sample file broke a rule: to failed/ with a note, the daemon goes on
    ├── RootBusy              another daemon holds the root: exit status 1, one line
    ├── WorkerError           a sub-task was lost with its worker: run again, bounded
    │   ├── WorkerDied        again, bounded
    │   ├── SubtaskFailed     a bug: the file is refused, the trace is in the service log
    │   │   └── KernelFailed  a stranger's kernel breaks its contract: the same, and its text says how
    │   └── ArenaFull         the machine has no memory
    └── StorageError          what must last does not
        ├── Scarcity          something is used up that comes back: roll back, pause, try again
        │   ├── DiskFull      no room on a disk
        │   └── TooManyFiles  no descriptor to be had
        └── StorageDamaged    a digest or a length is wrong: stop, with a clear message

Anything else is a bug of ours and crashes. Texts are lower case: `what: the rule, got value`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar


class HeadraceError(Exception):
    """The root of every error that Headrace raises on purpose."""


class ConfigurationError(HeadraceError):
    """A setting or an argument is wrong; the text is one line that says where and what is allowed."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a sample file was refused: the rule it broke, where, with which value, and the remedy."""

    rule: str
    place: str
    value: str
    remedy: str

    def __str__(self) -> str:
        got = f", got {self.value}" if self.value else ""
        return f"{self.place}: {self.rule}{got}"


class FileRefused(HeadraceError):
    """A sample file broke a rule; the model never hears of it."""

    def __init__(self, rule: str, *, place: str, value: str = "", remedy: str) -> None:
        self.refusal = Refusal(rule, place, value, remedy)
        super().__init__(str(self.refusal))

    def __reduce__(self) -> tuple[Any, ...]:
        r = self.refusal
        return (_refused, (r.rule, r.place, r.value, r.remedy))


def _refused(rule: str, place: str, value: str, remedy: str) -> FileRefused:
    return FileRefused(rule, place=place, value=value, remedy=remedy)


class RootBusy(HeadraceError):
    """Another process holds the root's lock; the text names it."""


class WorkerError(HeadraceError):
    """A sub-task's worker failed it."""


class WorkerDied(WorkerError):
    """The worker ended while it held the sub-task; `reason` says how."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"worker: ended while it held a sub-task, {reason}")

    def __reduce__(self) -> tuple[Any, ...]:
        return (WorkerDied, (self.reason,))


class Stopped(Exception):
    """The job is to stop: leave without finishing."""


class SubtaskFailed(WorkerError):
    """The sub-task raised what it should not, or what can't be pickled: a bug, of ours or of a kernel's."""


class KernelFailed(SubtaskFailed):
    """A stranger's kernel broke its contract; the text says which function, what was expected, what came."""


NO_TASKS_REMEDY = "raise the limit of processes (ulimit -u, TasksMax=, pids.max)"
"""What to do where no process and no thread can be started."""


class ArenaFull(WorkerError):
    """The machine has no memory for a region of the arena."""


def poisoned(error: WorkerError, what: str) -> FileRefused:
    """The refusal of a file with a sub-task that can't be done; `what` it does with the file."""
    if isinstance(error, KernelFailed):
        return FileRefused(
            "a kernel keeps to its contract, docs/kernels.md",
            place=f"the sub-task that {what} the file",
            value=str(error),
            remedy="mend the kernel, not the file; then `headrace retry` takes the file again",
        )
    if isinstance(error, SubtaskFailed):
        return FileRefused(
            f"a sub-task that {what} a file ends without an error of its own",
            place="the file as a whole",
            value=str(error),
            remedy="a bug of Headrace or of the kernel, not of the file: logs/service.jsonl has its trace",
        )
    return FileRefused(
        f"a sub-task that {what} a file leaves its worker alive",
        place="the file as a whole",
        value=error.reason if isinstance(error, WorkerDied) else str(error),
        remedy="see that the kernel ends, give the workers more memory, or split the file",
    )


class StorageError(HeadraceError):
    """What must last could not be written or read; the daemon stops."""


class Scarcity(StorageError):
    """Something is used up that comes back: the unit is rolled back, and tried again until it is there.

    `lack` and `relief` say so to people; `remedy` is what they can do.
    """

    lack: ClassVar[str]
    relief: ClassVar[str]
    remedy: ClassVar[str]


class DiskFull(Scarcity):
    """There is no room (ENOSPC, EDQUOT, EFBIG)."""

    lack = "the disk is full"
    relief = "the disk has room again"
    remedy = "free some space, or raise the limit that was met (quota, ulimit -f)"


class TooManyFiles(Scarcity):
    """The process, or the machine, has no descriptor left (EMFILE, ENFILE)."""

    lack = "no more files can be opened"
    relief = "files can be opened again"
    remedy = "raise the limit of open files (ulimit -n, LimitNOFILE=, fs.file-max)"


class NoWorker(Scarcity):
    """No process can be started that would do the work, and who stops doesn't wait for one."""

    lack = "no worker can be had"
    relief = "there are workers again"
    remedy = NO_TASKS_REMEDY


class StorageDamaged(StorageError):
    """A digest or a length on disk is not what the journal recorded."""
