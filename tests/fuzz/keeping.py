"""The inputs that are kept: of all candidates the smallest that reach, between them, all that any of them reaches.

Rules
- What an input reaches is the steps from line to line in the readers, and the rules that files were refused by.
- Names of twelve hexadecimal digits are given here, and taken away again when another input reaches as much. Other names were
  given by people, to what was once a bug: those inputs stay.
"""

from __future__ import annotations

import hashlib
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from service.core.errors import FileRefused
from tests.fuzz.targets import Target

CORPUS = Path(__file__).with_name("corpus")
READERS = "/service/formats/"
MOST_BYTES = 300 << 10
"""Of the whole corpus: it is copied with every checkout, and read in every run of the tests."""
GIVEN = re.compile(r"[0-9a-f]{12}")


def kept(name: str) -> Mapping[str, bytes]:
    """A target's inputs by their names."""
    return {path.name: path.read_bytes() for path in sorted((CORPUS / name).glob("*"))}


def keep(target: Target, candidates: Iterable[bytes]) -> int:
    """Chooses among what is kept and the candidates; how many inputs there are now."""
    folder = CORPUS / target.name
    folder.mkdir(parents=True, exist_ok=True)
    named = {name: data for name, data in kept(target.name).items() if not GIVEN.fullmatch(name)}
    others = {*kept(target.name).values(), *target.seeds, *candidates} - set(named.values())
    ordered = [*named.values(), *sorted(others, key=lambda data: (len(data), data))]
    reached = _reached(target, ordered)
    chosen = {data for data in _least(reached) if data not in named.values()}
    for path in folder.iterdir():
        if path.name not in named:
            path.unlink()
    for data in chosen:
        (folder / hashlib.sha256(data).hexdigest()[:12]).write_bytes(data)
    return len(named) + len(chosen)


def _least(reached: Mapping[bytes, Set[object]]) -> Iterator[bytes]:
    """In order, those that reach something that none before them does; without those that later ones make needless."""
    known: set[object] = set()
    useful = []
    for data, places in reached.items():
        if places - known:
            useful.append(data)
            known |= places
    known = set()
    for data in reversed(useful):
        if reached[data] - known:
            known |= reached[data]
            yield data


def _reached(target: Target, inputs: Iterable[bytes]) -> Mapping[bytes, Set[object]]:
    if target.is_lone:  # nothing of another process is seen: an input is as good as another
        return {data: {data} for data in target.seeds}
    with tempfile.TemporaryDirectory() as folder:
        return {data: _places(target, data, Path(folder)) for data in inputs}


def _places(target: Target, data: bytes, folder: Path) -> Set[object]:
    found: set[object] = set()
    with _traced(found):
        target.check(data, folder)
    return found


@contextmanager
def _traced(found: set[object]) -> Iterator[None]:
    """Puts the readers' steps from line to line, and their refusals, into `found`."""

    def enter(frame: FrameType, event: str, _: Any) -> Any:
        if READERS not in frame.f_code.co_filename:
            return None
        last = 0

        def step(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal last
            if event == "line":
                found.add((frame.f_code.co_filename, last, frame.f_lineno))
                last = frame.f_lineno
            elif event == "exception" and isinstance(argument[1], FileRefused):
                found.add(re.sub(r"\d+", "", argument[1].refusal.rule))
            return step

        return step

    sys.settrace(enter)
    try:
        yield
    finally:
        sys.settrace(None)
