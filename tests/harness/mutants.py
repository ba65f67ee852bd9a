"""A whole daemon is fed damaged files of every kind, in bulk: it lives, each file is learnt or refused, and what is refused leaves no trace.

    good files ─▶ a wave of damaged ones ─▶ wave ─▶ … ─▶ judged ─▶ another root gets the accepted ones alone: the same?

Rules
- The seed decides every byte. A wave is renamed into the inbox while the daemon stands still, so that one listing sees all of it
  and the order is that of the names.
- Only a Parquet file may end its worker, whose reader allocates what a damaged footer asks for; it is refused then.
- Every tenth seed's round is long, for what grows with each file is small.
"""

from __future__ import annotations

import gzip
import os
import random
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import zstandard

from tests.daemon.daemon_root import Life, Root, eventually, job, root_in
from tests.formats.damage import SEEDS, SPARSE_SEEDS, mutated, renumbered
from tests.harness import oracle
from tests.harness.fault import Fault, Round

WAVE_FILES = 50  # of each job
WAVES, MANY_WAVES, EVERY = 2, 200, 10
WARM_WAVES = 40
"""By then allocators and SQLite's cache of pages have what they will have: some MiB come with the first eight thousand files."""

START_KIBIBYTES = 8 << 10
"""What a daemon may gain in a short round: twice what was seen."""
FILE_BYTES = 100
"""And in a long one, once it is warm, for a file: 25 were seen, and 350 where each refusal was kept."""
SLACK_KIBIBYTES = 4 << 10
"""Beside them allocators take and give back pieces of two MiB."""
WORKER_KIBIBYTES = 192 << 10
"""What a worker may gain: it keeps the room that its largest file took, and the window of a damaged zstd frame alone may be
128 MiB."""
SPARE_DESCRIPTORS = 4
"""Files that are open at the moment of looking: status and log are written every now and then."""

BINARY = {"kernel": "logistic"}
NAMED = BINARY | {"positive": "UP"}
COMMAS = {"encoding": "latin-1", "decimal": ",", "comment": "#"}
SLOTS = {"hashing": {"bits": 10}}
JOBS: Mapping[str, Mapping[str, Any]] = {
    "tables": job("tables", model=NAMED, id="k"),
    "commas": job("commas", model=NAMED, id="k", csv=COMMAS),
    "svmlight": {"name": "svmlight", "format": "svmlight", "model": BINARY} | SLOTS,
    "vw": {"name": "vw", "format": "vw", "model": BINARY, "id": "tag"} | SLOTS,
}
PACKED_KINDS = ("t.npz", "u.npz", "t.csv.gz", "t.csv.zst")
KINDS: Mapping[str, Sequence[str]] = {
    "tables": (*["t.csv", "t.jsonl"] * 8, *PACKED_KINDS, "t.parquet"),
    "commas": ("w.csv",),
    "svmlight": ("t.svm",),
    "vw": ("t.vw",),
}
"""What a job's files are made of. Parquet is rare: who ends his worker ends five of them."""
CONTENTS = SEEDS | SPARSE_SEEDS
LONG = 6  # times the rows of a seed: several chunks, the first of which are learnt before a bad row comes
PACKS: Mapping[str, Callable[[bytes], bytes]] = {
    ".gz": lambda data: gzip.compress(data, 1, mtime=0),
    ".zst": zstandard.ZstdCompressor().compress,
}
LEARNT_SECONDS = 3600.0
"""Within which a root learns the twenty thousand files of a long round that are good, on a machine that is busy, too."""
USUAL = frozenset(
    {"ready", "started", "progress", "accepted", "duplicate", "refused", "stopping", "stopped"}
)
COMPILING = "waiting for the first worker"
A_BUG = "ends without an error of its own"
A_DEATH = "leaves its worker alive"
"""What the rules of notes say of files that were refused for what became of their sub-task."""
DIED = "worker: ended"
LONGEST = 80


@dataclass(frozen=True, slots=True)
class Size:
    """What a process has: memory of its own, and descriptors."""

    kibibytes: int
    descriptors: int


@dataclass(frozen=True, slots=True)
class Manner:
    """How files are taken. Small chunks and rounds: a file is half learnt when it is refused. Large ones: good files go in bundles."""

    on_bad_row: str
    chunk_bytes: int
    local_steps: int
    workers: int

    @classmethod
    def drawn(cls, chance: random.Random) -> Manner:
        chunk_bytes, local_steps = chance.choice([(256, 8), (1 << 20, 64)])
        return cls(
            chance.choice(["refuse", "skip"]), chunk_bytes, local_steps, chance.choice([1, 2])
        )

    def configure(self, root: Root) -> None:
        """The inbox is listed when something comes, and so never while a wave comes."""
        training = {"batch_rows": 1, "local_steps": self.local_steps}
        root.configure(
            *(one | {"training": training} for one in JOBS.values()),
            service={"chunk_bytes": self.chunk_bytes, "workers": self.workers},
            intake={"settle_seconds": 0.2, "rescan_seconds": 3600},
            rows={"on_bad_row": self.on_bad_row, "max_bad_rows": 0.5},
        )


@dataclass(slots=True)
class Feast:
    """A root that is fed, and how much each job was given."""

    root: Root
    chance: random.Random
    manner: Manner
    done: Round = field(default_factory=Round)
    given: dict[str, set[str]] = field(default_factory=lambda: {name: set() for name in JOBS})

    def begin(self) -> Life:
        """A daemon that has learnt one good file of each kind: they teach features and classes, and compile what is compiled."""
        self.manner.configure(self.root)
        life = self.root.start()
        self.give(life, {name: dict(_good(name)) for name in JOBS})
        for name in JOBS:
            assert not self.root.names("failed", name)
        return life

    def wave(self, life: Life, number: int) -> None:
        """Damaged files come to all jobs, and are decided."""
        files = {name: dict(self._damaged(name, number)) for name in JOBS}
        self.give(life, files)
        self.done.injected += sum(map(len, files.values()))

    def give(self, life: Life, files: Mapping[str, Mapping[str, bytes]]) -> None:
        life.signal(signal.SIGSTOP)
        for name, contents in files.items():
            for file, data in contents.items():
                self.root.drop(file, data, name)
            self.given[name] |= contents.keys()
        life.signal(signal.SIGCONT)
        wanted = {name: len(given) for name, given in self.given.items()}
        eventually(lambda: _decided(life) == wanted, f"the fate of {wanted} files", life)

    def _damaged(self, name: str, wave: int) -> Iterator[tuple[str, bytes]]:
        for number in range(WAVE_FILES):
            kind = self.chance.choice(KINDS[name])
            yield f"{wave:03}-{number:03}{_suffix(kind)}", _damaged(kind, self.chance)


def _fed(seed: int, place: Path) -> Round:
    chance = random.Random(seed)
    waves = WAVES if seed % EVERY else MANY_WAVES
    with root_in(place / "fed") as root:
        manner = Manner.drawn(chance)
        feast = Feast(root, chance, manner)
        done = feast.done
        done.notes.append(str(manner))
        life = feast.begin()
        before = warm = _size(life.process.pid)
        workers = _largest(life)
        for number in range(waves):
            if number == WARM_WAVES:
                warm, workers = _size(life.process.pid), _largest(life)
            feast.wave(life, number)
        if waves > WARM_WAVES:
            many = (waves - WARM_WAVES) * WAVE_FILES * len(JOBS)
            most = SLACK_KIBIBYTES + many * FILE_BYTES // 1024
            done.wrong += _grown("the daemon", warm, _size(life.process.pid), most)
        else:
            done.wrong += _grown("the daemon", before, _size(life.process.pid), START_KIBIBYTES)
        done.wrong += _grown("a worker", workers, _largest(life), WORKER_KIBIBYTES)
        life.stop()
        done.wrong += _failures(life)
        done.wrong += oracle.strays(root.path)
        for name, given in feast.given.items():
            done.wrong += _misjudged(root, name, given)
        with root_in(place / "spared") as spared:
            replace(manner, chunk_bytes=1 << 20, workers=2).configure(spared)
            done.wrong += _differs(root, spared)
        return done


def _damaged(kind: str, chance: random.Random) -> bytes:
    """A file of this kind: text with other numbers than before, mostly damaged; packed before or after that."""
    pack = PACKS.get(os.path.splitext(kind)[1])
    data = SEEDS["t.csv"] if pack else CONTENTS[kind]
    if not kind.endswith((".npz", ".parquet")):  # in which a digit has a sum
        data = renumbered(_lengthened(kind, data) if chance.random() < 0.25 else data, chance)
    is_packed_first = pack is not None and chance.random() < 0.5
    if pack and is_packed_first:
        data = pack(data)
    if chance.random() < 0.75:
        data = mutated(data, chance)
    return pack(data) if pack and not is_packed_first else data


def _lengthened(kind: str, data: bytes) -> bytes:
    """The same rows again and again, below one header."""
    if kind.startswith("t.csv"):
        header, rows = data.split(b"\n", 1)
        return b"\n".join([header, *[rows.rstrip(b"\n")] * LONG])
    return data if kind == "w.csv" else b"\n".join([data.rstrip(b"\n")] * LONG)


def _suffix(kind: str) -> str:
    return kind[kind.index(".") :]


def _good(name: str) -> Iterator[tuple[str, bytes]]:
    """The kinds of a job's files, undamaged, under names that come first."""
    for number, kind in enumerate(dict.fromkeys(KINDS[name])):
        yield f"+{number}{_suffix(kind)}", CONTENTS[kind]


def _decided(life: Life) -> Mapping[str, int]:
    jobs = life.status()["jobs"]  # what was written before the jobs had begun names none
    return {
        name: sum(jobs[name][fate] for fate in ("done", "failed", "duplicates"))
        for name in JOBS
        if name in jobs
    }


# --- how it is judged


def _size(pid: int) -> Size:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    own = next(line for line in lines if line.startswith("RssAnon"))
    return Size(int(own.split()[1]), len(os.listdir(f"/proc/{pid}/fd")))


def _largest(life: Life) -> Size:
    """The most that any worker has of each."""
    sizes = [_size(pid) for pid in eventually(life.workers, "a worker", life)]
    return Size(max(s.kibibytes for s in sizes), max(s.descriptors for s in sizes))


def _grown(who: str, before: Size, after: Size, most_kibibytes: int) -> Iterator[str]:
    if after.kibibytes - before.kibibytes > most_kibibytes:
        yield f"{who} grew from {before.kibibytes} to {after.kibibytes} KiB, {most_kibibytes} may be"
    if after.descriptors - before.descriptors > SPARE_DESCRIPTORS:
        yield f"{who} has {after.descriptors} descriptors for {before.descriptors}"


def _failures(life: Life) -> Iterator[str]:
    """What the daemon said beside what it says of good files and bad ones."""
    for event in life.events():
        is_usual = event["event"] in USUAL or event["event"].startswith(COMPILING)
        if not is_usual and not _is_death(event):
            yield f"said: {event}"
    if "Traceback" in life.said:
        yield f"said: {life.said}"


def _is_death(event: Mapping[str, Any]) -> bool:
    """Whether a sub-task was given up for its worker's deaths; of which file the notes say."""
    return event["event"] == "a sub-task could not be done" and DIED in event["error"]


def _misjudged(root: Root, name: str, given: set[str]) -> Iterator[str]:
    """Each file lies in done/ or in failed/, and there with a note that can be shown."""
    done, failed = set(root.names("done", name)), set(root.names("failed", name))
    notes = {file for file in failed if file.endswith(".error.json")}
    refused = {file for file in failed - notes if not file.endswith(".rows.jsonl")}
    if done | refused != given or done & refused:
        yield f"{name}: {sorted((done | refused) ^ given)} lost, {sorted(done & refused)} twice"
    if notes != {f"{file}.error.json" for file in refused}:
        yield f"{name}: notes {sorted(notes)} of {sorted(refused)}"
    for file in sorted(refused):
        why = root.note(file, name)
        texts = [why[key] for key in ("file", "rule", "place", "value", "remedy")]
        if not all(text.isprintable() for text in texts) or len(why["value"]) > LONGEST:
            yield f"{name}: the note of {file} can't be shown: {why}"
        if A_BUG in why["rule"] or (A_DEATH in why["rule"] and not file.endswith(".parquet")):
            yield f"{name}: {file} was refused for a fault that is not its own: {why}"


def _differs(fed: Root, spared: Root) -> Iterator[str]:
    """What a root that gets the accepted files alone does not come to."""
    for name in JOBS:
        files = fed.files(name, state="accepted")
        names = [os.fsdecode(file["settled_as"]) for file in files]
        if names != sorted(names):
            yield f"{name}: files of one listing were admitted in another order than their names'"
        for file in names:
            spared.drop(file, (fed.folder("done", name) / file).read_bytes(), name)
    life = spared.start("--once", ready=False)
    life.process.wait(LEARNT_SECONDS)
    assert life.exit() == 0, life.said
    for name in JOBS:
        one, other = fed.outcome(name), spared.outcome(name)
        for part in ("model", "metrics", "samples", "digests"):
            if getattr(one, part) != getattr(other, part):
                yield f"{name}: {part} differ from those of a root without the refused files"
    if life.events("refused"):
        yield f"an accepted file was refused: {life.events('refused')}"


def faults() -> Iterator[Fault]:
    """The faults of this module."""
    yield Fault(
        "files",
        "damaged files of every kind, by the hundred; what is refused leaves no trace",
        _fed,
    )
