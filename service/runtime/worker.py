"""A worker process: reads a request, runs the function, sends the answer, until its socket closes.

    python -m service.runtime.worker FD [module:function]

FD is its end of a private socket pair. The function, if there is one, is run first; only then
does the worker say that it is ready.

Rules: it dies with its parent, by a signal from the kernel, whatever it is doing. It ignores
Ctrl-C, which is meant for the daemon. It imports neither asyncio nor uvloop. It keeps nothing
between two sub-tasks but what the modules that it imported keep.
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

from service.runtime import message

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_UCRED = struct.Struct("3i")  # pid, uid, gid
_NICENESS = 5  # the daemon's own threads go first: it answers at once, whatever its workers compute
_FIRST_VICTIM = "500"  # of at most 1000: the machine's OOM killer takes a worker, not the daemon


def main(arguments: list[str]) -> None:
    """One worker's whole life."""
    # Of a copy: the descriptor itself stays open to the very end, so that the pool hears the end of
    # the file only when the exit status is settled.
    fd = int(arguments[0])
    os.set_inheritable(fd, False)
    link = socket.socket(fileno=os.dup(fd))
    _die_with_parent(link)
    _settle_in()
    try:
        for name in arguments[1:]:
            warm(name)
    except Exception:
        message.send(link, message.lost(0, traceback.format_exc()))
        raise
    try:
        message.send(link, message.ready())
        serve(link)
    except (BrokenPipeError, ConnectionResetError):
        pass  # the daemon is gone, and its kernel's signal is on its way


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


def warm(name: str) -> None:
    """Runs `module:function`."""
    module, _, function = name.partition(":")
    getattr(importlib.import_module(module), function)()


def _told(error: BaseException) -> str:
    trace = error.__traceback__.tb_next if error.__traceback__ else None  # without our own frame
    text = "".join(traceback.format_exception(type(error), error, trace))
    return f"in worker {os.getpid()}:\n{text}"


def _die_with_parent(link: socket.socket) -> None:
    """Asks the kernel for SIGKILL when the pool's thread ends; leaves if that has happened."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    peer = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    parent, _, _ = _UCRED.unpack(peer)
    if os.getppid() != parent:
        sys.exit(0)


def _settle_in() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the thread that spawned us may block some
    faulthandler.enable()
    os.nice(_NICENESS)
    sys.stdout = sys.stderr  # the daemon's output is not ours to write to
    try:
        with open("/proc/self/oom_score_adj", "w") as score:
            score.write(_FIRST_VICTIM)
    except OSError:
        pass  # a hardened container; then the kernel chooses


if __name__ == "__main__":
    main(sys.argv[1:])
