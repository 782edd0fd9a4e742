"""ListOffsets: the bounds of partitions, as their leaders know them."""

from __future__ import annotations

from collections.abc import Sequence

from raftmq.broker.deadlines import CallContext, timestamp_ms
from raftmq.broker.leaders import LIMIT_MS, Leaders, Question
from raftmq.broker.view import View
from raftmq.errors import InvalidArgument
from raftmq.ids import NodeId, Offset
from raftmq.metadata.image import PartitionRecord
from raftmq.v1 import broker_pb2

METHOD = "/raftmq.v1.Broker/ListOffsets"


class Offsets:
    """The method ListOffsets."""

    def __init__(self, view: View, leaders: Leaders) -> None:
        self._view = view
        self._leaders = leaders

    async def list_offsets(
        self, request: broker_pb2.ListOffsetsRequest, context: CallContext
    ) -> broker_pb2.ListOffsetsResponse:
        topic = self._view.topic(request.topic)
        wanted = self._leaders.wanted(request.partitions, topic)
        if request.positions and len(request.positions) != len(request.partitions):
            raise InvalidArgument("there is to be one for each of the partitions", field="positions")
        positions = dict(zip(request.partitions, request.positions, strict=False))
        at_ms = timestamp_ms(request.appended_at, "appended_at") if request.HasField("appended_at") else None

        async def here(partition: PartitionRecord, within: CallContext) -> broker_pb2.PartitionOffsets:
            return await self._bounds(partition, at_ms, positions.get(partition.partition), within)

        async def elsewhere(
            node: NodeId, partitions: list[PartitionRecord], within: CallContext
        ) -> Sequence[broker_pb2.PartitionOffsets]:
            asked = broker_pb2.ListOffsetsRequest()
            asked.CopyFrom(request)
            asked.partitions[:] = [one.partition for one in partitions]
            asked.positions[:] = [positions[one.partition] for one in partitions] if positions else []
            data = await self._leaders.hand_on(node, METHOD, asked.SerializeToString(), within)
            return broker_pb2.ListOffsetsResponse.FromString(data).partitions

        found = await self._leaders.ask(Question(here, elsewhere), wanted, context.narrowed(LIMIT_MS))
        return broker_pb2.ListOffsetsResponse(
            header=self._view.header(), partitions=[found[number] for number in sorted(found)]
        )

    async def _bounds(
        self, partition: PartitionRecord, at_ms: int | None, position: int | None, context: CallContext
    ) -> broker_pb2.PartitionOffsets:
        bounds = await self._view.host.bounds(partition.group, context.within(LIMIT_MS))
        offset_at = None if at_ms is None else await self._view.host.offset_at(partition.group, at_ms)
        told = broker_pb2.PartitionOffsets(
            partition=partition.partition,
            log_start_offset=bounds.log_start_offset,
            high_watermark=bounds.high_watermark,
            leader_epoch=bounds.term,
            offset_appended_at=offset_at,
        )
        if position is not None and (first := max(position, bounds.log_start_offset)) < bounds.high_watermark:
            fetched = await self._view.host.fetch(partition.group, Offset(first), 1, 1, 0)
            for row in fetched.batches[:1]:
                told.position_appended_at.FromMilliseconds(row.wall_ms)
        return told
