"""`connect`, and the `Client` that it makes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, Self, Unpack, overload

from raftmq.client.admin import Admin, Cluster
from raftmq.client.connection import AddressMap, ConnectionPool, NodeChannel, parse_addresses
from raftmq.client.consumer import Consumer, Start, Until
from raftmq.client.exchange_client import ExchangeClient
from raftmq.client.fetcher import FetchSettings
from raftmq.client.group_consumer import GroupConsumer
from raftmq.client.groups import GroupOptions, Groups, group_consumer
from raftmq.client.metadata import MetadataCache
from raftmq.client.offsets import list_offsets
from raftmq.client.once import send_once
from raftmq.client.producer import Producer
from raftmq.client.queue import QueueWorker, WorkerSettings
from raftmq.client.queue_admin import Queues
from raftmq.client.retry import RetryPolicy, may_retry_read
from raftmq.client.router import Router
from raftmq.client.settings import ProducerSettings
from raftmq.client.types import Acks, BatchReceipt, Compression, Isolation, NewRecord, PartitionOffsets
from raftmq.errors import InvalidArgument

MAX_FETCH_BYTES = 8 * 1024 * 1024
MAX_FETCH_WAIT_MS = 60_000
DEFAULT_IN_FLIGHT = 8
MAX_IN_FLIGHT = 64
"""The broker remembers so many batches of a producer: a retry from further back could not be told its offset."""


def connect(
    addresses: str,
    *,
    connect_timeout_ms: int = 10_000,
    retry: RetryPolicy | None = None,
    address_map: AddressMap | None = None,
    client_id: str = "",
) -> Client:
    """A client of the cluster that any of `addresses` ("host:port,host:port") belongs to.

    Entering it (``async with``) asks one of them for the cluster's nodes; later the nodes themselves are asked, so that
    one address is enough as long as it answers then.

    connect_timeout_ms: how long entering may take before it raises the last error.
    retry: back-off between attempts.
    address_map: called with host and port of every node as it advertises them; gives those to dial instead. Not
    applied to `addresses`.
    client_id: whose quota the calls count for (`Admin.set_quota`), 1 to 128 printable characters; "": that of the
    address that they come from.

    Raises InvalidArgument where `addresses` cannot be read.
    """
    if client_id and not (client_id.isascii() and client_id.isprintable() and " " not in client_id):
        raise InvalidArgument("has 1 to 128 printable characters, no blanks", field="client_id")
    pool = ConnectionPool(address_map, lambda address: NodeChannel(address, client_id))
    return Client(addresses, connect_timeout_ms=connect_timeout_ms, retry=retry, address_map=address_map, pool=pool)


class Client(ExchangeClient):
    """A connection to a cluster. Made by `connect`, used in an ``async with`` block, by one event loop."""

    def __init__(
        self,
        addresses: str,
        *,
        connect_timeout_ms: int,
        retry: RetryPolicy | None,
        address_map: AddressMap | None,
        pool: ConnectionPool | None = None,
    ) -> None:
        self._connect_timeout_ms = connect_timeout_ms
        self._policy = retry or RetryPolicy()
        self._pool = pool or ConnectionPool(address_map)
        self._metadata = MetadataCache(self._pool, parse_addresses(addresses))
        super().__init__(Router(self._metadata, self._policy))
        self.admin = Admin(self._router)
        """Topics."""
        self.cluster = Cluster(self._router, self._metadata)
        """Nodes and replicas."""
        self.groups = Groups(self._router)
        """Consumer groups."""
        self.queues = Queues(self._router)
        """Queue groups and dead letters; `queue` makes workers."""

    @property
    def cluster_id(self) -> str:
        return self._metadata.image.cluster_id

    async def list_offsets(
        self,
        topic: str,
        partitions: Sequence[int] | None = None,
        *,
        appended_at: datetime | None = None,
        timeout_ms: int = 15_000,
    ) -> tuple[PartitionOffsets, ...]:
        """Bounds of a topic's partitions (None: all), by number. A high watermark covers everything acknowledged
        before the call. `appended_at`, with a time zone, also asks for the first offset appended then or later.
        Raises UnknownTopic, UnknownPartition, InvalidArgument.
        """
        description = await self._metadata.topic(topic)
        wanted = [p.partition for p in description.partitions] if partitions is None else sorted(set(partitions))
        bounds = await list_offsets(self._router, topic, wanted, appended_at=appended_at, timeout_ms=timeout_ms)
        return tuple(bounds[partition] for partition in wanted)

    async def send_once(
        self,
        topic: str,
        records: Sequence[NewRecord],
        *,
        message_id: str,
        partition: int | None = None,
        acks: Acks = Acks.ALL,
        timeout_ms: int = 30_000,
    ) -> tuple[BatchReceipt, ...]:
        """Append `records` unless that was done under `message_id` before; returns a receipt for each partition.

        For programs that keep no state between their runs: whoever calls this again with the same records and id, in
        whatever process, gets the receipts of the first time, with `duplicate` set. The partitions remember an id for
        the topic's ``message_id_window_ms`` and ``message_id_window_count``. A producer needs no ids of this kind.

        Records go to the partitions of their keys; without keys, all to one that the id chooses, or to `partition`. At
        most 10,000 records. Each partition takes its part whole, but not all of them together.

        Raises InvalidArgument (``message_id``: other records had it), and the last error after `timeout_ms`; then call
        it again.
        """
        if not message_id:
            raise InvalidArgument("is required", field="message_id")
        return await send_once(
            self._router, topic, records, message_id, partition=partition, acks=acks, timeout_ms=timeout_ms
        )

    def producer(
        self,
        topic: str,
        *,
        acks: Acks = Acks.ALL,
        idempotent: bool | None = None,
        compression: Literal["none", "zstd", "lz4"] = "none",
        linger_ms: float = 5,
        max_batch_bytes: int = 256 * 1024,
        max_batch_records: int = 10_000,
        max_in_flight: int | None = None,
        buffer_bytes: int = 64 * 1024 * 1024,
        delivery_timeout_ms: int = 120_000,
        request_timeout_ms: int = 5_000,
        stream: bool = False,
    ) -> Producer:
        """A producer of one topic; see `Producer`.

        acks: how far a batch must have come before it is acknowledged.
        idempotent: a retry is never a duplicate. None: yes, with ALL and QUORUM; it cannot be had with LEADER and
        NONE. Without it, what may have been applied is not retried but raised.
        compression: of each batch: "zstd" (smaller), "lz4" (faster) or "none". Sizes below are before compression.
        linger_ms: how long a batch that is not full waits for more records while others are under way.
        max_batch_bytes, max_batch_records: when a batch is full; the topic's own limit in bytes holds too.
        max_in_flight: batches of a partition under way at once, 1 to 64; None: 8, or 1 if not idempotent, because
        then a retry of one batch may come to stand behind its successor.
        buffer_bytes: what may wait for its acknowledgement.
        delivery_timeout_ms: from being handed in to failing for good.
        request_timeout_ms: one attempt; what a silent node costs before another way is tried.
        stream: batches travel as messages of one stream to each node (ProduceStream), not in a call each, which costs
        both sides less. The producers of a client share the streams, and 128 batches or 16 MiB under way on each; a
        partition that does not answer leaves the others at least half of that.

        Raises InvalidArgument, naming the parameter.
        """
        if idempotent is None:
            idempotent = acks in (Acks.ALL, Acks.QUORUM)
        if max_in_flight is None:
            max_in_flight = DEFAULT_IN_FLIGHT if idempotent else 1
        if idempotent and acks in (Acks.LEADER, Acks.NONE):
            raise InvalidArgument(f"idempotence needs QUORUM or ALL, not {acks.name}", field="acks")
        if compression not in ("none", "zstd", "lz4"):
            raise InvalidArgument(f'compression is "none", "zstd" or "lz4", not {compression!r}', field="compression")
        _in_range("max_in_flight", max_in_flight, 1, MAX_IN_FLIGHT)
        for name, value in (
            ("max_batch_bytes", max_batch_bytes),
            ("max_batch_records", max_batch_records),
            ("buffer_bytes", buffer_bytes),
            ("delivery_timeout_ms", delivery_timeout_ms),
            ("request_timeout_ms", request_timeout_ms),
        ):
            _in_range(name, value, 1, 2**31 - 1)
        _in_range("linger_ms", linger_ms, 0, 60_000)
        settings = ProducerSettings(
            acks=acks,
            linger_ms=linger_ms,
            max_batch_bytes=max_batch_bytes,
            max_batch_records=max_batch_records,
            max_in_flight=max_in_flight,
            delivery_timeout_ms=delivery_timeout_ms,
            request_timeout_ms=request_timeout_ms,
            idempotent=idempotent,
            compression=Compression[compression.upper()],
            stream=stream,
        )
        return Producer(topic, self._router, settings, buffer_bytes=buffer_bytes)

    @overload
    def consumer(
        self,
        topic: str,
        *,
        start: Start | None = None,
        partitions: Sequence[int] | None = None,
        until: Until | None = None,
        on_trimmed: Literal["error", "earliest"] = "error",
        isolation: Isolation = Isolation.COMMITTED,
        max_bytes: int = 1024 * 1024,
        max_wait_ms: int = 1_000,
        prefetch_bytes: int = 4 * 1024 * 1024,
        unavailable_timeout_ms: int = 120_000,
        rack: str = "",
    ) -> Consumer: ...

    @overload
    def consumer(self, topic: str | Sequence[str], *, group: str, **options: Unpack[GroupOptions]) -> GroupConsumer: ...

    def consumer(self, topic: Any, *, group: str | None = None, **options: Any) -> Any:
        """A consumer of one topic, on its own: `topic_consumer`. With `group`, a member of it: `group_consumer`."""
        return self.topic_consumer(topic, **options) if group is None else self.group_consumer(topic, group, **options)

    def group_consumer(self, topics: str | Sequence[str], group: str, **options: Unpack[GroupOptions]) -> GroupConsumer:
        """A member of a consumer group, which shares `topics` with the others; see `GroupConsumer`, and `GroupOptions`
        for what can be set. Raises InvalidArgument, naming the parameter."""
        names = (topics,) if isinstance(topics, str) else tuple(topics)
        return group_consumer(self._router, names, group, **options)

    def topic_consumer(
        self,
        topic: str,
        *,
        start: Start | None = None,
        partitions: Sequence[int] | None = None,
        until: Until | None = None,
        on_trimmed: Literal["error", "earliest"] = "error",
        isolation: Isolation = Isolation.COMMITTED,
        max_bytes: int = 1024 * 1024,
        max_wait_ms: int = 1_000,
        prefetch_bytes: int = 4 * 1024 * 1024,
        unavailable_timeout_ms: int = 120_000,
        rack: str = "",
    ) -> Consumer:
        """A consumer of one topic; see `Consumer`.

        start: "earliest", "latest", a time (with a time zone: the first record appended then or later), an offset for
        all partitions, or one for each. Required: every guess would skip or repeat records.
        partitions: which to read; None: all.
        until: "high_watermark" ends the iteration at what is the end when the block is entered; a mapping gives the
        offset at which each partition ends, exclusive; None: never.
        on_trimmed: what happens when the wanted offset is below the log's start: raise OffsetOutOfRange, or go on at
        the start (`Consumer.trimmed` counts what was skipped).
        max_bytes, max_wait_ms: of one fetch, at most 8 MiB and 60 s. prefetch_bytes: per partition, soft.
        unavailable_timeout_ms: how long a partition may fail to answer before its last error is raised.
        rack: read each partition from a replica in this rack if one is in sync, else from its leader. Never shows what
        is not committed, but may be behind the leader: by a heartbeat, or for an election timeout once it is cut off.

        Raises InvalidArgument, naming the parameter.
        """
        if start is None:
            raise InvalidArgument('start is required: "earliest", "latest", a time or an offset', field="start")
        if isinstance(start, str) and start not in ("earliest", "latest"):
            raise InvalidArgument(f'start is "earliest", "latest", a time or an offset, not {start!r}', field="start")
        if isinstance(start, datetime) and start.tzinfo is None:
            raise InvalidArgument("a time needs a time zone: whose clock is meant?", field="start")
        if isinstance(until, str) and until != "high_watermark":
            raise InvalidArgument(f'until is "high_watermark" or offsets, not {until!r}', field="until")
        if on_trimmed not in ("error", "earliest"):
            raise InvalidArgument(f'on_trimmed is "error" or "earliest", not {on_trimmed!r}', field="on_trimmed")
        _in_range("max_bytes", max_bytes, 1, MAX_FETCH_BYTES)
        _in_range("max_wait_ms", max_wait_ms, 0, MAX_FETCH_WAIT_MS)
        _in_range("prefetch_bytes", prefetch_bytes, 1, 2**31 - 1)
        _in_range("unavailable_timeout_ms", unavailable_timeout_ms, 1, 2**31 - 1)
        settings = FetchSettings(
            max_bytes=max_bytes,
            max_wait_ms=max_wait_ms,
            isolation=isolation,
            prefetch_bytes=prefetch_bytes,
            unavailable_timeout_ms=unavailable_timeout_ms,
            skip_trimmed=on_trimmed == "earliest",
            rack=rack,
        )
        return Consumer(topic, self._router, settings, partitions=partitions, start=start, until=until)

    def queue(
        self,
        topic: str,
        group: str,
        *,
        worker: str = "",
        lease_ms: int | None = None,
        prefetch: int = 32,
        max_bytes: int = 1024 * 1024,
        partitions: Sequence[int] | None = None,
        unavailable_timeout_ms: int = 120_000,
    ) -> QueueWorker:
        """A worker of a queue group, which is made with the defaults if there is none; see `QueueWorker`.

        worker: who it is, for people who look at the queue.
        lease_ms: how long it has each message, 100 ms to 12 h; None: as the group's settings say.
        prefetch: how many messages it holds at most, 1 to 10,000; leases run while it holds them.
        max_bytes: of one answer, softly; at most 4 MiB.
        partitions: which to take from; None: all.
        unavailable_timeout_ms: how long a partition may fail to answer before its last error is raised.

        Raises InvalidArgument, naming the parameter.
        """
        _in_range("prefetch", prefetch, 1, 10_000)
        _in_range("max_bytes", max_bytes, 1, 4 * 1024 * 1024)
        _in_range("unavailable_timeout_ms", unavailable_timeout_ms, 1, 2**31 - 1)
        if lease_ms is not None:
            _in_range("lease_ms", lease_ms, 100, 12 * 3_600_000)
        settings = WorkerSettings(
            worker=worker,
            lease_ms=lease_ms,
            prefetch=prefetch,
            max_bytes=max_bytes,
            partitions=None if partitions is None else tuple(dict.fromkeys(partitions)),
            unavailable_timeout_ms=unavailable_timeout_ms,
        )
        return QueueWorker(self._router, topic, group, settings)

    async def __aenter__(self) -> Self:
        try:
            await self._policy.call(self._metadata.refresh, may_retry_read, timeout_ms=self._connect_timeout_ms)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections. Producers and consumers must have been closed before."""
        await self._metadata.close()
        await self._pool.close()


def _in_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InvalidArgument(f"{name} is {value}, not in {low} to {high}", field=name)
