"""Go, where there is one: on the path, or in the peers' environment. It compiles the article's program, which then runs without it.

Rules: compiling asks no network and reads no settings of its user. The library is compiled once into Go's own cache, or into the run's
folder where there is no home to keep one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from benchmarks.contestants import OWN_PLACE, Missing
from benchmarks.daemon import HANG_SECONDS

ARTICLE = Path(__file__).with_name("article.go")


def article(folder: Path) -> Path:
    """The article's program, compiled into this folder unless it is there already; raises Missing."""
    program = folder / "article"
    if not program.exists():
        command = [_go(), "build", "-o", str(program), str(ARTICLE)]
        subprocess.run(command, env=_settings(folder), cwd=folder, timeout=HANG_SECONDS, check=True)
    return program


def seconds(program: Path, samples: Path, lines: Path) -> float:
    """What the whole process takes from its start to its end, its lines going to a file."""
    with lines.open("wb") as file:
        begun = time.perf_counter()
        subprocess.run([str(program), str(samples)], stdout=file, timeout=HANG_SECONDS, check=True)
        return time.perf_counter() - begun


def version() -> str:
    """As in `Go 1.22.0`; raises Missing."""
    done = subprocess.run([_go(), "version"], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.split()[2].replace("go", "Go ", 1)


def _go() -> str:
    own = OWN_PLACE.with_name("go")
    found = shutil.which("go") or (str(own) if own.exists() else None)
    if found is None:
        raise Missing("Go is neither on the path nor in .venv-peers")
    return found


def _settings(folder: Path) -> dict[str, str]:
    homeless = {"GOCACHE": str(folder / "go-cache"), "GOPATH": str(folder / "go")}
    chosen = {} if "HOME" in os.environ else homeless
    fixed = {"GOENV": "off", "GOFLAGS": "", "GOWORK": "off", "GOPROXY": "off", "GOTOOLCHAIN": "local"}  # fmt: skip
    return chosen | os.environ | fixed
