"""The process that workers are forks of, and a worker's own life.

    python -m service.runtime.worker FD [module:function]

    nursery:  imports, runs the function ─▶ says that it is ready ─▶ for each socket that comes: forks a worker, says its pid
    worker:   runs what the function returned ─▶ says that it is ready ─▶ reads a request, runs the function, sends the answer ─▶ until its socket closes

FD is the nursery's end of a private socket pair; each worker has one of its own, and in its life it has the same number.

Rules: both die with the daemon, by a signal from the kernel, whatever they are doing. They ignore Ctrl-C, which is meant for
the daemon. They import neither asyncio nor uvloop. A worker keeps nothing between two sub-tasks but what the modules that
it imported keep. The nursery has one thread, else a fork might inherit a lock that nobody opens.
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import os
import pickle
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from service.core.errors import NO_TASKS_REMEDY
from service.runtime import message
from service.runtime.garbage import made_to_stay

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PR_SET_NAME = 15
_UCRED = struct.Struct("3i")  # pid, uid, gid
_PID = struct.Struct("i")
_NICENESS = 5  # the daemon's own threads go first: it answers at once, whatever its workers compute
_FIRST_VICTIM = "500"  # of at most 1000: the machine's OOM killer takes a worker, not the daemon

Settle = Callable[[], None]
"""What a worker does first of all; what it raises is why it can't serve."""


def main(arguments: list[str]) -> None:
    """The nursery's whole life."""
    fd = int(arguments[0])
    link = _socket(fd)
    _die_with_parent(link)
    _call_it(b"headrace-nurse")
    _settle_in()
    try:
        with made_to_stay():  # so that its pages are shared with every worker
            settle = [warm(name) for name in arguments[1:]]
    except Exception:
        message.send(link, message.lost(0, traceback.format_exc()))
        raise
    try:
        message.send(link, message.ready())
        nurse(link, fd, [one for one in settle if one is not None])
    except (BrokenPipeError, ConnectionResetError):
        pass  # the daemon is gone, and its kernel's signal is on its way


def nurse(link: socket.socket, fd: int, settle: Sequence[Settle]) -> None:
    """Forks a worker for each socket that comes, until the other end is closed; each runs `settle` first."""
    while True:
        word, ends, _, _ = socket.recv_fds(link, 1, 1)
        if not word:
            return
        try:
            answer = message.result(0, _bear(link, ends[0], fd, settle))
        except OSError as error:
            answer = message.lost(
                0, f"fork: a process can be started, got {error.strerror}; {NO_TASKS_REMEDY}"
            )
        os.close(ends[0])
        message.send(link, answer)


def _bear(link: socket.socket, end: int, fd: int, settle: Sequence[Settle]) -> int:
    """Forks a worker and returns its pid, when the daemon is its parent: who stood between has ended.

    So the daemon itself hears of the worker's death, and a nursery's death is not the workers'. Who stood between tells the
    pid, not the worker: the daemon is to bury it also when it was killed before it could say a word. Raises OSError.
    """
    ours, theirs = socket.socketpair()
    between = os.fork()
    if between == 0:
        status = 1
        try:
            ours.close()
            link.close()
            worker = os.fork()
            if worker == 0:
                _live(end, fd, theirs, settle)
            theirs.send(_PID.pack(worker))
            status = 0
        finally:
            os._exit(status)
    theirs.close()
    with ours:
        _, status = os.waitpid(between, 0)
        if status != 0:
            raise OSError(0, "the machine has no process left, or no memory")
        pid: int = _PID.unpack(ours.recv(_PID.size))[0]
        return pid


def _live(end: int, fd: int, midwife: socket.socket, settle: Sequence[Settle]) -> NoReturn:
    """One worker's whole life."""
    status = 1
    try:
        os.setsid()
        _call_it(b"headrace-worker")
        os.nice(_NICENESS)
        os.dup2(end, fd)
        os.close(end)
        midwife.recv(1)  # its end: now the daemon is the parent
        midwife.close()
        link = _socket(fd)
        _die_with_parent(link)
        message.send(link, _settled(settle))
        serve(link)
        status = 0
    except (BrokenPipeError, ConnectionResetError):
        status = 0  # the daemon is gone, and its kernel's signal is on its way
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _settled(settle: Sequence[Settle]) -> bytes:
    """What a new worker says first: that it is ready, or why it can't be."""
    try:
        with made_to_stay():
            for one in settle:
                one()
    except Exception as error:
        return message.lost(0, f"{error}")
    return message.ready()


def serve(link: socket.socket) -> None:
    """Answers request by request, until the other end is closed.

    It looks before it takes: a SIGKILL that is on its way strikes in between, so what comes to a
    worker that was killed while idle is never taken, and the pool gives it to another.
    """
    buffer = memoryview(bytearray(message.MESSAGE_BYTES))
    while link.recv(1, socket.MSG_PEEK):
        message.send(link, answer(message.receive(link, buffer)))


def answer(received: memoryview) -> bytes:
    """Runs what a request asks for. SystemExit alone comes through: it ends the worker."""
    number, body = message.read_request(received)
    try:
        function, args, kwargs = pickle.loads(body)
        return message.result(number, function(*args, **kwargs))
    except SystemExit:
        raise
    except BaseException as error:  # polars' panics are no Exception
        return message.failure(number, error, _told(error))


def warm(name: str) -> Settle | None:
    """Runs `module:function`, which may return a function for each worker."""
    module, _, function = name.partition(":")
    settle: Settle | None = getattr(importlib.import_module(module), function)()
    return settle


def _told(error: BaseException) -> str:
    trace = error.__traceback__.tb_next if error.__traceback__ else None  # without our own frame
    text = "".join(traceback.format_exception(type(error), error, trace))
    return f"in worker {os.getpid()}:\n{text}"


def _socket(fd: int) -> socket.socket:
    """Of a copy: the descriptor itself stays open to the very end, so that the pool hears the end of the file only when
    the exit status is settled."""
    os.set_inheritable(fd, False)
    return socket.socket(fileno=os.dup(fd))


def _die_with_parent(link: socket.socket) -> None:
    """Asks the kernel for SIGKILL when the pool's thread ends; leaves if that has happened."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    peer = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    parent, _, _ = _UCRED.unpack(peer)
    if os.getppid() != parent:
        sys.exit(0)


def _call_it(name: bytes) -> None:
    """What `ps` and `top` show; at most 15 bytes."""
    ctypes.CDLL(None).prctl(_PR_SET_NAME, name)


def _settle_in() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the thread that spawned us may block some
    faulthandler.enable()
    sys.stdout = sys.stderr  # the daemon's output is not ours to write to
    try:
        with open("/proc/self/oom_score_adj", "w") as score:
            score.write(_FIRST_VICTIM)
    except OSError:
        pass  # a hardened container; then the kernel chooses


if __name__ == "__main__":
    main(sys.argv[1:])
