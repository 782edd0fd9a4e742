"""The table of all benchmarks in Markdown, and its place between two markers of a document."""

from __future__ import annotations

from collections.abc import Sequence

from raftmq.cli.bench.result import MEGABYTE, Result, milliseconds
from raftmq.cli.exits import CommandError, ExitCode

BEGIN = "<!-- bench: begin, written by `make bench` -->"
END = "<!-- bench: end -->"
COLUMNS = ("Benchmark", "Setting", "Result", "Ratio to the bare machine", "p50 / p99 / max, ms", "Node that uses most")


def document(results: Sequence[Result], machine: str, note: str, day: str, version: str) -> str:
    """The text between the markers."""
    rows = [COLUMNS, ("---",) * len(COLUMNS), *(row(result) for result in results)]
    table = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |" for cells in rows)
    return f"raftmq {version}, {day}, in one run, on {machine}; {note}.\n\n{table}"


def row(result: Result) -> tuple[str, ...]:
    ratios = [*(figure.against for figure in result.figures), *(latency.against for latency in result.latencies)]
    return (
        result.benchmark,
        result.setting,
        "<br>".join(f"{figure.name} {figure}".strip() for figure in result.figures),
        "<br>".join(filter(None, ratios)),
        "<br>".join(
            f"{latency.name} {' / '.join(milliseconds(v) for v in (s.p50, s.p99, s.maximum))}"
            for latency in result.latencies
            for s in (latency.spread,)
        ),
        _most(result),
    )


def insert(text: str, between: str) -> str:
    """`text` with what lies between the markers replaced. Raises CommandError if they are not there, once, in order."""
    begin, end = text.find(BEGIN), text.find(END)
    if not 0 <= begin < end or text.count(BEGIN) != 1 or text.count(END) != 1:
        raise CommandError(f"the document needs one line {BEGIN} and, below it, one {END}", code=ExitCode.USAGE)
    return f"{text[: begin + len(BEGIN)]}\n\n{between}\n\n{text[end:]}"


def _most(result: Result) -> str:
    nodes = [usage for usage in result.usage if usage.name.startswith("node ")]
    if not nodes:
        return ""
    cpu = max(node.cpu_share for node in nodes) * 100
    memory = max(node.memory_max for node in nodes) / MEGABYTE
    text = f"{cpu:.0f} % of a core, {memory:,.0f} MB"
    if result.payload_bytes:
        text += (
            f", {max(node.written_bytes for node in nodes) / result.payload_bytes:.1f} bytes written per payload byte"
        )
    return text
