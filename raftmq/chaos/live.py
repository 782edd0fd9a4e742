"""The live view of a run: time, faults now active, operations, leaders."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from raftmq.chaos.observer import Observer
from raftmq.chaos.recorder import Recorder

EVENTS_SHOWN = 8


@dataclass
class View:
    """Without a terminal it prints a line an event, and nothing else."""

    console: Console
    title: str
    recorder: Recorder | None = None
    observer: Observer | None = None
    active: dict[int, str] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    phase: str = ""
    ends_s: float = 0.0

    def note(self, text: str) -> None:
        at = f"{self.recorder.now_us / 1e6:6.1f} s  " if self.recorder else ""
        self.events.append(at + text)
        if not self.console.is_terminal:
            self.console.print(at + text, markup=False, highlight=False)

    @contextmanager
    def shown(self) -> Iterator[None]:
        if not self.console.is_terminal:
            yield
            return
        with Live(get_renderable=self.render, console=self.console, refresh_per_second=4, transient=True):
            yield

    def render(self) -> RenderableType:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim")
        grid.add_column()
        now = self.recorder.now_us / 1e6 if self.recorder else 0.0
        grid.add_row("time", f"{now:5.1f} s of {self.ends_s:.0f} s   {self.phase}")
        grid.add_row("faults", Text(", ".join(self.active.values()) or "none now", style="red" if self.active else ""))
        if self.recorder is not None:
            counts = self.recorder.counts
            grid.add_row(
                "sends",
                f"{counts['send ok']:,} ok   {counts['send fail']:,} failed   {counts['send info']:,} unknown   "
                f"{counts['poll ok']:,} records polled",
            )
        if self.observer is not None:
            leaders = sorted(self.observer.leaders().items())
            grid.add_row("leaders", "   ".join(f"{_shown(name)}: {node}" for name, (_, node) in leaders) or "nobody")
            down = [str(node) for node, answers in self.observer.answering.items() if not answers]
            grid.add_row("silent", Text(", ".join(down) or "none", style="yellow" if down else ""))
        recent = Text("\n".join(self.events[-EVENTS_SHOWN:]), style="dim")
        return Group(Text(self.title, style="bold"), grid, recent)


def _shown(partition: str) -> str:
    return "controller" if partition == "/0" else partition
