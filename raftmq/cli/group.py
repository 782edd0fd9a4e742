"""``raftmq group``: list, describe, reset, delete."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from raftmq.cli import output
from raftmq.cli.consume import start_of
from raftmq.cli.runtime import DEFAULT_CONFIG, BootstrapOption, ConfigOption, JsonOption, Target, run
from raftmq.client.groups import GroupDescription

app = typer.Typer(help="Consumer groups: list, describe, reset, delete.", no_args_is_help=True)

GroupArgument = Annotated[str, typer.Argument(metavar="GROUP", help="The group's name.", show_default=False)]


@app.command("list")
def list_groups(
    bootstrap: BootstrapOption = None, config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False
) -> None:
    """Groups that have members or committed offsets."""

    async def command() -> None:
        async with Target(bootstrap, config).client() as client:
            groups = await client.groups.list()
        if as_json:
            output.show_json([asdict(one) for one in groups])
        elif groups:
            rows = [(one.group, one.members, ", ".join(one.topics)) for one in groups]
            output.show(output.table("", ("group", "#members", "topics"), rows))
        else:
            output.notice("no groups")

    run(command)


@app.command()
def describe(
    group: GroupArgument,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Members, what each of them reads, and how far behind the group is, in records and in time."""

    async def command() -> None:
        async with Target(bootstrap, config).client() as client:
            described = await client.groups.describe(group)
        if as_json:
            output.show_json(asdict(described))
        else:
            _show(described)

    run(command)


def _show(described: GroupDescription) -> None:
    members = [
        (one.member_id, one.client_id, len(one.assigned), len(one.revoking), f"{one.last_heard_ms / 1000:.1f} s")
        for one in described.members
    ]
    partitions = [
        (
            f"{one.topic}/{one.partition}",
            _told(one.committed),
            _told(one.high_watermark),
            _told(one.lag),
            "?" if one.lag_ms is None else f"{one.lag_ms / 1000:.1f} s",
            one.member_id or "-",
        )
        for one in described.partitions
    ]
    coordinator = "?" if described.coordinator is None else described.coordinator
    output.show(
        output.stack(
            f"epoch {described.epoch}, assignor {described.assignor}, coordinated by node {coordinator}",
            output.table("", ("member", "client", "#partitions", "#giving up", "#heard"), members)
            if members
            else "no members",
            output.table("", ("partition", "#committed", "#end", "#lag", "#lag time", "member"), partitions),
        )
    )


def _told(value: int | None) -> str:
    return "-" if value is None else str(value)


@app.command()
def reset(
    group: GroupArgument,
    topic: Annotated[str, typer.Option("--topic", "-t", metavar="TOPIC", help="Its offsets are set.")],
    to: Annotated[
        str,
        typer.Option(
            metavar="earliest|latest|OFFSET|TIME",
            help="Where to. A time is when records were appended: 2026-01-31, 2026-01-31T08:00, or so long ago: 15m.",
        ),
    ] = "",
    shift: Annotated[int | None, typer.Option(help="So many records on; back if negative.")] = None,
    partition: Annotated[
        list[int] | None, typer.Option("--partition", "-p", min=0, help="Only this one; may be repeated.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what it would be.")] = False,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Set the committed offsets of a group without members, within the bounds of each partition."""
    if bool(to) == (shift is not None):
        raise typer.BadParameter("give either --to or --shift", param_hint="--to")
    where = start_of(to, datetime.now(UTC), "--to") if to else None

    async def command() -> None:
        async with Target(bootstrap, config).client() as client:
            offsets = await client.groups.reset(
                group, topic, where, shift=shift, partitions=partition or (), dry_run=dry_run
            )
        if as_json:
            output.show_json([asdict(one) for one in offsets])
            return
        rows = [(f"{topic}/{one.partition}", _told(one.before), one.after) for one in offsets]
        output.show(output.table("", ("partition", "#before", "#after"), rows))
        if dry_run:
            output.notice("nothing was changed")

    run(command)


@app.command()
def delete(
    group: GroupArgument,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Forget a group without members, and its committed offsets."""

    async def command() -> None:
        async with Target(bootstrap, config).client() as client:
            await client.groups.delete(group)
        output.notice(f"group {group} is forgotten")

    run(command)
