"""``raftmq verify``: is the disk of a stopped node whole?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.text import Text

from raftmq.cli import output
from raftmq.cli.exits import CommandError, ExitCode
from raftmq.cli.runtime import JsonOption, fail

if TYPE_CHECKING:
    from raftmq.storage.verify import Report
    from raftmq.storage.verify_log import LogReport

COLUMNS = ("#group", "#generation", "entries", "offsets", "#payload bytes", "state")


def verify(
    directory: Annotated[Path, typer.Argument(metavar="DATADIR", help="A node's data directory.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Check the data directory of a node that does not run: reads everything, changes nothing.

    Exit code 0 if nothing is lost or damaged, 1 if something is, 2 if this is no directory that can be checked.
    """
    # Imported here: the other commands start sooner without the storage.
    from raftmq.ports import StorageRefused
    from raftmq.storage.verify import verify as check

    try:
        with output.notices.status(f"reading {directory}"):
            report = check(directory)
        if as_json:
            output.show_json(document(report))
        else:
            show(report)
    except StorageRefused as refusal:
        fail(CommandError(str(refusal), code=ExitCode.USAGE))
    except Exception as error:  # noqa: BLE001  the edge of the program: whatever it is gets words and a code
        fail(error)
    if not report.is_sound:
        raise typer.Exit(ExitCode.FAILED)


def show(report: Report) -> None:
    """A table of the replicas, what was found, and the verdict."""
    identity = report.identity
    if identity is None:
        title = str(report.directory)
    else:
        title = f"node {identity.node}, store {identity.store_id:x}, boot {identity.boot_count}"
    rows = [
        (one.group, one.generation, _entries(one), _offsets(one), f"{one.payload_bytes:,}", _state(one))
        for one in report.replicas
    ]
    output.show(output.table(title, COLUMNS, rows))
    for finding in report.findings:
        colour = "red" if finding.severity.value == "error" else "dim"
        output.show(f"[{colour}]{finding.severity.value}[/] {escape(finding.place)}: {escape(finding.text)}")
    if report.is_sound:
        output.show(Text("sound: nothing is lost or damaged", style="bold green"))
    else:
        output.show(Text(f"damaged: {_errors(report)} found", style="bold red"))


def document(report: Report) -> dict[str, object]:
    """The same for programs."""
    identity = report.identity
    return {
        "verdict": "sound" if report.is_sound else "damaged",
        "directory": str(report.directory),
        "node": None if identity is None else identity.node,
        "store": None if identity is None else f"{identity.store_id:x}",
        "boot_count": None if identity is None else identity.boot_count,
        "replicas": [
            {
                "group": one.group,
                "generation": one.generation,
                "suspect": one.suspect,
                "first_index": one.first_index,
                "next_index": one.next_index,
                "first_offset": one.first_offset,
                "next_offset": one.next_offset,
                "payload_bytes": one.payload_bytes,
                "damaged": bool(one.problems),
            }
            for one in report.replicas
        ],
        "findings": [
            {"severity": finding.severity.value, "place": finding.place, "text": finding.text}
            for finding in report.findings
        ],
    }


def _entries(one: LogReport) -> str:
    return "none" if one.next_index == one.first_index else f"{one.first_index} .. {one.next_index - 1}"


def _offsets(one: LogReport) -> str:
    return "none" if one.next_offset == one.first_offset else f"{one.first_offset} .. {one.next_offset - 1}"


def _state(one: LogReport) -> str:
    if one.problems:
        return "[red]damaged[/]"
    return "[yellow]suspect[/]" if one.suspect else "[green]whole[/]"


def _errors(report: Report) -> str:
    count = sum(finding.severity.value == "error" for finding in report.findings)
    return f"{count} error{'' if count == 1 else 's'}"
