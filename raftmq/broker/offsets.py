"""ListOffsets: the only call that several leaders may have to answer. One node asks them all, each once at a time."""

from __future__ import annotations

import asyncio
from random import Random

from raftmq.broker.deadlines import CallContext, timestamp_ms
from raftmq.broker.forwarding import Forwarder
from raftmq.broker.patience import Patience
from raftmq.broker.routing import Forward, Local, Refuse, Wait, may_route_again, route
from raftmq.broker.view import View
from raftmq.errors import InvalidArgument, Outcome, RaftmqError
from raftmq.ids import NodeId, PartitionId
from raftmq.metadata.image import PartitionRecord, TopicRecord
from raftmq.v1 import broker_pb2

METHOD = "/raftmq.v1.Broker/ListOffsets"
LIMIT_MS = 10_000
PARTITIONS_MAX = 10_000
"""In one request, repeated ones too."""

Found = dict[PartitionId, broker_pb2.PartitionOffsets]


class Offsets:
    """The method ListOffsets."""

    def __init__(self, view: View, forwarder: Forwarder, rng: Random) -> None:
        self._view = view
        self._forwarder = forwarder
        self._rng = rng

    async def list_offsets(
        self, request: broker_pb2.ListOffsetsRequest, context: CallContext
    ) -> broker_pb2.ListOffsetsResponse:
        topic = self._view.topic(request.topic)
        wanted = self._wanted(request, topic)
        at_ms = timestamp_ms(request.appended_at, "appended_at") if request.HasField("appended_at") else None
        context = context.narrowed(LIMIT_MS)
        patience = Patience(context, self._rng)
        found: Found = {}
        while missing := [partition for partition in wanted if partition.partition not in found]:
            error = await self._round(topic, missing, at_ms, context, found)
            if error is not None:
                if context.forwarded or not may_route_again(error, reads=True):
                    raise error
                await patience.wait_after(error)
        return broker_pb2.ListOffsetsResponse(
            header=self._view.header(), partitions=[found[number] for number in sorted(found)]
        )

    def _wanted(self, request: broker_pb2.ListOffsetsRequest, topic: TopicRecord) -> list[PartitionRecord]:
        if not request.partitions:
            return list(topic.partitions)
        if len(request.partitions) > PARTITIONS_MAX:
            raise InvalidArgument(f"{len(request.partitions)} of them, at most {PARTITIONS_MAX}", field="partitions")
        return [
            self._view.partition(topic, number, f"partitions[{position}]")
            for position, number in enumerate(request.partitions)
        ]

    async def _round(
        self, topic: TopicRecord, missing: list[PartitionRecord], at_ms: int | None, context: CallContext, found: Found
    ) -> RaftmqError | None:
        """Ask everybody once. Adds to `found` what came, and returns one of the errors that came, if any did."""
        here, elsewhere, failure = self._deal(missing, context)
        asked = [self._ask_here(one, at_ms, context) for one in here]
        asked += [self._ask_node(node, topic, ones, at_ms, context) for node, ones in elsewhere.items()]
        for answer in await asyncio.gather(*asked):
            if isinstance(answer, RaftmqError):
                # An error that no second attempt can change must not hide behind one that may pass.
                if failure is None or may_route_again(failure, reads=True):
                    failure = answer
            else:
                found.update((PartitionId(one.partition), one) for one in answer)
        return failure

    def _deal(
        self, missing: list[PartitionRecord], context: CallContext
    ) -> tuple[list[PartitionRecord], dict[NodeId, list[PartitionRecord]], RaftmqError | None]:
        """Who is asked for what, and why somebody cannot be."""
        here: list[PartitionRecord] = []
        elsewhere: dict[NodeId, list[PartitionRecord]] = {}
        failure: RaftmqError | None = None
        host = self._view.host
        for one in missing:
            decision = route(
                self._view.cluster.node_id,
                leads=host.leads(one.group),
                leader=host.leader_of(one.group),
                no_forward=False,
                forwarded=context.forwarded,
            )
            match decision:
                case Local():
                    here.append(one)
                case Forward(node):
                    elsewhere.setdefault(node, []).append(one)
                case Wait(error) | Refuse(error):
                    failure = error
        return here, elsewhere, failure

    async def _ask_here(
        self, partition: PartitionRecord, at_ms: int | None, context: CallContext
    ) -> list[broker_pb2.PartitionOffsets] | RaftmqError:
        try:
            bounds = await self._view.host.bounds(partition.group, context.within(LIMIT_MS))
            offset_at = None if at_ms is None else await self._view.host.offset_at(partition.group, at_ms)
        except RaftmqError as error:
            return error
        return [
            broker_pb2.PartitionOffsets(
                partition=partition.partition,
                log_start_offset=bounds.log_start_offset,
                high_watermark=bounds.high_watermark,
                leader_epoch=bounds.term,
                offset_appended_at=offset_at,
            )
        ]

    async def _ask_node(
        self,
        node: NodeId,
        topic: TopicRecord,
        partitions: list[PartitionRecord],
        at_ms: int | None,
        context: CallContext,
    ) -> list[broker_pb2.PartitionOffsets] | RaftmqError:
        request = broker_pb2.ListOffsetsRequest(topic=topic.name, partitions=[one.partition for one in partitions])
        if at_ms is not None:
            request.appended_at.FromMilliseconds(at_ms)
        try:
            data = await self._forwarder(node, METHOD, request.SerializeToString(), context.within(LIMIT_MS))
        except RaftmqError as error:
            error.outcome = Outcome.NOT_APPLIED
            return error
        return list(broker_pb2.ListOffsetsResponse.FromString(data).partitions)
