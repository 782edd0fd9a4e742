"""``raftmq produce``: lines in, records out."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from raftmq.cli import lines, output, rows
from raftmq.cli.exits import CommandError, ExitCode
from raftmq.cli.rows import InputFormat, Parser, Row, RowError
from raftmq.cli.runtime import (
    DEFAULT_CONFIG,
    BootstrapOption,
    ConfigOption,
    JsonOption,
    Target,
    TopicArgument,
    run,
)
from raftmq.client import Acks, Client, NewRecord, Producer, RecordReceipt
from raftmq.errors import RaftmqError


class AcksName(Enum):
    ALL = "all"
    QUORUM = "quorum"
    LEADER = "leader"
    NONE = "none"


class CompressionName(Enum):
    NONE = "none"
    ZSTD = "zstd"
    LZ4 = "lz4"


def produce(
    name: TopicArgument,
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE]...", help="Files of lines; none or '-': standard input.")
    ] = None,
    form: Annotated[
        InputFormat,
        typer.Option("--format", help="Of the files: lines of text, JSON objects a line, or CSV with a header."),
    ] = InputFormat.TEXT,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="NAME", help="With json and csv: the field or column that is the key."),
    ] = None,
    key_separator: Annotated[
        str, typer.Option(metavar="TEXT", help="With text: what stands between key and value. Unset: no keys.")
    ] = "",
    acks: Annotated[
        AcksName,
        typer.Option(help="When a record counts as sent: on all in-sync replicas, a quorum, the leader, or at once."),
    ] = AcksName.ALL,
    partition: Annotated[int | None, typer.Option("--partition", "-p", min=0, help="Instead of the key's.")] = None,
    compression: Annotated[
        CompressionName, typer.Option(help="Of each batch, undone by consumers: zstd is smaller, lz4 faster.")
    ] = CompressionName.NONE,
    message_id: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Send everything under this id: run again with the same input and ID, nothing is appended twice. At "
            "most 10,000 records.",
        ),
    ] = None,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Send each line as a record, and end when all are acknowledged.

    With --key-separator, a line without the separator is a record without a key. A JSON object is sent as it stands in
    its line; a CSV row is sent as a JSON object with the header's names.
    """
    sources = files or [lines.STDIN]
    if form is InputFormat.TEXT and key is not None:
        raise typer.BadParameter("it names a field of --format json or csv", param_hint="--key")
    if form is not InputFormat.TEXT and key_separator:
        raise typer.BadParameter("it is for --format text; use --key", param_hint="--key-separator")
    parse = partial(rows.parser, form, key, key_separator.encode())
    if message_id is not None and compression is not CompressionName.NONE:
        raise typer.BadParameter("not with --message-id: the node makes the batch", param_hint="--compression")

    async def command() -> None:
        sending = _Sending(Acks[acks.name])
        try:
            async with Target(bootstrap, config).client() as client:
                if message_id is not None:
                    await sending.send_once(client, name, sources, parse, partition, message_id)
                else:
                    async with client.producer(name, acks=sending.acks, compression=compression.value) as producer:
                        await sending.send_all(producer, sources, parse, partition)
                    sending.raise_failure()
        except (RaftmqError, CommandError):
            output.notice(f"{sending.acknowledged:,} records were acknowledged before:")
            raise
        sending.report(as_json)

    run(command)


class _Sending:
    """Counts what becomes of each record."""

    def __init__(self, acks: Acks) -> None:
        self.acks = acks
        self.handed_in = 0
        self.acknowledged = 0
        self._per_partition: Counter[int] = Counter()
        self._duplicates = 0
        self._failure: RaftmqError | None = None

    async def send_all(
        self, producer: Producer, sources: list[Path], parse: Callable[[], Parser], partition: int | None
    ) -> None:
        quiet = lines.is_interactive(sources) or not output.notices.is_terminal
        columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} records acknowledged"), TimeElapsedColumn())
        with Progress(*columns, console=output.notices, disable=quiet, transient=True) as progress:
            task = progress.add_task("produce", total=None)
            for source in sources:
                async for chunk in _rows(source, parse()):
                    for key, value in chunk:
                        receipt = await producer.enqueue(value, key=key, partition=partition)
                        self.handed_in += 1
                        receipt.add_done_callback(self._settled)
                    self.raise_failure()
                    progress.update(task, completed=self.acknowledged)
            await producer.flush()

    async def send_once(
        self,
        client: Client,
        topic: str,
        sources: list[Path],
        parse: Callable[[], Parser],
        partition: int | None,
        message_id: str,
    ) -> None:
        """Everything at once, under an id."""
        records: list[NewRecord] = []
        for source in sources:
            async for chunk in _rows(source, parse()):
                records += [NewRecord(value, key) for key, value in chunk]
        for receipt in await client.send_once(
            topic, records, message_id=message_id, partition=partition, acks=self.acks
        ):
            self.acknowledged += receipt.count
            self._per_partition[receipt.partition] += receipt.count
            self._duplicates += receipt.count if receipt.duplicate else 0

    def raise_failure(self) -> None:
        """Raises the first error that a record met."""
        if self._failure is not None:
            raise self._failure

    def report(self, as_json: bool) -> None:
        partitions = {str(partition): count for partition, count in sorted(self._per_partition.items())}
        document = {"acknowledged": self.acknowledged, "acks": self.acks.name, "partitions": partitions}
        if as_json:
            output.show_json(document | ({"duplicates": self._duplicates} if self._duplicates else {}))
        else:
            spread = ", ".join(f"{count:,} in partition {partition}" for partition, count in partitions.items())
            known = f"; {self._duplicates:,} of them had been there before" if self._duplicates else ""
            output.notice(f"{self.acknowledged:,} records acknowledged{': ' if spread else ''}{spread}{known}")

    def _settled(self, receipt: asyncio.Future[RecordReceipt]) -> None:
        if receipt.cancelled():
            return
        error = receipt.exception()
        if error is None:
            self.acknowledged += 1
            self._per_partition[receipt.result().partition] += 1
        elif self._failure is None:
            assert isinstance(error, RaftmqError)
            self._failure = error


async def _rows(source: Path, parse: Parser) -> AsyncIterator[list[Row]]:
    """The records of one file, some at a time. Raises CommandError naming the line, after all rows before it."""
    number = 0
    async for chunk in lines.read_lines([source]):
        found: list[Row] = []
        fault: RowError | None = None
        for line in chunk:
            number += 1
            try:
                row = parse(line)
            except RowError as error:
                fault = error
                break
            if row is not None:
                found.append(row)
        yield found
        if fault is not None:
            raise CommandError(f"{source}, line {number}: {fault}", code=ExitCode.USAGE)
    try:
        if isinstance(parse, rows.CsvRows):
            parse.end()
    except RowError as error:
        raise CommandError(f"{source}: {error}", code=ExitCode.USAGE) from None
