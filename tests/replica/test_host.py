"""Calls that wait: outcomes, deadlines, long polls, memory, transfers, on simulated nodes with one partition."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from raftmq.errors import (
    DeadlineExceeded,
    LeadershipLost,
    NotEnoughReplicas,
    NotLeader,
    NotReady,
    OffsetOutOfRange,
    Outcome,
    Overloaded,
    PreconditionFailed,
    RaftmqError,
    UnexpectedOffset,
)
from raftmq.ids import GroupId, NodeId, Offset
from raftmq.records.batch import CheckedBatch, check_batch, make_batch
from raftmq.replica.host import Fetched, ReplicaHost
from raftmq.replica.waits import Ack, Acks
from raftmq.v1 import types_pb2
from tests.controller.nodes import SECOND, Nodes, formed

GROUP = GroupId(1)
KIB = 1024


def batch(*values: bytes) -> CheckedBatch:
    return check_batch(make_batch([types_pb2.Record(value=value) for value in values]), max_batch_bytes=1 << 20)


class Partition(Nodes):
    """A cluster with one partition; ``lead`` is the node that leads it."""

    @property
    def lead(self) -> int:
        return self.leader(GROUP)

    def host(self, number: int) -> ReplicaHost:
        return self.assembly(number).host

    def produce(
        self, number: int, *values: bytes, acks: Acks = Acks.ALL, timeout_ms: int = 5_000, min_in_sync: int = 2
    ) -> Ack:
        return self.do(number, self.host(number).produce(GROUP, batch(*values), acks, min_in_sync, timeout_ms))

    def begin(self, number: int, *values: bytes, acks: Acks = Acks.ALL, timeout_ms: int = 30_000) -> asyncio.Task[Ack]:
        """Start a produce, and let it be proposed."""
        work = self.host(number).produce(GROUP, batch(*values), acks, 2, timeout_ms)
        task = self.process(number).loop.create_task(work)
        self.process(number)._due()
        self.run(1_000)
        return task

    def fetch(self, number: int, offset: int, max_wait_ms: int = 0, min_bytes: int = 1) -> Fetched:
        return self.do(number, self.host(number).fetch(GROUP, Offset(offset), 1 << 20, min_bytes, max_wait_ms))

    def begin_fetch(self, number: int, offset: int, max_wait_ms: int) -> asyncio.Task[Fetched]:
        work = self.host(number).fetch(GROUP, Offset(offset), 1 << 20, 1, max_wait_ms)
        task = self.process(number).loop.create_task(work)
        self.process(number)._due()
        self.run(1_000)
        return task

    def hang_followers(self, hung: bool = True) -> None:
        lead = self.lead
        for other in self.others(lead):
            self.nodes[other].speed.hung = hung

    def watches(self, number: int) -> int:
        return len(self.assembly(number).replicas.barriers._watches.get(GROUP, {}))

    def delete_topic(self) -> None:
        controller = self.leader()
        self.do(controller, self.at(controller).delete_topic("orders", 10_000))


@pytest.fixture
def partition() -> Iterator[Partition]:
    with formed(Partition()) as cluster:
        cluster.create_topic("orders")
        yield cluster


def error(task: asyncio.Task[Ack] | asyncio.Task[Fetched]) -> RaftmqError:
    found = task.exception()
    assert isinstance(found, RaftmqError), found
    return found


# -- produce -----------------------------------------------------------------------------------------------------------


def test_an_answer_names_offset_and_holders(partition: Partition) -> None:
    lead = partition.lead
    assert partition.produce(lead, b"a", b"b").replicas == (1, 2, 3)
    assert partition.produce(lead, b"c", acks=Acks.QUORUM).base_offset == 2
    assert partition.fetch(lead, 0).bounds.high_watermark == 3


def test_another_node_refuses_and_changes_nothing(partition: Partition) -> None:
    lead = partition.lead
    with pytest.raises(NotLeader) as refused:
        partition.produce(partition.others(lead)[0], b"a")
    assert refused.value.outcome is Outcome.NOT_APPLIED


def test_a_deadline_before_the_commit_says_unknown_and_after_it_applied(partition: Partition) -> None:
    lead = partition.lead
    partition.pass_time(3)
    partition.hang_followers()
    with pytest.raises(DeadlineExceeded) as unknown:
        partition.produce(lead, b"a", timeout_ms=300)
    assert unknown.value.outcome is Outcome.UNKNOWN
    partition.nodes[partition.others(lead)[0]].speed.hung = False
    with pytest.raises(DeadlineExceeded) as applied:
        partition.produce(lead, b"b", timeout_ms=600)
    assert applied.value.outcome is Outcome.APPLIED
    assert applied.value.metadata["base_offset"] == "1"


def test_a_deposed_leader_answers_at_once_and_says_unknown(partition: Partition) -> None:
    lead = partition.lead
    partition.cut_off(lead)
    task = partition.begin(lead, b"a")
    partition.until(task.done, seconds=5)
    assert isinstance(error(task), LeadershipLost)
    assert error(task).outcome is Outcome.UNKNOWN


def test_a_deleted_topic_ends_every_wait(partition: Partition) -> None:
    lead = partition.lead
    partition.pass_time(3)
    waiting = partition.begin_fetch(lead, 0, max_wait_ms=50_000)
    # One that is in sync and hangs: the commit does not need it, ALL does.
    slow = next(other for other in partition.others(lead) if other != partition.leader())
    partition.nodes[slow].speed.hung = True
    producing = partition.begin(lead, b"a")
    partition.until(lambda: partition.group(lead, GROUP).machine.next_offset == 1)
    polling = partition.begin_fetch(lead, 1, max_wait_ms=50_000)
    assert waiting.done()
    partition.delete_topic()
    partition.until(lambda: producing.done() and polling.done(), seconds=1)
    assert isinstance(error(producing), LeadershipLost)
    assert isinstance(error(polling), NotLeader)


def test_too_few_in_sync_is_refused_before_the_append(partition: Partition) -> None:
    lead = partition.lead
    for other in partition.others(lead):
        partition.stop(other)
    partition.run(100_000)
    with pytest.raises(NotEnoughReplicas) as refused:
        partition.produce(lead, b"a")
    assert refused.value.outcome is Outcome.NOT_APPLIED


def test_acks_none_are_not_waited_for(partition: Partition) -> None:
    partition.hang_followers()
    began = partition.agenda.now
    assert partition.produce(partition.lead, b"a", acks=Acks.NONE).base_offset == 0
    assert partition.agenda.now - began < SECOND // 10


# -- memory ------------------------------------------------------------------------------------------------------------


def test_what_waits_for_an_acknowledgement_is_bounded(partition: Partition) -> None:
    lead = partition.lead
    host = partition.host(lead)
    host.intake.memory_bytes = 100 * KIB
    partition.hang_followers()
    tasks = [partition.begin(lead, b"x" * (30 * KIB), timeout_ms=10_000) for _ in range(3)]
    with pytest.raises(Overloaded) as refused:
        partition.produce(lead, b"x" * (30 * KIB))
    assert refused.value.outcome is Outcome.NOT_APPLIED
    partition.hang_followers(hung=False)
    partition.until(lambda: all(task.done() for task in tasks))
    assert host.held_bytes == 0
    assert partition.produce(lead, b"x" * (30 * KIB)).base_offset == 3


def test_one_batch_always_fits(partition: Partition) -> None:
    partition.host(partition.lead).intake.memory_bytes = 1
    assert partition.produce(partition.lead, b"x" * KIB).base_offset == 0


def test_a_caller_that_goes_does_not_give_its_memory_back_before_its_batch_is_done(partition: Partition) -> None:
    lead = partition.lead
    host = partition.host(lead)
    partition.hang_followers()
    task = partition.begin(lead, b"x" * (30 * KIB))
    task.cancel()
    partition.process(lead)._due()
    partition.until(task.done)
    assert host.held_bytes > 30 * KIB
    partition.hang_followers(hung=False)
    partition.until(lambda: host.held_bytes == 0)


def test_a_refused_batch_holds_nothing(partition: Partition) -> None:
    lead = partition.lead
    for other in partition.others(lead):
        partition.stop(other)
    partition.run(100_000)
    with pytest.raises(NotEnoughReplicas):
        partition.produce(lead, b"a")
    assert partition.host(lead).held_bytes == 0


# -- fetch -------------------------------------------------------------------------------------------------------------


def test_a_long_poll_ends_with_the_record_it_waits_for(partition: Partition) -> None:
    lead = partition.lead
    poll = partition.begin_fetch(lead, 0, max_wait_ms=30_000)
    partition.pass_time(5)
    assert not poll.done()
    began = partition.agenda.now
    partition.produce(lead, b"a")
    partition.until(poll.done)
    assert partition.agenda.now - began < SECOND // 10
    assert [row.base_offset for row in poll.result().batches] == [0]
    assert partition.watches(lead) == 0


def test_a_long_poll_that_sees_nothing_ends_in_time_and_empty(partition: Partition) -> None:
    lead = partition.lead
    began = partition.agenda.now
    assert partition.fetch(lead, 0, max_wait_ms=2_000).batches == []
    assert 2 * SECOND <= partition.agenda.now - began < 2.2 * SECOND
    assert partition.watches(lead) == 0


def test_a_long_poll_waits_for_as_many_bytes_as_it_wants(partition: Partition) -> None:
    lead = partition.lead
    work = partition.host(lead).fetch(GROUP, Offset(0), 1 << 20, 3 * KIB, 30_000)
    poll = partition.process(lead).loop.create_task(work)
    for _ in range(2):
        partition.produce(lead, b"x" * KIB)
        assert not poll.done()
    partition.produce(lead, b"x" * KIB)
    partition.until(poll.done)
    assert len(poll.result().batches) == 3


def test_a_poll_that_is_cancelled_leaves_nothing_behind(partition: Partition) -> None:
    lead = partition.lead
    poll = partition.begin_fetch(lead, 0, max_wait_ms=30_000)
    assert partition.watches(lead) == 1
    poll.cancel()
    partition.process(lead)._due()
    partition.until(poll.done)
    assert partition.watches(lead) == 0


def test_a_poll_ends_when_leadership_does(partition: Partition) -> None:
    lead = partition.lead
    poll = partition.begin_fetch(lead, 0, max_wait_ms=30_000)
    partition.cut_off(lead)
    partition.until(poll.done, seconds=5)
    assert isinstance(error(poll), NotLeader)
    assert partition.watches(lead) == 0


def test_offsets_outside_the_log_are_refused_with_its_bounds(partition: Partition) -> None:
    lead = partition.lead
    partition.produce(lead, b"a")
    assert partition.fetch(lead, 1).batches == []
    with pytest.raises(OffsetOutOfRange) as refused:
        partition.fetch(lead, 2)
    assert refused.value.metadata == {"log_start_offset": "0", "high_watermark": "1"}


def test_a_deposed_leader_does_not_say_that_an_offset_does_not_exist(partition: Partition) -> None:
    """It has not seen what its successor acknowledged; a reader that is told so would be ended by it."""
    old = partition.lead
    partition.produce(old, b"a")
    partition.cut_off(old)
    process = partition.process(old)
    process.pause()
    partition.until(lambda: any(partition.group(n, GROUP).can_serve() for n in partition.others(old)))
    new = next(n for n in partition.others(old) if partition.group(n, GROUP).can_serve())
    partition.produce(new, b"b", b"c", acks=Acks.QUORUM)
    asked = process.loop.create_task(partition.host(old).fetch(GROUP, Offset(3), 1 << 20, 1, 0))
    process.resume()
    partition.until(asked.done)
    assert isinstance(error(asked), NotLeader)


def test_nothing_is_fetched_that_is_not_committed(partition: Partition) -> None:
    lead = partition.lead
    partition.produce(lead, b"a")
    partition.hang_followers()
    partition.begin(lead, b"b")
    assert partition.group(lead, GROUP).end_offset == 2
    fetched = partition.fetch(lead, 0)
    assert (len(fetched.batches), fetched.bounds.high_watermark) == (1, 1)


@pytest.mark.parametrize("evicted", [False, True])
def test_a_time_leads_to_what_was_appended_then_or_later(partition: Partition, evicted: bool) -> None:
    """Whether the batches are in memory or only on disk, and never to what is not committed."""
    lead = partition.lead
    stamps = []
    for number in range(4):
        stamps.append(partition.produce(lead, b"%d" % number).wall_ms)
        partition.run(700_000)
    group = partition.group(lead, GROUP)
    if evicted:
        group.tail.evict(0, group.node.persisted_index)
    asked = [0, *(stamp + late for stamp in stamps for late in (0, 1))]
    found = [partition.do(lead, partition.host(lead).offset_at(GROUP, at)) for at in asked]
    assert found == [0, 0, 1, 1, 2, 2, 3, 3, 4]
    partition.hang_followers()
    partition.begin(lead, b"not committed")
    assert partition.do(lead, partition.host(lead).offset_at(GROUP, stamps[-1] + 1)) == 4
    other = partition.others(lead)[0]
    with pytest.raises(NotLeader):
        partition.do(other, partition.host(other).offset_at(GROUP, 0))


def test_a_conditional_append_needs_the_offset_that_it_expects(partition: Partition) -> None:
    lead = partition.lead

    def append(expected: int, *, producer_id: int = 0, sequence: int = 0) -> Ack:
        made = make_batch([types_pb2.Record(value=b"v")] * 2, producer_id=producer_id, first_sequence=sequence)
        checked = check_batch(made, max_batch_bytes=1 << 20)
        return partition.do(lead, partition.host(lead).produce(GROUP, checked, Acks.ALL, 2, 5_000, Offset(expected)))

    assert append(0).base_offset == 0
    for wrong in (0, 1, 3):
        with pytest.raises(UnexpectedOffset) as refused:
            append(wrong)
        assert (refused.value.outcome, refused.value.metadata) == (Outcome.NOT_APPLIED, {"log_end_offset": "2"})
    # The refused ones took no number; a retry of an accepted one is a duplicate, not a surprise.
    with pytest.raises(UnexpectedOffset):
        append(7, producer_id=5)
    for duplicate in (False, True):
        ack = append(2, producer_id=5)
        assert (ack.base_offset, ack.duplicate) == (2, duplicate)
    assert append(4, producer_id=5, sequence=2).base_offset == 4


def test_of_two_conditional_appends_at_once_one_wins(partition: Partition) -> None:
    """What is under way counts, committed or not."""
    lead = partition.lead
    partition.hang_followers()
    first = partition.begin(lead, b"a")
    with pytest.raises(UnexpectedOffset):
        partition.do(lead, partition.host(lead).produce(GROUP, batch(b"b"), Acks.ALL, 2, 5_000, Offset(0)))
    partition.hang_followers(False)
    partition.until(first.done)
    assert first.result().base_offset == 0


def test_a_least_watermark_is_waited_for(partition: Partition) -> None:
    lead = partition.lead
    partition.produce(lead, b"a")
    partition.do(lead, partition.host(lead).reached(GROUP, Offset(1), 100))
    with pytest.raises(NotReady):
        partition.do(lead, partition.host(lead).reached(GROUP, Offset(2), 100))
    assert partition.watches(lead) == 0
    waiting = partition.process(lead).loop.create_task(partition.host(lead).reached(GROUP, Offset(3), 60_000))
    partition.process(lead)._due()
    partition.produce(lead, b"b")
    assert not waiting.done()
    partition.produce(lead, b"c")
    partition.until(waiting.done)
    waiting.result()


# -- bounds, barriers, transfers ---------------------------------------------------------------------------------------


def test_the_latest_offset_needs_a_quorum(partition: Partition) -> None:
    lead = partition.lead
    partition.produce(lead, b"a")
    assert partition.do(lead, partition.host(lead).bounds(GROUP, 1_000)).high_watermark == 1
    partition.cut_off(lead)
    with pytest.raises((DeadlineExceeded, NotLeader)) as refused:
        partition.do(lead, partition.host(lead).bounds(GROUP, 200))
    assert refused.value.outcome is Outcome.NOT_APPLIED


def test_a_leader_that_was_stopped_does_not_tell_an_old_offset(partition: Partition) -> None:
    old = partition.lead
    partition.produce(old, b"a")
    process = partition.process(old)
    process.pause()
    partition.until(lambda: any(partition.group(n, GROUP).can_serve() for n in partition.others(old)))
    new = next(n for n in partition.others(old) if partition.group(n, GROUP).can_serve())
    partition.produce(new, b"b", acks=Acks.QUORUM)
    asked = process.loop.create_task(partition.host(old).bounds(GROUP, 5_000))
    process.resume()
    partition.until(asked.done)
    assert isinstance(asked.exception(), NotLeader)


def test_leadership_is_handed_to_an_in_sync_replica_only(partition: Partition) -> None:
    lead = partition.lead
    partition.produce(lead, b"a")
    gone, other = partition.others(lead)
    partition.stop(gone)
    partition.run(100_000)
    with pytest.raises(PreconditionFailed):
        partition.host(lead).transfer(GROUP, NodeId(gone))
    assert partition.host(lead).transfer(GROUP, None) == other
    partition.until(lambda: partition.group(other, GROUP).can_serve(), seconds=2)
    with pytest.raises(NotLeader):
        partition.host(lead).transfer(GROUP, None)


def test_a_produce_during_a_transfer_is_refused_and_can_be_tried_again(partition: Partition) -> None:
    lead = partition.lead
    target = partition.host(lead).transfer(GROUP, None)
    with pytest.raises(RaftmqError) as refused:
        partition.produce(lead, b"a")
    assert refused.value.retriable
    assert refused.value.outcome is Outcome.NOT_APPLIED
    partition.until(lambda: partition.group(target, GROUP).can_serve())
    assert partition.produce(target, b"a").base_offset == 0


def test_a_node_that_stops_hands_over_everything_it_leads(partition: Partition) -> None:
    lead = partition.lead
    partition.do(lead, partition.assembly(lead).hand_over())
    assert partition.host(lead).led_groups() == []
    assert partition.lead != lead
