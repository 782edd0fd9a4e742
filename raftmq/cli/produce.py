"""``raftmq produce``: lines in, records out."""

from __future__ import annotations

import asyncio
from collections import Counter
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from raftmq.cli import lines, output
from raftmq.cli.runtime import (
    DEFAULT_CONFIG,
    BootstrapOption,
    ConfigOption,
    JsonOption,
    Target,
    TopicArgument,
    run,
)
from raftmq.client import Acks, Producer, RecordReceipt
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
    key_separator: Annotated[
        str, typer.Option(metavar="TEXT", help="What stands between key and value in a line. Unset: no keys.")
    ] = "",
    acks: Annotated[
        AcksName,
        typer.Option(help="When a record counts as sent: on all in-sync replicas, a quorum, the leader, or at once."),
    ] = AcksName.ALL,
    partition: Annotated[int | None, typer.Option("--partition", "-p", min=0, help="Instead of the key's.")] = None,
    compression: Annotated[
        CompressionName, typer.Option(help="Of each batch, undone by consumers: zstd is smaller, lz4 faster.")
    ] = CompressionName.NONE,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Send each line as a record, and end when all are acknowledged.

    With --key-separator, a line without the separator is a record without a key.
    """
    sources = files or [lines.STDIN]
    separator = key_separator.encode()

    async def command() -> None:
        sending = _Sending(Acks[acks.name])
        try:
            async with Target(bootstrap, config).client() as client:
                async with client.producer(name, acks=sending.acks, compression=compression.value) as producer:
                    await sending.send_all(producer, sources, separator, partition)
                sending.raise_failure()
        except RaftmqError:
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
        self._failure: RaftmqError | None = None

    async def send_all(self, producer: Producer, sources: list[Path], separator: bytes, partition: int | None) -> None:
        quiet = lines.is_interactive(sources) or not output.notices.is_terminal
        columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} records acknowledged"), TimeElapsedColumn())
        with Progress(*columns, console=output.notices, disable=quiet, transient=True) as progress:
            task = progress.add_task("produce", total=None)
            async for chunk in lines.read_lines(sources):
                for line in chunk:
                    key, value = split(line, separator)
                    receipt = await producer.enqueue(value, key=key, partition=partition)
                    self.handed_in += 1
                    receipt.add_done_callback(self._settled)
                self.raise_failure()
                progress.update(task, completed=self.acknowledged)
            await producer.flush()

    def raise_failure(self) -> None:
        """Raises the first error that a record met."""
        if self._failure is not None:
            raise self._failure

    def report(self, as_json: bool) -> None:
        partitions = {str(partition): count for partition, count in sorted(self._per_partition.items())}
        if as_json:
            output.show_json({"acknowledged": self.acknowledged, "acks": self.acks.name, "partitions": partitions})
        else:
            spread = ", ".join(f"{count:,} in partition {partition}" for partition, count in partitions.items())
            output.notice(f"{self.acknowledged:,} records acknowledged{': ' if spread else ''}{spread}")

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


def split(line: bytes, separator: bytes) -> tuple[bytes | None, bytes]:
    """Key and value of a line; without a separator there is no key."""
    if separator:
        key, found, value = line.partition(separator)
        if found:
            return key, value
    return None, line
