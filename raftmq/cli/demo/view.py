"""What a person sees while the demo works: events as they happen, and a bar for whatever takes long. All on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Advance = Callable[[int], None]
"""Tells how much is done in all."""


class View:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()

    def event(self, text: str, style: str = "") -> None:
        """Something happened: one line with its time since the start."""
        self._console.print(
            f"[dim]{time.monotonic() - self._began:6.1f} s[/]  {escape(text)}", style=style or None, soft_wrap=True
        )

    @contextmanager
    def phase(self, title: str, total: int | None = None, unit: str = "") -> Iterator[Advance]:
        """A bar (off a terminal: nothing) until the block ends; `total` None is an open end."""
        with Progress(
            TextColumn("          {task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.completed:,.0f} {task.fields[unit]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        ) as progress:
            task = progress.add_task(title, total=total, unit=unit)
            yield lambda done: progress.update(task, completed=done)
