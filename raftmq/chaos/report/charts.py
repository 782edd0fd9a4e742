"""Pictures as SVG text. All share one time axis, so that what lies below each other happened together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from raftmq.chaos.history import NEVER, Window
from raftmq.chaos.report.series import Bucket, Span

WIDTH = 1080
LEFT, RIGHT = 92, 12
PLOT = WIDTH - LEFT - RIGHT
LANE = 24
HEAD = 20
"""Room for names of faults."""
NODE_CLASSES = 7
NAME_MAX = 40
Scale = Callable[[float], float]


class Axis:
    """Time in microseconds to x."""

    def __init__(self, end_us: int) -> None:
        self.end_us = max(end_us, 1)

    def x(self, time_us: float) -> float:
        return round(LEFT + PLOT * min(time_us, self.end_us) / self.end_us, 1)

    def ticks(self) -> list[int]:
        """Whole seconds, ten or so of them."""
        seconds = self.end_us / 1e6
        step = next((s for s in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600) if seconds / s <= 14), 7200)
        return list(range(0, int(seconds) + 1, step))


def _svg(height: int, label: str, body: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(body)}</svg>'
    )


def _shades(axis: Axis, windows: Sequence[Window], height: int) -> list[str]:
    """The time in which a fault was active, behind everything else."""
    return [
        f'<rect class="fault" x="{axis.x(w.injected)}" y="0" '
        f'width="{max(2.0, axis.x(_end(axis, w)) - axis.x(w.injected)):.1f}" height="{height}">'
        f"<title>{escape(w.name)}: {w.injected / 1e6:.1f} s to {_end(axis, w) / 1e6:.1f} s</title></rect>"
        for w in windows
    ]


def _names(axis: Axis, windows: Sequence[Window]) -> list[str]:
    """What the faults are called, above their shade; a name that would run into the one before is left out."""
    parts, free = [], 0.0
    for window in sorted(windows, key=lambda one: one.injected):
        x = axis.x(window.injected)
        if x >= free:
            name = window.name if len(window.name) <= NAME_MAX else window.name[: NAME_MAX - 1] + "…"
            parts.append(f'<text class="tick" x="{x + 4}" y="11">{escape(name)}</text>')
            free = x + 4 + 6.2 * len(name) + 8
    return parts


def _end(axis: Axis, window: Window) -> int:
    return axis.end_us if window.healed == NEVER else window.healed


def _time_axis(axis: Axis, top: int, height: int) -> list[str]:
    parts = []
    for second in axis.ticks():
        x = axis.x(second * 1e6)
        parts.append(f'<line class="grid" x1="{x}" y1="0" x2="{x}" y2="{top}"/>')
        parts.append(f'<text class="tick" x="{x}" y="{height - 4}" text-anchor="middle">{second} s</text>')
    return parts


def _path(points: Sequence[tuple[float, float] | None], css: str) -> str:
    """A line that is broken where there is nothing to show; a lone point is a dot."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if point is None:
            pieces.append([])
        else:
            pieces[-1].append(point)
    drawn = []
    for piece in pieces:
        if len(piece) == 1:
            drawn.append(f'<circle class="{css} dot" cx="{piece[0][0]:.1f}" cy="{piece[0][1]:.1f}" r="1.6"/>')
        elif piece:
            steps = " L".join(f"{x:.1f} {y:.1f}" for x, y in piece)
            drawn.append(f'<path class="{css}" d="M{steps}"/>')
    return "".join(drawn)


def throughput(axis: Axis, buckets: Sequence[Bucket], step_us: int, windows: Sequence[Window]) -> str:
    """Bars of what was acknowledged, with what failed and what is unknown on top of them."""
    plot, height = 150, 172
    per_second = 1e6 / step_us
    top = max((b.acknowledged + b.failed + b.unknown for b in buckets), default=1) * per_second or 1
    top = _round_up(top)
    parts = [*_shades(axis, windows, plot), *_time_axis(axis, plot, height)]
    for share in (0.0, 0.5, 1.0):
        y = plot - share * (plot - HEAD)
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{LEFT + PLOT}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{top * share:,.0f}/s</text>')
    parts += _names(axis, windows)
    width = max(1.0, PLOT * step_us / axis.end_us - 0.6)
    for place, bucket in enumerate(buckets):
        y = float(plot)
        for count, css in ((bucket.acknowledged, "ok"), (bucket.unknown, "unknown"), (bucket.failed, "failed")):
            tall = count * per_second / top * (plot - HEAD)
            if count:
                y -= tall
                x = axis.x(place * step_us)
                parts.append(f'<rect class="{css}" x="{x}" y="{y:.1f}" width="{width:.1f}" height="{tall:.1f}"/>')
    return _svg(height, "records per second over time", parts)


def latency(axis: Axis, buckets: Sequence[Bucket], step_us: int, windows: Sequence[Window]) -> str:
    """Median and 99th percentile on a logarithmic scale."""
    plot, height = 150, 172
    worst = max((max(b.latencies_ms) for b in buckets if b.latencies_ms), default=10.0)
    low, high = 0, max(2, math.ceil(math.log10(max(worst, 1.0))))

    def y(value: float) -> float:
        part = (math.log10(max(value, 1.0)) - low) / (high - low)
        return plot - part * (plot - 8)

    parts = [*_shades(axis, windows, plot), *_time_axis(axis, plot, height)]
    for power in range(low, high + 1):
        text = f"{10**power:,} ms" if power < 3 else f"{10 ** (power - 3):,} s"
        at = y(10**power)
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{at:.1f}" x2="{LEFT + PLOT}" y2="{at:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{text}</text>')
    for share, css in ((0.99, "p99"), (0.5, "p50")):
        points: list[tuple[float, float] | None] = []
        for place, bucket in enumerate(buckets):
            value = bucket.percentile(share)
            points.append(None if value is None else (axis.x((place + 0.5) * step_us), y(value)))
        parts.append(_path(points, css))
    return _svg(height, "latency over time", parts)


def lanes(axis: Axis, leaders: dict[str, list[Span]], gaps: dict[str, list[Span]], windows: Sequence[Window]) -> str:
    """A lane for each partition: who leads it, in the node's colour; below, in red, when nothing was acknowledged."""
    names = sorted(set(leaders) | set(gaps), key=lambda name: (name != "/0", name))
    plot = LANE * len(names)
    height = plot + 22
    parts = [*_shades(axis, windows, plot), *_time_axis(axis, plot, height)]
    for place, name in enumerate(names):
        top = place * LANE
        shown = "controller" if name == "/0" else name
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{top + 15}" text-anchor="end">{escape(shown)}</text>')
        parts += [_lead(axis, span, top) for span in leaders.get(name, ())]
        parts += [
            f'<rect class="gap" x="{axis.x(gap.begin)}" y="{top + 18}" '
            f'width="{max(1.5, axis.x(gap.end) - axis.x(gap.begin)):.1f}" height="4">'
            f"<title>nothing acknowledged for {(gap.end - gap.begin) / 1e6:.1f} s</title></rect>"
            for gap in gaps.get(name, ())
        ]
    return _svg(height, "leaders over time", parts)


def _lead(axis: Axis, span: Span, top: int) -> str:
    width = max(1.5, axis.x(span.end) - axis.x(span.begin))
    label = (
        f'<text class="node-label" x="{axis.x(span.begin) + 4}" y="{top + 14}">{span.node}</text>' if width > 16 else ""
    )
    return (
        f'<rect class="node n{span.node % NODE_CLASSES}" x="{axis.x(span.begin)}" y="{top + 3}" width="{width:.1f}" '
        f'height="14" rx="2"><title>node {span.node}, term {span.term}, {span.begin / 1e6:.1f} s to '
        f"{span.end / 1e6:.1f} s</title></rect>{label}"
    )


def _round_up(value: float) -> float:
    power: float = 10 ** math.floor(math.log10(value))
    return next(power * step for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if value <= power * step * 1.0001)
