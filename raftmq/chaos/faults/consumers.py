"""Consumers that do not take what they have asked for."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio

from raftmq.chaos.arena import TOPIC
from raftmq.chaos.faults.base import Fault, NotAsPlanned
from raftmq.chaos.plans import SlowConsumers
from raftmq.v1 import broker_pb2, broker_pb2_grpc

ALL = 2**40
"""Credit for more than there will ever be: only the connection's own window holds the node back."""
FIRST_SECONDS = 20.0


class SlowConsumersFault(Fault[SlowConsumers]):
    """They speak by the generated stubs, because the client library asks only for what it takes. Proof: how far the
    ends of the partitions were, when it was over, beyond what each of them had taken.
    """

    means = "subscriptions that are not read"
    _channels: tuple[grpc.aio.Channel, ...] = ()

    @property
    def title(self) -> str:
        return f"{self.plan.consumers} consumers that do not read"

    async def inject(self) -> None:
        config, partitions = self.arena.topology.config, (await self.arena.admin.list_offsets(TOPIC))
        addresses = [str(config.node(node).client_address) for node in self.arena.nodes]
        self._channels = tuple(
            grpc.aio.insecure_channel(
                addresses[i % len(addresses)],
                # A pool of its own: else all of them would be one connection.
                options=[("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)],
            )
            for i in range(self.plan.consumers)
        )
        chosen = [partitions[i % len(partitions)].partition for i in range(self.plan.consumers)]
        begun = await asyncio.gather(
            *(_take_one(channel, partition) for channel, partition in zip(self._channels, chosen, strict=True)),
            return_exceptions=True,
        )
        self._calls = [(call, p, at) for p, one in zip(chosen, begun, strict=True) if isinstance(one, tuple)
                       for call, at in (one,)]  # fmt: skip
        self.proof.evidence["began"] = len(self._calls)
        if not self._calls:
            raise NotAsPlanned(f"no subscription began: {begun[0]!r}")

    async def heal(self) -> None:
        if self._channels:
            ends = {one.partition: one.high_watermark for one in await self.arena.admin.list_offsets(TOPIC)}
            behind = [ends[partition] - at for _, partition, at in getattr(self, "_calls", [])]
            self.proof.evidence["records_not_taken_each"] = [min(behind, default=0), max(behind, default=0)]
            self.proof.evidence["ended_by_the_node"] = sum(call.done() for call, _, _ in getattr(self, "_calls", []))
            self.proof.fired = bool(behind) and min(behind) > 0
        for channel in self._channels:
            await channel.close(grace=None)


async def _take_one(channel: grpc.aio.Channel, partition: int) -> tuple[grpc.aio.StreamStreamCall, int]:  # type: ignore[type-arg]
    """Subscribe with endless credit, take one answer, and leave the rest. Returns where the next one goes on."""
    call = broker_pb2_grpc.BrokerStub(channel).Subscribe()  # type: ignore[call-arg]
    subscription = broker_pb2.Subscription(topic=TOPIC, partition=partition, offset=0)
    await call.write(broker_pb2.SubscribeRequest(subscription=subscription, records=ALL, bytes=ALL))
    async with asyncio.timeout(FIRST_SECONDS):
        first = await call.read()
    if not isinstance(first, broker_pb2.SubscribeResponse):
        raise NotAsPlanned("the subscription ended at once")
    return call, first.next_offset
