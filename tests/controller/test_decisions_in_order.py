"""Decisions are made one at a time, on an image that has everything decided before, whatever becomes of each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import pytest

from raftmq.controller.controller import ALLOCATE_PRODUCER_IDS
from raftmq.errors import (
    AlreadyExists,
    DeadlineExceeded,
    LeadershipLost,
    NoLeader,
    NotLeader,
    Outcome,
    RaftmqError,
    UnknownTopic,
)
from raftmq.ids import NodeId
from raftmq.internal.v1 import storage_pb2
from raftmq.metadata import decisions
from raftmq.metadata.events import Event
from raftmq.metadata.image import MetadataImage
from tests.controller.nodes import Nodes, running


@pytest.fixture
def cluster() -> Iterator[Nodes]:
    with running() as nodes:
        yield nodes


def allocating(image: MetadataImage) -> Sequence[Event]:
    return decisions.allocate_producer_ids(image, NodeId(1))


def first_ids(decided: list[Sequence[Event]]) -> list[int]:
    return [events[0].first for events in decided]  # type: ignore[union-attr]


def test_each_decision_sees_the_one_before(cluster: Nodes) -> None:
    leader = cluster.leader()

    async def many() -> list[Sequence[Event]]:
        return await asyncio.gather(*(cluster.at(leader).decide(allocating, 10_000) for _ in range(20)))

    given = first_ids(cluster.do(leader, many()))
    assert given == sorted(set(given))
    assert cluster.image(leader).next_producer_id == given[-1] + decisions.PRODUCER_ID_BLOCK


def test_of_racing_creations_one_wins(cluster: Nodes) -> None:
    leader = cluster.leader()
    spec = decisions.CreateTopic("orders", partitions=2)

    async def race() -> list[object]:
        each = (cluster.at(leader).create_topic(spec, 10_000) for _ in range(5))
        return await asyncio.gather(*each, return_exceptions=True)

    answers = cluster.do(leader, race())
    assert [type(answer) for answer in answers].count(AlreadyExists) == 4
    assert cluster.image(leader).next_topic_id == 2


def test_a_decision_that_ran_out_of_time_is_seen_by_the_next_one(cluster: Nodes) -> None:
    """It was appended, and may be committed later: deciding on an image without it would give ids away twice."""
    leader = cluster.leader()
    before = cluster.image(leader).next_producer_id
    for other in cluster.others(leader):
        cluster.nodes[other].speed.hung = True
    with pytest.raises(DeadlineExceeded) as first:
        cluster.do(leader, cluster.at(leader).decide(allocating, 200))
    assert first.value.outcome is Outcome.UNKNOWN
    with pytest.raises(DeadlineExceeded) as second:
        cluster.do(leader, cluster.at(leader).decide(allocating, 200))
    assert second.value.outcome is Outcome.NOT_APPLIED, "it was never proposed"
    assert cluster.image(leader).next_producer_id == before
    for other in cluster.others(leader):
        cluster.nodes[other].speed.hung = False
    (third,) = first_ids([cluster.do(leader, cluster.at(leader).decide(allocating, 10_000))])
    assert third == before + decisions.PRODUCER_ID_BLOCK
    assert cluster.image(leader).next_producer_id == before + 2 * decisions.PRODUCER_ID_BLOCK


def test_a_caller_that_goes_away_does_not_hold_up_the_next_one(cluster: Nodes) -> None:
    leader = cluster.leader()

    async def go_away() -> None:
        task = asyncio.ensure_future(cluster.at(leader).decide(allocating, 10_000))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    before = cluster.image(leader).next_producer_id
    cluster.do(leader, go_away())
    (given,) = first_ids([cluster.do(leader, cluster.at(leader).decide(allocating, 10_000))])
    assert given == before + decisions.PRODUCER_ID_BLOCK, "what was proposed is decided, whoever waits for it"


def test_leadership_lost_with_an_uncommitted_entry_leaves_one_history(cluster: Nodes) -> None:
    old = cluster.leader()
    before = cluster.image(old).next_producer_id
    cluster.cut_off(old)
    with pytest.raises(LeadershipLost) as lost:
        cluster.do(old, cluster.at(old).decide(allocating, 20_000))
    assert lost.value.outcome is Outcome.UNKNOWN
    with pytest.raises(NotLeader):
        cluster.do(old, cluster.at(old).decide(allocating, 1_000))
    cluster.until(lambda: any(cluster.group(number).can_serve() for number in cluster.others(old)))
    new = next(number for number in cluster.others(old) if cluster.group(number).can_serve())
    (given,) = first_ids([cluster.do(new, cluster.at(new).decide(allocating, 10_000))])
    assert given == before, "the isolated leader's decision was never made"
    cluster.network.heal_all()
    cluster.until(lambda: len({cluster.image(number).digest() for number in (1, 2, 3)}) == 1)
    assert cluster.image(old).next_producer_id == before + decisions.PRODUCER_ID_BLOCK


def test_a_wait_for_the_log_ends_when_leadership_does(cluster: Nodes) -> None:
    """The second caller waits for the first one's entry, and is told at once that this node no longer leads."""
    old = cluster.leader()
    cluster.cut_off(old)

    async def both() -> list[object]:
        each = (cluster.at(old).decide(allocating, 20_000) for _ in range(2))
        return await asyncio.gather(*each, return_exceptions=True)

    first, second = cluster.do(old, both(), seconds=5)
    assert isinstance(first, LeadershipLost)
    assert isinstance(second, NotLeader)
    assert second.outcome is Outcome.NOT_APPLIED


def test_what_a_decision_refuses_changes_nothing_and_lets_the_next_one_in(cluster: Nodes) -> None:
    leader = cluster.leader()
    last = cluster.group(leader).node.last_index
    with pytest.raises(UnknownTopic):
        cluster.do(leader, cluster.at(leader).delete_topic("nothing", 5_000))
    assert cluster.group(leader).node.last_index == last
    assert cluster.create_topic("orders").topic_id == 1


def test_a_topic_is_there_when_its_creation_is_answered(cluster: Nodes) -> None:
    topic = cluster.create_topic("orders", partitions=3)
    leader = cluster.leader()
    assert all(cluster.assembly(leader).host.in_sync(partition.group) for partition in topic.partitions)
    led = {cluster.leader(partition.group) for partition in topic.partitions}
    assert led == {1, 2, 3}, "each first replica leads at once"


def test_a_validated_topic_is_not_created(cluster: Nodes) -> None:
    leader = cluster.leader()
    spec = decisions.CreateTopic("orders", partitions=2)
    would_be = cluster.do(leader, cluster.at(leader).create_topic(spec, 5_000, validate_only=True))
    assert len(would_be.partitions) == 2
    assert not cluster.image(leader).topics


# -- producer ids ----------------------------------------------------------------------------------------------------


def test_producer_ids_are_unique_over_nodes_and_restarts(cluster: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "PRODUCER_ID_BLOCK", 5)
    given: list[int] = []

    async def some(number: int) -> list[int]:
        return await asyncio.gather(*(cluster.at(number).allocate_producer_ids(1, 10_000) for _ in range(12)))

    for _ in range(3):
        for number in (1, 2, 3):
            given += cluster.do(number, some(number))
            cluster.restart(number)
            cluster.settle()
    assert len(set(given)) == len(given) == 108
    assert min(given) > 0


def test_several_ids_are_in_a_row_and_belong_to_nobody_else(cluster: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "PRODUCER_ID_BLOCK", 5)
    given: list[int] = []
    for number, count in ((1, 1), (1, 5), (2, 3), (1, 4), (2, 3), (1, 1), (2, 2), (1, 5)):
        first = cluster.do(number, cluster.at(number).allocate_producer_ids(count, 10_000))
        given += range(first, first + count)
    assert len(set(given)) == len(given) == 24
    assert max(given) <= 30, "what a block had left was given before the next one was asked for, where it was enough"


def test_an_id_is_waited_for_while_the_controller_is_elected(cluster: Nodes) -> None:
    old = cluster.leader()
    other = cluster.others(old)[0]
    cluster.stop(old)
    assert cluster.do(other, cluster.at(other).allocate_producer_ids(1, 20_000)) > 0


def test_without_a_controller_an_id_is_refused_in_time(cluster: Nodes) -> None:
    for number in (2, 3):
        cluster.stop(number)
    cluster.pass_time(3)
    began = cluster.agenda.now
    with pytest.raises(NoLeader):
        cluster.do(1, cluster.at(1).allocate_producer_ids(1, 2_000))
    assert cluster.agenda.now - began < 3_000_000


def test_a_node_that_has_yet_to_register_is_told_to_wait(cluster: Nodes) -> None:
    leader = cluster.leader()
    request = storage_pb2.ProducerIdsAllocated(node=9).SerializeToString()
    with pytest.raises(RaftmqError) as refused:
        cluster.do(leader, cluster.at(leader).handle(ALLOCATE_PRODUCER_IDS, request, 1_000))
    assert refused.value.retriable
