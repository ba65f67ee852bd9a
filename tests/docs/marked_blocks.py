"""The fenced blocks of a page that are marked for tests: `<!-- test: WHAT -->` in the line before the fence."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = (CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md")))

_MARKED = re.compile(
    r"^<!-- test: (?P<what>[^>]+?) -->\n```(?P<language>\w+)\n(?P<text>.*?)^```$", re.M | re.S
)


@dataclass(frozen=True)
class Marked:
    """`what` the test is to do with it, and its argument."""

    what: str
    argument: str
    text: str


def marked(page: Path) -> list[Marked]:
    """The page's marked blocks in their order."""
    text = page.read_text("utf-8")
    found = [
        Marked(*(match["what"] + " ").split(" ", 1), match["text"])
        for match in _MARKED.finditer(text)
    ]
    assert len(found) == text.count("<!-- test:"), f"{page.name}: a mark without a block below it"
    return [Marked(m.what, m.argument.strip(), m.text) for m in found]


def of(page: str, what: str) -> dict[str, str]:
    """The blocks of one kind on a page, by argument."""
    (path,) = (p for p in PAGES if p.name == page)
    return {m.argument: m.text for m in marked(path) if m.what == what}
