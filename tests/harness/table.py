"""The table of docs/reliability.md: per fault what was injected, with which seeds, and what was violated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.harness.catalogue import FAULTS
from tests.harness.fault import Tally, command

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- harness: table -->", "<!-- harness: end -->"
HEAD = "| fault | how | injected | rounds | seeds | violated | again |\n| --- | --- | ---: | ---: | --- | --- | --- |"


def told(tally: Tally) -> str:
    """One line for people."""
    return (
        f"{tally.fault.name}: {_injected(tally)} injected in {tally.rounds} rounds of seeds {_seeds(tally)},"
        f" {tally.seconds:.0f} s, {len(tally.wrong) or 'nothing'} violated"
    )


def so_far(tally: Tally) -> str:
    """The same while it runs."""
    return f"{tally.fault.name} {_injected(tally)}, {len(tally.wrong) or 'nothing'} violated"


def write(tallies: Sequence[Tally], page: Path = PAGE) -> None:
    """Puts the rows of these faults in the place of theirs; the others stay."""
    before, rest = page.read_text().split(BEGIN)
    old, after = rest.split(END)
    rows = {_name(line): line for line in old.splitlines() if line.startswith("| `")}
    rows |= {tally.fault.name: _row(tally) for tally in tallies if tally.rounds}
    ordered = [rows[name] for name in FAULTS if name in rows]
    page.write_text("\n".join([before + BEGIN, HEAD, *ordered, END + after]))


def _row(tally: Tally) -> str:
    cells = [
        f"`{tally.fault.name}`",
        tally.fault.what,
        _injected(tally),
        f"{tally.rounds:,}",
        _seeds(tally),
        f"{len(tally.wrong)}" if tally.wrong else "nothing",
        f"`{command(tally.fault.name, tally.first_seed, tally.rounds, tally.stride)}`",
    ]
    return f"| {' | '.join(cells)} |"


def _injected(tally: Tally) -> str:
    return f"{tally.injected:,}" + (f" ({tally.ready:,} when ready)" if tally.ready else "")


def _name(row: str) -> str:
    return row.split("`")[1]


def _seeds(tally: Tally) -> str:
    last = tally.first_seed + max(tally.rounds - 1, 0) * tally.stride
    by = f" by {tally.stride}" if tally.stride != 1 else ""
    return f"{tally.first_seed}–{last}{by}"
