"""A chart as SVG: a panel for each figure, a bar for each proxy, the spread of the rounds as a thin line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from statistics import median

COLUMNS = 3
WIDTH, NAMES, NUMBERS = 400, 92, 56
"""Of a panel, of the names left of its bars, and of the numbers right of them."""
TOP, BAR, STEP, GAP = 34, 12, 17, 26

STYLE = """text { font: 12px system-ui, sans-serif; fill: #24292f } .small { font-size: 11px; fill: #57606a }
.title { font-size: 20px; font-weight: 600 } .figure { font-size: 13px; font-weight: 600 } .our { font-weight: 600 }
.bar { fill: #b6c2cf } .bar.our { fill: #1a7f5a } .spread { stroke: #57606a; stroke-width: 1 }"""


@dataclass(frozen=True)
class Panel:
    label: str
    unit: str
    digits: int
    bars: Mapping[str, list[float]]
    """The rounds of each proxy."""

    @property
    def height(self) -> int:
        return TOP + STEP * len(self.bars) + GAP


def panel(one: Panel, left: int, top: int) -> list[str]:
    said = [
        f'<text class="figure" x="{left}" y="{top + 16}">{escape(one.label)}</text>',
        f'<text class="small" x="{left + WIDTH - 12}" y="{top + 16}" text-anchor="end">{escape(one.unit)}</text>',
    ]
    start = left + NAMES
    scale = (WIDTH - NAMES - NUMBERS - 12) / (max(max(rounds) for rounds in one.bars.values()) or 1)
    y = top + TOP
    for name, rounds in one.bars.items():
        ours = " our" if name.startswith("sslterm") else ""
        value = median(rounds)
        end, least, most = (start + each * scale for each in (value, min(rounds), max(rounds)))
        middle = y - BAR / 2 + 4
        said += [
            f'<text class="name{ours}" x="{start - 6}" y="{y + 3}" text-anchor="end">{escape(name)}</text>',
            f'<rect class="bar{ours}" x="{start}" y="{y - BAR + 4}" width="{end - start:.1f}" height="{BAR}" rx="2"/>',
            f'<path class="spread" d="M{least:.1f} {middle}H{most:.1f}"/>',
            f'<text class="small{ours}" x="{most + 5:.1f}" y="{y + 2}">{value:,.{one.digits}f}</text>',
        ]
        y += STEP
    return said


def drawn(title: str, subtitle: str, panels: Sequence[Panel]) -> str:
    said: list[str] = []
    top = 70
    for first in range(0, len(panels), COLUMNS):
        row = panels[first : first + COLUMNS]
        for column, one in enumerate(row):
            said += panel(one, 20 + column * WIDTH, top)
        top += max(one.height for one in row)
    width = 20 + COLUMNS * WIDTH
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top}" viewBox="0 0 {width} {top}">',
        f"<style>{STYLE}</style>",
        f'<rect width="{width}" height="{top}" fill="#ffffff"/>',
        f'<text class="title" x="20" y="32">{escape(title)}</text>',
        f'<text class="small" x="20" y="52">{escape(subtitle)}</text>',
    ]
    return "\n".join([*head, *said, "</svg>"]) + "\n"
