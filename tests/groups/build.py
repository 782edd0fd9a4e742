"""Logs of consumer groups, without Raft."""

from __future__ import annotations

from raftmq.errors import RaftmqError
from raftmq.groups.commands import Change, Changes, Join, encode
from raftmq.groups.group import ConsumerGroup
from raftmq.groups.machine import GroupsMachine, Result
from raftmq.groups.types import Assignor, Member, TopicFacts, TopicPartition
from tests.coordinator.fakes import entry

GROUP = "billing"
ORDERS = TopicFacts("orders", 7, 4)


def key(partition: int, topic_id: int = ORDERS.topic_id) -> TopicPartition:
    return TopicPartition(topic_id, partition)


def joining(member_id: str, *topics: TopicFacts, instance_id: str = "", assignor: Assignor | None = None) -> Join:
    facts = topics or (ORDERS,)
    names = tuple(one.name for one in facts)
    return Join(Member(member_id, names, 30_000, 60_000, instance_id=instance_id), assignor, facts)


class Log:
    """A machine, and what is applied to it."""

    def __init__(self, machine: GroupsMachine | None = None) -> None:
        self.machine = GroupsMachine() if machine is None else machine
        self.tick = 0

    @property
    def group(self) -> ConsumerGroup:
        return self.machine.groups[GROUP]

    def apply(self, *changes: Change, group: str = GROUP) -> list[Result]:
        """All in one entry."""
        self.tick += 10
        body = encode(Changes(tuple((group, change) for change in changes)))
        return self.machine.apply(entry(self.machine, body, tick=self.tick))

    def do(self, change: Change, group: str = GROUP) -> list[RaftmqError | None]:
        """One, which is not refused."""
        (result,) = self.apply(change, group=group)
        assert not isinstance(result, RaftmqError), result
        return result or []

    def refused(self, change: Change, group: str = GROUP) -> RaftmqError:
        before = self.machine.all_rows()[1:]
        (result,) = self.apply(change, group=group)
        assert isinstance(result, RaftmqError)
        assert self.machine.all_rows()[1:] == before, "a refused change changes nothing"
        return result

    def assigned(self, member_id: str) -> set[int]:
        return {one.partition for one in self.group.assigned(member_id)}

    def revoking(self, member_id: str) -> set[int]:
        return {one.partition for one in self.group.revoking(member_id)}
