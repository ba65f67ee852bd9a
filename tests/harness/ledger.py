"""Random programs of events against a model of ledger, intake and journal.

    drop · rename · delete · admit · admit what has changed meanwhile · commit privately · judge · decide · change in work ·
    reset · crash at any call, in recovery too

Rules. The model is what a reader of the README expects: a few lists of names and contents. The system is the real root,
journal, units, recovery and the stages' own judgement of duplicates; there is no trainer, a file's records are its
content. After every event both must say the same: where each content lies, the numbers, the states, every byte of the
log. A crash is a child of this process that is killed at one of its calls; whether its unit took place is the journal's
word, and the model then says what that means.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from service.core.errors import Refusal
from service.core.layout import Layout
from service.core.ledger import Undecided
from service.runtime.inbox import Inbox
from service.stages.identity import Same, same_as
from service.storage import logs, units
from service.storage.completion import Keep
from service.storage.journal import Journal
from service.storage.recovery import recover
from service.storage.root import prepare_root
from service.storage.tables import Entry, FileRow
from service.storage.units import Progress, perform
from service.storage.writer import Unit
from tests.harness import oracle, shim
from tests.harness.children import in_child
from tests.harness.fault import Fault, Round
from tests.harness.shim import Action, Plan

JOB, LOG = "j", "samples.jsonl"
KEEP = Keep(rotate_bytes=40, segments=0, models=2)
PROGRAMS, EVENTS = 12, 40  # of one round
NAMES = st.sampled_from(["a.csv", "b.csv", "c.csv.gz", "d"])
CONTENTS = st.sampled_from(["1\n", "2\n", "3\n", "bad\n", "4\n4\n", "5\n5\n5\n"])
CRASHES = st.one_of(st.just(0), st.just(0), st.integers(1, 90))  # at which call; 0: none


@dataclass(slots=True)
class Kept:
    """An admission, as the model has it."""

    admission: int
    name: str
    content: str
    state: str = "admitted"
    generation: int = 0
    resumed: bool = False


class _Waits(Exception):
    """Nothing can be said of a file before another one is decided."""


class Ledger(RuleBasedStateMachine):
    """One root and the model of it."""

    crashes = events = 0

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp(dir=_home))
        self.layout = Layout(self.place / "root")
        prepare_root(self.layout, [JOB])
        self.journal = Journal(self.layout.journal)
        self.inbox: dict[str, str] = {}
        self.files: list[Kept] = []
        self.log = ""
        self.generation = 0
        self.crash_at = 0

    def teardown(self) -> None:
        self.journal.close()
        shutil.rmtree(self.place)

    # --- what people do

    @rule(name=NAMES, content=CONTENTS)
    def drop(self, name: str, content: str) -> None:
        """Under a name that is in use it takes the place of what lay there."""
        self._drop(name, content)

    @precondition(lambda self: self.inbox)
    @rule(data=st.data(), name=NAMES)
    def rename(self, data: st.DataObject, name: str) -> None:
        old = data.draw(st.sampled_from(sorted(self.inbox)))
        os.replace(self._waiting(old), self._waiting(name))
        self.inbox[name] = self.inbox.pop(old)

    @precondition(lambda self: self.inbox)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.inbox)))
        self._waiting(name).unlink()
        del self.inbox[name]

    @rule(crash=CRASHES)
    def reset(self, crash: int) -> None:
        """The job is forgotten: what waits in work/ goes back to the inbox, under a free name."""
        self._do(lambda: units.reset(self.layout, JOB), crash)
        if self.journal.generation(JOB) == self.generation:
            return
        self.generation += 1
        for file in self._open():
            self._given_back(file)

    # --- what intake does

    @precondition(lambda self: self.inbox)
    @rule(most=st.integers(1, 3), crash=CRASHES)
    def admit(self, most: int, crash: int) -> None:
        """A listing, in the order of the names, and the first so many of it."""
        self._admit(self._look()[:most], crash)

    @precondition(lambda self: self.inbox)
    @rule(
        data=st.data(),
        crash=CRASHES,
        what=st.sampled_from(["gone", "renamed", "replaced", "grown"]),
    )
    def admit_what_has_changed(self, data: st.DataObject, crash: int, what: str) -> None:
        """Between the look and the admission somebody lays hands on a file: its admission counts for nothing."""
        entries = self._look()
        name = os.fsdecode(data.draw(st.sampled_from([entry.name for entry in entries])))
        waiting, content = self._waiting(name), self.inbox[name]
        if what == "gone":
            waiting.unlink()
            del self.inbox[name]
        elif what == "renamed":
            other = f"{len(self.files)} {name}"
            waiting.rename(self._waiting(other))
            self.inbox[other] = self.inbox.pop(name)
        elif what == "replaced":
            self._drop(name, content + "9\n")
        else:
            with waiting.open("a") as file:
                file.write("7\n")
            self.inbox[name] += "7\n"
        self._admit(entries, crash, changed=name)

    def _admit(self, entries: list[Entry], crash: int, changed: str | None = None) -> None:
        def admission() -> Unit[Any, Any, Any]:
            terms = ("d", "{}")
            return units.admission(
                self.layout, JOB, entries, settings=terms, after="archive", at=0.0
            )

        before = len(self.files)
        self._do(admission, crash)
        if len(self._rows()) == before:
            return
        for number, entry in enumerate(entries, before + 1):
            name = os.fsdecode(entry.name)
            if name == changed:
                self.files.append(Kept(number, name, "", "withdrawn", self.generation))
            else:
                content = self.inbox.pop(name)
                self.files.append(Kept(number, name, content, generation=self.generation))

    # --- what decode, train and record do

    @precondition(lambda self: self._open())
    @rule(data=st.data())
    def judge(self, data: st.DataObject) -> None:
        """Is a file one that was learnt before? Asked of any file, whatever is still open before it."""
        file = data.draw(st.sampled_from(self._open()))
        earlier = [
            f
            for f in self.files
            if f.admission < file.admission and f.generation == self.generation
        ]
        same = [f for f in earlier if f.content == file.content]
        try:
            found = self._same(self._row(file))
        except _Waits:
            assert any(f.state == "admitted" for f in earlier), "nobody is left to wait for"
            return
        accepted = [f.admission for f in same if f.state == "accepted"]
        assert (found.admission if found else None) == (accepted[0] if accepted else None)
        assert found or not any(f.state == "admitted" for f in same), "it may yet be learnt"

    @precondition(lambda self: self._open())
    @rule(crash=CRASHES)
    def commit_privately(self, crash: int) -> None:
        file = self._open()[0]
        if "bad" in file.content or self._learnt(file.content):
            return
        progress = self._progress(file, private=True)
        self._do(lambda: units.private_commit(self.layout, progress), crash)
        file.resumed = self.journal.commit(JOB, "private") is not None

    @precondition(lambda self: self._open())
    @rule(crash=CRASHES)
    def decide(self, crash: int) -> None:
        """The first open file is accepted, refused or a duplicate."""
        file = self._open()[0]
        where = (self.layout, JOB, file.admission)
        if self._learnt(file.content):
            self._decide(
                file, "duplicate", lambda: units.duplicate(*where, sha256=_sha256(file)), crash
            )
        elif "bad" in file.content:
            why = Refusal("must be good", "row 0", "bad", "mend it")
            self._decide(file, "refused", lambda: units.refusal(*where, why), crash)
        else:
            progress = self._progress(file, private=False)
            unit = lambda: units.acceptance(self.layout, progress, sha256=_sha256(file), keep=KEEP)  # noqa: E731
            if self._decide(file, "accepted", unit, crash):
                self.log += _records(file)

    @precondition(lambda self: self._open())
    @rule(crash=CRASHES)
    def change_in_work(self, crash: int) -> None:
        """Somebody writes to a file that was taken: it goes back, as it is now."""
        file = self._open()[0]
        with self.layout.work_file(JOB, file.admission).open("a") as work:
            work.write("8\n")
        file.content += "8\n"
        self._do(lambda: units.withdrawal(self.layout, JOB, file.admission), crash)
        # A recovery that finds it changed withdraws it by itself.
        assert self._row(file).state == "withdrawn"
        self._given_back(file)

    # --- what must always be so

    @invariant()
    def every_content_lies_where_it_should(self) -> None:
        type(self).events += 1
        assert _contents(self.layout.inbox(JOB)) == self.inbox
        work = {f"{file.admission:010d}": file.content for file in self._open()}
        assert _contents(self.layout.work(JOB)) == work
        for folder, states in (("done", ("accepted", "duplicate")), ("failed", ("refused",))):
            found = _contents(self.layout.root / folder / JOB)
            there = [text for name, text in found.items() if not name.endswith(".error.json")]
            wanted = [file.content for file in self.files if file.state in states]
            assert Counter(there) == Counter(wanted), folder
            assert len(found) - len(there) == (len(there) if folder == "failed" else 0)

    @invariant()
    def the_journal_says_what_the_model_says(self) -> None:
        found = [(row["admission"], os.fsdecode(row["name"]), row["state"]) for row in self._rows()]
        assert found == [(file.admission, file.name, file.state) for file in self.files]

    @invariant()
    def the_log_holds_every_accepted_file_once_and_in_order(self) -> None:
        segments = logs.segments(self.layout.logs(JOB), LOG)
        assert "".join(path.read_text() for path in segments) == self.log

    @invariant()
    def nothing_lies_about_and_the_numbers_are_whole(self) -> None:
        assert oracle.strays(self.layout.root, finished=False) == []

    # --- small things

    def _do(self, unit: Callable[[], Unit[Any, Any, Any]], crash: int) -> None:
        """Carries out a unit; with a crash in a child, which dies at that call, and recovery follows, which may die too."""
        if not crash or shim.loaded() is None:
            perform(self.journal, unit())
            return
        type(self).crashes += 1
        self.journal.close()
        self._in_child(lambda journal: perform(journal, unit()), crash)
        self._in_child(
            lambda journal: recover(self.layout, journal, [JOB], keep=KEEP), crash * 7 % 50
        )
        self.journal = Journal(self.layout.journal)
        recover(self.layout, self.journal, [JOB], keep=KEEP)

    def _in_child(self, work: Callable[[Journal], object], call: int) -> None:
        def life() -> None:
            watched = shim.loaded()
            assert watched is not None
            watched.watch(self.layout.root, Plan(Action.KILL, call) if call else shim.NOTHING)
            journal = Journal(self.layout.journal)
            work(journal)
            journal.close()

        in_child(life)

    def _decide(
        self, file: Kept, state: str, unit: Callable[[], Unit[Any, Any, Any]], crash: int
    ) -> bool:
        self._do(unit, crash)
        if self._row(file).state == "admitted":
            return False
        file.state = state
        return True

    def _given_back(self, file: Kept) -> None:
        """To the inbox, under its own name or one told apart: which, the disk says, as long as the content is right."""
        file.state = "withdrawn"
        new = {n: t for n, t in _contents(self.layout.inbox(JOB)).items() if n not in self.inbox}
        name = next((n for n, text in sorted(new.items()) if text == file.content), None)
        assert name is not None, "what was taken must come back"
        assert name == file.name or file.name in self.inbox, "its own name was free"
        self.inbox[name] = file.content

    def _drop(self, name: str, content: str) -> None:
        staged = self.place / "staged"
        staged.write_text(content)
        staged.rename(self._waiting(name))
        self.inbox[name] = content

    def _look(self) -> list[Entry]:
        look = Inbox(self.layout.inbox(JOB), ["*"], [], 0.0).look({}, True)
        entries = [Entry(f.name, f.size, f.mtime_ns, f.inode) for f in look.ready]
        assert [os.fsdecode(entry.name) for entry in entries] == sorted(self.inbox)
        return entries

    def _same(self, row: FileRow) -> Same | None:
        """The stage's own judgement, with a line that has nothing but what it asks for."""

        async def ask(question: Callable[[Journal], Any]) -> Any:
            return question(self.journal)

        async def news() -> None:
            raise _Waits

        undecided = Undecided({file.admission: None for file in self._open()})
        line: Any = SimpleNamespace(
            conduct=SimpleNamespace(identity="content"), ask=ask, news=news, undecided=undecided
        )
        sample: Any = SimpleNamespace(row=row, path=self.layout.work_file(JOB, row.admission))
        return asyncio.run(same_as(line, sample, None))

    def _progress(self, file: Kept, *, private: bool) -> Progress:
        text = _records(file).encode()
        text = text[: len(text) // 2] if private else text
        self.layout.spool(JOB, file.admission, LOG).write_bytes(text)
        public = self.journal.commit(JOB, "public")
        sequence = (public.sequence if public else 0) + (not private)
        row = len(text)
        return Progress(
            JOB, file.admission, row, 100 * file.admission + row, sequence,
            {"w": np.array([float(file.admission), float(row)])}, {}, {LOG: len(text)},
        )  # fmt: skip

    def _open(self) -> list[Kept]:
        return [file for file in self.files if file.state == "admitted"]

    def _learnt(self, content: str) -> bool:
        mine = [file for file in self.files if file.generation == self.generation]
        return any(file.state == "accepted" and file.content == content for file in mine)

    def _rows(self) -> list[dict[str, Any]]:
        return oracle.rows(self.layout.root, "files")

    def _row(self, file: Kept) -> FileRow:
        return self.journal.file(JOB, file.admission)

    def _waiting(self, name: str) -> Path:
        return self.layout.inbox(JOB) / name


def _contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def _records(file: Kept) -> str:
    return "".join(f'{{"of":{file.admission},"row":{row}}}\n' for row in file.content.split())


def _sha256(file: Kept) -> str:
    return hashlib.sha256(file.content.encode()).hexdigest()


_home: Path | None = None


def _programs(seed: int, place: Path) -> Round:
    global _home
    _home = place
    machine = seeded(seed)(type("Ledger", (Ledger,), {"crashes": 0, "events": 0}))
    done, told = Round(notes=[f"{PROGRAMS} programs of up to {EVENTS} events"]), StringIO()
    profile = settings(
        max_examples=PROGRAMS, stateful_step_count=EVENTS, deadline=None, database=None,
        suppress_health_check=list(HealthCheck), print_blob=False, verbosity=Verbosity.normal,
        phases=[Phase.generate],
    )  # fmt: skip
    try:
        with redirect_stdout(told):
            run_state_machine_as_test(machine, settings=profile)
    except Exception as error:
        done.wrong.append("".join(traceback.format_exception(error)) + told.getvalue())
    done.injected = machine.crashes
    return done


def faults() -> Iterator[Fault]:
    """The faults of this module."""
    yield Fault(
        "ledger",
        "random programs of drops, renames, refusals, resets, crashes, against a model",
        _programs,
    )
