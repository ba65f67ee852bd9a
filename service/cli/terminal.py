"""The terminal: what commands print for people, as wide as their window, and never cut where there is none.

Rules: names of files and jobs are printed without markup, for they may hold brackets; what goes into a pipe or a file has
no colours and is not cut at some width that nobody chose.
"""

from __future__ import annotations

from rich.console import Console, RenderableType

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


def plain(renderable: RenderableType, columns: int = PIPE_COLUMNS) -> str:
    """What a renderable looks like without a terminal."""
    console = Console(width=columns, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def cropped(text: str, columns: int) -> str:
    """The text on one line of at most `columns` characters."""
    return text if len(text) <= columns else text[: columns - 1] + "…"
