"""Consumer groups over gRPC, coordinated by a node whose Raft groups are fakes."""

from __future__ import annotations

from typing import Any

from raftmq.errors import GroupNotEmpty, InvalidArgument, PreconditionFailed, UnknownGroup, UnknownMember, UnknownTopic
from raftmq.ids import GroupId, NodeId
from raftmq.v1 import groups_pb2
from tests.broker.cluster import Node, refusal

COORDINATORS = (GroupId(101), GroupId(102))


def lead(node: Node) -> None:
    """It coordinates all groups, and leads all partitions."""
    node.host.leaders |= dict.fromkeys((*COORDINATORS, GroupId(2)), NodeId(node.host.me))


async def join(node: Node, member: str = "a", **values: Any) -> groups_pb2.HeartbeatResponse:
    return await node.groups.Heartbeat(
        groups_pb2.HeartbeatRequest(group="g", member_id=member, topics=["orders"], **values)
    )


def commit(*offsets: tuple[str, int, int], **values: Any) -> groups_pb2.CommitOffsetsRequest:
    request = groups_pb2.CommitOffsetsRequest(group="g", **values)
    for topic, partition, offset in offsets:
        request.offsets.add(topic=topic, partition=partition, offset=offset)
    return request


async def committed(node: Node) -> dict[tuple[str, int], int]:
    answer = await node.groups.FetchOffsets(groups_pb2.FetchOffsetsRequest(group="g"))
    return {(one.topic, one.partition): one.offset for one in answer.offsets}


async def test_the_first_member_has_the_coordinators_made_and_gets_everything(node: Node) -> None:
    lead(node)
    answer = await join(node)
    assert answer.member_epoch == 1
    assert [(one.topic, list(one.partitions)) for one in answer.assigned] == [("orders", [0, 1, 2])]
    listed = await node.groups.ListConsumerGroups(groups_pb2.ListConsumerGroupsRequest())
    assert [(one.group, one.members, list(one.topics)) for one in listed.groups] == [("g", 1, ["orders"])]


async def test_offsets_are_committed_one_by_one_and_read_back(node: Node) -> None:
    lead(node)
    await join(node)
    answer = await node.groups.CommitOffsets(
        commit(("orders", 0, 5), ("orders", 9, 1), ("nothing", 0, 1), member_id="a", member_epoch=1)
    )
    assert [(one.topic, one.partition, one.error.reason) for one in answer.refused] == [
        ("orders", 9, "UNKNOWN_PARTITION"), ("nothing", 0, "UNKNOWN_TOPIC"),
    ]  # fmt: skip
    assert await committed(node) == {("orders", 0): 5}
    back = await refusal(node.groups.CommitOffsets(commit(("orders", 0, 4), member_id="a", member_epoch=1)))
    assert isinstance(back, PreconditionFailed)
    stranger = await refusal(node.groups.CommitOffsets(commit(("orders", 0, 9), member_id="b", member_epoch=1)))
    assert isinstance(stranger, UnknownMember)
    outsider = await refusal(node.groups.CommitOffsets(commit(("orders", 0, 9))))
    assert isinstance(outsider, GroupNotEmpty)
    assert await committed(node) == {("orders", 0): 5}


async def test_a_group_goes_with_its_offsets_but_not_while_it_has_members(node: Node) -> None:
    lead(node)
    await join(node)
    await node.groups.CommitOffsets(commit(("orders", 0, 5), member_id="a", member_epoch=1))
    delete = groups_pb2.DeleteConsumerGroupRequest(group="g")
    assert isinstance(await refusal(node.groups.DeleteConsumerGroup(delete)), GroupNotEmpty)
    await node.groups.Heartbeat(groups_pb2.HeartbeatRequest(group="g", member_id="a", member_epoch=1, leave=True))
    described = await node.groups.DescribeConsumerGroup(
        groups_pb2.DescribeConsumerGroupRequest(group="g", without_lag=True)
    )
    assert not described.members
    assert [(one.partition, one.committed_offset) for one in described.partitions] == [(0, 5)]
    await node.groups.DeleteConsumerGroup(delete)
    assert isinstance(await refusal(node.groups.DeleteConsumerGroup(delete)), UnknownGroup)
    assert isinstance(await refusal(node.groups.FetchOffsets(groups_pb2.FetchOffsetsRequest(group="g"))), UnknownGroup)


async def test_where_there_are_no_groups_none_is_known_and_none_is_made_by_asking(node: Node) -> None:
    lead(node)
    for request in (
        node.groups.FetchOffsets(groups_pb2.FetchOffsetsRequest(group="g")),
        node.groups.DescribeConsumerGroup(groups_pb2.DescribeConsumerGroupRequest(group="g")),
        node.groups.DeleteConsumerGroup(groups_pb2.DeleteConsumerGroupRequest(group="g")),
    ):
        assert isinstance(await refusal(request), UnknownGroup)
    assert not (await node.groups.ListConsumerGroups(groups_pb2.ListConsumerGroupsRequest())).groups
    assert node.groups_host.entries == 0


async def test_members_know_better_than_a_node_that_has_not_heard_of_any_group_yet(node: Node) -> None:
    """Being told that there is no such group would end a consumer that has just joined it, through another node."""
    lead(node)
    heartbeat = groups_pb2.HeartbeatRequest(group="g", member_id="a", member_epoch=1)
    fetch = groups_pb2.FetchOffsetsRequest(group="g", member_id="a", member_epoch=1)
    for refused in (await refusal(node.groups.Heartbeat(heartbeat)), await refusal(node.groups.FetchOffsets(fetch))):
        assert isinstance(refused, UnknownMember), refused


async def test_what_is_wrong_is_named(node: Node) -> None:
    lead(node)
    await join(node)
    for request, field in (
        (node.groups.Heartbeat(groups_pb2.HeartbeatRequest(group="a/b", member_id="a")), "group"),
        (node.groups.Heartbeat(groups_pb2.HeartbeatRequest(group="g")), "member_id"),
        (node.groups.Heartbeat(groups_pb2.HeartbeatRequest(group="g", member_id="a")), "topics"),
        (node.groups.CommitOffsets(commit()), "offsets"),
        (node.groups.CommitOffsets(commit(("orders", 0, 1), member_epoch=1)), "member_epoch"),
    ):
        refused = await refusal(request)
        assert (type(refused), refused.field) == (InvalidArgument, field)
    unknown = await refusal(node.groups.CommitOffsets(commit(("nothing", 0, 1), member_id="a", member_epoch=1)))
    assert isinstance(unknown, UnknownTopic)


async def test_any_node_hands_a_call_to_the_coordinator(pair: tuple[Node, Node]) -> None:
    first, second = pair
    lead(second)
    for node in pair:
        node.host.leaders |= dict.fromkeys(COORDINATORS, NodeId(2))
    await first.cluster.ensure_groups_topic(1_000)
    second.cluster.image = first.cluster.image
    answer = await join(first)
    assert answer.member_epoch == 1
    assert [(node, method) for node, method, _ in first.hops] == [(2, "/raftmq.v1.Groups/Heartbeat")]
    assert second.groups_host.entries == 1
