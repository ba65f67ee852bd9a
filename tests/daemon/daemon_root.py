"""A root of its own, and the real daemon running in it as a process: what the tests of whole lives stand on.

Rules: nothing is waited for but conditions that can be seen from outside (records, status, files, exits), each with
one generous deadline. What is dropped is renamed in, unless a test says otherwise. Nobody outlives his test.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from safetensors.numpy import load

T = TypeVar("T")

CHECKOUT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 180.0  # how long anything may take before it counts as never: two busy cores may compile kernels first
LOOK_SECONDS = 0.01

QUICK: dict[str, dict[str, Any]] = {
    "service": {"workers": 2},
    "intake": {"settle_seconds": 0.2, "rescan_seconds": 0.2},
    "commit": {"interval_seconds": 0.05},
}
"""Settings of how it runs that keep a test short; none of them touches a bit of the results."""


def job(name: str = "j", **parts: Any) -> dict[str, Any]:
    """A job of the configuration: logistic on the column `y`, unless `parts` says otherwise."""
    return {"name": name, "label": "y", "model": {"kernel": "logistic"}} | parts


def rounds(batch_rows: int = 8, lanes: int = 1, local_steps: int = 1) -> dict[str, int]:
    """`[jobs.training]` with rounds so small that a file of some thousand rows takes a while."""
    return {"batch_rows": batch_rows, "lanes": lanes, "local_steps": local_steps}


def eventually(see: Callable[[], T], what: str, life: Life | None = None) -> T:
    """The first true value that `see` gives; fails after the patience, or when the daemon has ended before it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        ended = life is not None and life.process.poll() is not None
        if value := see():
            return value
        if ended:
            assert life is not None
            raise AssertionError(
                f"the daemon ended ({life.process.returncode}) before {what}:\n{life.said}"
            )
        if time.monotonic() > deadline:
            raise AssertionError(
                f"{PATIENCE_SECONDS:.0f} s went by without {what}:\n{life.said if life else ''}"
            )
        time.sleep(LOOK_SECONDS)


@dataclass(frozen=True)
class Outcome:
    """What a job has come to: the model's bytes as their sha256, both result logs, and the journal's digests of the
    records of each file in the model."""

    model: str | None
    metrics: bytes
    samples: bytes
    digests: tuple[str, ...]


class Life:
    """One process of the daemon, from its start to its end."""

    def __init__(self, root: Root, process: subprocess.Popen[bytes], output: Path) -> None:
        self.root = root
        self.process = process
        self._output = output
        self._mark = root.service_log_bytes()

    @property
    def said(self) -> str:
        return self._output.read_text(errors="replace")[-12000:]

    def events(self, event: str | None = None, **facts: Any) -> list[dict[str, Any]]:
        """The events of this life in the service log."""
        return self.root.events(event, since=self._mark, **facts)

    def see(self, event: str, **facts: Any) -> dict[str, Any]:
        """Waits for an event in the service log of this life."""
        return eventually(
            lambda: self.events(event, **facts), f"the event {event!r} {facts}", self
        )[-1]

    def done(self, job: str = "j", files: int = 1) -> None:
        """Waits until the job has so many accepted files in all lives."""

        def settled() -> bool:
            return len(self.root.accepted(job)) >= files and not os.listdir(
                self.root.folder("work", job)
            )

        eventually(settled, f"{files} accepted files of {job}", self)

    def workers(self) -> list[int]:
        """The workers that live, without the process that they come from."""
        return [child for child in self.children() if _called(child) == "headrace-worker"]

    def nurses(self) -> list[int]:
        """The process that the workers come from; none while another takes its place. Who is being born bears its name, too,
        but is not the first of a session."""
        return [
            child
            for child in self.children()
            if _called(child) == "headrace-nurse" and _leads_its_session(child)
        ]

    def children(self) -> list[int]:
        """The processes that this one is the parent of."""
        children: list[int] = []
        for task in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
                children += map(int, task.read_text().split())
        return children

    def status(self) -> dict[str, Any]:
        return self.root.status()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def exit(self) -> int:
        """Waits for the end, and for that of its workers; says the exit status."""
        children = self.children() if self.process.poll() is None else []
        status = self.process.wait(PATIENCE_SECONDS)
        _await_end(children)
        return status

    def stop(self, expected: int = 0) -> None:
        """SIGTERM, and a good end."""
        self.signal(signal.SIGTERM)
        assert self.exit() == expected, self.said

    def kill(self) -> None:
        """kill -9; returns when all of it is gone, its workers too."""
        children = self.children() if self.process.poll() is None else []
        self.process.kill()
        self.process.wait()
        _await_end(children)


class Root:
    """A root folder and its configuration."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.path = home / "root"
        self.config = home / "headrace.toml"
        self.staging = home / "staging"
        self.environment: dict[str, str] = {}  # of its daemons, beside this process's own
        self.starter: list[str] = []  # a command that its daemons are started by
        self._lives: list[Life] = []
        home.mkdir(parents=True, exist_ok=True)
        self.staging.mkdir(exist_ok=True)

    # --- settings and processes

    def configure(self, *jobs: Mapping[str, Any], **sections: Mapping[str, Any]) -> None:
        """Writes the configuration: `QUICK`, what `sections` say over it, and the jobs (one `job()` by default)."""
        merged = {
            name: QUICK.get(name, {}) | dict(sections.get(name, {}))
            for name in {**QUICK, **sections}
        }
        for one in jobs or (job(),):
            self.folder("inbox", one["name"]).mkdir(parents=True, exist_ok=True)
            self.folder("predict", one["name"]).mkdir(parents=True, exist_ok=True)
        self.config.write_text("".join(toml(merged, jobs or (job(),))))

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-W", "error", "-m", "service", *arguments]

    def start(self, *arguments: str, ready: bool = True, path: Sequence[Path] = ()) -> Life:
        """`headrace run`, in a process; with `ready` returns when it is."""
        return self.spawn("run", *arguments, ready=ready, path=path)

    def spawn(
        self, command: str, *arguments: str, ready: bool = True, path: Sequence[Path] = ()
    ) -> Life:
        output = self.home / f"output-{len(self._lives)}.txt"
        own = self.command(command, "-c", str(self.config), "--root", str(self.path), *arguments)
        whole = [*self.starter, *own]
        searched = os.pathsep.join(map(str, (CHECKOUT, *path)))
        environment = {**os.environ, **self.environment, "PYTHONPATH": searched}
        with output.open("wb") as out:
            process = subprocess.Popen(
                whole, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=CHECKOUT, env=environment,
                start_new_session=True,
            )  # fmt: skip
        life = Life(self, process, output)
        self._lives.append(life)
        if ready:
            life.see("ready")
        return life

    def once(self, *arguments: str, expected: int = 0, path: Sequence[Path] = ()) -> Life:
        """`headrace run --once`, to its end."""
        life = self.start("--once", *arguments, ready=False, path=path)
        assert life.exit() == expected, life.said
        return life

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs another command to its end."""
        environment = dict(os.environ, PYTHONPATH=str(CHECKOUT), COLUMNS="200")
        return subprocess.run(
            self.command(*arguments), capture_output=True, text=True, cwd=CHECKOUT, env=environment,
            timeout=PATIENCE_SECONDS, check=False,
        )  # fmt: skip

    def close(self) -> None:
        for life in self._lives:
            if life.process.poll() is None:
                life.signal(signal.SIGCONT)
                life.kill()

    # --- files

    def folder(self, kind: str, job: str = "j") -> Path:
        return self.path / kind / job

    def drop(self, name: str | bytes, data: bytes, job: str = "j", *, into: str = "inbox") -> None:
        """Renames a file into the inbox, whole."""
        staged = self.staging / "file"
        staged.write_bytes(data)
        os.rename(staged, os.path.join(os.fsencode(self.folder(into, job)), os.fsencode(name)))

    def names(self, kind: str, job: str = "j") -> list[str]:
        try:
            return sorted(os.listdir(self.folder(kind, job)))
        except FileNotFoundError:
            return []

    def note(self, name: str, job: str = "j") -> dict[str, Any]:
        """The note beside a refused file."""
        found: dict[str, Any] = json.loads(
            (self.folder("failed", job) / f"{name}.error.json").read_text()
        )
        return found

    def listed(self, name: str, job: str = "j") -> list[dict[str, Any]]:
        """The list of a file's bad rows."""
        text = (self.folder("failed", job) / f"{name}.rows.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    # --- what came of it

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.path / "state" / "status.json").read_text())
        return found

    def events(
        self, event: str | None = None, *, since: int = 0, **facts: Any
    ) -> list[dict[str, Any]]:
        """The events of the service log, from this byte on. The line before it may have been cut off, and end here."""
        try:
            with self._service_log.open("rb") as log:
                log.seek(since)
                lines = log.read().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        return _matching([json.loads(line) for line in lines if line], event, facts)

    def service_log_bytes(self) -> int:
        return self._service_log.stat().st_size if self._service_log.exists() else 0

    @property
    def _service_log(self) -> Path:
        return self.path / "logs" / "service.jsonl"

    def log(self, name: str, job: str = "j") -> bytes:
        """All segments of a result log, oldest first."""
        stem, _, suffix = name.partition(".")
        folder = self.folder("logs", job)
        older = sorted(folder.glob(f"{stem}.[0-9]*.{suffix}"))
        return b"".join(path.read_bytes() for path in (*older, folder / name) if path.exists())

    def records(
        self, name: str = "metrics.jsonl", job: str = "j", kind: str | None = None
    ) -> list[dict[str, Any]]:
        """The log's records; what is being written at this moment is not one yet."""
        whole, _, _ = self.log(name, job).rpartition(b"\n")
        found = [json.loads(line, parse_constant=_no_constant) for line in whole.splitlines()]
        return [record for record in found if kind in (None, record.get("kind"))]

    def accepted(self, job: str = "j") -> list[dict[str, Any]]:
        return self.records("metrics.jsonl", job, "file")

    def samples(self, job: str = "j") -> list[dict[str, Any]]:
        return self.records("samples.jsonl", job)

    def current(self, job: str = "j") -> Path:
        return self.folder("models", job) / "current.safetensors"

    def model_sha256(self, job: str = "j") -> str | None:
        current = self.current(job)
        return hashlib.sha256(current.read_bytes()).hexdigest() if current.exists() else None

    def tensors(self, job: str = "j") -> dict[str, tuple[str, tuple[int, ...], bytes]]:
        """The model's tensors, comparable."""
        return {
            name: (array.dtype.str, array.shape, array.tobytes())
            for name, array in load(self.current(job).read_bytes()).items()
        }

    def header(self, job: str = "j") -> dict[str, Any]:
        data = self.current(job).read_bytes()
        length = int.from_bytes(data[:8], "little")
        found: dict[str, Any] = json.loads(
            json.loads(data[8 : 8 + length])["__metadata__"]["headrace"]
        )
        return found

    def outcome(self, job: str = "j", samples: str = "samples.jsonl") -> Outcome:
        return Outcome(
            self.model_sha256(job),
            self.log("metrics.jsonl", job),
            self.log(samples, job),
            tuple(row["records_sha256"] for row in self.files(job, state="accepted")),
        )

    def files(self, job: str = "j", **columns: Any) -> list[dict[str, Any]]:
        """The journal's rows of the job's files that have these values, in order: read from a copy, for it is locked."""
        state = self.path / "state"
        with tempfile.TemporaryDirectory() as copy:
            for path in state.glob("journal.sqlite*"):
                shutil.copy(path, copy)
            connection = sqlite3.connect(Path(copy) / "journal.sqlite")
            connection.row_factory = sqlite3.Row
            rows = connection.execute(
                "SELECT * FROM files WHERE job = ? ORDER BY admission", (job,)
            ).fetchall()
            connection.close()
        return [
            dict(row) for row in rows if all(row[key] == value for key, value in columns.items())
        ]

    def leftovers(self) -> list[str]:
        """What lies where nothing should lie when everything is done."""
        folders = [self.path / kind for kind in ("inbox", "work", "state/spool", "state/private")]
        files = [path for folder in folders for path in folder.rglob("*") if not path.is_dir()]
        hidden = [path for path in self.path.rglob(".*") if not path.is_dir()]
        return sorted(str(path.relative_to(self.path)) for path in {*files, *hidden})


@contextmanager
def none_left(life: Life, spare: int = 0) -> Iterator[None]:
    """The daemon can have no more than `spare` descriptors; one that is closed can be had again."""
    pid = life.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    taken = {int(number) for number in os.listdir(f"/proc/{pid}/fd")}
    first_free = next(number for number in range(len(taken) + 1) if number not in taken)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (first_free + spare, before[1]))
    try:
        yield
    finally:
        if life.process.poll() is None:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def _matching(
    records: list[dict[str, Any]], event: str | None, facts: Mapping[str, Any]
) -> list[dict[str, Any]]:
    return [
        record
        for record in records
        if event in (None, record["event"])
        and all(record.get(key) == value for key, value in facts.items())
    ]


def _no_constant(text: str) -> None:
    raise AssertionError(f"a record holds {text}, which is no JSON")


def _await_end(pids: Sequence[int]) -> None:
    eventually(lambda: not any(map(_alive, pids)), f"the end of its children {pids}")


def _called(pid: int) -> str:
    """The name of a process; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _leads_its_session(pid: int) -> bool:
    with suppress(ProcessLookupError):
        return os.getsid(pid) == pid
    return False


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def toml(
    sections: Mapping[str, Mapping[str, Any]], jobs: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """A configuration as TOML: strings, numbers, booleans and lists are written as JSON writes them."""
    for name, table in sections.items():
        yield from _table(f"[{name}]", table)
    for one in jobs:
        yield from _table("[[jobs]]", {k: v for k, v in one.items() if not isinstance(v, Mapping)})
        for part, table in one.items():
            if isinstance(table, Mapping):
                yield from _table(f"[jobs.{part}]", table)


def _table(heading: str, table: Mapping[str, Any]) -> Iterator[str]:
    yield f"{heading}\n"
    for key, value in table.items():
        yield f"{key} = {json.dumps(value)}\n"


@contextmanager
def root_in(home: Path) -> Iterator[Root]:
    """A root whose processes are killed at the end, however it comes."""
    root = Root(home)
    try:
        yield root
    finally:
        root.close()
