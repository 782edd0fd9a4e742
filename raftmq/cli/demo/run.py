"""The demo's run: produce, kill, go on, restart, read back. What it all means is decided in checks.py."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import raftmq
from raftmq.cli.demo import checks, figures
from raftmq.cli.demo.checks import Read, Replica, Sent
from raftmq.cli.demo.dataset import ROW, Dataset
from raftmq.cli.demo.figures import Acknowledged
from raftmq.cli.demo.report import Report
from raftmq.cli.demo.view import Advance, View
from raftmq.cli.exits import CommandError, ExitCode
from raftmq.cli.supervisor import LocalCluster
from raftmq.client import Acks, BatchReceipt, Client, Producer, RecordReceipt
from raftmq.errors import RaftmqError
from raftmq.ids import NodeId

TOPIC = "flights"
PARTITIONS = 3
REPLICAS = 3
MIN_IN_SYNC = 2
BUFFER_BYTES = 4 * 1024 * 1024
"""The producer's buffer: enough to keep all partitions busy, small enough that latencies mean something."""
YIELD_EVERY = 64
"""Making records is pure computing: after so many, the event loop gets its turn."""
SETTLE_SECONDS = 120.0
POLL_SECONDS = 0.1
NOBODY = NodeId(0)


@dataclass(slots=True)
class Produced:
    """What the producer's side of the run saw. Times are of the event loop's clock, in seconds."""

    sent: list[Sent] = field(default_factory=list)
    acknowledged: bytearray = field(default_factory=bytearray)
    """By row: 1 if its receipt has come."""
    batches: list[Acknowledged] = field(default_factory=list)
    payload_bytes: int = 0
    began: float = 0.0
    ended: float = 0.0
    killed: NodeId = NOBODY
    killed_at: float = 0.0
    restarted_at: float = 0.0
    recovery: asyncio.Task[float] | None = None
    """Ends when the killed node is in sync again, with the time of that."""
    failure: RaftmqError | None = None

    def acknowledged_records(self) -> list[Sent]:
        return [sent for sent in self.sent if self.acknowledged[sent.row]]


class Demo:
    """One run on a cluster that is up and empty."""

    def __init__(self, cluster: LocalCluster, dataset: Dataset, rows: int, view: View) -> None:
        self._cluster = cluster
        self._dataset = dataset
        self._rows = rows
        self._view = view
        self._last_batch: BatchReceipt | None = None

    async def run(self) -> Report:
        """Raises RaftmqError or CommandError where the run cannot even come to its checks."""
        async with raftmq.connect(self._cluster.bootstrap) as client:
            await client.admin.create_topic(
                TOPIC, partitions=PARTITIONS, replication_factor=REPLICAS, min_in_sync_replicas=MIN_IN_SYNC
            )
            self._view.event(
                f"topic '{TOPIC}': {PARTITIONS} partitions, {REPLICAS} replicas, min in-sync {MIN_IN_SYNC}"
            )
            produced = await self._produce(client)
            with self._view.phase(f"node {produced.killed} catches up"):
                assert produced.recovery is not None, "the node was started again before the last record was sent"
                recovered_at = await produced.recovery
            read, read_seconds = await self._read_back(client)
            replicas = await self._compare_replicas(client)
        sent = produced.acknowledged_records()
        nodes = self._cluster.nodes
        return Report(
            dataset=self._dataset.name,
            records=len(sent),
            payload_bytes=produced.payload_bytes,
            produce_seconds=produced.ended - produced.began,
            ack_latency=figures.latency(produced.batches),
            killed_node=produced.killed,
            standstill=figures.standstill(produced.batches, produced.killed_at, recovered_at),
            recovery_seconds=recovered_at - produced.restarted_at,
            read_seconds=read_seconds,
            checks=(
                checks.all_acknowledged(self._rows, sent),
                checks.nothing_lost(sent, read),
                checks.nothing_twice(read),
                checks.nothing_foreign(sent, read),
                checks.keys_in_order(read),
                checks.replicas_equal(replicas, nodes[:REPLICAS], PARTITIONS),
            ),
        )

    # -- produce, kill, restart ------------------------------------------------------------------------------------

    async def _produce(self, client: Client) -> Produced:
        loop = asyncio.get_running_loop()
        produced = Produced(acknowledged=bytearray(self._rows), began=loop.time())
        self._view.event(f"producing {self._rows:,} records of {self._dataset.name} with acks=all")
        with self._view.phase("produce", self._rows, "acknowledged") as advance:
            async with client.producer(TOPIC, acks=Acks.ALL, buffer_bytes=BUFFER_BYTES) as producer:
                await self._send_all(client, producer, produced, advance)
                await self._drain(producer, produced, advance)
        if produced.failure is not None:
            raise produced.failure
        self._view.event(f"all {sum(produced.acknowledged):,} acknowledged")
        return produced

    async def _send_all(self, client: Client, producer: Producer, produced: Produced, advance: Advance) -> None:
        for record in self._dataset.records(self._rows):
            if record.row == self._rows // 2:
                await self._kill_busiest(client, produced)
            elif record.row == self._rows * 3 // 4:
                await self._restart(client, produced)
            receipt = await producer.enqueue(record.value, key=record.key)
            receipt.add_done_callback(partial(self._settled, produced, record.row))
            produced.sent.append(Sent(record.row, record.key, checks.digest(record.value)))
            produced.payload_bytes += len(record.value) + len(record.key or b"")
            if record.row % YIELD_EVERY == 0:
                await asyncio.sleep(0)
                advance(record.row)
            if produced.failure is not None:
                return

    async def _drain(self, producer: Producer, produced: Produced, advance: Advance) -> None:
        await producer.flush()
        await asyncio.sleep(0)  # receipts settle in callbacks, which come one turn of the loop later
        produced.ended = asyncio.get_running_loop().time()
        advance(self._rows)

    def _settled(self, produced: Produced, row: int, receipt: asyncio.Future[RecordReceipt]) -> None:
        if receipt.cancelled():
            return
        error = receipt.exception()
        if error is not None:
            assert isinstance(error, RaftmqError)
            produced.failure = produced.failure or error
            return
        produced.acknowledged[row] = 1
        batch = receipt.result().batch
        if batch is not self._last_batch:
            self._last_batch = batch
            now = asyncio.get_running_loop().time()
            produced.batches.append(Acknowledged(batch.partition, now, batch.latency_us / 1e6, batch.count))

    async def _kill_busiest(self, client: Client, produced: Produced) -> None:
        """SIGKILL the node that leads most partitions of the topic; of equal ones that with the lowest id."""
        topic = await client.admin.describe_topic(TOPIC)
        led = Counter(partition.leader for partition in topic.partitions if partition.leader is not None)
        node, count = min(led.items(), key=lambda item: (-item[1], item[0]))
        produced.killed = NodeId(node)
        produced.killed_at = asyncio.get_running_loop().time()
        await self._cluster.kill(produced.killed)
        done = sum(produced.acknowledged)
        self._view.event(
            f"node {node}, leader of {count} of {PARTITIONS} partitions, killed with SIGKILL at {done:,} acknowledged",
            style="bold red",
        )

    async def _restart(self, client: Client, produced: Produced) -> None:
        """Start the killed node, and watch it from now on: it catches up while records go on being produced."""
        await self._cluster.start(produced.killed)
        produced.restarted_at = asyncio.get_running_loop().time()
        produced.recovery = asyncio.create_task(self._wait_in_sync(client, produced.killed))
        self._view.event(f"node {produced.killed} started again at {sum(produced.acknowledged):,} acknowledged")

    # -- afterwards ------------------------------------------------------------------------------------------------

    async def _wait_in_sync(self, client: Client, node: NodeId) -> float:
        """Returns when every replica of every partition is in sync."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SETTLE_SECONDS
        while True:
            topic = await client.admin.describe_topic(TOPIC)
            behind = [p.partition for p in topic.partitions if p.leader is None or set(p.in_sync) != set(p.replicas)]
            if not behind:
                break
            if loop.time() > deadline:
                raise CommandError(
                    f"partitions {behind} are not in sync after {SETTLE_SECONDS:.0f} s",
                    hint=f"the node's log: {self._cluster.log_file(node)}",
                    code=ExitCode.FAILED,
                )
            await asyncio.sleep(POLL_SECONDS)
        self._view.event(f"node {node} is in sync again")
        return loop.time()

    async def _read_back(self, client: Client) -> tuple[list[Read], float]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        read: list[Read] = []
        with self._view.phase("read back", self._rows, "records") as advance:
            async with client.consumer(TOPIC, start="earliest", until="high_watermark") as consumer:
                async for batch in consumer.batches():
                    read += [
                        Read(r.partition, r.offset, _row(r.value), r.key, checks.digest(r.value)) for r in batch.records
                    ]
                    advance(len(read))
        self._view.event(f"{len(read):,} records read back")
        return read, loop.time() - began

    async def _compare_replicas(self, client: Client) -> Sequence[Replica]:
        """Ask every node for its chain hashes, until all say them of the same log indexes or time is over.

        A node that has just come back may not answer yet, or not know the topic's name: its data catch up first.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SETTLE_SECONDS
        with self._view.phase("compare replicas"):
            while True:
                replicas = [replica for node in self._cluster.nodes for replica in await _replicas_of(client, node)]
                indexes = {(replica.partition, replica.log_index) for replica in replicas}
                complete = len(replicas) == REPLICAS * PARTITIONS and len(indexes) == PARTITIONS
                if complete or loop.time() > deadline:
                    return replicas
                await asyncio.sleep(POLL_SECONDS)


async def _replicas_of(client: Client, node: NodeId) -> list[Replica]:
    """What a node says of its replicas of the topic; nothing while it cannot be asked."""
    try:
        states = await client.cluster.list_replicas(node, topics=[TOPIC])
    except RaftmqError as error:
        if not error.retriable:
            raise
        return []
    return [Replica(node, state.partition, state.chain_index, state.chain_hash) for state in states]


def _row(value: bytes | None) -> int:
    """The row number in a record; -1 for a record that is none of ours, which the checks will name."""
    try:
        return int(json.loads(value or b"")[ROW])
    except (ValueError, KeyError, TypeError):
        return -1
