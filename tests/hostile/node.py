"""A real node, alone in its cluster, and what has to hold after anything that was sent to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message_factory import GetMessageClass

from raftmq import status
from raftmq.cli.supervisor import LocalCluster
from raftmq.config import ClusterConfig, Timeouts
from raftmq.config.models import NodeEntry
from raftmq.errors import RaftmqError
from raftmq.ids import NodeId
from raftmq.internal.v1 import peer_pb2
from raftmq.records.batch import make_batch
from raftmq.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    broker_pb2,
    broker_pb2_grpc,
    cluster_pb2,
    cluster_pb2_grpc,
    exchanges_pb2,
    exchanges_pb2_grpc,
    groups_pb2,
    groups_pb2_grpc,
    queue_pb2,
    types_pb2,
)
from tests.integration.conftest import free_ports

FILES: tuple[FileDescriptor, ...] = (
    broker_pb2.DESCRIPTOR, admin_pb2.DESCRIPTOR, cluster_pb2.DESCRIPTOR, queue_pb2.DESCRIPTOR,
    exchanges_pb2.DESCRIPTOR, groups_pb2.DESCRIPTOR, peer_pb2.DESCRIPTOR,
)  # fmt: skip
ONE = NodeId(1)
TOPIC, CANARY = "orders", "canary"
EXCHANGE, SPARE = "events", "spare"
"""Of patterns, bound to TOPIC by ``a.#``; and of headers, its alternate, bound to nothing."""
GROUP = "billing"
"""A consumer group that has committed an offset, and has no members."""
SHORT = Duration(seconds=1)
PATIENCE_S = 90
"""Longer than anything here takes, on however busy a machine."""

# What is too large must be refused by the node, not by the client.
CHANNEL_OPTIONS = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))


def methods() -> dict[str, MethodDescriptor]:
    """Every method of every service that has a descriptor, the nodes' own among them, by its name on the wire."""
    return {
        f"/{service.full_name}/{method.name}": method
        for file in FILES
        for service in file.services_by_name.values()
        for method in service.methods
    }


METHODS = methods()


@dataclass(frozen=True)
class Said:
    """How a call ended: an error, or None; and what was answered before that."""

    error: RaftmqError | None
    answers: list[Any]


class Node:
    """The node under attack. Calls are plain and synchronous; requests are bytes, as good or bad as wanted."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster = cluster
        entry = cluster.config.nodes[0]
        self.client_port, self.peer_port = entry.client_port, entry.peer_port
        # Any: the stubs ask for serializers, which requests of bytes do without.
        self.clients: Any = grpc.insecure_channel(f"127.0.0.1:{entry.client_port}", options=CHANNEL_OPTIONS)
        self.peers: Any = grpc.insecure_channel(f"127.0.0.1:{entry.peer_port}", options=CHANNEL_OPTIONS)
        self.broker = broker_pb2_grpc.BrokerStub(self.clients)
        self.operators = cluster_pb2_grpc.ClusterStub(self.clients)
        admin = admin_pb2_grpc.AdminStub(self.clients)
        for topic in (TOPIC, CANARY):
            admin.CreateTopic(admin_pb2.CreateTopicRequest(name=topic, partitions=3), timeout=PATIENCE_S)
        # Whatever quotas are set by what is sent here: the tests themselves are not to be held up by them.
        mine = admin_pb2.Quota(client_id="@ipv4:127.0.0.1")
        admin.SetQuota(admin_pb2.SetQuotaRequest(quota=mine), timeout=PATIENCE_S)
        exchanges = exchanges_pb2_grpc.ExchangesStub(self.clients)
        for declared in (
            exchanges_pb2.DeclareExchangeRequest(name=SPARE, kind=exchanges_pb2.EXCHANGE_KIND_HEADERS),
            exchanges_pb2.DeclareExchangeRequest(
                name=EXCHANGE, kind=exchanges_pb2.EXCHANGE_KIND_TOPIC, alternate_exchange=SPARE
            ),
        ):
            exchanges.DeclareExchange(declared, timeout=PATIENCE_S)
        bound = exchanges_pb2.Binding(topic=TOPIC, routing_key="a.#")
        exchanges.Bind(exchanges_pb2.BindRequest(exchange=EXCHANGE, binding=bound), timeout=PATIENCE_S)
        offset = groups_pb2.OffsetToCommit(topic=TOPIC, offset=0)
        groups = groups_pb2_grpc.GroupsStub(self.clients)
        groups.CommitOffsets(groups_pb2.CommitOffsetsRequest(group=GROUP, offsets=[offset]), timeout=PATIENCE_S)
        self.canary()
        self.cluster_id = self.metadata().header.cluster_id

    def connection(self) -> Any:
        """One more connection to the port for clients."""
        return grpc.insecure_channel(f"127.0.0.1:{self.client_port}", options=CHANNEL_OPTIONS)

    def call(self, method: str, messages: Sequence[bytes], timeout: float = PATIENCE_S, **options: Any) -> Said:
        """Send `messages` to a method as its client would, and read until it ends."""
        described = METHODS.get(method)
        streams = described is not None and described.client_streaming
        channel = self.peers if "/raftmq.internal." in method else self.clients
        assert streams or len(messages) == 1
        if described is not None and described.server_streaming:
            made: Any = channel.stream_stream(method)(iter(messages), timeout=timeout, **options)
        elif streams:
            made = channel.stream_unary(method).future(iter(messages), timeout=timeout, **options)
        else:
            made = channel.unary_unary(method).future(messages[0], timeout=timeout, **options)
        return self._read(made, described)

    def _read(self, call: Any, method: MethodDescriptor | None) -> Said:
        answers: list[Any] = []
        parse: Callable[[bytes], Any] = GetMessageClass(method.output_type).FromString if method else bytes
        try:
            if method is not None and method.server_streaming:
                answers.extend(parse(data) for data in call)
            else:
                answers.append(parse(call.result()))
        except grpc.RpcError:
            code, trailers = call.code(), call.trailing_metadata() or ()
            return Said(status.decode(code.name, call.details() or "", trailers), answers)
        refused = [status.from_message(one.error) for one in answers if _refuses(one)]
        return Said(refused[0] if refused else None, answers)

    # -- what must not change --------------------------------------------------------------------------------------

    def metadata(self) -> broker_pb2.GetMetadataResponse:
        return self.broker.GetMetadata(broker_pb2.GetMetadataRequest(), timeout=PATIENCE_S)

    def state(self) -> list[tuple[object, ...]]:
        """Everything that is replicated, but for the canary's records: term, ends and chain hash of every log, the
        controller's among them."""
        answer = self.operators.ListReplicas(cluster_pb2.ListReplicasRequest(), timeout=PATIENCE_S)
        return [
            (one.group_id, one.term, one.role, one.last_index, one.log_end_offset, one.chain_hash)
            for one in answer.replicas
            if one.topic != CANARY
        ] + [(self.metadata().metadata_version,)]

    def canary(self) -> None:
        """The next request is served: a record goes in, and comes out."""
        batch = make_batch([types_pb2.Record(value=b"canary")])
        request = broker_pb2.ProduceRequest(topic=CANARY, partition=0, batch=batch)
        receipt = self.broker.Produce(request, timeout=PATIENCE_S).receipt
        fetch = broker_pb2.FetchRequest(topic=CANARY, partition=0, offset=receipt.base_offset)
        fetched = self.broker.Fetch(fetch, timeout=PATIENCE_S)
        assert fetched.batches[0].records == batch.records

    def memory_mib(self) -> int:
        """Resident memory of the process."""
        status_lines = Path(f"/proc/{self.cluster.pid(ONE)}/status").read_text().splitlines()
        return next(int(line.split()[1]) // 1024 for line in status_lines if line.startswith("VmRSS:"))

    def log(self) -> str:
        """What the node has printed."""
        return self.cluster.log_file(ONE).read_text(errors="replace")

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Within the block nothing is replicated; after it the node serves."""
        before = self.state()
        yield
        assert self.state() == before
        self.canary()

    def close(self) -> None:
        self.clients.close()
        self.peers.close()


def _refuses(answer: Any) -> bool:
    return isinstance(answer, broker_pb2.ProduceStreamResponse) and answer.WhichOneof("result") == "error"


@contextmanager
def serving(directory: Path) -> Iterator[Node]:
    """A node of its own process, with two topics."""
    client, peer, http = free_ports(3)
    entry = NodeEntry(id=1, client_port=client, peer_port=peer, http_port=http, data=directory / "n1")
    # That a group without members rests is replicated some time later, by itself: not here.
    timeouts = Timeouts(offsets_retention_ms=0)
    cluster = LocalCluster(ClusterConfig(cluster="alone", nodes=(entry,), timeouts=timeouts))
    try:
        asyncio.run(_start(cluster))
        node = Node(cluster)
        yield node
        node.close()
        assert cluster.pid(ONE) is not None, "the process has ended"
        assert "a call failed with a bug" not in node.log(), node.log()[-5000:]
    finally:
        asyncio.run(cluster.kill(ONE))
        print(cluster.log_tail(ONE, 40))


async def _start(cluster: LocalCluster) -> None:
    await cluster.start_all()
    await cluster.wait_ready()


def bodies(messages: Iterable[Any]) -> tuple[bytes, ...]:
    """`messages` on the wire; bytes as they are."""
    return tuple(one if isinstance(one, bytes) else one.SerializeToString() for one in messages)
