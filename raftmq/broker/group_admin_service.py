"""raftmq.v1.Groups for operators: what a group reads, how far it is, and setting it back."""

from __future__ import annotations

from dataclasses import replace

from raftmq.broker import group_requests
from raftmq.broker.deadlines import CallContext, timestamp_ms
from raftmq.broker.dispatch import Entry, Target
from raftmq.broker.group_requests import group_name, partitions_of
from raftmq.broker.group_service import LIMIT_MS, GroupService
from raftmq.broker.lag import Lag, lags, topics_by_id
from raftmq.broker.lag import partitions_of as described_partitions
from raftmq.broker.offsets import Offsets
from raftmq.broker.view import View
from raftmq.coordinator.coordinator import Coordinator
from raftmq.errors import InvalidArgument
from raftmq.groups.commands import DeleteGroup, DeleteOffsets, SetOffsets
from raftmq.groups.group import ConsumerGroup
from raftmq.groups.types import Member, Position, TopicPartition
from raftmq.ids import GroupId
from raftmq.metadata.image import TopicRecord
from raftmq.ports import Clock
from raftmq.v1 import broker_pb2, groups_pb2


class GroupAdminService:
    """The methods of ``raftmq.v1.Groups`` that are not for members."""

    def __init__(
        self, view: View, groups: GroupService, coordinator: Coordinator, offsets: Offsets, clock: Clock
    ) -> None:
        self._view = view
        self._groups = groups
        self._coordinator = coordinator
        self._offsets = offsets
        self._clock = clock

    def entries(self) -> dict[str, Entry]:
        """For the table of methods."""
        return {
            "Groups.DescribeConsumerGroup": Entry(self.describe_group, reads=True, target=self._known_target),
            "Groups.ResetOffsets": Entry(self.reset_offsets, reads=False, target=self._reset_target),
            "Groups.DeleteOffsets": Entry(self.delete_offsets, reads=False, target=self._delete_target),
            "Groups.DeleteConsumerGroup": Entry(self.delete_group, reads=False, target=self._known_target),
        }

    def _known_target(
        self, request: groups_pb2.DescribeConsumerGroupRequest | groups_pb2.DeleteConsumerGroupRequest
    ) -> Target:
        return Target(self._groups.coordinator_of(group_name(request.group), create=False), LIMIT_MS)

    # -- DescribeConsumerGroup ------------------------------------------------------------------------------------

    async def describe_group(
        self, request: groups_pb2.DescribeConsumerGroupRequest, context: CallContext
    ) -> groups_pb2.DescribeConsumerGroupResponse:
        at = self._groups.coordinator_of(request.group, create=False)
        await self._coordinator.confirmed(at, context.within(LIMIT_MS))
        group = self._coordinator.group(at, request.group)
        topics = topics_by_id(self._view.cluster.image)
        response = groups_pb2.DescribeConsumerGroupResponse(
            header=self._view.header(at),
            group=group.name,
            group_epoch=group.epoch,
            assignor=group.assignor.value,  # type: ignore[arg-type]
            members=[self._member(at, group, member) for _, member in sorted(group.members.items())],
        )
        wanted = described_partitions(group, topics)
        known: dict[TopicPartition, Lag] = {}
        if not request.without_lag:
            known = await lags(self._offsets, group, wanted, topics, self._clock.wall_ms(), context)
        for key in sorted(wanted, key=lambda key: (topics[key.topic_id].name, key)):
            response.partitions.append(_partition(group, key, topics[key.topic_id].name, known.get(key)))
        return response

    def _member(self, at: GroupId, group: ConsumerGroup, member: Member) -> groups_pb2.GroupMember:
        names = self._groups.names()
        described = groups_pb2.GroupMember(
            member_id=member.member_id,
            instance_id=member.instance_id,
            client_id=member.client_id,
            rack=member.rack,
            topics=member.topics,
            assigned=partitions_of(group.assigned(member.member_id), names),
            revoking=partitions_of(group.revoking(member.member_id), names),
        )
        described.session_timeout.FromMilliseconds(member.session_timeout_ms)
        described.last_heard.FromMilliseconds(self._coordinator.silence_ms(at, group.name, member.member_id))
        return described

    # -- ResetOffsets ----------------------------------------------------------------------------------------------

    def _reset_target(self, request: groups_pb2.ResetOffsetsRequest) -> Target:
        name = group_name(request.group)
        _check_topic(request.topic)
        if request.WhichOneof("to") is None:
            raise InvalidArgument("is required: any default could skip or repeat records", field="to")
        if request.HasField("appended_at"):
            timestamp_ms(request.appended_at, "appended_at")
        return Target(self._groups.coordinator_of(name, create=True), LIMIT_MS)

    async def reset_offsets(
        self, request: groups_pb2.ResetOffsetsRequest, context: CallContext
    ) -> groups_pb2.ResetOffsetsResponse:
        at = self._groups.coordinator_of(request.group, create=False)
        machine = await self._coordinator.confirmed(at, context.within(LIMIT_MS))
        topic = self._view.topic(request.topic.topic, "topic.topic")
        group = machine.groups.get(request.group) or ConsumerGroup(request.group)
        group.expect_empty()
        bounds = await self._bounds(request, topic, context)
        response = groups_pb2.ResetOffsetsResponse(header=self._view.header(at))
        positions: list[tuple[TopicPartition, Position]] = []
        for one in bounds:
            key = TopicPartition(topic.topic_id, one.partition)
            known = group.offsets.get(key)
            before = None if known is None else known.position.offset
            after = _wanted(request, one, before)
            positions.append((key, Position(after)))
            response.offsets.add(partition=one.partition, before=before, after=after)
        if not request.dry_run:
            await self._coordinator.change(at, request.group, SetOffsets(tuple(positions)), context.within(LIMIT_MS))
        return response

    async def _bounds(
        self, request: groups_pb2.ResetOffsetsRequest, topic: TopicRecord, context: CallContext
    ) -> list[broker_pb2.PartitionOffsets]:
        numbers = self._numbers(request.topic, topic)
        asked = broker_pb2.ListOffsetsRequest(topic=topic.name, partitions=numbers)
        if request.HasField("appended_at"):
            asked.appended_at.CopyFrom(request.appended_at)
        # The call may have come its one hop to this coordinator. What it asks now are calls of its own.
        answer = await self._offsets.list_offsets(asked, replace(context, forwarded=False))
        return list(answer.partitions)

    def _numbers(self, wanted: groups_pb2.TopicPartitions, topic: TopicRecord) -> list[int]:
        for position, number in enumerate(wanted.partitions):
            self._view.partition(topic, number, f"topic.partitions[{position}]")
        return sorted(set(wanted.partitions)) or list(range(len(topic.partitions)))

    # -- deleting --------------------------------------------------------------------------------------------------

    def _delete_target(self, request: groups_pb2.DeleteOffsetsRequest) -> Target:
        name = group_name(request.group)
        _check_topic(request.topic)
        return Target(self._groups.coordinator_of(name, create=False), LIMIT_MS)

    async def delete_offsets(
        self, request: groups_pb2.DeleteOffsetsRequest, context: CallContext
    ) -> groups_pb2.DeleteOffsetsResponse:
        at = self._groups.coordinator_of(request.group, create=False)
        topic = self._view.topic(request.topic.topic, "topic.topic")
        keys = tuple(TopicPartition(topic.topic_id, number) for number in self._numbers(request.topic, topic))
        await self._coordinator.change(at, request.group, DeleteOffsets(keys), context.within(LIMIT_MS))
        return groups_pb2.DeleteOffsetsResponse(header=self._view.header(at))

    async def delete_group(
        self, request: groups_pb2.DeleteConsumerGroupRequest, context: CallContext
    ) -> groups_pb2.DeleteConsumerGroupResponse:
        at = self._groups.coordinator_of(request.group, create=False)
        await self._coordinator.change(at, request.group, DeleteGroup(), context.within(LIMIT_MS))
        return groups_pb2.DeleteConsumerGroupResponse(header=self._view.header(at))


def _check_topic(wanted: groups_pb2.TopicPartitions) -> None:
    if not wanted.topic:
        raise InvalidArgument("names no topic", field="topic.topic")
    if len(wanted.partitions) > group_requests.OFFSETS_MAX:
        raise InvalidArgument(f"more than {group_requests.OFFSETS_MAX} of them", field="topic.partitions")


def _wanted(request: groups_pb2.ResetOffsetsRequest, bounds: broker_pb2.PartitionOffsets, before: int | None) -> int:
    """Where the partition is set to, within its bounds."""
    match request.WhichOneof("to"):
        case "earliest":
            wanted = bounds.log_start_offset
        case "latest":
            wanted = bounds.high_watermark
        case "offset":
            wanted = request.offset
        case "appended_at":
            wanted = bounds.offset_appended_at
        case _:
            wanted = (bounds.log_start_offset if before is None else before) + request.shift
    return max(bounds.log_start_offset, min(wanted, bounds.high_watermark))


def _partition(group: ConsumerGroup, key: TopicPartition, topic: str, lag: Lag | None) -> groups_pb2.GroupPartition:
    owner, committed = group.owners.get(key), group.offsets.get(key)
    described = groups_pb2.GroupPartition(
        topic=topic, partition=key.partition, member_id="" if owner is None else owner.member_id
    )
    if committed is not None:
        described.committed_offset = committed.position.offset
        described.metadata = committed.position.metadata
        described.committed_at.FromMilliseconds(committed.wall_ms)
    if lag is not None:
        described.high_watermark, described.lag = lag.high_watermark, lag.records
        described.lag_time.FromMilliseconds(lag.age_ms)
    return described
