"""Reads files in a process of its own, since polars' Parquet reader allocates what a damaged footer asks for, and aborts.

Rules: the process lives from file to file, as a worker does, and only a signal may end it. What it raises beside FileRefused is an
AssertionError here.
"""

from __future__ import annotations

import subprocess
import sys
import traceback
from pathlib import Path

from service.formats import Limits
from tests.formats.damage import fields_of
from tests.formats.whole import CHUNK_SIZES, REFUSED, outcome

CHECKOUT = Path(__file__).parents[2]
LIMITS = Limits(max_bytes=1 << 20)


class LoneReader:
    """A process that reads files; the next one is born when it has died."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._process: subprocess.Popen[str] | None = None

    def read(self, path: Path) -> str:
        """What became of the file: "read", "refused", or "died" with its reader. Raises AssertionError."""
        process = self._process or self._born()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{path}\n")
        process.stdin.flush()
        if answer := process.stdout.readline().strip():
            assert answer in ("read", REFUSED), answer.encode().decode("unicode_escape")
            return answer
        self._process = None
        process.communicate()
        assert process.returncode < 0, f"{path}: exit {process.returncode}"
        return "died"

    def close(self) -> None:
        """Ends the process; AssertionError if it does not end well."""
        if self._process is not None:
            self._process.communicate()
            assert self._process.returncode == 0

    def _born(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.formats.lone_reader", self._name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=CHECKOUT,
        )
        return self._process


def main(name: str) -> None:
    for line in sys.stdin:
        path, fields = Path(line.rstrip("\n")), fields_of(name)
        try:
            found = [outcome(path, name, fields, size, LIMITS) for size in CHUNK_SIZES]
            assert found[1:] == found[:-1], f"{path}: {found}"
            answer = REFUSED if found[0] == REFUSED else "read"
        except BaseException:
            answer = traceback.format_exc().encode("unicode_escape").decode()
        print(answer, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
