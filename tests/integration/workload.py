"""Records with unique values, produced while things happen, and accounted for afterwards."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from types import TracebackType
from typing import Self

import raftmq
from raftmq.cli.supervisor import LocalCluster
from raftmq.client.types import RecordReceipt
from raftmq.errors import RaftmqError

TOPIC = "orders"
KEYS = 31
UNKNOWN = b"unknown"
"""Value of records of which nobody knows whether they were kept."""


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 90) -> None:
    """Wait until `condition` holds. The limit is for a cluster that is stuck, not for a slow machine."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110  it happens in another process
            await asyncio.sleep(0.05)


class Workload:
    """Produces numbered records with acks=ALL, in the background, until it leaves its ``async with`` block."""

    def __init__(
        self,
        cluster: LocalCluster,
        *,
        delivery_timeout_ms: int = 60_000,
        replicas: int = 3,
        retention_ms: int = 0,
        retention_bytes: int = 0,
    ) -> None:
        self.cluster = cluster
        self.client = raftmq.connect(cluster.bootstrap)
        self.acked: dict[int, RecordReceipt] = {}
        self.errors: list[RaftmqError] = []
        self.sent = 0
        self._delivery_timeout_ms = delivery_timeout_ms
        self._replicas = replicas
        self._retention_ms = retention_ms
        self._retention_bytes = retention_bytes
        self._stop = asyncio.Event()
        self._more = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.client.__aenter__()
        await self.client.admin.create_topic(
            TOPIC,
            partitions=3,
            replication_factor=self._replicas,
            retention_ms=self._retention_ms,
            retention_bytes=self._retention_bytes,
        )
        self._task = asyncio.create_task(self._produce())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        assert self._task is not None
        await self._task
        await self.client.__aexit__(kind, error, trace)

    async def _produce(self) -> None:
        async with self.client.producer(TOPIC, delivery_timeout_ms=self._delivery_timeout_ms) as producer:
            while not self._stop.is_set():
                for _ in range(20):
                    number, self.sent = self.sent, self.sent + 1
                    future = await producer.enqueue(f"{number}".encode(), key=f"{number % KEYS}".encode())
                    future.add_done_callback(partial(self._ended, number))
                await asyncio.sleep(0.005)

    def _ended(self, number: int, done: asyncio.Future[RecordReceipt]) -> None:
        error = done.exception()
        if error is None:
            self.acked[number] = done.result()
            self._more.set()
        else:
            assert isinstance(error, RaftmqError), error
            self.errors.append(error)

    async def more(self, count: int = 500) -> None:
        """Wait until so many further records are acknowledged."""
        target = len(self.acked) + count
        async with asyncio.timeout(90):
            while len(self.acked) < target:
                self._more.clear()
                await self._more.wait()

    async def stop(self) -> None:
        """Send no more, and wait until every record has its answer."""
        self._stop.set()
        assert self._task is not None
        await self._task

    # -- the account -----------------------------------------------------------------------------------------------

    async def check(self) -> None:
        """Nothing acknowledged is lost or moved, nothing is there twice, keys keep their order, replicas are equal."""
        await self.stop()
        assert self.errors == []
        assert len(self.acked) == self.sent
        await self.check_log()

    async def check_log(self) -> None:
        read: dict[int, tuple[int, int]] = {}
        newest: Counter[int] = Counter()
        async with self.client.consumer(TOPIC, start="earliest", until="high_watermark") as consumer:
            async for record in consumer:
                if record.value == UNKNOWN:
                    continue
                assert record.value is not None
                number = int(record.value)
                assert number not in read, f"record {number} is there twice: {read[number]} and {record.offset}"
                assert number >= newest[number % KEYS], f"record {number} overtook {newest[number % KEYS]}"
                newest[number % KEYS] = number
                read[number] = (record.partition, record.offset)
        starts = {o.partition: o.log_start_offset for o in await self.client.list_offsets(TOPIC)}
        for number, receipt in self.acked.items():
            if receipt.offset is None or receipt.offset >= starts[receipt.partition]:
                assert read.get(number) == (receipt.partition, receipt.offset), f"acknowledged record {number} is lost"
        await until(self._replicas_equal)

    async def _replicas_equal(self) -> bool:
        """All nodes hold the same chain of entries for each partition, to the same end."""
        ends: dict[tuple[str, int], set[tuple[int, bytes]]] = {}
        for node in self.cluster.nodes:
            try:
                replicas = await self.client.cluster.list_replicas(node)
            except RaftmqError:
                return False  # it has only just come back, and the connection to it not yet
            for replica in replicas:
                ends.setdefault((replica.topic, replica.partition), set()).add(
                    (replica.chain_index, replica.chain_hash)
                )
        return all(len(chains) == 1 for chains in ends.values()) and (TOPIC, 0) in ends

    async def can_produce(self) -> bool:
        """Every partition takes a record again."""
        try:
            async with self.client.producer(TOPIC, delivery_timeout_ms=2_000) as producer:
                for _ in range(KEYS):
                    number, self.sent = self.sent, self.sent + 1
                    self.acked[number] = await producer.send(f"{number}".encode(), key=f"{number % KEYS}".encode())
        except RaftmqError:
            return False
        return True

    async def leader_of(self, partition: int) -> int:
        """The node that leads a partition now; waits for one."""
        found = 0

        async def known() -> bool:
            nonlocal found
            topic = await self.client.admin.describe_topic(TOPIC)
            found = topic.partitions[partition].leader or 0
            return found != 0

        await until(known)
        return found
