"""Lines over time as one SVG file that needs nothing else: no script, no font, no style sheet."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from raftmq.cli.bench.figures import Point

WIDTH, PANEL_HEIGHT = 860, 240
LEFT, RIGHT, TOP, BOTTOM = 80, 20, 44, 40
TITLE_HEIGHT, SUBTITLE_HEIGHT = 40, 15
SUBTITLE_COLUMNS = 120
TICKS = 5
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Told apart by colour-blind people as well (Okabe and Ito)."""


@dataclass(frozen=True, slots=True)
class Line:
    name: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines with one unit over the same seconds. The scale begins at 0."""

    title: str
    unit: str
    lines: Sequence[Line]


def render(title: str, subtitle: str, panels: Sequence[Panel]) -> str:
    """The SVG document. Panels without a point are left out."""
    shown = [panel for panel in panels if any(line.points for line in panel.lines)]
    small = textwrap.wrap(subtitle, SUBTITLE_COLUMNS)
    head = TITLE_HEIGHT + SUBTITLE_HEIGHT * len(small)
    height = head + PANEL_HEIGHT * max(len(shown), 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" font-family="system-ui, sans-serif" font-size="12" fill="#333">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        _text(LEFT, 26, title, size=15),
        *(_text(LEFT, 44 + SUBTITLE_HEIGHT * place, line, size=11) for place, line in enumerate(small)),
    ]
    if not shown:
        parts.append(_text(LEFT, head + TOP, "nothing was measured"))
    for place, panel in enumerate(shown):
        parts.append(f'<g transform="translate(0 {head + place * PANEL_HEIGHT})">')
        parts += _panel(panel)
        parts.append("</g>")
    return "\n".join([*parts, "</svg>"]) + "\n"


def ceiling(value: float) -> float:
    """The least of 1, 2, 2.5, 5 and 10 times a power of ten that is not below `value`."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * (1 - 1e-9))


def _panel(panel: Panel) -> Iterator[str]:
    last = max(at for line in panel.lines for at, _ in line.points) or 1.0
    top = ceiling(max(value for line in panel.lines for _, value in line.points))
    right, bottom = WIDTH - RIGHT, PANEL_HEIGHT - BOTTOM

    def x(at: float) -> float:
        return LEFT + (right - LEFT) * at / last

    def y(value: float) -> float:
        return bottom - (bottom - TOP) * value / top

    yield _text(LEFT, 18, f"{panel.title}, {panel.unit}", size=13)
    for tick in range(TICKS + 1):
        value = top * tick / TICKS
        yield f'<line x1="{LEFT}" x2="{right}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#ddd"/>'
        yield _text(LEFT - 8, y(value) + 4, f"{value:,.10g}", anchor="end")
    step = ceiling(last / TICKS)
    for tick in range(int(last / step + 1e-9) + 1):
        yield _text(x(tick * step), bottom + 18, f"{tick * step:.10g} s", anchor="middle")
    for place, line in enumerate(panel.lines):
        colour = COLOURS[place % len(COLOURS)]
        path = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in line.points)
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        yield f'<rect x="{LEFT + 140 * place}" y="26" width="10" height="10" fill="{colour}"/>'
        yield _text(LEFT + 140 * place + 15, 35, line.name)


def _text(x: float, y: float, text: str, *, size: int = 12, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{escape(text)}</text>'
