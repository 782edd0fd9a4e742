"""InitProducer gives out ids; DescribeProducers pages through what the leaders' partitions remember of them."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftmq.broker.producers import _Page
from raftmq.errors import NoLeader
from raftmq.ids import GroupId, LogIndex, Offset, ProducerId, Term, WallMs
from raftmq.partition.machine import PartitionMachine
from raftmq.partition.producers import EXPIRY_MS, Placement, advance
from raftmq.records.batch import CheckedBatch, check_batch, make_batch
from raftmq.replica.group import ReplicaGroup
from raftmq.v1 import broker_pb2, types_pb2
from tests.broker.cluster import Node, refusal
from tests.broker.fakes import TERM, FakeGroup, FakeMachine

Pair = tuple[Node, Node]


def batch_of(producer: int, epoch: int, first_sequence: int, count: int) -> CheckedBatch:
    made = make_batch(
        [types_pb2.Record(value=b"v")] * count,
        producer_id=ProducerId(producer),
        producer_epoch=epoch,
        first_sequence=first_sequence,
    )
    return check_batch(made, max_batch_bytes=1 << 20)


def machine_of(*producers: int) -> PartitionMachine:
    """A partition that remembers two batches of each of `producers`, the first of them used longest ago."""
    machine = PartitionMachine()
    machine.log_tick = 1_000
    for number, producer in enumerate(producers):
        state = None
        for first, count in ((0, 3), (3, 2)):
            placement = Placement(
                Offset(10 * number + first), LogIndex(number + 1), Term(7), WallMs(1_700_000_000_000), 900
            )
            state = advance(state, batch_of(producer, 4, first, count), placement)
        assert state is not None
        machine.producers.put(ProducerId(producer), state)
    return machine


def hold(node: Node, group: int, machine: PartitionMachine) -> None:
    node.host.replicas.held[GroupId(group)] = cast(ReplicaGroup, FakeGroup(cast(FakeMachine, machine)))


def filled(pair: Pair, *knows: tuple[int, ...]) -> None:
    """The partitions of "orders", of which node 2 leads the second."""
    for number, producers in enumerate(knows):
        hold(pair[number % 2], number + 1, machine_of(*producers))


def asked(**wish: object) -> broker_pb2.DescribeProducersRequest:
    return broker_pb2.DescribeProducersRequest(topic="orders", **wish)  # type: ignore[arg-type]


def ids(answer: broker_pb2.DescribeProducersResponse) -> list[tuple[int, list[int]]]:
    return [(one.partition, [info.producer_id for info in one.producers]) for one in answer.partitions]


async def test_everything_that_is_remembered_of_a_producer(pair: Pair) -> None:
    filled(pair, (5,), (), ())
    answer = await pair[0].broker.DescribeProducers(asked(partitions=[0]))
    [told] = answer.partitions
    assert (told.partition, told.leader_epoch) == (0, TERM)
    [info] = told.producers
    assert (info.producer_id, info.producer_epoch, info.first_sequence, info.last_sequence) == (5, 4, 0, 4)
    assert info.last_offset == 4
    assert info.last_appended.ToMilliseconds() == 1_700_000_000_000
    assert info.expires_in.ToMilliseconds() == EXPIRY_MS - 100
    assert not answer.HasField("next")


async def test_all_leaders_tell_in_order_whoever_is_asked(pair: Pair) -> None:
    filled(pair, (9, 2), (7,), ())
    for node in pair:
        assert ids(await node.broker.DescribeProducers(asked())) == [(0, [2, 9]), (1, [7]), (2, [])]
        assert ids(await node.broker.DescribeProducers(asked(producer_id=7))) == [(0, []), (1, [7]), (2, [])]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7])
@pytest.mark.parametrize("asked_first", [0, 1])
async def test_pages_leave_nothing_out_and_tell_nothing_twice(pair: Pair, size: int, asked_first: int) -> None:
    filled(pair, (4, 2, 3), (8, 2), (2,))
    found: list[tuple[int, int]] = []
    request, pages = asked(page_size=size), 0
    while True:
        answer = await pair[asked_first].broker.DescribeProducers(request)
        told = [(number, one) for number, ones in ids(answer) for one in ones]
        assert len(told) <= size
        found, pages = found + told, pages + 1
        if not answer.HasField("next"):
            break
        assert (answer.next.partition, answer.next.producer_id) == found[-1], "a page ends with a producer"
        request.after.CopyFrom(answer.next)
    assert found == [(0, 2), (0, 3), (0, 4), (1, 2), (1, 8), (2, 2)]
    assert pages == -(-6 // size)


@settings(max_examples=200)
@given(
    st.lists(st.sets(st.integers(1, 9), max_size=5), max_size=4),
    st.lists(st.booleans(), min_size=4, max_size=4),
    st.integers(1, 6),
)
def test_pages_put_together_from_cut_ones_are_those_of_one_leader(
    known: list[set[int]], elsewhere: list[bool], size: int
) -> None:
    """Whoever leads what: a leader's own page, cut at the same size, hides nothing that belongs on this one."""
    page = _Page(size, ProducerId(0), 0, 0)
    told = [
        broker_pb2.PartitionProducers(
            partition=number, producers=[broker_pb2.ProducerInfo(producer_id=one) for one in sorted(ones)]
        )
        for number, ones in enumerate(known)
    ]
    far = [one for one in told if elsewhere[one.partition]]
    cut, end = page.cut(far, False)
    behind = [] if end is None else [one.partition for one in far if one.partition > end.partition]
    merged = sorted(
        [
            *(one for one in told if not elsewhere[one.partition]),
            *cut,
            *(broker_pb2.PartitionProducers(partition=number) for number in behind),
        ],
        key=lambda one: one.partition,
    )
    whole, whole_end = page.cut(told, False)
    parts, parts_end = page.cut(merged, end is not None)
    assert parts_end == whole_end
    assert [list(one.producers) for one in parts if one.producers] == [
        list(one.producers) for one in whole if one.producers
    ]


async def test_a_leader_that_is_missing_is_said(pair: Pair) -> None:
    filled(pair, (1,), (2,), (3,))
    pair[1].host.errors = [NoLeader("elected a moment ago")]
    assert [number for number, _ in ids(await pair[0].broker.DescribeProducers(asked()))] == [0, 1, 2]
    error = await refusal(pair[0].broker.DescribeProducers(asked(after=broker_pb2.ProducerPosition(partition=3))))
    assert (error.reason, error.field) == ("UNKNOWN_PARTITION", "after.partition")


async def test_several_producers_in_one_call(node: Node) -> None:
    answer = await node.broker.InitProducer(broker_pb2.InitProducerRequest(count=1000))
    assert (answer.producer_id, answer.producer_epoch, answer.count) == (1001, 0, 1000)
    one = await node.broker.InitProducer(broker_pb2.InitProducerRequest())
    assert (one.producer_id, one.count) == (2001, 1)
