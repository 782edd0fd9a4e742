"""What consumer groups have committed decides how deep a partition is, and what may be removed: on simulated nodes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raftmq.errors import InvalidArgument, NotLeader, QueueFull
from raftmq.groups.commands import Change, Commit, DeleteGroup
from raftmq.groups.types import Position, TopicPartition
from raftmq.ids import CONTROLLER_GROUP, GroupId
from raftmq.internal.v1 import groups_pb2
from raftmq.metadata.decisions import CreateTopic
from raftmq.metadata.depth import DepthLimit, Overflow
from raftmq.metadata.image import TopicRecord
from raftmq.metadata.internal import GROUPS_PARTITIONS, GROUPS_TOPIC
from raftmq.metadata.queue_groups import QueueRetention, QueueSettings, SetQueueGroup
from raftmq.records.slots import partition_for_key
from raftmq.replica.backlog import FRESH_MS
from raftmq.replica.queues.calls import Claim, Ruling, Verdict, Wish
from raftmq.replica.waits import Ack, Acks
from tests.controller.nodes import Nodes, formed
from tests.replica.test_host import batch

GROUP = GroupId(1)
LIMIT = DepthLimit(max_records=3)
NEWS_S = 4
"""Of virtual time: within it a leader has asked all coordinators, and looked what may go."""


class Cluster(Nodes):
    """One topic of one partition, and coordinators of consumer groups."""

    topic: TopicRecord

    def begin(self, depth: DepthLimit) -> None:
        leader = self.leader()
        wish = CreateTopic("orders", partitions=1, replication_factor=3, depth=depth)
        self.topic = self.do(leader, self.at(leader).create_topic(wish, 20_000))
        self.do(leader, self.at(leader).ensure_groups_topic(20_000))
        for coordinator in self.coordinators():
            self.leader(coordinator)
        self.pass_time(NEWS_S)

    def coordinators(self) -> list[GroupId]:
        return [one.group for one in self.image(self.leader()).topics[GROUPS_TOPIC].partitions]

    def coordinator_of(self, name: str) -> GroupId:
        return self.coordinators()[partition_for_key(name.encode(), GROUPS_PARTITIONS)]

    def change(self, name: str, change: Change) -> None:
        at = self.coordinator_of(name)
        leader = self.leader(at)
        self.do(leader, self.assembly(leader).coordinator.change(at, name, change, 10_000))

    def commit(self, name: str, offset: int) -> None:
        key = TopicPartition(self.topic.topic_id, 0)
        self.change(name, Commit("", 0, ((key, Position(offset)),)))
        self.pass_time(NEWS_S)

    def produce(self, count: int, limit: DepthLimit = LIMIT) -> list[Ack]:
        lead = self.leader(GROUP)
        host = self.assembly(lead).host
        return [self.do(lead, host.produce(GROUP, batch(b"v"), Acks.ALL, 2, 5_000, None, limit)) for _ in range(count)]

    def silence(self, coordinator: GroupId, monkeypatch: pytest.MonkeyPatch) -> None:
        """The leader of the topic can ask it no more."""
        host = self.assembly(self.leader(GROUP)).host
        asked = host.leader_of
        monkeypatch.setattr(host, "leader_of", lambda group: None if group == coordinator else asked(group))

    def log_start(self) -> int:
        return self.group(self.leader(GROUP), GROUP).machine.log_start_offset


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with formed(Cluster()) as cluster:
        yield cluster


def test_a_partition_is_as_deep_as_its_slowest_consumer_group_is_behind(cluster: Cluster) -> None:
    cluster.begin(LIMIT)
    cluster.produce(3)
    with pytest.raises(QueueFull):
        cluster.produce(1)
    cluster.commit("fast", 2)
    assert [one.base_offset for one in cluster.produce(2)] == [3, 4]
    with pytest.raises(QueueFull):
        cluster.produce(1)
    cluster.commit("slow", 1)
    cluster.commit("fast", 5)
    with pytest.raises(QueueFull):
        cluster.produce(1)
    cluster.change("slow", DeleteGroup())
    cluster.pass_time(NEWS_S)
    cluster.produce(3)
    assert cluster.log_start() == 0, "a limit that refuses removes nothing"


def test_what_consumer_groups_have_read_is_not_dropped_either_while_it_makes_no_difference(cluster: Cluster) -> None:
    dropping = DepthLimit(max_records=3, overflow=Overflow.DROP_OLDEST)
    cluster.begin(dropping)
    cluster.produce(3, dropping)
    cluster.commit("readers", 3)
    cluster.produce(3, dropping)
    assert cluster.log_start() == 0
    cluster.produce(1, dropping)
    assert cluster.log_start() == 4, "it takes from the slowest what it has not read"


def test_what_all_groups_have_to_read_stays_until_consumer_groups_have_committed_it(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.begin(DepthLimit())
    leader = cluster.leader()
    wish = SetQueueGroup("orders", "workers", QueueSettings(retention=QueueRetention.ALL_GROUPS))
    cluster.do(leader, cluster.at(leader).queue_groups.set(wish, 10_000))
    cluster.commit("readers", 0)
    cluster.produce(6, DepthLimit())
    lead = cluster.leader(GROUP)
    queues, group = cluster.assembly(lead).queues, next(iter(cluster.image(lead).queue_groups.values()))
    received = cluster.do(lead, queues.receive(GROUP, group, Wish("w", 10, 1 << 20, 30_000), 5_000))
    claims = [Claim(one.lease, one.offset, received.secret) for one in received.deliveries]
    assert len(claims) == 6
    cluster.do(lead, queues.settle(GROUP, group, claims, Ruling(Verdict.ACK), 5_000))
    cluster.pass_time(NEWS_S)
    assert cluster.log_start() == 0
    cluster.commit("readers", 4)
    assert cluster.log_start() == 4
    # A coordinator that cannot be asked: nobody knows any more what groups there are.
    cluster.silence(cluster.coordinators()[0], monkeypatch)
    cluster.pass_time(FRESH_MS / 1_000)
    cluster.commit("readers", 6)
    assert cluster.leader(GROUP) == lead
    assert cluster.log_start() == 4
    monkeypatch.undo()
    cluster.pass_time(NEWS_S)
    assert cluster.log_start() == 6


def test_one_coordinator_that_is_silent_does_not_hold_up_what_the_others_tell(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.begin(LIMIT)
    cluster.produce(3)
    heard, silent = names(cluster)
    cluster.commit(heard, 0)
    cluster.commit(silent, 2)
    cluster.silence(cluster.coordinator_of(silent), monkeypatch)
    cluster.commit(heard, 3)
    cluster.produce(2)
    with pytest.raises(QueueFull):
        cluster.produce(1)  # what the silent one said last still counts


def test_nothing_is_dropped_by_what_was_known_long_ago(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    dropping = DepthLimit(max_records=3, overflow=Overflow.DROP_OLDEST)
    cluster.begin(dropping)
    cluster.produce(3, dropping)
    cluster.silence(cluster.coordinators()[0], monkeypatch)
    cluster.pass_time(FRESH_MS / 1_000 + NEWS_S)
    with pytest.raises(QueueFull):
        cluster.produce(1, dropping)
    assert cluster.log_start() == 0
    monkeypatch.undo()
    cluster.pass_time(NEWS_S)
    cluster.produce(1, dropping)
    assert cluster.log_start() == 1


def names(cluster: Cluster) -> tuple[str, str]:
    """Of two groups that have not the same coordinator."""
    first, *others = (f"readers-{number}" for number in range(100))
    return first, next(one for one in others if cluster.coordinator_of(one) != cluster.coordinator_of(first))


def test_only_a_coordinator_answers(cluster: Cluster) -> None:
    cluster.begin(LIMIT)
    leader = cluster.leader()
    positions = cluster.assembly(leader)._positions
    asked = groups_pb2.ReadPositionsRequest(coordinator=CONTROLLER_GROUP, topic_ids=[1]).SerializeToString()
    with pytest.raises(NotLeader):
        cluster.do(leader, positions.handle(asked, 1_000))
    with pytest.raises(InvalidArgument):
        cluster.do(leader, positions.handle(b"\xff", 1_000))
