"""Fuzzes kinds of sample files, one after the other, and says what came of each.

    python -m tests.fuzz csv jsonl --seconds 300
    python -m tests.fuzz all --keep              the corpus, chosen anew from what is kept and what was found
    python -m tests.fuzz csv --again FILE        raises what these bytes raise

Rules. What a search finds lies in `--place` and is where the next one goes on. The exit status is 1 when a rule was broken: the
bytes are told, and how to see it again. Mend it, and put the smallest such bytes into the corpus, under a name that says what they
were.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.formats.damage import MARKS
from tests.fuzz import blind, keeping
from tests.fuzz.interpreted import plain_readers
from tests.fuzz.targets import Target, targets

CHECKOUT = Path(__file__).resolve().parents[2]
LONGEST_INPUT = 4096
SECONDS_OF_ONE = (
    120  # an input takes some hundredths, but the machine may be busy, and kernels be compiled
)
MOST_MEGABYTES = 3000
MISSING = "the search needs atheris, which is there for some versions of Python: pip install 'headrace[fuzz]'"
TOLD = re.compile(r"(Test unit written to |stat::number_of_executed_units:) *(\S+)")


def main(arguments: Sequence[str]) -> int:
    known = targets(plain_readers(importlib.import_module))
    options = _options(arguments, known)
    chosen = [known[name] for name in options.targets]
    if options.again:
        return _again(chosen[0], Path(options.again))
    guided = [target for target in chosen if not target.is_lone]
    if options.seconds and guided and importlib.util.find_spec("atheris") is None:
        print(MISSING, file=sys.stderr)
        return 2
    broken = [target.name for target in chosen if not _search(target, options)]
    return 1 if broken else 0


def _search(target: Target, options: argparse.Namespace) -> bool:
    """A search for so many seconds; whether nothing was broken."""
    place = Path(options.place) / target.name
    (place / "found").mkdir(parents=True, exist_ok=True)
    wrong = None
    if options.seconds:
        search = _blind if target.is_lone else _guided
        wrong = search(target, place, options)
    if wrong is not None:
        print(
            f"{target.name}: BROKEN by {wrong}; again: python -m tests.fuzz {target.name} --again {wrong}"
        )
    elif options.keep:
        found = [path.read_bytes() for path in (place / "found").iterdir()]
        print(f"{target.name}: {keeping.keep(target, found)} inputs are kept", flush=True)
    return wrong is None


def _guided(target: Target, place: Path, options: argparse.Namespace) -> Path | None:
    for number, data in enumerate(target.seeds):
        (place / "found" / f"seed-{number}").write_bytes(data)
    words = place / "words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in MARKS))
    wanted = {
        "max_total_time": int(options.seconds),
        "seed": options.seed,
        "max_len": LONGEST_INPUT,
        "timeout": SECONDS_OF_ONE,
        "rss_limit_mb": MOST_MEGABYTES,
        "dict": words,
        "artifact_prefix": f"{place}/",
        "print_final_stats": 1,
    }
    flags = [f"-{key}={value}" for key, value in wanted.items()]
    folders = [place / "found", *filter(Path.is_dir, [keeping.CORPUS / target.name])]
    log = place / "log"
    with log.open("w") as out:
        command = [
            sys.executable,
            "-m",
            "tests.fuzz.guided",
            target.name,
            *flags,
            *map(str, folders),
        ]
        subprocess.run(command, cwd=CHECKOUT, stdout=out, stderr=out, check=False)
    said = log.read_text(errors="replace")
    told = {what.strip(): value for what, value in TOLD.findall(said)}
    executed = told.get("stat::number_of_executed_units:")
    wrong = told.get("Test unit written to")
    if executed is None and wrong is None:
        raise RuntimeError(f"the search of {target.name} did not end well: {said[-2000:]}")
    many = len(list((place / "found").iterdir()))
    print(f"{target.name}: {executed} inputs were read, {many} reached something new", flush=True)
    return Path(wrong) if wrong else None


def _blind(target: Target, place: Path, options: argparse.Namespace) -> Path | None:
    inputs = [*target.seeds, *keeping.kept(target.name).values()]
    found, data = blind.search(target, inputs, options.seconds, options.seed)
    print(f"{target.name}: {found.total()} inputs were read: {dict(found)}", flush=True)
    if data is None:
        return None
    wrong = place / "broken"
    wrong.write_bytes(data)
    return wrong


def _again(target: Target, path: Path) -> int:
    with tempfile.TemporaryDirectory() as folder, target.checking(Path(folder)) as check:
        check(path.read_bytes())
    print(f"{target.name}: {path} is borne")
    return 0


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def _options(arguments: Sequence[str], known: Mapping[str, Target]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("targets", nargs="+", help=f"some of {', '.join(known)}; or all")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each; 0: only --keep")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="choose the corpus anew")
    parser.add_argument("--again", help="read the bytes of this file, and nothing else")
    parser.add_argument("--place", default=str(CHECKOUT / ".fuzz"), help="what is found, and logs")
    options = parser.parse_args(arguments)
    if options.targets == ["all"]:
        options.targets = list(known)
    if unknown := set(options.targets) - known.keys():
        parser.error(f"must be some of {', '.join(known)}, got {', '.join(sorted(unknown))}")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
