"""The picture of the quality benchmark: a line a set, two dots, and the line where all are alike."""

from __future__ import annotations

import math
from html import escape

_WIDTH, _LEFT, _ROW, _TOP = 860, 190, 20, 56
_LOW, _HIGH = 0.125, 2.0


def svg(rows: list[tuple[str, float, float]]) -> str:
    """An SVG of (set, progressive ratio, before ratio), on a logarithmic scale."""
    height = _TOP + _ROW * len(rows) + 44
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        '<text x="12" y="20" font-size="14">Loss of one pass with defaults, over that of the best of '
        "Vowpal Wabbit, River and scikit-learn</text>",
        '<circle cx="20" cy="38" r="5" fill="#1f6f8b"/><text x="30" y="42">progressive</text>',
        '<circle cx="120" cy="38" r="5" fill="none" stroke="#c2571a" stroke-width="2"/>'
        '<text x="130" y="42">before: by the model when the file began</text>',
        '<text x="560" y="42" fill="#555">← better</text>',
    ]
    bottom = _TOP + _ROW * len(rows)
    for tick in (0.125, 0.25, 0.5, 1.0, 2.0):
        x, colour = _x(tick), "#333" if tick == 1 else "#ddd"
        parts.append(f'<line x1="{x}" y1="{_TOP}" x2="{x}" y2="{bottom}" stroke="{colour}"/>')
        parts.append(f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{tick:g}</text>')
    for place, (name, progressive, before) in enumerate(rows):
        y = _TOP + _ROW * place + _ROW // 2
        parts.append(f'<text x="{_LEFT - 12}" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
        parts.append(
            f'<circle cx="{_x(before)}" cy="{y}" r="5" fill="none" stroke="#c2571a" stroke-width="2"/>'
        )
        parts.append(f'<circle cx="{_x(progressive)}" cy="{y}" r="5" fill="#1f6f8b"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _x(ratio: float) -> float:
    """Where a ratio stands; what is beyond the scale stands at its end."""
    share = math.log(min(max(ratio, _LOW), _HIGH) / _LOW) / math.log(_HIGH / _LOW)
    return round(_LEFT + share * (_WIDTH - _LEFT - 40), 1)
