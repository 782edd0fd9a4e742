from __future__ import annotations

import asyncio
from functools import partial

import grpc
import pytest
from grpc import aio
from grpc.aio import Metadata

from raftmq import status
from raftmq.broker.forwarding import Forwarder
from raftmq.errors import (
    DeadlineExceeded,
    LeadershipLost,
    NoLeader,
    NotEnoughReplicas,
    NotLeader,
    Outcome,
    RaftmqError,
    ShuttingDown,
    Unavailable,
    Unimplemented,
)
from raftmq.ids import GroupId, NodeId
from raftmq.metadata.altering import AlterTopic
from raftmq.records.batch import make_batch
from raftmq.v1 import admin_pb2, broker_pb2, cluster_pb2, types_pb2
from tests.broker.cluster import LEADER_WAIT_S, LEADERS, Node, refusal, running
from tests.clock import LoopClock

Pair = tuple[Node, Node]
PRODUCE = "/raftmq.v1.Broker/Produce"
RECORDS = [types_pb2.Record(value=b"v")]


def produce(partition: int = 1, *, no_forward: bool = False) -> broker_pb2.ProduceRequest:
    """Partition 1 is led by node 2."""
    return broker_pb2.ProduceRequest(
        topic="orders", partition=partition, batch=make_batch(RECORDS), no_forward=no_forward
    )


async def test_a_call_for_another_leader_takes_one_hop_with_its_own_bytes(pair: Pair) -> None:
    first, second = pair
    request = produce()
    answer = await first.broker.Produce(request)
    assert first.hops == [(2, PRODUCE, request.SerializeToString())]
    assert second.hops == []
    assert first.host.produced == []
    assert len(second.host.produced) == 1
    assert (answer.header.node_id, answer.header.leader_node_id) == (2, 2)


async def test_what_the_first_node_chose_is_what_the_second_gets(pair: Pair) -> None:
    first, second = pair
    request = broker_pb2.ProduceRequest(topic="orders", records=RECORDS)
    partitions = [(await first.broker.Produce(request)).receipt.partition for _ in range(3)]
    assert partitions == [0, 1, 2]
    [(_, _, handed_on)] = first.hops
    assert broker_pb2.ProduceRequest.FromString(handed_on).partition == 1
    assert [one.group for one in second.host.produced] == [GroupId(2)]


async def test_who_asks_not_to_be_forwarded_is_told_the_leader(pair: Pair) -> None:
    error = await refusal(pair[0].broker.Produce(produce(no_forward=True)))
    assert type(error) is NotLeader
    assert error.metadata == {"leader_node": "2", "leader_epoch": "7"}
    assert error.outcome is Outcome.NOT_APPLIED
    assert pair[0].hops == []


async def test_nodes_that_point_at_each_other_do_not_loop(pair: Pair, clock: LoopClock) -> None:
    first, second = pair
    first.host.leaders[GroupId(2)], second.host.leaders[GroupId(2)] = NodeId(2), NodeId(1)
    first.host.on_leader_asked = clock.at_call(4, LEADER_WAIT_S)
    error = await refusal(first.broker.Produce(produce()))
    assert type(error) is NoLeader  # NOT_LEADER is only for those who asked not to be forwarded
    assert error.outcome is Outcome.NOT_APPLIED
    assert {node for node, _, _ in first.hops} == {2}
    assert second.hops == []


async def test_the_first_node_goes_after_a_leader_that_has_moved(pair: Pair) -> None:
    """Node 2 has lost the partition to node 1, which learns of it after the first hop."""
    first, second = pair
    del second.host.leaders[GroupId(2)]

    def learn(group: GroupId) -> None:
        if first.hops:
            first.host.leaders[GroupId(2)] = NodeId(1)

    first.host.on_leader_asked = learn
    answer = await first.broker.Produce(produce())
    assert answer.header.node_id == 1
    assert len(first.hops) == 1
    assert second.host.produced == []


async def test_a_call_waits_for_an_election() -> None:
    async with running(1, leaders={**LEADERS, 1: 99}) as [node]:
        del node.host.leaders[GroupId(1)]
        looks = 0

        def elect(group: GroupId) -> None:
            nonlocal looks
            looks += 1
            if looks == 4:
                node.host.leaders[GroupId(1)] = NodeId(1)

        node.host.on_leader_asked = elect
        answer = await node.broker.Produce(produce(0))
        assert answer.receipt.count == 1
        assert looks >= 4


async def test_without_a_leader_the_answer_is_early_and_says_that_nothing_happened(
    node: Node, clock: LoopClock
) -> None:
    del node.host.leaders[GroupId(1)]
    node.host.on_leader_asked = clock.at_call(3, 55)
    error = await refusal(node.broker.Produce(produce(0), timeout=60))
    assert type(error) is NoLeader  # a bare DEADLINE_EXCEEDED would have no trailers
    assert not status.is_bare(error)
    assert error.outcome is Outcome.NOT_APPLIED


async def test_without_a_leader_a_call_that_must_stay_is_refused_at_once(node: Node) -> None:
    del node.host.leaders[GroupId(1)]
    looks: list[GroupId] = []
    node.host.on_leader_asked = looks.append
    error = await refusal(node.broker.Produce(produce(0, no_forward=True)))
    assert type(error) is NoLeader
    assert looks == [GroupId(1)]


async def test_a_node_that_is_down_counts_as_no_leader(clock: LoopClock) -> None:
    async with running(1, leaders=LEADERS) as [node]:
        node.host.on_leader_asked = clock.at_call(4, LEADER_WAIT_S)
        error = await refusal(node.broker.Produce(produce()))
        assert type(error) is Unavailable
        assert error.outcome is Outcome.NOT_APPLIED
        assert len(node.hops) > 1


@pytest.mark.parametrize("error", [NoLeader("x"), NotLeader("x"), ShuttingDown("x")])
async def test_a_leader_that_could_not_take_it_is_asked_again(pair: Pair, error: RaftmqError) -> None:
    first, second = pair
    second.host.errors = [error]
    await first.broker.Produce(produce())
    assert len(first.hops) == 2
    assert len(second.host.produced) == 1


@pytest.mark.parametrize(
    "error",
    [
        LeadershipLost("x"),
        NotEnoughReplicas("x"),
        DeadlineExceeded("x", outcome=Outcome.APPLIED, metadata={"base_offset": "5"}),
        Unavailable("x", outcome=Outcome.UNKNOWN),
    ],
)
async def test_what_may_have_happened_is_told_and_not_tried_again(pair: Pair, error: RaftmqError) -> None:
    first, second = pair
    second.host.errors = [error]
    told = await refusal(first.broker.Produce(produce()))
    assert (type(told), told.outcome, told.metadata) == (type(error), error.outcome, error.metadata)
    assert len(first.hops) == 1


async def test_a_read_is_tried_again_whatever_became_of_the_first(pair: Pair) -> None:
    first, second = pair
    second.host.errors = [Unavailable("cut off", outcome=Outcome.UNKNOWN)]
    await first.broker.Fetch(broker_pb2.FetchRequest(topic="orders", partition=1, offset=0))
    assert len(first.hops) == 2


async def test_what_only_reads_has_surely_applied_nothing(pair: Pair) -> None:
    first, second = pair
    second.host.errors = [DeadlineExceeded("late", outcome=Outcome.UNKNOWN)]
    error = await refusal(first.broker.Fetch(broker_pb2.FetchRequest(topic="orders", partition=1, offset=0)))
    assert (type(error), error.outcome) == (DeadlineExceeded, Outcome.NOT_APPLIED)


async def test_a_handler_that_never_ends_is_cut_off_in_time(pair: Pair, clock: LoopClock) -> None:
    first, second = pair
    second.host.on_stuck = partial(clock.advance, 60)
    second.host.stuck = True
    written = await refusal(first.broker.Produce(produce(), timeout=60))
    read = await refusal(first.broker.Fetch(broker_pb2.FetchRequest(topic="orders", partition=1, offset=0), timeout=60))
    assert (type(written), written.outcome) == (DeadlineExceeded, Outcome.UNKNOWN)
    assert (type(read), read.outcome) == (DeadlineExceeded, Outcome.NOT_APPLIED)
    assert not status.is_bare(written)
    assert not status.is_bare(read)


async def test_a_call_without_time_is_not_begun(node: Node) -> None:
    with pytest.raises(DeadlineExceeded) as caught:
        await node.calls.serve(PRODUCE, produce(0).SerializeToString(), 1)
    assert caught.value.outcome is Outcome.NOT_APPLIED
    assert node.host.produced == []


async def test_another_node_cannot_call_what_does_not_exist(node: Node) -> None:
    with pytest.raises(Unimplemented):
        await node.calls.serve("/raftmq.v1.Broker/Nothing", b"", None, forwarded=True)


async def test_a_topic_made_elsewhere_a_moment_ago_is_waited_for(pair: Pair) -> None:
    """Node 2 does not lead the controller, and hears of the topic a little later than its clients."""
    _, second = pair
    image, looks = second.cluster.image, 0
    second.cluster.image = type(image)()
    second.host.leaders[GroupId(1)] = NodeId(2)

    def hear(group: GroupId) -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            second.cluster.image = image

    second.host.on_leader_asked = hear
    answer = await second.broker.Produce(produce(0))
    assert answer.receipt.topic == "orders"


async def test_topics_are_created_altered_and_deleted_by_the_controllers_leader(pair: Pair) -> None:
    first, second = pair
    made = await second.admin.CreateTopic(admin_pb2.CreateTopicRequest(name="new", partitions=2))
    assert (made.topic.name, len(made.topic.partitions), made.header.node_id) == ("new", 2, 1)
    assert [spec.name for spec, _, _ in first.cluster.created] == ["new"]
    wish = admin_pb2.AlterTopicRequest(name="new", retention_bytes=0, message_id_window_count=7, expected_version=3)
    wish.retention.FromSeconds(60)
    altered = await second.admin.AlterTopic(wish)
    assert (altered.topic.name, altered.header.node_id) == ("new", 1)
    meant = AlterTopic("new", retention_ms=60_000, retention_bytes=0, message_id_window_count=7, expected_version=3)
    assert first.cluster.altered == [(meant, False)]
    await second.admin.DeleteTopic(admin_pb2.DeleteTopicRequest(name="new"))
    assert first.cluster.deleted == ["new"]
    assert second.cluster.created == []
    assert [method for _, method, _ in second.hops] == [
        "/raftmq.v1.Admin/CreateTopic",
        "/raftmq.v1.Admin/AlterTopic",
        "/raftmq.v1.Admin/DeleteTopic",
    ]


async def test_leadership_is_transferred_by_the_leader(pair: Pair) -> None:
    first, second = pair
    await first.operators.TransferLeader(cluster_pb2.TransferLeaderRequest(topic="orders", partition=1, to_node_id=3))
    await second.operators.TransferLeader(cluster_pb2.TransferLeaderRequest())
    assert second.host.transfers == [(GroupId(2), NodeId(3))]
    assert first.host.transfers == [(GroupId(0), None)]


# -- what the way itself may do --------------------------------------------------------------------------------------


def rpc_error(code: grpc.StatusCode, trailers: tuple[tuple[str, str | bytes], ...] = ()) -> aio.AioRpcError:
    return aio.AioRpcError(code, Metadata(), Metadata(*trailers), details="said by gRPC", debug_error_string=None)


async def told_of(error: BaseException) -> RaftmqError:
    async def forward(node: NodeId, method: str, request: bytes, remaining_ms: int) -> bytes:
        raise error

    with pytest.raises(RaftmqError) as caught:
        await Forwarder(forward)(NodeId(2), PRODUCE, b"", 1000)
    return caught.value


async def test_nothing_was_sent_where_there_was_no_connection() -> None:
    error = await told_of(ConnectionRefusedError("refused"))
    assert (type(error), error.outcome) == (Unavailable, Outcome.NOT_APPLIED)


async def test_the_other_nodes_answer_keeps_its_reason_and_outcome() -> None:
    sent = DeadlineExceeded("late", outcome=Outcome.APPLIED, metadata={"base_offset": "9"})
    wire = status.encode(sent)
    error = await told_of(rpc_error(grpc.StatusCode[wire.code], wire.trailers))
    assert (type(error), error.outcome, error.metadata) == (DeadlineExceeded, Outcome.APPLIED, {"base_offset": "9"})


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED])
async def test_a_bare_status_means_that_nobody_knows(code: grpc.StatusCode) -> None:
    error = await told_of(rpc_error(code))
    assert error.code == code.name
    assert error.outcome is Outcome.UNKNOWN


async def test_a_link_that_is_closed_under_a_call_cancels_nobody() -> None:
    """What gRPC raises for whoever waits on a channel that is closed."""
    error = await told_of(asyncio.CancelledError())
    assert (type(error), error.outcome) == (Unavailable, Outcome.UNKNOWN)


async def test_who_is_cancelled_while_it_waits_for_another_node_is_cancelled() -> None:
    waits = asyncio.Event()

    async def forward(node: NodeId, method: str, request: bytes, remaining_ms: int) -> bytes:
        waits.set()
        await asyncio.Event().wait()
        raise AssertionError("nobody answers")

    call = asyncio.ensure_future(Forwarder(forward)(NodeId(2), PRODUCE, b"", 1000))
    await waits.wait()
    call.cancel()
    await asyncio.wait({call})
    assert call.cancelled()
