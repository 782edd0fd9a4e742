"""Printing: results to stdout, everything about them (progress, complaints, hints) to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Rich would end the process with status 1 here; `runtime.run` knows better."""
        raise BrokenPipeError


# Off a terminal nothing is to be folded at 80 columns: tables go through grep.
console = _Console(highlight=False, width=None if sys.stdout.isatty() else 240)
notices = _Console(stderr=True, highlight=False)


def complain(message: str, hint: str = "") -> None:
    notices.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)
    if hint:
        notices.print(f"[dim]{escape(hint)}[/]", soft_wrap=True)


def notice(message: str) -> None:
    notices.print(escape(message), soft_wrap=True)


def show(renderable: RenderableType) -> None:
    console.print(renderable)


def stack(*renderables: RenderableType) -> RenderableType:
    return Group(*renderables)


def show_json(document: object) -> None:
    """One JSON document; indented for people, on one line for programs."""
    print(json.dumps(document, indent=2 if console.is_terminal else None, ensure_ascii=False))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table whose columns are aligned right where their heading begins with ``#``."""
    grid = Table(title=escape(title) or None, title_justify="left", header_style="bold", pad_edge=False, box=None)
    for column in columns:
        grid.add_column(column.removeprefix("#"), justify="right" if column.startswith("#") else "left")
    for row in rows:
        grid.add_row(*(cell if isinstance(cell, Table) else str(cell) for cell in row))
    return grid
