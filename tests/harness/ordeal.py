"""A root in trouble: the jobs and files of whole daemons, and how one that was disturbed is judged.

    root ─▶ life, killed ─▶ life, killed while it recovers ─▶ … ─▶ `run --once` ─▶ as if nothing had happened?
                                                                                └▶ `verify` ─▶ the same?

Rules. A round is one root, with jobs of several shapes and files of several sizes, some of them bad. What the seed
decides is what happens and when; what it meets there is the machine's choice, so a violation may need several tries to
be met again. After each kill nobody may be left, and each start must be healthy within a bound.
"""

from __future__ import annotations

import functools
import itertools
import random
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.daemon import daemon_root, sample_tables
from tests.daemon.daemon_root import Life, Root, eventually, job, root_in, rounds
from tests.harness import oracle
from tests.harness.fault import Round

daemon_root.PATIENCE_SECONDS = 300.0  # a machine that is busy for days must not look like a hang

LOCAL = {"kernel": "mlp", "hidden": [6], "classes": 2}
JOBS: tuple[Mapping[str, Any], ...] = (
    job("plain", training=rounds(16)),
    job("exact", training=rounds(8, 3), output={"samples": "full"}),
    job("local", model=LOCAL, training=rounds(8, 3, 2), output={"samples": "off"}),
    job("columns", training={"batch_rows": 64, "lanes": 2, "partition": "features"}),
)
FILES: Mapping[str, bytes] = {
    "0-long.csv": sample_tables.csv(sample_tables.rows(5000, 1)),
    "1-short.csv": sample_tables.csv(sample_tables.rows(90, 2)),
    "1-shorter.csv": sample_tables.csv(sample_tables.rows(70, 5)),
    "1-shortest.csv": sample_tables.csv(sample_tables.rows(30, 6)),
    "2-bad.csv": b"a,b,c,y\n1,2,3,0\n1,2,three,0\n",
    "3-lines.jsonl": sample_tables.jsonl(sample_tables.rows(700, 3)),
    "4-again.csv": sample_tables.csv(sample_tables.rows(90, 2)),
    "5-empty.csv": b"",
    "6-table.parquet": sample_tables.parquet(sample_tables.rows(1500, 4)),
}
COMING = [list(names) for _, names in itertools.groupby(FILES, key=lambda name: name[0])]
"""Files whose names begin alike come together: those that are small are learnt in a bundle."""
GOOD, SAME = 6, 1


@dataclass(slots=True)
class Ordeal:
    """A root in trouble."""

    root: Root
    chance: random.Random
    done: Round = field(default_factory=Round)
    start_seconds: float = 1.0  # what the last one that was waited for took

    def configure(self, **service: Any) -> None:
        chunks = {"chunk_bytes": 8000, "workers": self.chance.choice([1, 1, 2, 3])}
        self.root.configure(*JOBS, service=chunks | service, logs={"every_rows": 250})

    def drop(self, names: Iterable[str] = FILES) -> None:
        """These files come to all jobs."""
        for name in names:
            for one in JOBS:
                self.root.drop(name, FILES[name], one["name"])

    def kill(self, life: Life, what: str) -> None:
        """kill -9, and nobody may be left of it."""
        children = life.children() if life.process.poll() is None else []
        life.process.kill()
        life.process.wait()
        self.counted(what)
        self.done.ready += bool(life.events("ready"))
        self.done.wrong += oracle.await_gone(children)

    def counted(self, what: str) -> None:
        self.done.injected += 1
        self.done.notes.append(what)

    def healthy(self, *arguments: str, path: tuple[Path, ...] = ()) -> Life:
        """A life that is ready within the bound."""
        begun = time.monotonic()
        life = self.root.start(*arguments, path=path)
        self.start_seconds = time.monotonic() - begun
        if self.start_seconds > oracle.HEALTHY_SECONDS:
            self.done.wrong.append(f"the start took {self.start_seconds:.0f} s")
        return life

    def kill_at_work(self) -> None:
        """A life that is killed some time after it was ready: a share of what its start took, for machines differ."""
        life = self.healthy()
        seconds = self.chance.uniform(0, 0.5) * self.start_seconds
        time.sleep(seconds)  # the moment is what the seed says: any is good
        self.kill(life, f"kill -9 {seconds:.3f} s after it was ready")

    def judged(self, home: Path) -> Round:
        """A quiet life to the end of all files; then the root is held against the undisturbed one."""
        self.end_quietly()
        self.done.wrong += compared(undisturbed(home), self.root)
        self.done.wrong += unverified(self.root, {one["name"] for one in JOBS})
        return self.done

    def end_quietly(self) -> None:
        """A life to the end of all files."""
        life = self.root.start("--once", ready=False)
        if life.exit() != 0:
            self.done.wrong.append(f"the quiet life failed: {life.said[-2000:]}")


@functools.cache
def undisturbed(home: Path) -> Root:
    """The root that all others below `home` are held against."""
    with root_in(home / "quiet") as root:
        ordeal = Ordeal(root, random.Random(0))
        ordeal.configure()
        ordeal.drop()
        root.once()
        assert [len(root.names("done", one["name"])) for one in JOBS] == [GOOD + SAME] * len(JOBS)
        return root


def compared(expected: Root, found: Root) -> Iterator[str]:
    """What is not as in the undisturbed root: bytes of models and logs, names in done/ and failed/, leftovers."""
    for one in JOBS:
        name = one["name"]
        quiet, other = expected.outcome(name), found.outcome(name)
        for part in ("model", "metrics", "samples"):
            if getattr(quiet, part) != getattr(other, part):
                yield f"{name}: {part} differ"
        for folder in ("done", "failed"):
            if expected.names(folder, name) != found.names(folder, name):
                yield f"{folder}/{name}: {found.names(folder, name)}"
    yield from (f"left over: {path}" for path in found.leftovers())
    yield from oracle.strays(found.path)
    yield from (f"in shared memory: {name}" for name in oracle.shared_memory())


def unverified(root: Root, names: Collection[str]) -> Iterator[str]:
    """What `headrace verify`, which learns all of done/ again, does not call the same."""
    done = root.ask("verify", "--root", str(root.path), "--scratch", str(root.home))
    same = {line.partition(":")[0] for line in done.stdout.splitlines() if ": same: " in line}
    if done.returncode != 0 or same != set(names):
        yield f"verify (exit {done.returncode}): {done.stdout}{done.stderr}"


def await_end_of_files(root: Root, life: Life) -> bool:
    """Until all files that came are done (True) or the daemon has ended (False)."""

    def see() -> str:
        if life.process.poll() is not None:
            return "ended"
        return "done" if life.events("ready") and not root.leftovers() else ""

    return eventually(see, "the end of the files", life) == "done"
