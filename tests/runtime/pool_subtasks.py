"""What the tests run in workers."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from service.core.errors import FileRefused
from service.runtime import message
from service.runtime.arena import Arena, Region, arrays, view


def echo(value: Any) -> Any:
    return value


def warm_to_die_young() -> None:
    """The first three workers are killed before they could say a word: in the first thing that they do."""
    born = Path(os.environ["WARM_LOG"])
    settle = os.setsid

    def die_young() -> None:
        with born.open("ab") as file:
            file.write(b".")
        if born.stat().st_size <= 3:
            os.kill(os.getpid(), signal.SIGKILL)
        settle()

    os.setsid = die_young


def add(a: int, b: int = 0) -> int:
    return a + b


def pid() -> int:
    return os.getpid()


def meet(folder: str, value: Any = None) -> Any:
    """Says that it has begun, waits to be let go, and returns the value."""
    with open(Path(folder) / "begun", "wb", buffering=0) as begun:
        begun.write(b"%8d" % os.getpid())
    with open(Path(folder) / "gate", "rb", buffering=0) as gate:
        gate.read(1)
    return value


def append(path: str, line: str) -> None:
    with open(path, "a") as file:
        file.write(line + "\n")


def spin() -> NoReturn:
    while True:
        pass


def divide(a: int, b: int) -> float:
    return a / b


def refuse() -> NoReturn:
    raise FileRefused("a rule", place="row 3", value="x", remedy="mend it")


class Picky(Exception):
    """Can be pickled, and can't be made again."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"picky {a} {b}")


class Panic(BaseException):
    """As polars' panics: no Exception."""


class Bare(Exception):
    """Holds what can't be pickled."""


def raise_picky() -> NoReturn:
    raise Picky(1, 2)


def raise_panic() -> NoReturn:
    raise Panic("the parser panicked")


def raise_bare() -> NoReturn:
    raise Bare(lambda: None)


def raise_stop() -> NoReturn:
    raise StopIteration("it ends a loop")


def raise_verbosely() -> NoReturn:
    raise ValueError("x" * 1_000_000)


def unpicklable() -> Any:
    return lambda: None


def big(nbytes: int) -> bytes:
    return bytes(nbytes)


def leave(status: int) -> NoReturn:
    sys.exit(status)


def vanish(status: int) -> NoReturn:
    os._exit(status)


def die(number: int) -> NoReturn:
    os.kill(os.getpid(), number)
    time.sleep(60)
    raise AssertionError


def segfault() -> None:
    ctypes.string_at(0)


class _DiesWhenPickled:
    def __reduce__(self) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)
        return (int, ())


def die_before_the_reply() -> Any:
    return _DiesWhenPickled()


def die_in_the_middle_of_the_reply(share: float) -> str:
    """Only a part of the answer is sent, as no SEQPACKET socket would do it by itself, and then comes the end."""

    whole = socket.socket.send

    def send(link: socket.socket, answer: bytes) -> None:
        whole(link, answer[: int(len(answer) * share)])
        os.kill(os.getpid(), signal.SIGKILL)

    socket.socket.send = send  # type: ignore[method-assign, assignment]
    return "an answer that is long enough to be cut anywhere"


def _descriptors_of_the_link() -> list[int]:
    link = os.readlink(f"/proc/self/fd/{sys.argv[1]}")
    fds = [int(name) for name in os.listdir("/proc/self/fd")]
    return [fd for fd in fds if fd > 2 and _names(fd) == link]


def _names(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:  # the one that listed them
        return ""


def forge(number: int) -> str:
    """Sends answers that nobody asked for, as a stale worker might."""
    link = _descriptors_of_the_link()[0]
    for other in (0, number + 1000):
        os.write(link, message.result(other, "forged"))
    return "true"


def close_the_socket() -> None:
    for fd in _descriptors_of_the_link():
        os.close(fd)
    signal.pause()


def environment() -> dict[str, str]:
    return dict(os.environ)


def faults_of_a_chunk() -> int:
    """How many pages the system brings in for arrays of 4 MiB, as a chunk has them, that are filled and let go."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = [np.ones(1 << 22, np.uint8) for _ in range(5)]
    del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def imported() -> list[str]:
    return sorted(sys.modules)


def signals() -> dict[str, Any]:
    return {
        "SIGINT": signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
        "SIGTERM": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
        "blocked": len(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "session": os.getsid(0) == os.getpid(),
        "oom_score_adj": int(Path("/proc/self/oom_score_adj").read_text()),
    }


def resources() -> tuple[int, int]:
    """Open descriptors, resident KiB."""
    status = Path("/proc/self/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return len(os.listdir("/proc/self/fd")), int(resident.split()[1])


WARMED: list[int] = []


def warm() -> None:
    """Notes who warmed up, in the order in which they did."""
    WARMED.append(os.getpid())
    append(os.environ["WARM_LOG"], str(os.getpid()))


def warm_by_importing() -> None:
    """To import this module is all."""


def warm_for_workers() -> Callable[[], None]:
    """Each worker notes itself, and the second to be born can't serve."""
    log = Path(os.environ["WARM_LOG"])

    def settle() -> None:
        append(os.fspath(log), str(os.getpid()))
        if log.read_text().count("\n") == 2:
            raise RuntimeError("no threads to be had")

    return settle


def warm_fails() -> NoReturn:
    raise RuntimeError("the cache is on fire")


def warm_exits() -> NoReturn:
    os._exit(7)


def warmed() -> list[int]:
    return WARMED


def fill(region: Region, value: int) -> int:
    view(region)[:] = value
    return region.length


def total(region: Region, layout: dict[str, tuple[tuple[int, ...], str]]) -> float:
    return float(sum(array.sum() for array in arrays(region, layout).values()))


def total_in_a_small_space(region: Region) -> int:
    """As if the operator had set RLIMIT_AS: the whole arena can't be mapped."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 28), before[1]))
    try:
        return int(view(region).sum(dtype=np.int64))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def arena_in_a_small_space(limit: int) -> int:
    """How many bytes of a smaller arena can be used."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        with Arena() as arena:
            return int(view(arena.reserve(1 << 20)).size)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
