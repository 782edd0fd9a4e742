"""``raftmq publish``: lines in, records out to every topic that an exchange leads to."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import typer

from raftmq.cli import lines, output
from raftmq.cli.exchange import ExchangeArgument, HeaderOption, RoutingKeyOption, parse_headers
from raftmq.cli.produce import AcksName
from raftmq.cli.runtime import DEFAULT_CONFIG, BootstrapOption, ConfigOption, JsonOption, Target, run
from raftmq.client import Acks, Client, NewRecord, Published
from raftmq.client.publishing import published_record

GROUP_LINES_MAX = 500
GROUP_BYTES_MAX = 256 * 1024


def publish(
    name: ExchangeArgument,
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE]...", help="Files of lines; none or '-': standard input.")
    ] = None,
    routing_key: RoutingKeyOption = "",
    header: HeaderOption = None,
    key_separator: Annotated[
        str, typer.Option(metavar="TEXT", help="What stands between key and value of a line. Unset: no keys.")
    ] = "",
    mandatory: Annotated[bool, typer.Option("--mandatory", help="Refuse what reaches no topic.")] = False,
    acks: Annotated[
        AcksName,
        typer.Option(help="When a record counts as sent: on all in-sync replicas, a quorum, the leader, or at once."),
    ] = AcksName.ALL,
    message_id: Annotated[
        str,
        typer.Option(
            metavar="ID",
            help="Run again with the same input and ID, no topic gets anything twice. Topics remember ID/1, ID/2, ..., "
            "one for every 500 lines.",
        ),
    ] = "",
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Send each line to every topic that the exchange leads to, under one routing key.

    Each topic takes the lines or refuses them by itself, and the end tells of each. Where one refuses, nothing more is
    sent.
    """
    headers = parse_headers(header)
    sending = _Sending(name, routing_key, headers, mandatory, Acks[acks.name], message_id)

    async def command() -> None:
        try:
            async with Target(bootstrap, config).client() as client:
                await sending.send_all(client, files or [lines.STDIN], key_separator.encode())
        finally:
            sending.report(as_json)

    run(command)


class _Sending:
    """What became of the lines so far."""

    def __init__(
        self,
        exchange: str,
        routing_key: str,
        headers: list[tuple[str, bytes]],
        mandatory: bool,
        acks: Acks,
        message_id: str,
    ) -> None:
        self._exchange = exchange
        self._routing_key = routing_key
        self._headers = headers
        self._mandatory = mandatory
        self._acks = acks
        self._message_id = message_id
        self._sent = 0
        self._unroutable = 0
        self._appended: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()

    async def send_all(self, client: Client, sources: list[Path], separator: bytes) -> None:
        """Raises the first error that a topic met, after what was sent together with it."""
        number = 0
        async for group in _groups(sources, steady=bool(self._message_id)):
            number += 1
            await self._send(client, [self._record(line, separator) for line in group], number)

    def _record(self, line: bytes, separator: bytes) -> NewRecord:
        key, found, value = line.partition(separator) if separator else (b"", b"", line)
        return published_record(value if found else line, key if found else None, self._routing_key, self._headers)

    async def _send(self, client: Client, records: list[NewRecord], number: int) -> None:
        published = await client.publish_batch(
            self._exchange,
            records,
            routing_key=self._routing_key,
            headers=self._headers,
            mandatory=self._mandatory,
            acks=self._acks,
            message_id=f"{self._message_id}/{number}" if self._message_id else "",
            raise_errors=False,
        )
        self._sent += len(records)
        self._count(published, len(records))
        for failed in published.failed:
            assert failed.error is not None
            failed.error.message = f"topic {failed.topic}: {failed.error.message}"
            raise failed.error

    def _count(self, published: Published, records: int) -> None:
        self._unroutable += 0 if published.routed else records
        for topic in published.topics:
            self._appended[topic.topic] += sum(receipt.count for receipt in topic.receipts)
            self._failed[topic.topic] += 0 if topic.error is None else 1

    def report(self, as_json: bool) -> None:
        topics = dict(sorted(self._appended.items()))
        if as_json:
            refused = sorted(topic for topic, count in self._failed.items() if count)
            output.show_json(
                {"sent": self._sent, "unroutable": self._unroutable, "topics": topics, "refused_by": refused}
            )
            return
        for topic, count in topics.items():
            output.notice(f"{count:,} records acknowledged by topic {topic}")
        if self._unroutable:
            output.notice(f"{self._unroutable:,} records reached no topic")


async def _groups(sources: list[Path], *, steady: bool) -> AsyncIterator[list[bytes]]:
    """The lines in groups. `steady`: which depend on the lines alone, because under an id the same lines must come
    together again; otherwise nothing waits for lines that somebody has yet to type."""
    group: list[bytes] = []
    size = 0
    async for chunk in lines.read_lines(sources):
        for line in chunk:
            if group and (len(group) == GROUP_LINES_MAX or size + len(line) > GROUP_BYTES_MAX):
                yield group
                group, size = [], 0
            group.append(line)
            size += len(line)
        if group and not steady:
            yield group
            group, size = [], 0
    if group:
        yield group
