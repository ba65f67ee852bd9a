"""`headrace demo`: a throw-away root, a real daemon, real files dropped in while you watch, a summary at the end.

    start ─▶ drop, drop, drop … ─▶ wait for their fates ─▶ predict ─▶ stop ─▶ tell

Rules: nothing here is special: the daemon is `headrace run`, the files are renamed into its inboxes, and what is shown is
read from its logs. The exit status is 0 only if each file met the fate that it was dropped for.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from service.cli import demo_summary
from service.cli.demo_daemon import LOOK_SECONDS, START_SECONDS, Demo, Event
from service.cli.demo_files import Drop, Fate, drops, put, to_predict
from service.cli.shipped import shipped
from service.cli.status import at_work, table
from service.cli.terminal import figure, say, terminal
from service.core.errors import ConfigurationError
from service.core.layout import shown

PACE_SECONDS = 0.7
"""Between two files, so that one sees them come."""
FATE_SECONDS = 120.0

_FATES: dict[str, Fate] = {
    "accepted": "learnt",
    "duplicate": "duplicate",
    "refused": "refused",
    "predicted": "predicted",
}


@click.command("demo")
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    help="An empty or new folder instead of a temporary one.",
)
@click.option("--fast", is_flag=True, help="Drop all files at once.")
def command(root: Path | None, fast: bool) -> int:
    """Watch Headrace learn four models at once from real files, in a throw-away folder."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # so that the daemon is stopped, too
    console = terminal()
    root = _root(root)
    config = root / "headrace.toml"
    shutil.copyfile(shipped("demo.toml"), config)
    _greet(console, root)
    show = _Show(console)
    with Demo(config, root) as demo, show:
        demo.wait_until(demo.is_ready, START_SECONDS, "the start")
        show.note(f"the daemon is ready, pid {demo.pid}; files come:")
        first = drops(shipped("demo"))
        _drop(demo, show, first, 0.0 if fast else PACE_SECONDS)
        _drop(demo, show, [to_predict(shipped("demo"))], 0.0)
        show.follow(demo)
        exit_status = demo.stop()
    demo_summary.tell(console, demo.layout, config)
    wrong = [
        *show.unmet(),
        *([f"the daemon's exit status was {exit_status}"] if exit_status else []),
    ]
    for line in wrong:
        say(console, f"wrong: {line}", style="red")
    return 1 if wrong else 0


def _root(root: Path | None) -> Path:
    if root is None:
        return Path(tempfile.mkdtemp(prefix="headrace-demo-"))
    root.mkdir(parents=True, exist_ok=True)
    if any(root.iterdir()):
        raise ConfigurationError(f"--root: must be an empty folder, got {shown(root)}")
    return root.absolute()


def _greet(console: Console, root: Path) -> None:
    console.print(
        "[bold]Headrace[/bold] learns from the files that people drop into folders. Here it trains four models at once:\n"
        "  diabetes       how far a disease has come (a number, from 10 measurements)\n"
        "  breast_cancer  is a tumour malignant? (two classes, from 30 measurements)\n"
        "  digits         which digit is it? (ten classes, from 64 pixels, a small neural network)\n"
        "  article        one weight, as in the article that Headrace comes from (its answer is 1)\n"
    )
    say(console, f"Everything happens below {root}.")
    say(
        console,
        "The daemon starts. (The first start after the installation compiles its kernels: up to a minute.)\n",
    )


def _drop(demo: Demo, show: _Show, dropped: Iterable[Drop], pace_seconds: float) -> None:
    """Drops the files one after the other, then waits until the fate of each is known."""
    for drop in dropped:
        put(drop, demo.layout.root)
        show.dropped(drop)
        end = time.monotonic() + pace_seconds
        while time.monotonic() < end:
            show.follow(demo)
            time.sleep(LOOK_SECONDS)

    def all_known() -> bool:
        show.follow(demo)
        return not show.open

    demo.wait_until(all_known, FATE_SECONDS, "the end of the last file")


class _Show:
    """What one sees while it works: a line per event, and on a terminal the jobs' table below them."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, transient=True, auto_refresh=False)
        self._begun = time.monotonic()
        self._drops: dict[tuple[str, str], Drop] = {}
        self._fates: dict[tuple[str, str], Fate] = {}

    def __enter__(self) -> None:
        if self._console.is_terminal:
            self._live.start()

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    @property
    def open(self) -> set[tuple[str, str]]:
        """The dropped files whose fate is not known yet."""
        return self._drops.keys() - self._fates.keys()

    def unmet(self) -> list[str]:
        """The files that met another fate than they should."""
        return [
            f"{job}/{name} should be {drop.fate}, got {self._fates.get((job, name), 'nothing')}"
            for (job, name), drop in self._drops.items()
            if self._fates.get((job, name)) != drop.fate
        ]

    def note(self, text: str) -> None:
        self._line("·", text, "bold")

    def dropped(self, drop: Drop) -> None:
        self._drops[drop.job, drop.name] = drop
        why = f" ({drop.why})" if drop.why else ""
        self._line("→", f"{drop.folder}/{drop.job}/{drop.name}{why}", "cyan")

    def follow(self, demo: Demo) -> None:
        """Tells what has happened since the last time."""
        for event in demo.events():
            self._tell(event)
        status = demo.status()
        if status is not None and self._console.is_terminal:
            self._live.update(_picture(status), refresh=True)

    def _tell(self, event: Event) -> None:
        name = event["event"]
        if name in _FATES:
            self._fates[event["job"], event["file"]] = _FATES[name]
        match name:
            case "accepted":
                loss = figure(event["loss"])
                self._line(
                    "✓", f"{event['file']}: learnt {event['rows']:,} rows, loss {loss}", "green"
                )
            case "duplicate":
                self._line(
                    "=", f"{event['file']}: in the model already, not learnt again", "yellow"
                )
            case "refused":
                text = f"refused: {event['place']}: {event['rule']}, got {event['value']}"
                self._line("✗", text, "red")
            case "predicted":
                self._line("✓", f"{event['file']}: predicted {event['rows']} rows", "green")
            case "failed":
                self._line("!", f"{event['job']}: {event['error']}", "bold red")

    def _line(self, mark: str, text: str, style: str) -> None:
        line = Text(f"{time.monotonic() - self._begun:6.1f} s  ", style="dim")
        line.append(f"{mark} ", style=style).append(text)
        self._console.print(line, highlight=False, soft_wrap=not self._console.is_terminal)


def _picture(status: dict[str, Any]) -> RenderableType:
    lines = [Text(line, style="dim") for line in at_work(status)]
    return Group(Text(), table(status), *lines)
