"""The picture of the speed benchmark: a bar a contestant, as long as its rows a second."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_WIDTH, _LEFT, _ROW, _TOP = 860, 220, 26, 44


def svg(title: str, rates: Sequence[tuple[str, float]]) -> str:
    """An SVG of (contestant, rows a second); those of ours are dark."""
    longest = max(rate for _, rate in rates)
    height = _TOP + _ROW * len(rates) + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="12" y="24" font-size="14">{escape(title)}</text>',
    ]
    for place, (name, rate) in enumerate(rates):
        y = _TOP + _ROW * place
        length = max(1.0, (_WIDTH - _LEFT - 110) * rate / longest)
        colour = "#1f6f8b" if name.startswith("headrace") else "#b9c4c9"
        parts += [
            f'<text x="{_LEFT - 10}" y="{y + 16}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{_LEFT}" y="{y + 4}" width="{length:.1f}" height="16" fill="{colour}"/>',
            f'<text x="{_LEFT + length + 8:.1f}" y="{y + 16}">{rate:,.0f}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"
