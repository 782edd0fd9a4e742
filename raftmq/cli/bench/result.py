"""What a benchmark found, as values, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from rich.console import RenderableType
from rich.text import Text

from raftmq.cli import output
from raftmq.cli.bench.chart import Panel
from raftmq.cli.bench.figures import Spread
from raftmq.cli.bench.usage import Usage

MEGABYTE = 1_000_000


class Check(NamedTuple):
    """Whether what was counted is true."""

    name: str
    passed: bool
    evidence: str


@dataclass(frozen=True, slots=True)
class Floor:
    """What the bare machine does, that a figure is set against."""

    name: str
    value: float
    """In the unit of the figure."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number; what it is for goes first."""

    name: str
    value: float
    unit: str
    """``ms`` and ``s`` for times, ``MB`` and ``MB/s`` for 1,000,000 bytes, ``%`` of a core, else what is counted."""
    floor: Floor | None = None

    @property
    def ratio(self) -> float | None:
        """To the floor. Of rates the share that is left of it, of times the multiple of it."""
        return self.value / self.floor.value if self.floor is not None and self.floor.value else None

    def __str__(self) -> str:
        return f"{number(self.value)} {self.unit}".rstrip()

    @property
    def against(self) -> str:
        """The ratio and what it is one to; empty without a floor."""
        if self.floor is None or self.ratio is None:
            return ""
        return f"{self.ratio:.2f} of {self.floor.name} ({number(self.floor.value)} {self.unit})"


@dataclass(frozen=True, slots=True)
class Latency:
    name: str
    spread: Spread
    floor: Floor | None = None
    """Of the median, in seconds."""

    @property
    def ratio(self) -> float | None:
        return self.spread.p50 / self.floor.value if self.floor is not None and self.floor.value else None

    @property
    def against(self) -> str:
        if self.floor is None or self.ratio is None:
            return ""
        return f"{self.ratio:.2f} of {self.floor.name} ({milliseconds(self.floor.value)} ms)"


@dataclass(frozen=True, slots=True)
class Result:
    benchmark: str
    setting: str
    """Everything that somebody who repeats it has to know."""
    figures: Sequence[Figure]
    """The first is the one that stands for the benchmark in a summary."""
    latencies: Sequence[Latency] = ()
    usage: Sequence[Usage] = ()
    checks: Sequence[Check] = ()
    panels: Sequence[Panel] = ()
    payload_bytes: int = 0
    """Keys and values that were acknowledged while `usage` was watched; 0 if that makes no sense."""
    notes: Sequence[str] = field(default=())

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def as_json(self) -> dict[str, object]:
        document = asdict(self)
        document["checks"] = [check._asdict() for check in self.checks]
        document["figures"] = [{**asdict(figure), "ratio": figure.ratio} for figure in self.figures]
        document["latencies"] = [
            {"name": one.name, **one.spread._asdict(), "floor": _floor(one.floor), "ratio": one.ratio}
            for one in self.latencies
        ]
        return {**document, "passed": self.passed}

    def render(self) -> RenderableType:
        return output.stack(*self._parts())

    def _parts(self) -> Iterator[RenderableType]:
        title = f"{self.benchmark}: {self.setting}"
        rows = [(figure.name, str(figure), figure.against) for figure in self.figures]
        yield Text(title, style="bold")
        yield output.table("", ("", "#figure", "ratio to the bare machine"), rows)
        if self.latencies:
            yield output.table("", ("ms", "#p50", "#p99", "#max", "median's ratio"), map(_latency_row, self.latencies))
        if self.usage:
            columns = ["process", "#% of a core", "#MB first", "#MB max", "#MB last", "#MB a minute", "#MB written"]
            if self.payload_bytes:
                columns.append("#written per payload byte")
            yield output.table("", columns, (self._usage_row(usage) for usage in self.usage))
        for check in self.checks:
            style, word = ("green", "passed") if check.passed else ("bold red", "FAILED")
            yield Text.assemble((word, style), f" {check.name}: {check.evidence}")
        for note in self.notes:
            yield Text(note, style="dim")

    def _usage_row(self, usage: Usage) -> tuple[str, ...]:
        sizes = (usage.memory_first, usage.memory_max, usage.memory_last, usage.memory_slope, usage.written_bytes)
        row = (usage.name, f"{usage.cpu_share * 100:.0f}", *(f"{size / MEGABYTE:,.0f}" for size in sizes))
        if not self.payload_bytes:
            return row
        return (*row, f"{usage.written_bytes / self.payload_bytes:.1f}")


def number(value: float) -> str:
    """Three digits that mean something, and no more than the number has."""
    if value == int(value):
        return f"{int(value):,}"
    if abs(value) < 10:
        return f"{value:.2f}"
    return f"{value:,.1f}" if abs(value) < 100 else f"{value:,.0f}"


def milliseconds(seconds: float) -> str:
    return number(seconds * 1000)


def _latency_row(latency: Latency) -> tuple[str, ...]:
    spread = latency.spread
    times = (milliseconds(value) for value in (spread.p50, spread.p99, spread.maximum))
    return (latency.name, *times, latency.against)


def _floor(floor: Floor | None) -> dict[str, object] | None:
    return None if floor is None else asdict(floor)
