"""raftmq.v1.Groups: consumer groups. Every call about a group goes to its coordinator."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from raftmq.broker import group_requests
from raftmq.broker.deadlines import CallContext
from raftmq.broker.dispatch import Entry, Part, Target
from raftmq.broker.group_requests import group_name, partitions_of
from raftmq.broker.view import View
from raftmq.coordinator.coordinator import Coordinator
from raftmq.errors import InvalidArgument, NotReady, RaftmqError, StaleMember, UnknownGroup, UnknownMember
from raftmq.groups.commands import Commit
from raftmq.groups.types import TopicPartition
from raftmq.ids import CONTROLLER_GROUP, GroupId
from raftmq.metadata.internal import GROUPS_TOPIC
from raftmq.records.slots import partition_for_key
from raftmq.v1 import groups_pb2

LIMIT_MS = 10_000
CREATE_WITHIN_MS = 10_000
PENDING_INTERVAL_MS = 200
"""How soon a member should call again that has yet to get something, if it does not wait for it."""
INTERVAL_MAX_MS = 3_000


class GroupService:
    """The methods of ``raftmq.v1.Groups`` that members call; see ``GroupAdminService`` for the others."""

    def __init__(self, view: View, coordinator: Coordinator) -> None:
        self._view = view
        self._coordinator = coordinator
        self._creating: asyncio.Task[None] | None = None

    def entries(self) -> dict[str, Entry]:
        """For the table of methods."""
        return {
            "Groups.Heartbeat": Entry(self.heartbeat, reads=False, target=self._heartbeat_target),
            "Groups.CommitOffsets": Entry(self.commit_offsets, reads=False, target=self._commit_target),
            "Groups.FetchOffsets": Entry(self.fetch_offsets, reads=True, target=self._fetch_target),
            "Groups.ListConsumerGroups": Entry(
                self.list_groups, reads=True, target=self._list_target, join=self._listed
            ),
        }

    # -- who coordinates -------------------------------------------------------------------------------------------

    def coordinator_of(self, name: str, *, create: bool) -> GroupId:
        """The Raft group of a consumer group. Raises NotReady while that is being created (or not known here yet);
        UnknownGroup where there are no groups at all, unless they are to be `create`-d: so for whoever calls itself a
        member, too, who knows better than a node that lags behind."""
        topic = self._view.cluster.image.topics.get(GROUPS_TOPIC)
        if topic is not None:
            return topic.partitions[partition_for_key(name.encode(), len(topic.partitions))].group
        if create:
            self._create()
            raise NotReady("the first consumer group waits for its coordinators to be created")
        if not self._view.cluster.is_current():
            raise NotReady("this node has yet to learn from the controller which groups there are")
        raise UnknownGroup(f"there is no group {name}", field="group")

    def _create(self) -> None:
        if self._creating is None or self._creating.done():
            self._creating = asyncio.create_task(self._ensure(), name="create-groups-topic")

    async def _ensure(self) -> None:
        try:
            await self._view.cluster.ensure_groups_topic(CREATE_WITHIN_MS)
        except RaftmqError:
            return  # whoever waits for it tries again, and says so in the end

    def names(self) -> dict[int, str]:
        """Of all topics, by id."""
        return {topic.topic_id: topic.name for topic in self._view.cluster.image.topics.values()}

    # -- Heartbeat -------------------------------------------------------------------------------------------------

    def _heartbeat_target(self, request: groups_pb2.HeartbeatRequest) -> Target:
        name = group_name(request.group)
        group_requests.check_heartbeat(request)
        return Target(self.coordinator_of(name, create=True), group_requests.wait_ms(request) + LIMIT_MS)

    async def heartbeat(
        self, request: groups_pb2.HeartbeatRequest, context: CallContext
    ) -> groups_pb2.HeartbeatResponse:
        at = self.coordinator_of(request.group, create=True)
        ids = self._ids()
        if not self._view.cluster.is_current():
            group_requests.expect_known(request, ids)
        beat = group_requests.beat_of(request, ids)
        wait_ms = min(group_requests.wait_ms(request), beat.member.session_timeout_ms // 3)
        wait_ms = min(wait_ms, max(0, context.remaining_ms - PENDING_INTERVAL_MS))
        standing = await self._coordinator.heartbeat(at, request.group, beat, wait_ms, context.within(LIMIT_MS))
        names = {**self.names(), **standing.topics}
        response = groups_pb2.HeartbeatResponse(
            header=self._view.header(at),
            member_epoch=standing.epoch,
            assigned=partitions_of(standing.assigned, names),
        )
        interval_ms = min(standing.session_timeout_ms // 3, INTERVAL_MAX_MS)
        response.heartbeat_interval.FromMilliseconds(interval_ms if standing.is_settled else PENDING_INTERVAL_MS)
        response.session_timeout.FromMilliseconds(standing.session_timeout_ms)
        return response

    def _ids(self) -> dict[str, int]:
        return {name: topic.topic_id for name, topic in self._view.cluster.image.topics.items()}

    # -- offsets ---------------------------------------------------------------------------------------------------

    def _commit_target(self, request: groups_pb2.CommitOffsetsRequest) -> Target:
        name = group_name(request.group)
        group_requests.check_commit(request)
        return Target(self.coordinator_of(name, create=True), LIMIT_MS)

    async def commit_offsets(
        self, request: groups_pb2.CommitOffsetsRequest, context: CallContext
    ) -> groups_pb2.CommitOffsetsResponse:
        at = self.coordinator_of(request.group, create=True)
        wanted, refused = group_requests.positions_of(request, self._view)
        errors: list[RaftmqError | None] = []
        if wanted:
            commit = Commit(request.member_id, request.member_epoch, tuple(wanted))
            errors = await self._coordinator.change(at, request.group, commit, context.within(LIMIT_MS))
        names = self.names()
        for (key, _), error in zip(wanted, errors, strict=True):
            if error is not None:
                refused.append(group_requests.refusal(names.get(key.topic_id, ""), key.partition, error))
        if len(refused) == len(request.offsets) and len({one.error.reason for one in refused}) == 1:
            raise group_requests.error_of(refused[0])
        return groups_pb2.CommitOffsetsResponse(header=self._view.header(at), refused=refused)

    def _fetch_target(self, request: groups_pb2.FetchOffsetsRequest) -> Target:
        name = group_name(request.group)
        if sum(len(one.partitions) for one in request.topics) > group_requests.OFFSETS_MAX:
            raise InvalidArgument(f"more than {group_requests.OFFSETS_MAX} partitions", field="topics")
        return Target(self.coordinator_of(name, create=bool(request.member_id)), LIMIT_MS)

    async def fetch_offsets(
        self, request: groups_pb2.FetchOffsetsRequest, context: CallContext
    ) -> groups_pb2.FetchOffsetsResponse:
        at = self.coordinator_of(request.group, create=bool(request.member_id))
        machine = await self._coordinator.confirmed(at, context.within(LIMIT_MS))
        group = machine.groups.get(request.group)
        response = groups_pb2.FetchOffsetsResponse(header=self._view.header(at))
        if group is None and request.member_id:
            raise UnknownMember(f"group {request.group} has no members", field="member_id")
        if group is None:
            raise UnknownGroup(f"there is no group {request.group}", field="group")
        if request.member_id:
            group.member(request.member_id)
            if request.member_epoch > group.epoch:
                raise StaleMember(f"{request.member_epoch} is no epoch of the group yet", field="member_epoch")
        names, wanted = self.names(), self._wanted(request)
        for key, committed in sorted(group.offsets.items()):
            if key.topic_id in names and (wanted is None or key in wanted or (key.topic_id, None) in wanted):
                response.offsets.append(group_requests.committed_of(key, names[key.topic_id], committed))
        return response

    def _wanted(self, request: groups_pb2.FetchOffsetsRequest) -> set[TopicPartition | tuple[int, None]] | None:
        """None: everything. A pair without a partition: all of the topic."""
        if not request.topics:
            return None
        wanted: set[TopicPartition | tuple[int, None]] = set()
        for position, one in enumerate(request.topics):
            topic = self._view.topic(one.topic, f"topics[{position}].topic")
            wanted.update(TopicPartition(topic.topic_id, number) for number in one.partitions)
            if not one.partitions:
                wanted.add((topic.topic_id, None))
        return wanted

    # -- ListConsumerGroups ------------------------------------------------------------------------------------

    def _list_target(self, request: groups_pb2.ListConsumerGroupsRequest) -> Target:
        topic = self._view.cluster.image.topics.get(GROUPS_TOPIC)
        if topic is None:
            return Target(CONTROLLER_GROUP, LIMIT_MS)  # it knows best whether there are any
        if request.HasField("coordinator"):
            if request.coordinator >= len(topic.partitions):
                raise InvalidArgument(f"there are {len(topic.partitions)} coordinators", field="coordinator")
            return Target(topic.partitions[request.coordinator].group, LIMIT_MS)
        parts = (groups_pb2.ListConsumerGroupsRequest(coordinator=one.partition) for one in topic.partitions)
        return Target(CONTROLLER_GROUP, LIMIT_MS, parts=tuple(Part(part, None) for part in parts))

    async def list_groups(
        self, request: groups_pb2.ListConsumerGroupsRequest, context: CallContext
    ) -> groups_pb2.ListConsumerGroupsResponse:
        topic = self._view.cluster.image.topics.get(GROUPS_TOPIC)
        response = groups_pb2.ListConsumerGroupsResponse(header=self._view.controller_header())
        if topic is None or not request.HasField("coordinator"):
            return response
        at = topic.partitions[request.coordinator].group
        machine = await self._coordinator.confirmed(at, context.within(LIMIT_MS))
        for name, group in sorted(machine.groups.items()):
            topics = sorted({topic for member in group.members.values() for topic in member.topics})
            response.groups.add(group=name, members=len(group.members), group_epoch=group.epoch, topics=topics)
        return response

    def _listed(
        self, answers: Sequence[tuple[Part, groups_pb2.ListConsumerGroupsResponse | RaftmqError]]
    ) -> groups_pb2.ListConsumerGroupsResponse:
        """All of them, or none: a list that leaves some out would be a lie."""
        found: list[groups_pb2.GroupListing] = []
        for _, answer in answers:
            if isinstance(answer, RaftmqError):
                raise answer
            found += answer.groups
        found.sort(key=lambda one: one.group)
        return groups_pb2.ListConsumerGroupsResponse(header=self._view.controller_header(), groups=found)
