"""The numbers raftmq passes around, each with a type of its own.

Two spaces are easy to mix up and must never be: a *log index* is the position of an entry in a group's Raft
log (from 1; a leader's no-op takes one), an *offset* is the position of a record in a partition (from 0; only
records take one). The type checker keeps them apart.
"""

from typing import NamedTuple, NewType

NodeId = NewType("NodeId", int)
"""Operator-chosen number of a node in ``cluster.yml``: 1 to 2**31 - 1."""

StoreId = NewType("StoreId", int)
"""Random 63-bit number made with a data directory. A node with an empty or swapped disk has another one."""

BootCount = NewType("BootCount", int)
"""How often a node has started on its data directory, from 1."""

GroupId = NewType("GroupId", int)
"""A Raft group: 0 is the controller, partitions count from 1. Never reused."""

Generation = NewType("Generation", int)
"""Local number of one replica's storage: new whenever a replica is created, re-added or installed."""

Term = NewType("Term", int)
"""Raft term; clients know the same number as ``leader_epoch``."""

LogIndex = NewType("LogIndex", int)
"""Position of an entry in a group's Raft log, from 1. 0 means "before the first entry"."""

Offset = NewType("Offset", int)
"""Position of a record in a partition, from 0."""

PartitionId = NewType("PartitionId", int)
"""Number of a partition within its topic, from 0."""

ProducerId = NewType("ProducerId", int)
"""Idempotent producer, from 1. 0 means "not idempotent"."""

QueueId = NewType("QueueId", int)
"""A queue group, from 1. Never reused."""

LeaseId = NewType("LeaseId", int)
"""One grant of a queue group in one partition, from 1 and growing: a later one is newer. Never reused."""

Tick = NewType("Tick", int)
"""Monotonic milliseconds handed in by the host. The pure core knows no other time."""

WallMs = NewType("WallMs", int)
"""Milliseconds since the Unix epoch."""

CONTROLLER_GROUP = GroupId(0)


class ReplicaId(NamedTuple):
    """A voter or learner: a node *with* the disk it had when it was admitted.

    Memberships hold these pairs, so that a node that comes back with another disk is another replica and its
    votes count for nothing until it is admitted anew.
    """

    node: NodeId
    store: StoreId

    def __str__(self) -> str:
        return f"n{self.node}/{self.store:x}"
