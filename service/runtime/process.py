"""One worker's life as the pool sees it: born, ready, handed a sub-task, answered, reaped.

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
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from service.runtime import message
from service.runtime.message import Answer
from service.runtime.nursery import ended

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


class WorkerProcess:
    """A worker from outside. Made by `born`, ended by `reap`."""

    def __init__(self, pid: int, pidfd: int, link: socket.socket, deadline: float) -> None:
        self.pid = pid  # its number, valid until it is reaped
        self.state = State.STARTING
        self.subtask: Subtask | None = None
        self.deadline = deadline  # of its birth, of its sub-task, or of its leaving
        self.served = 0
        self.alive = True  # not reaped yet
        self.unread = False  # it died before it read its sub-task
        self.sentence = ""  # why it was killed
        self.link = link
        self.pidfd = pidfd

    @classmethod
    def born(cls, pid: int, link: socket.socket, deadline: float) -> WorkerProcess:
        """Takes a child of this process that a nursery has forked. Raises OSError (no descriptor); then it is dead."""
        try:
            return cls(pid, os.pidfd_open(pid), link, deadline)
        except OSError:
            link.close()
            os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
            raise

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
        self.alive = False
        self.link.close()
        os.close(self.pidfd)
        return self.sentence or ended(status)

    def _asked(self) -> int | None:
        """The number of the message that is due."""
        if self.subtask is not None:
            return self.subtask.number
        return 0 if self.state is State.STARTING else None

    def __repr__(self) -> str:
        return f"<WorkerProcess {self.pid} {self.state}, served {self.served}>"
