"""``raftmq topic``: create, alter, list, describe, producers, delete."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from enum import Enum
from typing import Annotated, cast

import typer

from raftmq.cli import output, status
from raftmq.cli.cluster import take_snapshot
from raftmq.cli.runtime import (
    DEFAULT_CONFIG,
    BootstrapOption,
    ConfigOption,
    JsonOption,
    Target,
    TopicArgument,
    run,
)
from raftmq.client import types
from raftmq.client.types import ProducerDescription, TopicDescription


class Overflow(Enum):
    """Choices of --overflow."""

    REJECT = "reject"
    BLOCK = "block"
    DROP_OLDEST = "drop-oldest"
    SAMPLE = "sample"
    DROP_LOWEST_PRIORITY = "drop-lowest-priority"


OverflowOption = Annotated[
    Overflow | None,
    typer.Option(help="What becomes of records for a partition that is as deep as it may be."),
]

app = typer.Typer(help="Topics: create, alter, list, describe, delete; who produces to them.", no_args_is_help=True)


@app.command()
def create(
    name: TopicArgument,
    partitions: Annotated[int, typer.Option(min=0, help="0: the cluster's default.")] = 0,
    replicas: Annotated[int, typer.Option(min=0, help="Copies of each partition; 0: the cluster's default.")] = 0,
    min_in_sync: Annotated[
        int, typer.Option(min=0, help="Copies that must be in sync for a write; 0: the majority.")
    ] = 0,
    max_batch_bytes: Annotated[int, typer.Option(min=0, help="Largest batch; 0: the cluster's default.")] = 0,
    retention_ms: Annotated[
        int, typer.Option(min=0, help="Remove records that were appended so many milliseconds ago; 0: never.")
    ] = 0,
    retention_bytes: Annotated[
        int, typer.Option(min=0, help="Remove a partition's oldest records beyond so many bytes; 0: never.")
    ] = 0,
    message_id_window_ms: Annotated[
        int, typer.Option(min=0, help="How long message ids are remembered; 0: the cluster's default.")
    ] = 0,
    message_id_window_count: Annotated[
        int, typer.Option(min=0, help="How many of them a partition remembers; 0: the cluster's default.")
    ] = 0,
    max_depth_records: Annotated[int, typer.Option(min=0, help="Most records in a partition; 0: no limit.")] = 0,
    max_depth_bytes: Annotated[int, typer.Option(min=0, help="Most bytes in a partition; 0: no limit.")] = 0,
    max_depth_age_ms: Annotated[
        int, typer.Option(min=0, help="Highest age of a partition's oldest record; 0: no limit.")
    ] = 0,
    overflow: OverflowOption = Overflow.REJECT,
    sample_one_in: Annotated[int, typer.Option(min=0, help="Of --overflow sample; 0: 10.")] = 0,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Create a topic, and wait until each of its partitions has a leader."""

    async def command() -> None:
        async with Target(bootstrap, config).client() as client:
            topic = await client.admin.create_topic(
                name,
                partitions=partitions,
                replication_factor=replicas,
                min_in_sync_replicas=min_in_sync,
                max_batch_bytes=max_batch_bytes,
                retention_ms=retention_ms,
                retention_bytes=retention_bytes,
                message_id_window_ms=message_id_window_ms,
                message_id_window_count=message_id_window_count,
                max_depth_records=max_depth_records,
                max_depth_bytes=max_depth_bytes,
                max_depth_age_ms=max_depth_age_ms,
                overflow=_policy(overflow) or "reject",
                sample_one_in=sample_one_in,
            )
        if as_json:
            output.show_json(asdict(topic))
        else:
            output.console.print(f"created {_summary(topic)}", markup=False)

    run(command)


@app.command()
def alter(
    name: TopicArgument,
    min_in_sync: Annotated[
        int | None, typer.Option(min=0, help="Copies that must be in sync for a write; 0: the majority.")
    ] = None,
    max_batch_bytes: Annotated[int | None, typer.Option(min=0, help="Largest batch; 0: the cluster's default.")] = None,
    retention_ms: Annotated[
        int | None, typer.Option(min=0, help="Remove records that were appended so many milliseconds ago; 0: never.")
    ] = None,
    retention_bytes: Annotated[
        int | None, typer.Option(min=0, help="Remove a partition's oldest records beyond so many bytes; 0: never.")
    ] = None,
    message_id_window_ms: Annotated[
        int | None, typer.Option(min=0, help="How long message ids are remembered; 0: the cluster's default.")
    ] = None,
    message_id_window_count: Annotated[
        int | None, typer.Option(min=0, help="How many of them a partition remembers; 0: the cluster's default.")
    ] = None,
    max_depth_records: Annotated[
        int | None, typer.Option(min=0, help="Most records in a partition; 0: no limit.")
    ] = None,
    max_depth_bytes: Annotated[int | None, typer.Option(min=0, help="Most bytes in a partition; 0: no limit.")] = None,
    max_depth_age_ms: Annotated[
        int | None, typer.Option(min=0, help="Highest age of a partition's oldest record; 0: no limit.")
    ] = None,
    overflow: OverflowOption = None,
    sample_one_in: Annotated[int | None, typer.Option(min=0, help="Of --overflow sample; 0: 10.")] = None,
    if_version: Annotated[
        int, typer.Option(min=0, help="Only if the topic is of this version ('topic describe --json' tells it).")
    ] = 0,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Give a topic other settings, while it is in use. What is not named stays as it is.

    The numbers of partitions and of replicas are those that the topic was created with.
    """
    settings = (
        min_in_sync, max_batch_bytes, retention_ms, retention_bytes, message_id_window_ms, message_id_window_count,
        max_depth_records, max_depth_bytes, max_depth_age_ms, overflow, sample_one_in,
    )  # fmt: skip
    if all(value is None for value in settings):
        raise typer.BadParameter("name at least one setting; --help lists them")

    async def command() -> None:
        async with Target(bootstrap, config).client() as client:
            topic = await client.admin.alter_topic(
                name,
                min_in_sync_replicas=min_in_sync,
                max_batch_bytes=max_batch_bytes,
                retention_ms=retention_ms,
                retention_bytes=retention_bytes,
                message_id_window_ms=message_id_window_ms,
                message_id_window_count=message_id_window_count,
                max_depth_records=max_depth_records,
                max_depth_bytes=max_depth_bytes,
                max_depth_age_ms=max_depth_age_ms,
                overflow=_policy(overflow),
                sample_one_in=sample_one_in,
                expected_version=if_version,
            )
        if as_json:
            output.show_json(asdict(topic))
        else:
            output.console.print(f"altered {_summary(topic)}", markup=False)

    run(command)


@app.command("list")
def list_topics(
    bootstrap: BootstrapOption = None, config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False
) -> None:
    """List all topics."""

    async def command() -> None:
        async with Target(bootstrap, config).client() as client:
            topics = await client.admin.list_topics()
        if as_json:
            output.show_json([asdict(topic) for topic in topics])
            return
        if not topics:
            output.notice("no topics yet; 'raftmq topic create NAME' makes one")
            return
        rows = (
            (
                topic.name,
                len(topic.partitions),
                topic.replication_factor,
                topic.min_in_sync_replicas,
                sum(p.leader is None for p in topic.partitions),
            )
            for topic in topics
        )
        output.show(output.table("", ("topic", "#partitions", "#replicas", "#min in sync", "#leaderless"), rows))

    run(command)


@app.command()
def describe(
    name: TopicArgument,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show a topic's partitions: leaders, replicas, who is in sync, offsets."""

    async def command() -> None:
        async with Target(bootstrap, config).client() as client:
            topic = await client.admin.describe_topic(name)
            snapshot = await take_snapshot(client)
            offsets = {o.partition: o for o in await client.list_offsets(name)}
        if as_json:
            document = asdict(topic)
            for partition in document["partitions"]:
                bounds = offsets.get(partition["partition"])
                partition["offsets"] = asdict(bounds) if bounds is not None else None
            output.show_json(document)
            return
        rows = []
        for partition in topic.partitions:
            bounds = offsets.get(partition.partition)
            span = f"{bounds.log_start_offset} to {bounds.high_watermark}" if bounds is not None else "?"
            rows.append((*status.partition_row(topic, partition, snapshot)[1:], span))
        output.show(output.table(_summary(topic), (*status.PARTITION_COLUMNS[1:], "offsets"), rows))

    run(command)


@app.command()
def producers(
    name: TopicArgument,
    partition: Annotated[
        list[int] | None, typer.Option("--partition", "-p", min=0, help="Only of this partition; may be repeated.")
    ] = None,
    producer_id: Annotated[int, typer.Option("--producer", min=0, help="Only this producer's id; 0: all.")] = 0,
    limit: Annotated[int, typer.Option("--max", min=1, help="At most so many rows.")] = 1_000,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show what each partition remembers of idempotent producers, to tell duplicates from news."""

    async def command() -> None:
        async with Target(bootstrap, config).client() as client:
            found = await client.admin.describe_producers(
                name, partition or (), producer_id=producer_id, limit=limit + 1
            )
        shown = found[:limit]
        if as_json:
            output.show_json([asdict(one) for one in shown])
        elif not shown:
            output.notice(f"no partition of {name} remembers an idempotent producer")
        else:
            output.show(output.table("", PRODUCER_COLUMNS, (_producer_row(one) for one in shown)))
        if len(found) > limit:
            output.notice(f"there are more than {limit}; --max or --partition tells others")

    run(command)


@app.command()
def delete(
    name: TopicArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Delete a topic and all its records. Asks first, unless --yes."""
    if not yes:
        typer.confirm(f"Delete topic '{name}' and all its records?", abort=True)

    async def command() -> None:
        async with Target(bootstrap, config).client() as client:
            await client.admin.delete_topic(name)
        output.console.print(f"deleted topic {name}", markup=False)

    run(command)


PRODUCER_COLUMNS = (
    "#partition", "#producer", "#epoch", "#sequences remembered", "#last offset", "last append", "#expires in",
)  # fmt: skip


def _producer_row(one: ProducerDescription) -> tuple[object, ...]:
    appended = datetime.fromtimestamp(one.last_append_time_ms / 1000).astimezone()
    return (
        one.partition,
        one.producer_id,
        one.producer_epoch,
        f"{one.first_sequence} to {one.last_sequence}",
        one.last_offset,
        appended.isoformat(" ", "seconds"),
        f"{one.expires_in_ms // 60_000} min",
    )


def _policy(choice: Overflow | None) -> types.Overflow | None:
    return None if choice is None else cast(types.Overflow, choice.value.replace("-", "_"))


def _summary(topic: TopicDescription) -> str:
    kept = [
        *([f"for {topic.retention_ms} ms"] if topic.retention_ms else []),
        *([f"up to {topic.retention_bytes} bytes a partition"] if topic.retention_bytes else []),
    ]
    depth = [
        *([f"{topic.max_depth_records} records"] if topic.max_depth_records else []),
        *([f"{topic.max_depth_bytes} bytes"] if topic.max_depth_bytes else []),
        *([f"{topic.max_depth_age_ms} ms"] if topic.max_depth_age_ms else []),
    ]
    policy = topic.overflow.replace("_", " ")
    limit = f", at most {' and '.join(depth)} deep a partition, then {policy}" if depth else ""
    return (
        f"topic {topic.name}: {len(topic.partitions)} partitions, {topic.replication_factor} replicas, "
        f"min in sync {topic.min_in_sync_replicas}, records kept {' and '.join(kept) or 'for ever'}{limit}"
    )
