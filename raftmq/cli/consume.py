"""``raftmq consume``: records in, lines out."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Annotated, Literal

import typer

from raftmq.cli import output
from raftmq.cli.runtime import DEFAULT_CONFIG, BootstrapOption, ConfigOption, Target, TopicArgument, run
from raftmq.client import Client, ConsumedRecord, Consumer, GroupConsumer
from raftmq.client.group_types import GroupStart

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_AGO = re.compile(r"(\d+)([smhd])")


class Format(Enum):
    TEXT = "text"
    JSON = "json"


def consume(
    name: TopicArgument,
    start: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="earliest|latest|OFFSET|TIME",
            help="Where to begin, in every partition read. A time is when records were appended: 2026-01-31, "
            "2026-01-31T08:00 (local unless it ends with Z or +01:00), or so long ago: 90s, 15m, 2h, 7d.",
        ),
    ] = "earliest",
    maximum: Annotated[int | None, typer.Option("--max", min=1, metavar="N", help="End after so many records.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more at the end.")] = False,
    partition: Annotated[
        list[int] | None, typer.Option("--partition", "-p", min=0, help="Only this one; may be repeated.")
    ] = None,
    form: Annotated[
        Format, typer.Option("--format", help="text: values, a line each. json: an object with everything a line.")
    ] = Format.TEXT,
    key_separator: Annotated[
        str, typer.Option(metavar="TEXT", help="In text, print the key and this before each value.")
    ] = "",
    rack: Annotated[
        str, typer.Option(help="Read from replicas in this rack, where they are in sync; may be a moment behind.")
    ] = "",
    group: Annotated[
        str,
        typer.Option(
            metavar="GROUP",
            help="Share the topic with the other members of this group, and go on where it has come to; what is "
            "printed is committed. --from (earliest or latest) counts where nothing is. Waits for more, as --follow.",
        ),
    ] = "",
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Print records: those that are there when it starts, or with --follow also all that come.

    Order holds within each partition.
    """
    begin = start_of(start, datetime.now(UTC))
    if group and (partition or begin not in ("earliest", "latest")):
        raise typer.BadParameter("in a group, --from is earliest or latest, and there is no --partition")
    line = _json_line if form is Format.JSON else _text_line(key_separator.encode())

    def consumer_of(client: Client) -> Consumer | GroupConsumer:
        if group:
            beginning: GroupStart = "latest" if begin == "latest" else "earliest"
            return client.consumer(name, group=group, start=beginning, rack=rack)
        until: Literal["high_watermark"] | None = None if follow else "high_watermark"
        return client.consumer(name, partitions=partition, start=begin, until=until, rack=rack)

    async def command() -> None:
        printed = 0
        async with Target(bootstrap, config).client() as client, consumer_of(client) as consumer:
            async for batch in consumer.batches():
                records = batch.records if maximum is None else batch.records[: maximum - printed]
                sys.stdout.buffer.write(b"".join(line(record) for record in records))
                sys.stdout.buffer.flush()
                printed += len(records)
                if printed == maximum:
                    break
        if not printed and output.notices.is_terminal:
            output.notice("no records there; --follow waits for some")

    run(command)


def start_of(text: str, now: datetime, option: str = "--from") -> Literal["earliest", "latest"] | int | datetime:
    if text == "earliest":
        return "earliest"
    if text == "latest":
        return "latest"
    if text.isdecimal():
        return int(text)
    with contextlib.suppress(ValueError, OverflowError):
        if match := _AGO.fullmatch(text):
            return now - timedelta(seconds=int(match[1]) * _SECONDS[match[2]])
        return datetime.fromisoformat(text).astimezone(UTC)
    raise typer.BadParameter(f"'{text}' is no offset and no time, nor earliest nor latest", param_hint=option)


def _text_line(separator: bytes) -> Callable[[ConsumedRecord], bytes]:
    def line(record: ConsumedRecord) -> bytes:
        key = record.key + separator if separator and record.key is not None else b""
        return key + (record.value or b"") + b"\n"

    return line


def _json_line(record: ConsumedRecord) -> bytes:
    document = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        **bytes_field("key", record.key),
        **bytes_field("value", record.value),
        "headers": [{"name": name, **bytes_field("value", value)} for name, value in record.headers],
        "timestamp_ms": record.timestamp_ms,
        "append_time_ms": record.append_time_ms,
        "leader_epoch": record.leader_epoch,
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def bytes_field(name: str, value: bytes | None) -> dict[str, str | None]:
    """Bytes that are UTF-8 as text under their name; others in base64 under ``NAME_base64``, so that none is lost."""
    if value is None:
        return {name: None}
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}
