"""What the targets are about beside the contestants' speed: each measure starts a daemon, or its rival, and says numbers by their names.

Rules: a measure has an empty folder of its own, and the races' case. The names are those that `targets` divides; what has no unit here
is rows/s.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks import golang, growth
from benchmarks.case import Case, make
from benchmarks.contestants import CORES, WARM_BYTES, Missing
from benchmarks.daemon import Daemon, configuration

Found = Mapping[str, float]

LENGTHS = (10, 1)  # of a crowd's files, in turns: a short one must not wait for the long ones

# config/article.toml with a thousand times the samples, and a rate that fits their squares.
ARTICLE = """
[[jobs]]
name = "bench"
label = "y"
features = ["x"]
model = {{ kernel = "linear", intercept = false }}
optimizer = {{ name = "sgd", learning_rate = {rate} }}
training = {{ batch_rows = {part}, lanes = 4, local_steps = 1, dtype = "float64" }}
scaling = {{ standardise = false, target = "none" }}
output = {{ samples = "norms", samples_format = "text" }}
"""


def small_files(folder: Path, case: Case, count: int = 1000) -> Found:
    """So many files of a hundred rows at once, each with its record and those of its samples."""
    contents = growth.small_files(folder, count)
    with Daemon(folder, configuration(samples="norms")) as daemon:
        daemon.warm(next(contents))
        hidden = [daemon.hide(next(contents), f"{n:06}.csv") for n in range(count)]
        return {"small files": count / daemon.learn(hidden)}


def all_cores(folder: Path, case: Case) -> Found:
    """As many jobs as cores, each with the case: the loop's longest pause in ms, and seconds of the processor.

    The daemon tells the longest pause of its whole life: warming up is in it, so what is said is at most too much.
    """
    names = [f"job{n}" for n in range(CORES)]
    with Daemon(folder, configuration(names), names) as daemon:
        daemon.warm(case.head(WARM_BYTES))
        hidden = [daemon.hide(case.path, "rows.csv", name) for name in names]
        own, workers = daemon.processor_seconds()
        daemon.learn(hidden)
        own_after, workers_after = daemon.processor_seconds()
        pause = daemon.next_status()["loop_longest_pause_seconds"]
    return {
        "pause": pause * 1e3,
        "own process": own_after - own,
        "a worker": (workers_after - workers) / CORES,
    }


def crowd(folder: Path, case: Case, jobs: int = 100) -> Found:
    """So many jobs with a long or a short file each, all at once; and one job with as many rows in one file."""
    names = [f"job{n}" for n in range(jobs)]
    unit = max(1, 4 * case.rows * len(LENGTHS) // (jobs * sum(LENGTHS)))
    lengths = [LENGTHS[n % len(LENGTHS)] * unit for n in range(jobs)]
    contents = {length: make(folder, length, case.features).path for length in set(lengths)}
    with Daemon(folder, configuration(names), names) as daemon:
        daemon.warm(case.head(WARM_BYTES))
        hidden = [
            daemon.hide(contents[length], "rows.csv", name)
            for name, length in zip(names, lengths, strict=True)
        ]
        begun = time.time()
        rate = sum(lengths) / daemon.learn(hidden)
        done = [daemon.root / "done" / name / "rows.csv" for name in names]
        taken = [path.stat().st_ctime - begun for path in done]  # a rename is a change of its time
    alone = _one(folder / "one", make(folder, sum(lengths), case.features))
    fair = equal_shares(lengths, alone)
    return {
        "many jobs": rate,
        "one job": alone,
        "longest share": max(a / b for a, b in zip(taken, fair, strict=True)),
    }


def equal_shares(lengths: Sequence[int], rate: float) -> list[float]:
    """The seconds after which each file is done, if at each moment all that aren't have the same share of so many rows/s."""
    return [sum(min(one, other) for other in lengths) / rate for one in lengths]


def article(folder: Path, case: Case) -> Found:
    """The article's job: a line for each of its samples."""
    samples, path = _article_samples(folder, case)
    rate = 1 / float(2 * np.mean(np.arange(float(samples)) ** 2))
    with Daemon(folder, ARTICLE.format(rate=rate, part=samples // 4)) as daemon:
        daemon.warm(b"x,y\n" + b"".join(b"%d,%d\n" % (n, n) for n in range(1000)))
        return {"the article": samples / daemon.learn([daemon.hide(path, "rows.csv")])}


def article_go(folder: Path, case: Case) -> Found:
    """The same lines by the article's Go program, compiled before; raises Missing."""
    program = golang.article(case.path.parent)  # one for all rounds
    samples, path = _article_samples(folder, case)
    return {"Go": samples / golang.seconds(program, path, folder / "samples.txt")}


def latency(folder: Path, case: Case, drops: int = 200) -> Found:
    """In ms from the rename of a small file to done/, one after the other: the daemon has nothing else to do."""
    contents = growth.small_files(folder, drops)
    with Daemon(folder, configuration()) as daemon:
        daemon.warm(next(contents))
        taken = sorted(
            daemon.learn([daemon.hide(next(contents), f"{n:06}.csv")]) for n in range(drops)
        )
    return {
        "latency, median": statistics.median(taken) * 1e3,
        "latency, 99th percentile": taken[int(0.99 * drops)] * 1e3,
    }


def start(folder: Path, case: Case) -> Found:
    """In s from the command to the first status that says `running`."""
    with Daemon(folder, configuration()) as daemon:
        return {"start": daemon.start_seconds}


def large(folder: Path, case: Case, gigabytes: float) -> Found:
    """One file of so many GB: rows/s, and the most memory in MiB that all processes together had.

    Raises Missing where the disk is too small.
    """
    rows = int(gigabytes * 1e9 / case.bytes * case.rows)
    needed, free = 1.2 * gigabytes, shutil.disk_usage(folder).free / 1e9
    if free < needed:
        raise Missing(f"{needed:g} GB of disk, of which {free:.0f} are free,")
    whole = make(folder, rows, case.features)
    with Daemon(folder, configuration()) as daemon:
        daemon.warm(case.head(WARM_BYTES))
        hidden = whole.path.rename(daemon.root / "inbox" / "bench" / ".rows.csv")  # no second copy
        with daemon.watched() as peak:
            seconds = daemon.learn([hidden])
    return {"large file": rows / seconds, "large file, MiB": peak.resident_bytes / 2**20}


def _article_samples(folder: Path, case: Case) -> tuple[int, Path]:
    """How many samples (i, i), twice as many as the case has rows, and the file that has them."""
    samples = 2 * case.rows
    i = np.arange(samples)
    path = folder / "article.csv"
    pl.DataFrame({"x": i, "y": i}).write_csv(path)
    return samples, path


def _one(folder: Path, case: Case) -> float:
    """Rows/s of one job with one file."""
    folder.mkdir()
    with Daemon(folder, configuration()) as daemon:
        daemon.warm(case.head(WARM_BYTES))
        return case.rows / daemon.learn([daemon.hide(case.path, "rows.csv")])


MEASURES: dict[str, Callable[[Path, Case], Found]] = {
    "small-files": small_files,
    "all-cores": all_cores,
    "crowd": crowd,
    "article": article,
    "article-go": article_go,
    "latency": latency,
    "start": start,
}
