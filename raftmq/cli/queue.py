"""``raftmq queue``: groups, their messages, dead letters."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from datetime import UTC, datetime
from enum import Enum
from typing import Annotated, Any, get_args, get_type_hints

import typer

from raftmq.cli import output
from raftmq.cli.consume import bytes_field, start_of
from raftmq.cli.exits import CommandError, ExitCode
from raftmq.cli.queue_steps import pipe, processed
from raftmq.cli.runtime import (
    DEFAULT_CONFIG,
    BootstrapOption,
    ConfigOption,
    GroupArgument,
    JsonOption,
    Target,
    TopicArgument,
    run,
)
from raftmq.client.queue import QueueMessage
from raftmq.client.queue_admin import PeekedMessage, QueueCounts, QueueSettings

app = typer.Typer(help="Topics as queues: receive, look at, redrive, settings.", no_args_is_help=True)

app.command()(pipe)
app.command()(processed)

PartitionOption = Annotated[int | None, typer.Option("--partition", "-p", min=0, help="Only this one.")]


class State(Enum):
    READY = "ready"
    LEASED = "leased"
    DELAYED = "delayed"
    PARKED = "parked"


class Verdict(Enum):
    ACK = "ack"
    RELEASE = "release"
    PARK = "park"


# -- groups ------------------------------------------------------------------------------------------------------------


@app.command("set")
def set_group(
    name: TopicArgument,
    group: GroupArgument,
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SETTING=VALUE",
            help="Such as attempts_max=3 lease_ms=60000 drain_per_s=100 retention=delete_on_ack paused=true; "
            "'queue describe --json' shows all of them.",
        ),
    ] = None,
    if_version: Annotated[int, typer.Option(min=0, help="Only if the group is of this version; 0: whatever.")] = 0,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Make a group, or alter it. What is not named stays as it is; a new group gets the defaults."""
    changes = _changes(settings or [])

    async def command() -> None:
        async with Target(bootstrap, config).client() as client:
            known = [one for one in await client.queues.list_groups(name) if one.group == group]
            present = known[0].settings if known else QueueSettings()
            version = if_version or (known[0].version if known else 0)
            made = await client.queues.set_group(name, group, replace(present, **changes), expected_version=version)
        if as_json:
            output.show_json(asdict(made))
        else:
            output.console.print(f"group {group} of topic {name} is of version {made.version}", markup=False)

    run(command)


@app.command("list")
def list_groups(
    name: Annotated[str, typer.Argument(metavar="TOPIC", help="Of this topic only.", show_default=False)] = "",
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """List queue groups."""

    async def command() -> None:
        async with Target(bootstrap, config).client() as client:
            groups = await client.queues.list_groups(name)
        if as_json:
            output.show_json([asdict(one) for one in groups])
            return
        if not groups:
            output.notice("no queue groups")
            return
        rows = ((one.topic, one.group, one.version, "yes" if one.settings.paused else "no") for one in groups)
        output.show(output.table("", ("topic", "group", "#version", "paused"), rows))

    run(command)


@app.command()
def describe(
    name: TopicArgument,
    group: GroupArgument,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show how many of a group's messages are in which state, by partition; and its circuit breaker, if it has one."""

    async def command() -> None:
        async with Target(bootstrap, config).client() as client:
            described, counts = await client.queues.describe_group(name, group)
        if as_json:
            output.show_json({**asdict(described), "partitions": [asdict(one) for one in counts]})
            return
        columns = ("partition", "unseen", "ready", "waiting", "leased", "delayed", "parked", "done")
        rows = [[getattr(one, column) for column in columns] for one in counts]
        rows.append(["all", *(sum(int(row[at]) for row in rows) for at in range(1, len(columns)))])
        headings = [f"#{column}" for column in columns]
        if described.settings.breaker_failures:
            headings.append("breaker")
            for row, one in zip(rows, counts, strict=False):
                row.append(_breaker(one))
            rows[-1].append("")
        output.show(output.table(f"{name} for {group}", headings, rows))

    run(command)


@app.command()
def delete(
    name: TopicArgument,
    group: GroupArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Delete a group and its state; the records stay. Asks first, unless --yes."""
    if not yes:
        typer.confirm(f"Delete group '{group}' of topic '{name}', and what it knows of every message?", abort=True)

    async def command() -> None:
        async with Target(bootstrap, config).client() as client:
            await client.queues.delete_group(name, group)
        output.console.print(f"deleted group {group} of topic {name}", markup=False)

    run(command)


# -- messages ----------------------------------------------------------------------------------------------------------


@app.command()
def receive(
    name: TopicArgument,
    group: GroupArgument,
    maximum: Annotated[int, typer.Option("--max", min=1, metavar="N", help="End after so many messages.")] = 1,
    wait_ms: Annotated[int, typer.Option(min=0, help="How long to wait for each.")] = 1_000,
    then: Annotated[Verdict, typer.Option(help="What is done with each message once it is printed.")] = Verdict.ACK,
    as_json: JsonOption = False,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Take messages: print each, and acknowledge it (or what --then says). Values, a line each, unless --json."""

    async def command() -> None:
        taken = 0
        async with Target(bootstrap, config).client() as client, client.queue(name, group, prefetch=1) as worker:
            while taken < maximum and (message := await worker.get(wait_ms)) is not None:
                sys.stdout.buffer.write(_message_line(message) if as_json else (message.value or b"") + b"\n")
                sys.stdout.buffer.flush()
                taken += 1
                match then:
                    case Verdict.ACK:
                        await message.ack()
                    case Verdict.RELEASE:
                        await message.release()
                    case Verdict.PARK:
                        await message.park("queue receive")
        if not taken:
            output.notice("no messages there; --wait-ms waits longer")

    run(command)


@app.command()
def peek(
    name: TopicArgument,
    group: GroupArgument,
    state: Annotated[State, typer.Option(help="Which messages.")] = State.PARKED,
    partition: PartitionOption = None,
    maximum: Annotated[int, typer.Option("--max", min=1, max=1_000, help="Of each partition.")] = 100,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Look at messages in one state, the dead letters unless said otherwise. Changes nothing."""

    async def command() -> None:
        found: list[PeekedMessage] = []
        async with Target(bootstrap, config).client() as client:
            topic = await client.admin.describe_topic(name)
            wanted = [one.partition for one in topic.partitions] if partition is None else [partition]
            for number in wanted:
                found += (await client.queues.peek(name, group, number, state.value, max_messages=maximum))[0]
        if as_json:
            output.show_json([_peeked_document(one) for one in found])
            return
        if not found:
            output.notice(f"no messages are {state.value}")
            return
        rows = (
            (one.partition, one.offset, one.attempts, one.failures, one.redrives, _when(one), one.reason, one.error)
            for one in found
        )
        columns = ("#partition", "#offset", "#attempts", "#failures", "#redrives", "since", "reason", "error")
        output.show(output.table("", columns, rows))

    run(command)


@app.command()
def redrive(
    name: TopicArgument,
    group: GroupArgument,
    partition: PartitionOption = None,
    offset: Annotated[list[int] | None, typer.Option(min=0, help="Only this one; needs --partition.")] = None,
    reason: Annotated[str, typer.Option(help="Only those parked for this reason.")] = "",
    error_contains: Annotated[str, typer.Option(help="Only those whose last error has this in it.")] = "",
    maximum: Annotated[int, typer.Option("--max", min=1, max=100_000, help="Of each partition.")] = 1_000,
    rate_per_s: Annotated[int, typer.Option(min=0, help="Of each partition; 0: all at once.")] = 0,
    dry_run: Annotated[bool, typer.Option(help="Only tell how many there are.")] = False,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Let dead letters be delivered again."""
    if offset and partition is None:
        raise typer.BadParameter("needs --partition: each has offsets of its own", param_hint="--offset")

    async def command() -> None:
        async with Target(bootstrap, config).client() as client:
            results = await client.queues.redrive(
                name, group, partition=partition, offsets=offset or [], reason=reason, error_contains=error_contains,
                max_messages=maximum, rate_per_s=rate_per_s, dry_run=dry_run,
            )  # fmt: skip
        numbers = [(one.partition, one.matched, one.redriven, one.looping, one.remaining) for one in results]
        columns = ("partition", "matched", "redriven", "looping", "remaining")
        if as_json:
            output.show_json([dict(zip(columns, row, strict=True)) for row in numbers])
        else:
            output.show(output.table("", [f"#{column}" for column in columns], numbers))
        for one in results:
            if one.error is not None:
                raise one.error

    run(command)


@app.command()
def seek(
    name: TopicArgument,
    group: GroupArgument,
    position: Annotated[
        str,
        typer.Argument(metavar="earliest|latest|OFFSET|TIME", help="As in 'consume --from'.", show_default=False),
    ],
    partition: Annotated[
        list[int] | None, typer.Option("--partition", "-p", min=0, help="Only this one; may be repeated.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Let a group start over: its leases end, and it forgets what is parked. Asks first, unless --yes."""
    wanted = start_of(position, datetime.now(UTC), "the position")
    if not yes:
        typer.confirm(f"Start group '{group}' of topic '{name}' over at {position}?", abort=True)

    async def command() -> None:
        async with Target(bootstrap, config).client() as client:
            sought = await client.queues.seek(name, group, wanted, partitions=partition or [])
        output.show(output.table("", ("#partition", "#begins at"), sought.items()))

    run(command)


@app.command()
def resume(
    name: TopicArgument,
    group: GroupArgument,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Close the circuit breaker before its pause is over. (A group that is paused: 'queue set ... paused=false'.)"""

    async def command() -> None:
        async with Target(bootstrap, config).client() as client:
            await client.queues.resume(name, group)
        output.console.print(f"group {group} of topic {name} has its breaker closed in every partition", markup=False)

    run(command)


@app.command()
def cancel(
    name: TopicArgument,
    partition: Annotated[int, typer.Argument(min=0, help="Where the record is.", show_default=False)],
    offset: Annotated[int, typer.Argument(min=0, help="And which it is.", show_default=False)],
    group: Annotated[str, typer.Option(help="Only for this group; empty: for all.")] = "",
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Do not deliver a scheduled record that is not due yet."""

    async def command() -> None:
        async with Target(bootstrap, config).client() as client:
            cancelled, too_late = await client.queues.cancel_scheduled(name, partition, offset, group=group)
        for one in cancelled:
            output.console.print(f"cancelled for {one}", markup=False)
        if too_late:
            raise CommandError(f"too late for {', '.join(too_late)}", code=ExitCode.FAILED)

    run(command)


# -- words -------------------------------------------------------------------------------------------------------------


def _changes(settings: list[str]) -> dict[str, Any]:
    """The fields of QueueSettings that ``name=value`` words change. Raises typer.BadParameter."""
    defaults = asdict(QueueSettings())
    words = {field: get_args(hint) for field, hint in get_type_hints(QueueSettings).items()}
    changes: dict[str, Any] = {}
    for word in settings:
        field, separator, value = word.partition("=")
        if not separator or field not in defaults:
            raise typer.BadParameter(f"'{word}' is no SETTING=VALUE; settings are {', '.join(defaults)}")
        kind = type(defaults[field])
        if kind is bool and value in ("true", "false"):
            changes[field] = value == "true"
        elif kind is int and value.isdecimal():
            changes[field] = int(value)
        elif kind is str:
            if words[field] and value not in words[field]:
                raise typer.BadParameter(f"{field} is {' or '.join(words[field])}, not '{value}'")
            changes[field] = value
        else:
            raise typer.BadParameter(f"{field} is {'true or false' if kind is bool else 'a number'}, not '{value}'")
    return changes


def _message_line(message: QueueMessage) -> bytes:
    document = {
        "topic": message.topic,
        "partition": message.partition,
        "offset": message.offset,
        **bytes_field("key", message.key),
        **bytes_field("value", message.value),
        "headers": [{"name": name, **bytes_field("value", value)} for name, value in message.headers],
        "append_time_ms": message.append_time_ms,
        "attempt": message.attempt,
        "failures": message.failures,
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _peeked_document(one: PeekedMessage) -> dict[str, object]:
    document = asdict(one)
    headers = [{"name": name, **bytes_field("value", value)} for name, value in one.headers]
    del document["key"], document["value"]
    return {**document, **bytes_field("key", one.key), **bytes_field("value", one.value), "headers": headers}


def _when(one: PeekedMessage) -> str:
    return "" if one.parked_at_ms is None else _moment(one.parked_at_ms)


def _breaker(one: QueueCounts) -> str:
    if one.breaker_open_until_ms is not None:
        return f"open until {_moment(one.breaker_open_until_ms)}"
    return "one at a time" if one.breaker_trying else "closed"


def _moment(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")
