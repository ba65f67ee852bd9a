"""Imported by every Python that has this folder on its path; in a worker it makes some sends end badly.

    HEADRACE_CHAOS = seed | probability | file that gets one byte per death

Rules. Nothing of the service knows of this. What it does to a send: nothing is sent, half of it, or all; then SIGKILL.
"""

import os
import random
import signal
import socket
import sys

told = os.environ.get("HEADRACE_CHAOS")
if told and "service.runtime.worker" in sys.orig_argv:
    seed, probability, log = told.split("|")
    chances: dict[int, random.Random] = {}  # workers are forks: each has a stream of its own
    whole = socket.socket.send

    def send(link: socket.socket, data: bytes) -> int:
        chance = chances.setdefault(os.getpid(), random.Random(f"{seed} {os.getpid()}"))
        if chance.random() >= float(probability):
            return whole(link, data)
        share = chance.choice([0.0, 0.0, 0.02, 0.5, 0.9, 1.0])
        if share:
            whole(link, data[: max(1, int(len(data) * share))])
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, b".")
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    socket.socket.send = send  # type: ignore[method-assign, assignment]
