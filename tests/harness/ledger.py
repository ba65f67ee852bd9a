"""Random programs of events against a model of ledger, intake and journal.

    drop · rename · delete · admit · admit what has changed meanwhile · commit privately · judge · decide · change in work ·
    reset · crash at any call, in recovery too

Rules. The model is what a reader of the README expects: a few lists of names and contents. The system is the real root,
journal, units, recovery and the stages' own judgement of duplicates (ledger_root.py). After every event both must say
the same: where each content lies, the numbers, the states, every byte of the log. Whether a unit took place that a
crash cut short is the journal's word, and the model then says what that means.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from itertools import islice
from pathlib import Path

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
from service.storage import units
from service.storage.moves import told_apart
from service.storage.tables import Digests, Entry
from service.storage.units import Whole
from tests.harness import oracle
from tests.harness.fault import Fault, Round
from tests.harness.ledger_root import JOB, KEEP, LedgerRoot, Make, Waits

PROGRAMS, EVENTS = 4, 40  # of one round
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


class Ledger(RuleBasedStateMachine):
    """One root and the model of it."""

    crashes = 0

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp(dir=_home))
        self.root = LedgerRoot(self.place)
        self.inbox: dict[str, str] = {}
        self.files: list[Kept] = []
        self.log = ""
        self.generation = 0

    def teardown(self) -> None:
        type(self).crashes += self.root.crashes
        self.root.close()
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
        self.root.do(lambda: units.reset(self.root.layout, JOB), crash)
        if self.root.journal.generation(JOB) == self.generation:
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
        before = len(self.files)
        self.root.do(lambda: self.root.admission(entries), crash)
        if len(self.root.rows()) == before:
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
            found = self.root.same(file.admission, [f.admission for f in self._open()])
        except Waits:
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
        progress = self.root.progress(file.admission, _records(file), private=True)
        self.root.do(lambda: units.private_commit(self.root.layout, progress), crash)
        file.resumed = self.root.journal.commit(JOB, "private") is not None

    @precondition(lambda self: self._open())
    @rule(crash=CRASHES)
    def decide(self, crash: int) -> None:
        """The first open file is accepted, refused or a duplicate; of which the stage's own judgement decides."""
        file = self._open()[0]
        found = self.root.same(file.admission, [f.admission for f in self._open()])
        assert (found is not None) == self._learnt(file.content), "judged wrong"
        where = (self.root.layout, JOB, file.admission)
        if self._learnt(file.content):
            self._decide(
                file, "duplicate", lambda: units.duplicate(*where, sha256=_sha256(file)), crash
            )
        elif "bad" in file.content:
            why = Refusal("must be good", "row 0", "bad", "mend it")
            self._decide(file, "refused", lambda: units.refusal(*where, why), crash)
        else:
            progress = self.root.progress(file.admission, _records(file), private=False)
            sha256 = _sha256(file)
            if self._decide(
                file, "accepted",
                lambda: units.acceptance(where[0], [Whole(progress, Digests(sha256, "records", "print"))], keep=KEEP), crash,
            ):  # fmt: skip
                self.log += _records(file)

    @precondition(lambda self: self._open())
    @rule(crash=CRASHES)
    def change_in_work(self, crash: int) -> None:
        """Somebody writes to a file that was taken: it goes back, as it is now."""
        file = self._open()[0]
        with self.root.layout.work_file(JOB, file.admission).open("a") as work:
            work.write("8\n")
        file.content += "8\n"
        self.root.do(lambda: units.withdrawal(self.root.layout, JOB, file.admission), crash)
        # A recovery that finds it changed withdraws it by itself.
        assert self.root.row(file.admission).state == "withdrawn"
        self._given_back(file)

    # --- what must always be so

    @invariant()
    def every_content_lies_where_it_should(self) -> None:
        assert self.root.contents("inbox") == self.inbox
        work = {f"{file.admission:010d}": file.content for file in self._open()}
        assert self.root.contents("work") == work
        for folder, states in (("done", ("accepted", "duplicate")), ("failed", ("refused",))):
            found = self.root.contents(folder)
            there = [text for name, text in found.items() if not name.endswith(".error.json")]
            wanted = [file.content for file in self.files if file.state in states]
            assert Counter(there) == Counter(wanted), folder
            assert len(found) - len(there) == (len(there) if folder == "failed" else 0)

    @invariant()
    def the_journal_says_what_the_model_says(self) -> None:
        found = [
            (row["admission"], os.fsdecode(row["name"]), row["state"]) for row in self.root.rows()
        ]
        assert found == [(file.admission, file.name, file.state) for file in self.files]

    @invariant()
    def the_log_holds_every_accepted_file_once_and_in_order(self) -> None:
        assert self.root.log() == self.log

    @invariant()
    def nothing_lies_about_and_the_numbers_are_whole(self) -> None:
        assert oracle.strays(self.root.layout.root, finished=False) == []

    # --- small things

    def _decide(self, file: Kept, state: str, unit: Make, crash: int) -> bool:
        self.root.do(unit, crash)
        if self.root.row(file.admission).state == "admitted":
            return False
        file.state = state
        return True

    def _given_back(self, file: Kept) -> None:
        """To the inbox, under its own name or one told apart: which, the disk says, as long as the content is right."""
        file.state = "withdrawn"
        new = {n: t for n, t in self.root.contents("inbox").items() if n not in self.inbox}
        names = map(os.fsdecode, islice(told_apart(os.fsencode(file.name)), 20))
        name = next((name for name in names if new.get(name) == file.content), None)
        assert name is not None, "what was taken must come back"
        self.inbox[name] = file.content

    def _drop(self, name: str, content: str) -> None:
        staged = self.place / "staged"
        staged.write_text(content)
        staged.rename(self._waiting(name))
        self.inbox[name] = content

    def _look(self) -> list[Entry]:
        entries = self.root.look()
        assert [os.fsdecode(entry.name) for entry in entries] == sorted(self.inbox)
        return entries

    def _open(self) -> list[Kept]:
        return [file for file in self.files if file.state == "admitted"]

    def _learnt(self, content: str) -> bool:
        mine = [file for file in self.files if file.generation == self.generation]
        return any(file.state == "accepted" and file.content == content for file in mine)

    def _waiting(self, name: str) -> Path:
        return self.root.layout.inbox(JOB) / name


def _records(file: Kept) -> str:
    return "".join(f'{{"of":{file.admission},"row":{row}}}\n' for row in file.content.split())


def _sha256(file: Kept) -> str:
    return hashlib.sha256(file.content.encode()).hexdigest()


_home: Path | None = None


def _programs(seed: int, place: Path) -> Round:
    global _home
    _home = place
    machine = seeded(seed)(type("Ledger", (Ledger,), {"crashes": 0}))
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
