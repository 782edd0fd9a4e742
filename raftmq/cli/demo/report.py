"""The outcome of a run, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from raftmq.cli.demo.checks import Check
from raftmq.cli.demo.figures import Latency

MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Report:
    """Times in seconds, sizes in bytes."""

    dataset: str
    records: int
    payload_bytes: int
    """Keys and values, as handed to the producer."""
    produce_seconds: float
    """From the first record handed in to the last acknowledgement, the kill included."""
    ack_latency: Latency
    killed_node: int
    standstill: Mapping[int, float]
    """Per partition: the longest time without an acknowledgement around the kill."""
    recovery_seconds: float
    """From the restart of the killed node until it was in sync everywhere."""
    read_seconds: float
    checks: Sequence[Check]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def as_json(self) -> dict[str, object]:
        return {
            **asdict(self),
            "standstill": {str(partition): pause for partition, pause in self.standstill.items()},
            "records_per_second": self.records / self.produce_seconds,
            "bytes_per_second": self.payload_bytes / self.produce_seconds,
            "passed": self.passed,
        }

    def render(self) -> RenderableType:
        figures = Table(title=f"{self.records:,} records of {self.dataset}", title_justify="left", show_header=False)
        figures.add_column()
        figures.add_column(justify="right")
        for label, value in self._figures():
            figures.add_row(label, value)
        verdicts = Table(title="checks", title_justify="left", show_header=False)
        for check in self.checks:
            mark = Text("passed", style="green") if check.passed else Text("FAILED", style="bold red")
            verdicts.add_row(check.name, mark, Text(check.evidence))
        verdict = (
            Text("PASSED: every acknowledged record is there, once, in order, on every replica", style="bold green")
            if self.passed
            else Text("FAILED: see the checks above", style="bold red")
        )
        return Group(figures, verdicts, verdict)

    def _figures(self) -> list[tuple[str, str]]:
        worst = max(self.standstill.values(), default=0.0)
        return [
            ("produced with acks=all", f"{self.records / self.produce_seconds:,.0f} records/s"),
            ("", f"{self.payload_bytes / self.produce_seconds / MEGABYTE:,.1f} MB/s"),
            ("ack latency p50", _milliseconds(self.ack_latency.p50)),
            ("ack latency p99", _milliseconds(self.ack_latency.p99)),
            ("ack latency max", _milliseconds(self.ack_latency.maximum)),
            (f"produce stood still at the kill of node {self.killed_node}", _milliseconds(worst)),
            ("killed node in sync again after its restart", f"{self.recovery_seconds:,.1f} s"),
            ("read back", f"{self.records / self.read_seconds:,.0f} records/s"),
        ]


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"
