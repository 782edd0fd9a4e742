"""A cluster of fake nodes in this process: real gRPC on loopback, no Raft, no disk.

All nodes share one `FakeCluster`: logs per partition, and the idempotence rule of the real partition machine (window,
gap, fence, duplicate). A test scripts what goes wrong with `FakeCluster.script`: one fault per matching call, in order.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
import grpc.aio

from raftmq import status
from raftmq.errors import (
    AlreadyExists,
    FencedProducer,
    InvalidArgument,
    NoLeader,
    NotLeader,
    OffsetOutOfRange,
    Outcome,
    OutOfOrderSequence,
    PreconditionFailed,
    RaftmqError,
    UnexpectedOffset,
    UnknownOperation,
    UnknownPartition,
    UnknownProducer,
    UnknownTopic,
)
from raftmq.records.batch import check_batch, decode_records, make_batch
from raftmq.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    broker_pb2,
    broker_pb2_grpc,
    cluster_pb2,
    cluster_pb2_grpc,
    exchanges_pb2_grpc,
    types_pb2,
)
from tests.client.fake_exchanges import FakeExchangeState, service
from tests.client.fake_streams import FakeStreams

MAX_BATCH_BYTES = 1024 * 1024
Reply = TypeVar("Reply")


@dataclass(frozen=True)
class Fault:
    """What happens to one call: at most one of these, but for `gate` and `first`."""

    refuse: RaftmqError | None = None
    """Answered instead of being handled."""
    lose_answer: bool = False
    """Handled, then the connection's status is all that comes back: a bare UNAVAILABLE."""
    later: int = 0
    """A bare UNAVAILABLE at once, and handled all the same, but only when so many more calls have come."""
    bare: grpc.StatusCode | None = None
    """Not handled; a status without raftmq's trailers."""
    gate: asyncio.Event | None = None
    """Held until it is set, before anything else."""
    first: Callable[[], None] = field(default=lambda: None, compare=False)
    """Called before anything else."""


@dataclass
class FakePartition:
    leader: int = 1
    epoch: int = 1
    log_start: int = 0
    batches: list[types_pb2.StoredBatch] = field(default_factory=list)
    accepted: dict[int, tuple[int, list[tuple[int, int, int, int]]]] = field(default_factory=dict)
    """Producer id -> epoch and (first sequence, count, CRC, base offset) of its batches."""
    named: dict[str, int] = field(default_factory=dict)
    """Base offset by message id."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    max_batch_bytes: int = MAX_BATCH_BYTES
    violations: list[str] = field(default_factory=list)
    """What a correct client never does."""

    @property
    def end(self) -> int:
        return self.batches[-1].base_offset + self.batches[-1].header.count if self.batches else self.log_start

    def append(self, batch: types_pb2.RecordBatch, expected: int | None = None) -> tuple[int, bool]:
        """Base offset, and whether it was a duplicate."""
        checked = check_batch(batch, max_batch_bytes=self.max_batch_bytes)
        if checked.message_id:
            if checked.message_id in self.named:
                return self.named[checked.message_id], True
            self.named[checked.message_id] = self.end
        if checked.producer_id:
            original = self._decide(checked.producer_id, checked.producer_epoch, checked.first_sequence, checked.crc)
            if original is not None:
                return original, True
            self._check_expected(expected)
            _, window = self.accepted[checked.producer_id]
            window.append((checked.first_sequence, checked.count, checked.crc, self.end))
        stored = types_pb2.StoredBatch(
            base_offset=self.end, leader_epoch=self.epoch, append_time_ms=1_700_000_000_000, records=checked.payload
        )
        stored.header.ParseFromString(checked.header_bytes)
        self.batches.append(stored)
        self.notify()
        return stored.base_offset, False

    def _check_expected(self, expected: int | None) -> None:
        if expected not in (None, self.end):
            raise UnexpectedOffset(f"the next is {self.end}", metadata={"log_end_offset": str(self.end)})

    def _decide(self, producer_id: int, epoch: int, sequence: int, crc: int) -> int | None:
        said_by = {"leader_epoch": str(self.epoch)}
        known_epoch, window = self.accepted.get(producer_id, (-1, []))
        if epoch < known_epoch:
            raise FencedProducer(f"epoch {known_epoch} has written", metadata=said_by)
        if epoch > known_epoch:
            if known_epoch < 0 and sequence:
                raise UnknownProducer("state expired or never was", metadata=said_by)
            if sequence == 0:
                self.accepted[producer_id] = (epoch, [])
                return None
            raise OutOfOrderSequence("a new epoch begins at 0", metadata=said_by)
        expected = window[-1][0] + window[-1][1] if window else 0
        if sequence == expected:
            return None
        if sequence > expected:
            raise OutOfOrderSequence(f"expected {expected}, got {sequence}", metadata=said_by)
        for first, _, known_crc, offset in window:
            if first == sequence and known_crc == crc:
                return offset
        self.violations.append(f"other content under sequence {sequence}")
        raise InvalidArgument(self.violations[-1])

    def notify(self) -> None:
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def values(self) -> list[bytes]:
        """Every value in the log, in order."""
        return [r.value for b in self.batches for r in decode_records(b.header, b.records)]


class FakeCluster:
    """Shared state of all nodes, the script of faults, and a count of what was called."""

    def __init__(self) -> None:
        self.cluster_id = "c1"
        self.topics: dict[str, list[FakePartition]] = {}
        self.quotas: dict[str, admin_pb2.Quota] = {}
        self.operations: list[cluster_pb2.Operation] = []
        self.exchanges = FakeExchangeState()
        self.ports: dict[int, int] = {}
        self.version = 1
        self.streams = FakeStreams(self.note_call, self.next_fault)
        self.calls: list[tuple[int, str]] = []
        self.next_producer_id = 1
        self.epochs: dict[int, int] = {}
        self._servers: dict[int, grpc.aio.Server] = {}
        self._called = asyncio.Event()
        self._late: list[tuple[int, Callable[[], Awaitable[object]]]] = []
        self._faults: dict[str, deque[Fault | None]] = {}

    def script(self, method: str, *faults: Fault | None) -> None:
        """The next calls of `method`, on any node, meet these faults, one each; None: none."""
        self._faults.setdefault(method, deque()).extend(faults)

    def next_fault(self, method: str) -> Fault | None:
        faults = self._faults.get(method)
        return faults.popleft() if faults else None

    def postpone(self, calls: int, work: Callable[[], Awaitable[object]]) -> None:
        self._late.append((len(self.calls) + calls, work))

    async def do_postponed(self) -> None:
        due = [work for at, work in self._late if at <= len(self.calls)]
        self._late = [(at, work) for at, work in self._late if at > len(self.calls)]
        for work in due:
            with contextlib.suppress(RaftmqError):  # There is nobody to be told.
                await work()

    def note_call(self, node_id: int, method: str) -> None:
        self.calls.append((node_id, method))
        self._called.set()

    def count(self, method: str, node_id: int | None = None) -> int:
        return sum(1 for node, name in self.calls if name == method and node_id in (None, node))

    async def called(self, method: str, times: int) -> None:
        """Return when `method` has been called so often, in all."""
        while self.count(method) < times:
            self._called.clear()
            await self._called.wait()

    def create(self, name: str, partitions: int = 1, leader: int = 1) -> list[FakePartition]:
        self.topics[name] = [FakePartition(leader) for _ in range(partitions)]
        self.version += 1
        return self.topics[name]

    def alter(self, name: str, max_batch_bytes: int) -> None:
        for partition in self.topics[name]:
            partition.max_batch_bytes = max_batch_bytes
        self.version += 1

    def move_leader(self, name: str, partition: int, node: int) -> None:
        moved = self.partition(name, partition)
        moved.leader, moved.epoch = node, moved.epoch + 1
        moved.notify()

    def partition(self, name: str, number: int) -> FakePartition:
        topic = self.topics.get(name)
        if topic is None:
            raise UnknownTopic(f"no topic {name}", field="topic")
        if number >= len(topic):
            raise UnknownPartition(f"no partition {number}", field="partition")
        return topic[number]

    @property
    def addresses(self) -> str:
        return ",".join(f"127.0.0.1:{port}" for port in self.ports.values())

    async def start_node(self, node_id: int) -> None:
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        broker_pb2_grpc.add_BrokerServicer_to_server(FakeBroker(self, node_id), server)
        admin_pb2_grpc.add_AdminServicer_to_server(FakeAdmin(self, node_id), server)
        cluster_pb2_grpc.add_ClusterServicer_to_server(FakeClusterService(self, node_id), server)
        exchanges_pb2_grpc.add_ExchangesServicer_to_server(service(_Service)(self, node_id), server)
        self.ports[node_id] = server.add_insecure_port(f"127.0.0.1:{self.ports.get(node_id, 0)}")
        await server.start()
        self._servers[node_id] = server

    async def stop_node(self, node_id: int) -> None:
        """Connections drop, calls under way with them."""
        await self._servers.pop(node_id).stop(grace=None)

    async def stop(self) -> None:
        for node_id in list(self._servers):
            await self.stop_node(node_id)

    def header(self, node_id: int, partition: FakePartition | None = None) -> types_pb2.ResponseHeader:
        header = types_pb2.ResponseHeader(cluster_id=self.cluster_id, node_id=node_id)
        if partition is not None:
            header.leader_epoch, header.leader_node_id = partition.epoch, partition.leader
        return header

    def topic_info(self, name: str) -> broker_pb2.TopicInfo:
        return broker_pb2.TopicInfo(
            name=name,
            topic_id=sorted(self.topics).index(name) + 1,
            partitions=[
                broker_pb2.PartitionInfo(
                    partition=number,
                    group_id=number + 1,
                    leader_node_id=p.leader,
                    leader_epoch=p.epoch,
                    replicas=[1, 2],
                )
                for number, p in enumerate(self.topics[name])
            ],
            replication_factor=2,
            min_in_sync_replicas=1,
            max_batch_bytes=self.topics[name][0].max_batch_bytes,
        )


class _Service:
    def __init__(self, cluster: FakeCluster, node_id: int) -> None:
        self._cluster = cluster
        self._node_id = node_id

    async def _handle(self, method: str, context: Any, work: Callable[[], Awaitable[Reply]]) -> Reply:
        self._cluster.note_call(self._node_id, method)
        fault = self._cluster.next_fault(method) or Fault()
        fault.first()
        if fault.gate is not None:
            await fault.gate.wait()
        await self._cluster.do_postponed()
        if fault.later:
            self._cluster.postpone(fault.later, work)
            await context.abort(grpc.StatusCode.UNAVAILABLE, "injected: delayed")
        if fault.bare is not None:
            await context.abort(fault.bare, "injected")
        try:
            if fault.refuse is not None:
                raise fault.refuse
            reply = await work()
        except RaftmqError as error:
            wire = status.encode(error)
            context.set_trailing_metadata(wire.trailers)
            await context.abort(getattr(grpc.StatusCode, wire.code), wire.message)
        if fault.lose_answer:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "injected: answer lost")
        return reply


class FakeBroker(_Service, broker_pb2_grpc.BrokerServicer):
    async def ProduceStream(self, request_iterator: Any, context: Any) -> Any:
        async for told in self._cluster.streams.serve(self._node_id, request_iterator, context, self._appended):
            yield told

    async def Subscribe(self, request_iterator: Any, context: Any) -> Any:  # type: ignore[override]
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "the client does not use it")

    async def Produce(self, request: broker_pb2.ProduceRequest, context: Any) -> broker_pb2.ProduceResponse:
        async def work() -> broker_pb2.ProduceResponse:
            return self._appended(request)

        return await self._handle("Produce", context, work)

    def _appended(self, request: broker_pb2.ProduceRequest) -> broker_pb2.ProduceResponse:
        partition = self._led(request.topic, request.partition)
        batch = request.batch
        if request.records:
            batch = make_batch(request.records, message_id=request.message_id)
        offset, duplicate = partition.append(
            batch, request.expected_offset if request.HasField("expected_offset") else None
        )
        receipt = types_pb2.Receipt(
            topic=request.topic,
            partition=request.partition,
            base_offset=offset,
            count=batch.header.count,
            leader_epoch=partition.epoch,
            log_index=offset + 1,
            append_time_ms=1_700_000_000_000,
            replicas=[1, 2],
            duplicate=duplicate,
        )
        return broker_pb2.ProduceResponse(
            header=self._cluster.header(partition.leader, partition), receipt=receipt, high_watermark=partition.end
        )

    async def Fetch(self, request: broker_pb2.FetchRequest, context: Any) -> broker_pb2.FetchResponse:
        async def work() -> broker_pb2.FetchResponse:
            partition = self._led(request.topic, request.partition)
            leader = partition.leader
            if request.offset == partition.end and request.max_wait.ToMilliseconds():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(partition.changed.wait(), request.max_wait.ToMilliseconds() / 1000)
            if partition.leader != leader:
                raise NotLeader("leadership moved during the wait")
            if not partition.log_start <= request.offset <= partition.end:
                bounds = {"log_start_offset": str(partition.log_start), "high_watermark": str(partition.end)}
                raise OffsetOutOfRange(f"{request.offset} is outside", metadata=bounds)
            batches = list(_from(partition, request.offset, request.max_bytes))
            next_offset = batches[-1].base_offset + batches[-1].header.count if batches else request.offset
            return broker_pb2.FetchResponse(
                header=self._cluster.header(leader, partition),
                batches=batches,
                high_watermark=partition.end,
                last_stable_offset=partition.end,
                log_start_offset=partition.log_start,
                next_offset=next_offset,
            )

        return await self._handle("Fetch", context, work)

    async def ListOffsets(self, request: broker_pb2.ListOffsetsRequest, context: Any) -> broker_pb2.ListOffsetsResponse:
        async def work() -> broker_pb2.ListOffsetsResponse:
            answer = broker_pb2.ListOffsetsResponse(header=self._cluster.header(self._node_id))
            for number in request.partitions:
                p = self._led(request.topic, number)
                told = answer.partitions.add(
                    partition=number, log_start_offset=p.log_start, high_watermark=p.end, leader_epoch=p.epoch
                )
                if request.HasField("appended_at"):
                    at_ms = request.appended_at.ToMilliseconds()
                    later = (b.base_offset for b in p.batches if b.append_time_ms >= at_ms)
                    told.offset_appended_at = next(later, p.end)
            return answer

        return await self._handle("ListOffsets", context, work)

    async def InitProducer(
        self, request: broker_pb2.InitProducerRequest, context: Any
    ) -> broker_pb2.InitProducerResponse:
        async def work() -> broker_pb2.InitProducerResponse:
            producer_id, epoch = request.producer_id, request.producer_epoch + 1
            if not producer_id:
                producer_id, epoch = self._cluster.next_producer_id, 0
                self._cluster.next_producer_id += 1
            return broker_pb2.InitProducerResponse(
                header=self._cluster.header(self._node_id), producer_id=producer_id, producer_epoch=epoch
            )

        return await self._handle("InitProducer", context, work)

    async def DescribeProducers(
        self, request: broker_pb2.DescribeProducersRequest, context: Any
    ) -> broker_pb2.DescribeProducersResponse:
        async def work() -> broker_pb2.DescribeProducersResponse:
            answer = broker_pb2.DescribeProducersResponse(header=self._cluster.header(self._node_id))
            partitions = self._cluster.topics[request.topic]
            known = [(number, one) for number, p in enumerate(partitions) for one in sorted(p.accepted)]
            after = (request.after.partition, request.after.producer_id)
            behind = [one for one in known if one > after or not request.HasField("after")]
            for number, producer_id in behind[: request.page_size]:
                epoch, window = partitions[number].accepted[producer_id]
                first, count, _, offset = window[-1]
                told = answer.partitions.add(partition=number, leader_epoch=partitions[number].epoch).producers.add(
                    producer_id=producer_id,
                    producer_epoch=epoch,
                    first_sequence=window[0][0],
                    last_sequence=first + count - 1,
                    last_offset=offset + count - 1,
                )
                told.last_appended.FromMilliseconds(1_700_000_000_000)
                told.expires_in.FromMilliseconds(5_000)
            if len(behind) > request.page_size:
                answer.next.partition, answer.next.producer_id = behind[request.page_size - 1]
            return answer

        return await self._handle("DescribeProducers", context, work)

    async def GetMetadata(self, request: broker_pb2.GetMetadataRequest, context: Any) -> broker_pb2.GetMetadataResponse:
        async def work() -> broker_pb2.GetMetadataResponse:
            return broker_pb2.GetMetadataResponse(
                header=self._cluster.header(self._node_id),
                nodes=[
                    broker_pb2.NodeInfo(node_id=n, host="127.0.0.1", port=port)
                    for n, port in self._cluster.ports.items()
                ],
                topics=[self._cluster.topic_info(name) for name in sorted(self._cluster.topics)],
                controller_node_id=1,
                metadata_version=self._cluster.version,
            )

        return await self._handle("GetMetadata", context, work)

    async def GetServerInfo(
        self, request: broker_pb2.GetServerInfoRequest, context: Any
    ) -> broker_pb2.GetServerInfoResponse:
        async def work() -> broker_pb2.GetServerInfoResponse:
            return broker_pb2.GetServerInfoResponse(
                header=self._cluster.header(self._node_id), version="0.1.0", api_level=1, boot_count=self._node_id
            )

        return await self._handle("GetServerInfo", context, work)

    def _led(self, topic: str, number: int) -> FakePartition:
        """Any node answers, as if it had forwarded; but nobody can while the leader's node is down or unknown."""
        partition = self._cluster.partition(topic, number)
        if partition.leader not in self._cluster._servers:
            raise NoLeader(f"no leader for {topic}/{number}")
        return partition


def _from(partition: FakePartition, offset: int, max_bytes: int) -> Iterator[types_pb2.StoredBatch]:
    size = 0
    for batch in partition.batches:
        if batch.base_offset + batch.header.count > offset:
            size += len(batch.records)
            if size > max_bytes and size > len(batch.records):
                return
            yield batch


class FakeAdmin(_Service, admin_pb2_grpc.AdminServicer):
    async def CreateTopic(self, request: admin_pb2.CreateTopicRequest, context: Any) -> admin_pb2.CreateTopicResponse:
        async def work() -> admin_pb2.CreateTopicResponse:
            if request.name in self._cluster.topics:
                raise AlreadyExists(f"topic {request.name} exists", field="name")
            self._cluster.create(request.name, request.partitions or 1)
            return admin_pb2.CreateTopicResponse(
                header=self._cluster.header(self._node_id), topic=self._cluster.topic_info(request.name)
            )

        return await self._handle("CreateTopic", context, work)

    async def AlterTopic(self, request: admin_pb2.AlterTopicRequest, context: Any) -> admin_pb2.AlterTopicResponse:
        async def work() -> admin_pb2.AlterTopicResponse:
            if request.name not in self._cluster.topics:
                raise UnknownTopic(f"no topic {request.name}", field="name")
            topic = self._cluster.topic_info(request.name)
            topic.version = request.expected_version + 1
            if request.HasField("retention_bytes"):
                topic.retention_bytes = request.retention_bytes
            return admin_pb2.AlterTopicResponse(header=self._cluster.header(self._node_id), topic=topic)

        return await self._handle("AlterTopic", context, work)

    async def SetQuota(self, request: admin_pb2.SetQuotaRequest, context: Any) -> admin_pb2.SetQuotaResponse:
        async def work() -> admin_pb2.SetQuotaResponse:
            quota = admin_pb2.Quota()
            quota.CopyFrom(request.quota)
            self._cluster.quotas[quota.client_id] = quota
            return admin_pb2.SetQuotaResponse(header=self._cluster.header(self._node_id))

        return await self._handle("SetQuota", context, work)

    async def DeleteQuota(self, request: admin_pb2.DeleteQuotaRequest, context: Any) -> admin_pb2.DeleteQuotaResponse:
        async def work() -> admin_pb2.DeleteQuotaResponse:
            del self._cluster.quotas[request.client_id]
            return admin_pb2.DeleteQuotaResponse(header=self._cluster.header(self._node_id))

        return await self._handle("DeleteQuota", context, work)

    async def ListQuotas(self, _request: admin_pb2.ListQuotasRequest, context: Any) -> admin_pb2.ListQuotasResponse:
        async def work() -> admin_pb2.ListQuotasResponse:
            quotas = [quota for _, quota in sorted(self._cluster.quotas.items())]
            return admin_pb2.ListQuotasResponse(header=self._cluster.header(self._node_id), quotas=quotas)

        return await self._handle("ListQuotas", context, work)

    async def DeleteTopic(self, request: admin_pb2.DeleteTopicRequest, context: Any) -> admin_pb2.DeleteTopicResponse:
        async def work() -> admin_pb2.DeleteTopicResponse:
            if self._cluster.topics.pop(request.name, None) is None:
                raise UnknownTopic(f"no topic {request.name}", field="name")
            self._cluster.version += 1
            return admin_pb2.DeleteTopicResponse(header=self._cluster.header(self._node_id))

        return await self._handle("DeleteTopic", context, work)

    async def ListTopics(self, request: admin_pb2.ListTopicsRequest, context: Any) -> admin_pb2.ListTopicsResponse:
        async def work() -> admin_pb2.ListTopicsResponse:
            topics = [self._cluster.topic_info(name) for name in self._cluster.topics]
            return admin_pb2.ListTopicsResponse(header=self._cluster.header(self._node_id), topics=topics)

        return await self._handle("ListTopics", context, work)

    async def DescribeTopic(
        self, request: admin_pb2.DescribeTopicRequest, context: Any
    ) -> admin_pb2.DescribeTopicResponse:
        async def work() -> admin_pb2.DescribeTopicResponse:
            self._cluster.partition(request.name, 0)
            return admin_pb2.DescribeTopicResponse(
                header=self._cluster.header(self._node_id), topic=self._cluster.topic_info(request.name)
            )

        return await self._handle("DescribeTopic", context, work)


class FakeClusterService(_Service, cluster_pb2_grpc.ClusterServicer):
    async def DescribeCluster(
        self, request: cluster_pb2.DescribeClusterRequest, context: Any
    ) -> cluster_pb2.DescribeClusterResponse:
        async def work() -> cluster_pb2.DescribeClusterResponse:
            answer = cluster_pb2.DescribeClusterResponse(
                header=self._cluster.header(self._node_id), cluster_name="fake", controller_node_id=1
            )
            for node_id, port in self._cluster.ports.items():
                node = answer.nodes.add(boot_count=1, controller_voter=True)
                node.info.node_id, node.info.host, node.info.port = node_id, "127.0.0.1", port
                node.last_heard.FromMilliseconds(250)
            return answer

        return await self._handle("DescribeCluster", context, work)

    async def ListReplicas(
        self, request: cluster_pb2.ListReplicasRequest, context: Any
    ) -> cluster_pb2.ListReplicasResponse:
        async def work() -> cluster_pb2.ListReplicasResponse:
            state = cluster_pb2.ReplicaState(topic="t", role="leader", term=self._node_id, lag={2: 7, 1: 0})
            return cluster_pb2.ListReplicasResponse(header=self._cluster.header(self._node_id), replicas=[state])

        return await self._handle("ListReplicas", context, work)

    async def TransferLeader(
        self, request: cluster_pb2.TransferLeaderRequest, context: Any
    ) -> cluster_pb2.TransferLeaderResponse:
        async def work() -> cluster_pb2.TransferLeaderResponse:
            if request.to_node_id not in self._cluster.ports:
                raise PreconditionFailed(f"node {request.to_node_id} is not in sync", outcome=Outcome.NOT_APPLIED)
            self._cluster.move_leader(request.topic, request.partition, request.to_node_id)
            return cluster_pb2.TransferLeaderResponse(header=self._cluster.header(self._node_id))

        return await self._handle("TransferLeader", context, work)

    # Operations end when they are looked at for the second time, unless they were cancelled.

    async def AddNode(self, request: cluster_pb2.AddNodeRequest, context: Any) -> cluster_pb2.AddNodeResponse:
        begun = self._begin(cluster_pb2.OPERATION_KIND_ADD_NODE, request)
        return await self._answer(context, "AddNode", cluster_pb2.AddNodeResponse, begun)

    async def DrainNode(self, request: cluster_pb2.DrainNodeRequest, context: Any) -> cluster_pb2.DrainNodeResponse:
        begun = self._begin(cluster_pb2.OPERATION_KIND_DRAIN_NODE, request, moves=2)
        return await self._answer(context, "DrainNode", cluster_pb2.DrainNodeResponse, begun)

    async def RemoveNode(self, request: cluster_pb2.RemoveNodeRequest, context: Any) -> cluster_pb2.RemoveNodeResponse:
        begun = self._begin(cluster_pb2.OPERATION_KIND_REMOVE_NODE, request)
        return await self._answer(context, "RemoveNode", cluster_pb2.RemoveNodeResponse, begun)

    async def RepairNode(self, request: cluster_pb2.RepairNodeRequest, context: Any) -> cluster_pb2.RepairNodeResponse:
        begun = self._begin(cluster_pb2.OPERATION_KIND_REPAIR_NODE, request, moves=2)
        return await self._answer(context, "RepairNode", cluster_pb2.RepairNodeResponse, begun)

    async def MoveReplica(
        self, request: cluster_pb2.MoveReplicaRequest, context: Any
    ) -> cluster_pb2.MoveReplicaResponse:
        def begin() -> cluster_pb2.Operation:
            self._cluster.partition(request.topic, request.partition)
            begun = self._begin(cluster_pb2.OPERATION_KIND_MOVE_REPLICA, None, moves=1)()
            begun.node_id, begun.to_node_id = request.from_node_id, request.to_node_id
            begun.topic, begun.partition = request.topic, request.partition
            return begun

        return await self._answer(context, "MoveReplica", cluster_pb2.MoveReplicaResponse, begin)

    async def GetOperation(
        self, request: cluster_pb2.GetOperationRequest, context: Any
    ) -> cluster_pb2.GetOperationResponse:
        def look() -> cluster_pb2.Operation:
            found = self._find(request.operation_id)
            seen = cluster_pb2.Operation()
            seen.CopyFrom(found)
            if found.state == cluster_pb2.OPERATION_STATE_RUNNING:
                found.state, found.moves_left, found.reason = cluster_pb2.OPERATION_STATE_DONE, 0, ""
                found.ended.FromMilliseconds(2_000)
            return seen

        return await self._answer(context, "GetOperation", cluster_pb2.GetOperationResponse, look)

    async def CancelOperation(
        self, request: cluster_pb2.CancelOperationRequest, context: Any
    ) -> cluster_pb2.CancelOperationResponse:
        def cancel() -> cluster_pb2.Operation:
            found = self._find(request.operation_id)
            found.state = cluster_pb2.OPERATION_STATE_CANCELLED
            found.ended.FromMilliseconds(2_000)
            return found

        return await self._answer(context, "CancelOperation", cluster_pb2.CancelOperationResponse, cancel)

    async def ListOperations(
        self, request: cluster_pb2.ListOperationsRequest, context: Any
    ) -> cluster_pb2.ListOperationsResponse:
        async def work() -> cluster_pb2.ListOperationsResponse:
            return cluster_pb2.ListOperationsResponse(operations=self._cluster.operations)

        return await self._handle("ListOperations", context, work)

    def _begin(self, kind: Any, request: Any, *, moves: int = 0) -> Callable[[], cluster_pb2.Operation]:
        def begin() -> cluster_pb2.Operation:
            known = self._cluster.operations
            begun = cluster_pb2.Operation(
                kind=kind,
                state=cluster_pb2.OPERATION_STATE_RUNNING,
                node_id=0 if request is None else request.node_id,
                moves=moves,
                moves_left=moves,
                reason="it catches up",
            )
            begun.started.FromMilliseconds(1_000)
            if request is None or not request.validate_only:
                begun.operation_id = len(known) + 1
                known.append(begun)
            return begun

        return begin

    def _find(self, operation_id: int) -> cluster_pb2.Operation:
        known = self._cluster.operations
        if not 0 < operation_id <= len(known):
            raise UnknownOperation(f"there is no operation {operation_id}", field="operation_id")
        return known[operation_id - 1]

    async def _answer(
        self, context: Any, name: str, response: Callable[..., Reply], make: Callable[[], cluster_pb2.Operation]
    ) -> Reply:
        async def work() -> Reply:
            return response(header=self._cluster.header(self._node_id), operation=make())

        return await self._handle(name, context, work)


@contextlib.asynccontextmanager
async def fake_cluster(nodes: int = 2) -> AsyncIterator[FakeCluster]:
    cluster = FakeCluster()
    for node_id in range(1, nodes + 1):
        await cluster.start_node(node_id)
    try:
        yield cluster
    finally:
        await cluster.stop()
