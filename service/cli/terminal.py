"""The terminal: what commands print for people, as wide as their window, and never cut where there is none.

Rules: names of files and jobs are printed without markup, for they may hold brackets; what goes into a pipe or a file has
no colours and is not cut at some width that nobody chose.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

PIPE_COLUMNS = 120


def terminal(*, stderr: bool = False) -> Console:
    """A console on standard output, or standard error."""
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, PIPE_COLUMNS)
    return console


def say(console: Console, text: str, *, style: str | None = None) -> None:
    """One line, as it is: no markup, no line breaks of ours."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def show_lines(console: Console, lines: Iterable[str], *, style: str = "dim") -> None:
    """Lines of a file, indented; folded at the edge of a terminal, whole in a pipe."""
    for line in lines:
        text = Text(line, style=style, overflow="fold")
        if console.is_terminal:
            console.print(Padding(text, (0, 0, 0, 2)))
        else:
            console.print(Text("  ") + text, soft_wrap=True)


def figure(value: float) -> str:
    """A number as people read it: four digits, and no powers of ten where they can be avoided."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"


def invoked() -> str:
    """How this command was called, for commands that are shown to be copied."""
    if shutil.which("headrace"):
        return "headrace"
    program = sys.argv[0]
    return f"{sys.executable} -m service" if program.endswith(".py") else program
