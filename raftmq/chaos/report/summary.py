"""A verdict as a terminal shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from raftmq.chaos.verdict import REPORT_FILE, Level, Verdict

STYLES = {Level.PASS: "bold green", Level.FAIL: "bold red", Level.INVALID: "bold yellow", Level.UNAVAILABLE: "bold"}
EVIDENCE_SHOWN = 3


def render(verdict: Verdict, folder: Path) -> RenderableType:
    parts: list[RenderableType] = [_faults(verdict), _properties(verdict)]
    figures = verdict.figures
    if figures:
        parts.append(Text(sentence(figures)))
    parts.append(Text(f"{verdict.experiment}: {verdict.level.value}", style=STYLES[verdict.level]))
    parts += [Text(f"  {reason}") for reason in verdict.reasons]
    if figures:
        parts.append(Text(f"report: {folder / REPORT_FILE}", style="dim"))
    return Group(*parts)


def sentence(figures: dict[str, Any]) -> str:
    """The run's figures, in words."""
    words = (
        f"{figures['sent']:,} records sent: {figures['acknowledged']:,} acknowledged, {figures['failed']:,} failed, "
        f"{figures['unknown']:,} unknown; {figures['polled']:,} polled"
    )
    if "leader_after_heal_s" in figures:
        words += (
            f"; after the last fault a leader everywhere within {_seconds(figures['leader_after_heal_s'])}, "
            f"an acknowledgement everywhere within {_seconds(figures['acknowledged_after_heal_s'])}"
        )
    if figures.get("p99_before_ms") is not None:
        back = figures["p99_back_after_s"]
        words += f"; p99 {figures['p99_before_ms']:g} ms before the faults, twice that at most again " + (
            "not within the run" if back is None else f"{back:g} s after them"
        )
    return words


def _faults(verdict: Verdict) -> Table:
    table = Table("FAULT", "FROM", "TO", "FIRED", "BY", box=None, pad_edge=False)
    for fault in verdict.faults:
        table.add_row(
            fault["name"],
            f"{fault['injected_s']:.1f} s",
            f"{fault['healed_s']:.1f} s",
            "yes" if fault["fired"] else "NO",
            fault.get("means", ""),
        )
    return table


def _properties(verdict: Verdict) -> Table:
    table = Table("PROPERTY", "", "EXAMINED", "", box=None, pad_edge=False)
    for one in verdict.judged:
        word = "violated" if one.violations else "holds" if one.examined else "nothing to examine"
        style = "red" if one.violations else "green" if one.examined else "yellow"
        table.add_row(one.name, Text(word, style=style), f"{one.examined:,}", "\n".join(one.evidence[:EVIDENCE_SHOWN]))
    return table


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f} s"
