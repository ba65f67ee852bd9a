"""Where workers come from, as the pool sees it: a process that is made ready once, and forks them.

    spawn ─▶ STARTING ──ready──▶ ready ──order──▶ a worker's process, the pool's own child
                 │                 │
                 └─────(dead)──────┘          another one is spawned; the workers live on

Rules: what takes long (imports, compiled kernels) is done before the pool needs anybody, and once; a worker that replaces a
dead one is there in milliseconds. The process has one thread and no loop, so that it may fork. Nothing here waits, takes
a lock or decides; the keeper does.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType

from service.core.errors import NO_TASKS_REMEDY, TooManyFiles
from service.core.layout import shown
from service.runtime import message
from service.runtime.births import FIRST_BIRTH_SECONDS
from service.runtime.message import Answer

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_ONE_THREAD = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "POLARS_MAX_THREADS",
)
_NUMERIC = ("OPENBLAS_", "OMP_", "MKL_", "NPY_", "NUMBA_", "BLIS_", "GOTO_", "KMP_", "POLARS_")
_ALLOCATION = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}
"""In bytes; glibc's. A sub-task takes the memory that the one before let go: it used to go back to the system, and to fault
in a chunk's pages anew took a fifth of its decoding."""
_INHERITED = frozenset({"NUMBA_CACHE_DIR"})  # where, not how


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """A worker's environment: one thread a library, no setting that changes the last bits, and memory that is kept.

    PYTHONPATH is this process's `sys.path`, so that both import the same modules.
    """
    kept = {
        name: value
        for name, value in environment.items()
        if name in _INHERITED or not name.startswith(_NUMERIC)
    }
    return {
        **kept,
        **dict.fromkeys(_ONE_THREAD, "1"),
        **_ALLOCATION,
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": os.pathsep.join(os.path.abspath(entry) for entry in sys.path),
        "LC_ALL": "C.UTF-8",
    }


class Nursery:
    """The process from outside. Made by `spawn`, ended by `close`, also at the end of a `with` block."""

    def __init__(
        self, popen: subprocess.Popen[bytes], link: socket.socket, pidfd: int, deadline: float
    ) -> None:
        self.link = link
        self.pidfd = pidfd
        self.deadline = deadline  # of its own birth
        self.is_ready = False
        self.last_words = ""  # why it could not start
        self._sentence = ""  # why it was killed
        self.ordered: deque[tuple[socket.socket, float]] = deque()
        """The pool's ends of the sockets of workers that are not born yet, and until when they are to be."""
        self._popen: subprocess.Popen[bytes] | None = popen

    @classmethod
    def spawn(
        cls,
        warm: str | None,
        environment: Mapping[str, str] | None = None,
        birth_seconds: float = FIRST_BIRTH_SECONDS,
    ) -> Nursery:
        """Starts one, which runs `warm` ("module:function") first; it dies with the thread that calls this.

        `environment`: what its own is made from, None for this process's. Raises OSError (no descriptor, no process to be
        had). From now on this process is the parent of any process below it that has lost its own.
        """
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
        ours, theirs = _socket_pair()
        try:
            with theirs:
                popen = _start(
                    theirs.fileno(), warm, clean(os.environ if environment is None else environment)
                )
            pidfd = _pidfd_or_kill(popen)
        except BaseException:
            ours.close()
            raise
        return cls(popen, ours, pidfd, time.monotonic() + birth_seconds)

    @property
    def overdue(self) -> float:
        """When it is to be given up, unless it says something before."""
        until = [deadline for _, deadline in self.ordered]
        return min(until if self.is_ready else [self.deadline], default=float("inf"))

    def order(self, deadline: float) -> None:
        """Asks for a worker. Raises OSError."""
        ours, theirs = _socket_pair()
        try:
            with theirs:
                socket.send_fds(self.link, [b"\0"], [theirs.fileno()])
        except BaseException:
            ours.close()
            raise
        self.ordered.append((ours, deadline))

    def read(self, buffer: memoryview) -> Answer | None:
        """The next message if there is one: that it is ready, or a worker's pid, or why there is none.

        Raises EOFError when no other will come.
        """
        try:
            received = message.receive(self.link, buffer)
        except BlockingIOError:
            return None
        except OSError:
            raise EOFError from None
        if not received:
            raise EOFError
        return message.read_answer(received)

    def kill(self, sentence: str = "") -> None:
        """Sends SIGKILL; the sentence is the reason that will be given, instead of the signal."""
        self._sentence = self._sentence or sentence
        with suppress(ProcessLookupError):  # dead, and not reaped yet
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def close(self) -> str:
        """Ends it, if it lives, and returns the reason of its end, in words. May be called again."""
        if self._popen is None:
            return ""
        self.kill()
        try:
            status = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        except ChildProcessError:
            status = None  # somebody else in this process waits for every child
        self._popen.returncode = status.si_status if status else 0  # so that Popen lets go
        self._popen = None
        self.link.close()
        os.close(self.pidfd)
        for end, _ in self.ordered:
            end.close()
        self.ordered.clear()
        return self.last_words or self._sentence or ended(status)

    def __enter__(self) -> Nursery:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def why_no_process(error: OSError) -> str:
    """Why no process can be had, and what to do where a limit is the reason."""
    remedy = ""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        remedy = f"; {TooManyFiles.remedy}"
    elif error.errno in (errno.EAGAIN, errno.ENOMEM):
        remedy = f"; {NO_TASKS_REMEDY}"
    where = f"{shown(error.filename)}: " if error.filename else ""
    return f"a process can be started, got {where}{error.strerror}{remedy}"


def ended(status: os.waitid_result | None) -> str:
    """How a process ended, in words."""
    if status is None:
        return "an end that nobody saw"
    if status.si_code == os.CLD_EXITED:
        return f"exit status {status.si_status}"
    try:
        return f"killed by {signal.Signals(status.si_status).name}"
    except ValueError:
        return f"killed by signal {status.si_status}"


def _socket_pair() -> tuple[socket.socket, socket.socket]:
    """Ours, which never blocks, and theirs."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * message.MESSAGE_BYTES)
    ours.setblocking(False)
    return ours, theirs


def _start(fd: int, warm: str | None, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    # -P: only PYTHONPATH counts, not the folder that the daemon happens to stand in.
    command = [sys.executable, "-P", "-m", "service.runtime.worker", str(fd)]
    return subprocess.Popen(
        command + ([warm] if warm else []),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env=environment,
        pass_fds=[fd],
        start_new_session=True,  # a terminal's Ctrl-C is for the daemon
    )


def _pidfd_or_kill(popen: subprocess.Popen[bytes]) -> int:
    try:
        return os.pidfd_open(popen.pid)
    except OSError:
        popen.kill()
        popen.wait()
        raise
