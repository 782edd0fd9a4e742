"""Which state machine a replica's log is for."""

from __future__ import annotations

from raftmq.groups.machine import GroupsMachine
from raftmq.partition.machine import PartitionMachine
from raftmq.records.topic_kinds import TopicKind

LogMachine = PartitionMachine | GroupsMachine
"""Of any group but the controller's."""


def new_machine(kind: TopicKind) -> LogMachine:
    """One that has applied nothing."""
    return GroupsMachine() if kind is TopicKind.CONSUMER_GROUPS else PartitionMachine()
