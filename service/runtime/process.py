"""One worker's life as the pool sees it: spawned, ready, handed a sub-task, answered, reaped.

    STARTING ──ready──▶ IDLE ◀──answer── BUSY
        │                │  └──hand──▶    │
        │             dismiss             │
        ▼                ▼                ▼
     (dead)  ◀──────  LEAVING          (dead)        only the kernel says so: its pidfd

Rules: nothing here waits, takes a lock or decides; the pool does. A worker is dead when it has been
reaped, not when its socket is closed. It is signalled through its pidfd, so never a stranger that
got its number.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from service.runtime import message
from service.runtime.message import Answer

_ONE_THREAD = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "POLARS_MAX_THREADS",
)
_NUMERIC = ("OPENBLAS_", "OMP_", "MKL_", "NPY_", "NUMBA_", "BLIS_", "GOTO_", "KMP_", "POLARS_")
_INHERITED = frozenset({"NUMBA_CACHE_DIR"})  # where, not how

KILLED = "killed by SIGKILL"
"""How `reap` says that somebody killed the worker: the OOM killer, an operator."""


class State(StrEnum):
    """Where a worker stands."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    LEAVING = "leaving"


@dataclass(slots=True, eq=False)
class Subtask:
    """What waits for a worker, or is with one."""

    number: int
    message: bytes
    future: Future[Any]


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """A worker's environment: one thread a library, and no setting that changes the last bits.

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
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": os.pathsep.join(os.path.abspath(entry) for entry in sys.path),
        "LC_ALL": "C.UTF-8",
    }


class WorkerProcess:
    """A worker from outside. Made by `spawn`, ended by `reap`."""

    def __init__(
        self, popen: subprocess.Popen[bytes], link: socket.socket, pidfd: int, deadline: float
    ) -> None:
        self.state = State.STARTING
        self.subtask: Subtask | None = None
        self.deadline = deadline  # of its birth, of its sub-task, or of its leaving
        self.served = 0
        self.alive = True  # not reaped yet
        self.unread = False  # it died before it read its sub-task
        self.last_words = ""  # why it could not start
        self.sentence = ""  # why it was killed
        self.link = link
        self.pidfd = pidfd
        self._popen = popen

    @classmethod
    def spawn(
        cls, warm: str | None, environment: Mapping[str, str], birth_seconds: float
    ) -> WorkerProcess:
        """Starts one; it dies with the thread that calls this. Raises OSError (no descriptor, no
        process to be had)."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                for end in (ours, theirs):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * message.MESSAGE_BYTES)
                ours.setblocking(False)
                popen = _start(theirs.fileno(), warm, environment)
            pidfd = _pidfd_or_kill(popen)
        except BaseException:
            ours.close()
            raise
        return cls(popen, ours, pidfd, time.monotonic() + birth_seconds)

    @property
    def pid(self) -> int:
        """Its number, valid until it is reaped."""
        return self._popen.pid

    def hand(self, subtask: Subtask, deadline: float) -> None:
        """Gives an idle worker a sub-task. If it turns out to be dying, its death will tell."""
        self.subtask = subtask
        self.deadline = deadline
        self.state = State.BUSY
        try:
            message.send(self.link, subtask.message)
        except OSError:
            self.unread = True
            self.kill()

    def read(self, buffer: memoryview) -> Answer | None:
        """The next message if there is one. One that answers nothing that was asked is dropped.

        Raises EOFError when no other will come, or none that can be trusted: one that is not whole.
        """
        while True:
            try:
                received = message.receive(self.link, buffer)
            except BlockingIOError:
                return None
            except ConnectionResetError:  # the kernel's word for: closed with something unread
                self.unread = True
                raise EOFError from None
            except OSError:
                raise EOFError from None
            if not received:
                raise EOFError
            answer = message.read_answer(received)
            if answer.number == self._asked():
                return answer

    def rest(self) -> None:
        """It has nothing to do, for as long as it takes."""
        self.state = State.IDLE
        self.deadline = math.inf

    def take(self) -> Subtask:
        """Its sub-task, which is answered."""
        subtask, self.subtask = self.subtask, None
        assert subtask is not None, "`read` lets only answers through"
        self.served += 1
        self.rest()
        return subtask

    def dismiss(self, deadline: float) -> None:
        """Ends what it hears, at which it leaves by itself."""
        self.state = State.LEAVING
        self.deadline = deadline
        self.link.shutdown(socket.SHUT_WR)

    def kill(self, sentence: str = "") -> None:
        """Sends SIGKILL; the sentence is the reason that will be given, instead of the signal."""
        self.sentence = self.sentence or sentence
        self.deadline = math.inf
        with suppress(ProcessLookupError):  # dead, and not reaped yet
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def reap(self) -> str:
        """Takes leave of a dead worker and returns the reason, in words."""
        try:
            status = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        except ChildProcessError:
            status = None  # somebody else in this process waits for every child
        self._popen.returncode = status.si_status if status else 0  # so that Popen lets go
        self.alive = False
        self.link.close()
        os.close(self.pidfd)
        return self.sentence or (_reason(status) if status else "an end that nobody saw")

    def _asked(self) -> int | None:
        """The number of the message that is due."""
        if self.subtask is not None:
            return self.subtask.number
        return 0 if self.state is State.STARTING else None

    def __repr__(self) -> str:
        return f"<WorkerProcess {self.pid} {self.state}, served {self.served}>"


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


def _reason(status: os.waitid_result) -> str:
    if status.si_code == os.CLD_EXITED:
        return f"exit status {status.si_status}"
    try:
        return f"killed by {signal.Signals(status.si_status).name}"
    except ValueError:
        return f"killed by signal {status.si_status}"
