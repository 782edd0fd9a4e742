"""A replica of a coordinator's group that is behind the start of every log: it gets a snapshot, and then coordinates as
the others would; on simulated nodes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raftmq.coordinator.coordinator import Beat, Standing
from raftmq.errors import StaleMember, UnknownMember
from raftmq.groups.commands import Commit
from raftmq.groups.group import ConsumerGroup
from raftmq.groups.machine import GroupsMachine
from raftmq.groups.types import Member, Position, TopicPartition
from raftmq.ids import GroupId, NodeId
from raftmq.metadata.depth import DepthLimit
from tests.controller.nodes import formed
from tests.coordinator.test_positions import Cluster

NAME = "readers"
SESSION_MS = 3_600_000


class Coordinators(Cluster):
    """The logs of groups are trimmed at once, and nobody waits for a node that is away."""

    place: GroupId

    def begin_to_trim(self) -> None:
        self.begin(DepthLimit())
        self.place = self.coordinator_of(NAME)
        for number in self.nodes:
            upkeep = self.assembly(number).replicas.upkeep
            upkeep.trim_interval, upkeep.waited_for = 100, 100
            upkeep.reclaim_bytes = upkeep.held_bytes_max = 0

    def machine(self, number: int) -> GroupsMachine:
        machine = self.group(number, self.place).machine
        assert isinstance(machine, GroupsMachine)
        return machine

    def known(self, number: int) -> ConsumerGroup:
        return self.machine(number).groups[NAME]

    def beat(self, member_id: str, epoch: int, *owned: int) -> Standing:
        leader = self.leader(self.place)
        topics = ("orders",) if epoch == 0 else ()
        has = frozenset(TopicPartition(self.topic.topic_id, number) for number in owned)
        beat = Beat(Member(member_id, topics, SESSION_MS, SESSION_MS), epoch, None, has)
        return self.do(leader, self.assembly(leader).coordinator.heartbeat(self.place, NAME, beat, 0, 10_000))

    def commit_as(self, member_id: str, epoch: int, offset: int) -> None:
        self.change(NAME, Commit(member_id, epoch, ((self.key, Position(offset, "note")),)))

    @property
    def key(self) -> TopicPartition:
        return TopicPartition(self.topic.topic_id, 0)

    def offset(self, number: int) -> int:
        """What this node knows to be committed; 0: nothing."""
        group = self.machine(number).groups.get(NAME)
        committed = None if group is None else group.offsets.get(self.key)
        return 0 if committed is None else committed.position.offset


@pytest.fixture
def cluster() -> Iterator[Coordinators]:
    with formed(Coordinators()) as cluster:
        cluster.begin_to_trim()
        yield cluster


def test_who_was_left_behind_knows_offsets_and_members_from_a_snapshot(cluster: Coordinators) -> None:
    joined = cluster.beat("a", 0)
    assert joined.assigned == (cluster.key,)
    cluster.commit_as("a", joined.epoch, 1)
    lead = cluster.leader(cluster.place)
    away = next(number for number in cluster.others(lead) if number != cluster.leader())
    cluster.until(lambda: cluster.offset(away) == 1)
    had = cluster.group(away, cluster.place).node.last_index
    before = cluster.group(away, cluster.place).row.generation
    cluster.stop(away)
    cluster.pass_time(2)
    waiting = cluster.beat("b", 0)  # there is nothing left for it, but it is a member
    assert waiting.assigned == ()
    for offset in range(2, 40):
        cluster.commit_as("a", waiting.epoch, offset)
    lead = cluster.leader(cluster.place)
    cluster.until(lambda: cluster.machine(lead).raft_start > had + 1)
    cluster.nodes[away].boot()
    applied = cluster.machine(lead).applied_index
    cluster.until(lambda: away in cluster.up() and cluster.machine(away).applied_index >= applied)
    assert cluster.group(away, cluster.place).row.generation != before, "it is another log, not the old one gone on"
    assert cluster.offset(away) == 39
    cluster.until(lambda: cluster.machine(away).applied_index == cluster.machine(lead).applied_index)
    assert cluster.machine(away).all_rows() == cluster.machine(lead).all_rows()

    host = cluster.assembly(lead).host
    cluster.until(lambda: away in host.in_sync(cluster.place))
    cluster.do(lead, _transfer(cluster, lead, away))
    cluster.until(lambda: cluster.group(away, cluster.place).can_serve())
    assert sorted(cluster.known(away).members) == ["a", "b"]
    assert cluster.beat("a", waiting.epoch, 0).assigned == (cluster.key,)
    assert cluster.beat("b", waiting.epoch).assigned == ()
    with pytest.raises(UnknownMember):
        cluster.commit_as("c", waiting.epoch, 50)
    with pytest.raises(StaleMember):
        cluster.beat("a", waiting.epoch + 1)
    cluster.commit_as("b", waiting.epoch, 50)
    assert cluster.offset(away) == 39, "it does not read the partition"
    cluster.commit_as("a", waiting.epoch, 40)
    assert cluster.offset(away) == 40


async def _transfer(cluster: Coordinators, source: int, target: int) -> None:
    cluster.assembly(source).host.transfer(cluster.place, NodeId(target))
