"""ListOffsets asks every leader and puts the answers together."""

from __future__ import annotations

import pytest

from raftmq.errors import NoLeader, NotLeader, Outcome, PreconditionFailed, Unavailable
from raftmq.ids import GroupId, NodeId
from raftmq.records.batch import make_batch
from raftmq.v1 import broker_pb2, types_pb2
from tests.broker.cluster import LEADER_WAIT_S, Node, refusal
from tests.broker.fakes import TERM
from tests.clock import LoopClock

Pair = tuple[Node, Node]


def asked(*partitions: int) -> broker_pb2.ListOffsetsRequest:
    return broker_pb2.ListOffsetsRequest(topic="orders", partitions=partitions)


def marks(answer: broker_pb2.ListOffsetsResponse) -> list[tuple[int, int, int]]:
    return [(one.partition, one.high_watermark, one.leader_epoch) for one in answer.partitions]


async def fill(node: Node, partition: int, count: int) -> None:
    batch = make_batch([types_pb2.Record(value=b"v")] * count)
    await node.broker.Produce(broker_pb2.ProduceRequest(topic="orders", partition=partition, batch=batch))


async def test_all_partitions_of_several_leaders_in_one_answer(pair: Pair) -> None:
    first, second = pair
    for partition, count in ((0, 4), (1, 5), (2, 6)):
        await fill(first, partition, count)
    first.hops.clear()
    for node in pair:
        assert marks(await node.broker.ListOffsets(asked())) == [(0, 4, TERM), (1, 5, TERM), (2, 6, TERM)]
    assert [broker_pb2.ListOffsetsRequest.FromString(body) for _, _, body in first.hops] == [asked(1)]
    assert [broker_pb2.ListOffsetsRequest.FromString(body) for _, _, body in second.hops] == [asked(0, 2)]


async def test_only_what_is_asked_for_and_each_once(pair: Pair) -> None:
    assert marks(await pair[0].broker.ListOffsets(asked(2, 2, 0))) == [(0, 0, TERM), (2, 0, TERM)]


async def test_a_forwarded_question_is_not_handed_on(pair: Pair) -> None:
    second = pair[1]
    request = asked(0, 1).SerializeToString()
    with pytest.raises(NotLeader) as caught:
        await second.calls.serve("/raftmq.v1.Broker/ListOffsets", request, None, forwarded=True)
    assert caught.value.metadata["leader_node"] == "1"
    assert second.hops == []


async def test_who_could_not_answer_is_asked_again_and_nobody_else(pair: Pair) -> None:
    first, second = pair
    second.host.errors = [Unavailable("cut off", outcome=Outcome.UNKNOWN), NoLeader("elected a moment ago")]
    assert [number for number, _, _ in marks(await first.broker.ListOffsets(asked()))] == [0, 1, 2]
    assert len(first.hops) == 3


async def test_a_missing_leader_is_waited_for_in_vain(pair: Pair, clock: LoopClock) -> None:
    first = pair[0]
    del first.host.leaders[GroupId(3)]
    first.host.on_leader_asked = clock.at_call(6, LEADER_WAIT_S)
    error = await refusal(first.broker.ListOffsets(asked()))
    assert (type(error), error.outcome) == (NoLeader, Outcome.NOT_APPLIED)


async def test_an_error_that_will_not_pass_ends_the_wait(pair: Pair) -> None:
    first, second = pair
    del first.host.leaders[GroupId(3)]
    second.host.errors = [PreconditionFailed("never")]
    error = await refusal(first.broker.ListOffsets(asked()))
    assert type(error) is PreconditionFailed
    assert len(first.hops) == 1


async def test_a_node_that_still_thinks_it_leads_asks_again(pair: Pair) -> None:
    first = pair[0]
    first.host.errors = [NotLeader("just deposed")]
    assert len(marks(await first.broker.ListOffsets(asked(0)))) == 1
    assert first.host.leaders[GroupId(1)] == NodeId(1)


def at(seconds: int, nanos: int = 0) -> broker_pb2.ListOffsetsRequest:
    request = asked()
    request.appended_at.seconds, request.appended_at.nanos = seconds, nanos
    return request


async def test_offsets_by_time_come_from_every_leader(pair: Pair) -> None:
    """What the fakes take is all appended at 1,700,000,000,000 ms."""
    first, second = pair
    for partition in (0, 1):
        await fill(first, partition, 4)
    for request, found in [
        (at(0), [0, 0, 0]),
        (at(-62_135_596_800), [0, 0, 0]),
        (at(1_700_000_000), [0, 0, 0]),
        (at(1_699_999_999, 999_999_999), [0, 0, 0]),
        (at(1_700_000_000, 1), [4, 4, 0]),
        (at(253_402_300_799, 999_999_999), [4, 4, 0]),
    ]:
        for node in (first, second):
            answer = await node.broker.ListOffsets(request)
            assert [one.offset_appended_at for one in answer.partitions] == found
    unasked = await first.broker.ListOffsets(asked())
    assert not any(one.HasField("offset_appended_at") for one in unasked.partitions)
