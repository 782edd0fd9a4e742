"""Which node gets a call: a partition's leader where it is known and answers, else any node, which forwards it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import grpc.aio

from raftmq import status
from raftmq.client.connection import NodeChannel
from raftmq.client.metadata import MetadataCache
from raftmq.client.retry import Judgement, RetryPolicy
from raftmq.errors import DeadlineExceeded, RaftmqError
from raftmq.v1 import broker_pb2, types_pb2


class HasHeader(Protocol):
    """Every reply of raftmq."""

    @property
    def header(self) -> types_pb2.ResponseHeader: ...


Request = TypeVar("Request")
Reply = TypeVar("Reply", bound=HasHeader)
Select = Callable[[NodeChannel], "grpc.aio.UnaryUnaryMultiCallable[Request, Reply]"]
"""Picks the method: ``lambda node: node.broker.Fetch``."""


class Router:
    """Sends calls to nodes and learns from the answers."""

    def __init__(self, metadata: MetadataCache, policy: RetryPolicy) -> None:
        self.metadata = metadata
        self.policy = policy

    async def to_partition(
        self,
        topic: str,
        partition: int,
        select: Select[Request, Reply],
        request: Request,
        *,
        timeout_ms: int,
        rack: str = "",
    ) -> Reply:
        """One attempt at a partition's leader, or at a replica of it in `rack` that is in sync. Where the error says
        that the picture is stale, it is drawn anew before the error is raised, so that the next attempt goes elsewhere.
        """
        channel = (self._channel_in(rack, topic, partition) if rack else None) or self._channel_for(topic, partition)
        return await self._learning(topic, partition, channel.call(select(channel), request, timeout_ms=timeout_ms))

    async def produce(
        self, topic: str, partition: int, request: broker_pb2.ProduceRequest, *, timeout_ms: int, stream: bool
    ) -> broker_pb2.ProduceResponse:
        """`to_partition` with Produce, in a call or (`stream`) on the channel's stream."""
        if not stream:
            return await self.to_partition(
                topic, partition, lambda node: node.broker.Produce, request, timeout_ms=timeout_ms
            )
        channel = self._channel_for(topic, partition)
        return await self._learning(topic, partition, channel.produce(request, timeout_ms=timeout_ms))

    async def _learning(self, topic: str, partition: int, answer: Awaitable[Reply]) -> Reply:
        try:
            reply = await answer
        except RaftmqError as error:
            if error.refresh_metadata or status.is_bare(error) or isinstance(error, DeadlineExceeded):
                await self.refresh_quietly()
            raise
        header = reply.header
        self.metadata.image.check_cluster(header.cluster_id)
        if header.leader_node_id:
            self.metadata.image.note_leader(topic, partition, header.leader_node_id, header.leader_epoch)
        return reply

    async def to_any(
        self, select: Select[Request, Reply], request: Request, *, timeout_ms: int, judge: Judgement
    ) -> Reply:
        """Attempts at one node after the other while `judge` allows, for `timeout_ms` in all."""
        deadline = asyncio.get_running_loop().time() + timeout_ms / 1000

        async def attempt() -> Reply:
            left_ms = max(int((deadline - asyncio.get_running_loop().time()) * 1000), 1)
            channel = self.metadata.channels()[0]
            reply = await channel.call(select(channel), request, timeout_ms=left_ms)
            self.metadata.image.check_cluster(reply.header.cluster_id)
            return reply

        return await self.policy.call(attempt, judge, timeout_ms=timeout_ms)

    async def refresh_quietly(self) -> None:
        """Refresh if any node answers. None need, and the error that led here must not be hidden by another."""
        with contextlib.suppress(RaftmqError):
            await self.metadata.refresh()

    def _channel_in(self, rack: str, topic: str, partition: int) -> NodeChannel | None:
        """A node of `rack` with a replica that is in sync, as far as is known; the leader before others. The node finds
        out if it is not, and then asks the leader."""
        image = self.metadata.image
        leader = image.leader(topic, partition).node_id
        known = image.topics.get(topic)
        described = [] if known is None else [one for one in known.partitions if one.partition == partition]
        near = [
            node
            for one in described
            for node in (*((leader,) if leader is not None else ()), *one.in_sync)
            if node in image.nodes and image.nodes[node].rack == rack
        ]
        channels = [self.metadata.node(node) for node in near]
        return next((channel for channel in channels if not channel.avoided), None)

    def _channel_for(self, topic: str, partition: int) -> NodeChannel:
        leader = self.metadata.image.leader(topic, partition).node_id
        others = self.metadata.channels
        if leader is None or leader not in self.metadata.image.nodes:
            return others()[0]
        channel = self.metadata.node(leader)
        if not channel.avoided:
            return channel
        detour = others()[0]
        return channel if detour.avoided else detour
