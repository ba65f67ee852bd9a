"""`headrace verify`: learns a root's files again in a scratch place; is it the same model, are the results the same?

journal ─▶ are the files there? ─▶ scratch root ─▶ engine ─▶ file by file: records, model
                 │ no                                            │ not the same
                 └─▶ which                                       └─▶ where they part
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from service.cli.alone import Waiting, held
from service.cli.engine import serve
from service.cli.options import root_option
from service.cli.rehearsing import Watcher, scratch_settings
from service.cli.terminal import terminal
from service.core.errors import ConfigurationError, HeadraceError, Scarcity
from service.core.layout import Layout, shown
from service.lines.life import Errand
from service.runtime.control import ask
from service.storage.archive import Kept, Lost, look_at
from service.storage.comparison import Learnt, first_difference
from service.storage.journal import Journal
from service.storage.rehearsal import (
    Original,
    damage,
    fingerprint_of,
    judged,
    originals,
    rehearse,
    same_but_fingerprint,
)
from service.storage.root import prepare_root
from service.storage.tables import FileRow
from service.subtasks.fingerprint import changed

MOST_NAMED = 20
SETTLE_TRIES = 50
SETTLE_SECONDS = 0.2


@click.command("verify")
@root_option
@click.option("--job", default=None, help="Only this job; without it all of them.")
@click.option(
    "--scratch",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=None,
    help="Where to work, with room for models and some logs; without it the system's temporary folder.",
)
def command(root: Path, job: str | None, scratch: Path | None) -> int:
    """Learn a root's files again, in a scratch place, and say whether model and results come out the same."""
    layout = Layout(root.absolute())
    console = terminal(stderr=True)
    with tempfile.TemporaryDirectory(prefix="headrace-verify-", dir=scratch) as place:
        found = _chosen(_read(layout, Path(place) / "journal.sqlite"), job)
        with console.status("looking at the files"):
            looked = {name: look_at(layout, original.files) for name, original in found.items()}
        lost = {name: _lost(one) for name, one in looked.items()}
        able = {name: one for name, one in found.items() if one.files and not lost[name]}
        again = Layout(Path(place) / "root")
        if able:
            _learn_again(again, able, looked)
        status = 0
        for name, original in found.items():
            said, same = _verdict(layout, again, original, lost[name])
            click.echo(f"{name}: {said}")
            status |= not same
        return status


# --- what is to be verified


def _read(layout: Layout, copy: Path) -> dict[str, Original]:
    """What the journal says, from a daemon's copy of it, or under the lock where none runs."""
    for _ in range(SETTLE_TRIES):
        found = _snapshot(layout, copy)
        if all(original.settled for original in found.values()):
            return found
        time.sleep(SETTLE_SECONDS)  # a file on its way to done/ is there in a moment
    raise HeadraceError(
        f"{shown(layout.root)}: a file doesn't come to its place; see `headrace status`"
    )


def _snapshot(layout: Layout, copy: Path) -> dict[str, Original]:
    answer = ask(layout.socket, {"command": "snapshot"}, meanwhile=Waiting(layout).say)
    if answer is None:
        with held(layout) as journal:
            return originals(journal)
    if not answer["ok"]:
        raise HeadraceError(answer["error"])
    theirs = Path(answer["snapshot"])
    try:
        copy.write_bytes(theirs.read_bytes())
    finally:
        theirs.unlink(missing_ok=True)
    with _opened(copy) as journal:
        return originals(journal)


@contextmanager
def _opened(path: Path) -> Iterator[Journal]:
    journal = Journal(path)
    try:
        yield journal
    finally:
        journal.close()


def _chosen(found: Mapping[str, Original], job: str | None) -> dict[str, Original]:
    if job is None:
        return dict(found)
    if job not in found:
        names = ", ".join(found) or "none yet"
        raise ConfigurationError(f"--job: must be one of {names}, got {shown(job)!r}")
    return {job: found[job]}


def _lost(looked: Mapping[int, Kept | Lost]) -> list[str]:
    return list(dict.fromkeys(one.why for one in looked.values() if isinstance(one, Lost)))


# --- learning again


def _learn_again(
    again: Layout, able: Mapping[str, Original], looked: Mapping[str, Mapping[int, Kept | Lost]]
) -> None:
    """Has the engine learn all files of these jobs below the scratch root; each job up to its first difference."""
    watcher = Watcher(able)
    try:
        prepare_root(again, able)
        with _opened(again.journal) as journal:
            for name, original in able.items():
                kept = {n: one for n, one in looked[name].items() if isinstance(one, Kept)}
                rehearse(journal, original, kept)
        settings = scratch_settings(again.root, able.values())
        serve(settings, Errand(named=()), quiet=True, beside=watcher.follow)
    except Scarcity as scarce:
        watcher.trouble = watcher.trouble or str(scarce)
    if watcher.trouble:
        raise HeadraceError(
            f"--scratch: must be a folder on a disk with room, got {watcher.trouble}"
        )


# --- what came of it


@dataclass(frozen=True, slots=True)
class _Parting:
    """The first file that did not come out the same, and what is not the same of it."""

    original: FileRow
    again: FileRow
    since: int
    why: str


def _verdict(
    layout: Layout, again: Layout, original: Original, lost: list[str]
) -> tuple[str, bool]:
    """What is said of a job, and whether it is good."""
    files = original.files
    if not files:
        return "nothing was learnt, so there is nothing to verify", True
    if lost:
        more = f"; and {len(lost) - MOST_NAMED} more" if len(lost) > MOST_NAMED else ""
        return f"can't be verified: {'; '.join(lost[:MOST_NAMED])}{more}", False
    with _opened(again.journal) as journal:
        learnt = list(
            judged(files, (journal.file(original.job, n) for n in range(1, len(files) + 1)))
        )
    for index, (was, now, why) in enumerate(learnt):
        if why is not None:
            since = files[index - 1].version if index else 0
            parting = _Parting(was, now, since or 0, why)
            return _differs(layout, again, parting) + _versions(
                layout, again, original, learnt
            ), False
    if len(learnt) < len(files):
        return f"stopped after {len(learnt)} of {len(files)} files, which are the same", False
    wrong = damage(layout, files[-1]) or _model_differs(layout, again, learnt[-1][:2])
    if wrong:
        return f"differs: {wrong}{_versions(layout, again, original, learnt)}", False
    newest = files[-1]
    passes = f"{len(files)} file{'s' * (len(files) > 1)}"
    said = f"same: {passes}, version {newest.version}, model {newest.model_sha256}"
    return said + _versions(layout, again, original, learnt), True


def _differs(layout: Layout, again: Layout, parting: _Parting) -> str:
    was, now = parting.original, parting.again
    said = f"differs from {shown(was.name)} on (file {was.sequence}): {parting.why}"
    if was.records_sha256 == now.records_sha256 or now.version is None:
        return said
    found = first_difference(
        Learnt(layout.logs(was.job), was, parting.since),
        Learnt(again.logs(was.job), now, parting.since),
    )
    if found is None:
        return f"{said}; the logs have none of them that differs: they were rotated away, or the journal's digest is wrong"
    return f"{said}, first in {found.where}\n  was: {found.was}\n  now: {found.now}"


def _model_differs(layout: Layout, again: Layout, pair: tuple[FileRow, FileRow]) -> str | None:
    """Of models that were made with other versions, whose digests can't be the same, the contents are compared."""
    was, now = pair
    one, other = layout.models(was.job) / str(was.model), again.models(was.job) / str(now.model)
    if was.fingerprint == now.fingerprint or not one.exists() or same_but_fingerprint(one, other):
        return None
    return "the records are the same, and the model's last bits are not"


def _versions(
    layout: Layout,
    again: Layout,
    original: Original,
    learnt: list[tuple[FileRow, FileRow, str | None]],
) -> str:
    """A remark where something was learnt with other versions, or on another CPU: bits may differ for that."""
    others = [was for was, now, _ in learnt if now.fingerprint not in (None, was.fingerprint)]
    if not others:
        return ""
    then, now = fingerprint_of(layout, original.files[-1]), fingerprint_of(again, learnt[-1][1])
    what = "; ".join(changed(then, now)) if then and now else ""
    return (
        f"\n  {len(others)} of {len(learnt)} files were learnt with other versions or on another CPU, so bits may differ"
        + (f": {what}" if what else "")
    )
