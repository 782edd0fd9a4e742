"""What consumer groups are made of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple


class TopicPartition(NamedTuple):
    """A partition, by its topic's id: another topic of the same name is another one."""

    topic_id: int
    partition: int


class Assignor(IntEnum):
    """How partitions are dealt. Numbers as in ``raftmq.v1.Assignor``; they are on disk."""

    STICKY = 1
    RACK_AWARE = 2
    UNIFORM = 3


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """What a group has to know of a topic."""

    name: str
    topic_id: int
    partitions: int
    racks: tuple[frozenset[str], ...] = ()
    """Of each partition, where its replicas are; empty: not known."""

    def every(self) -> list[TopicPartition]:
        return [TopicPartition(self.topic_id, number) for number in range(self.partitions)]


@dataclass(frozen=True, slots=True)
class Member:
    """One consumer of a group."""

    member_id: str
    topics: tuple[str, ...]
    """Sorted."""
    session_timeout_ms: int
    rebalance_timeout_ms: int
    joined_epoch: int = 0
    """Of the group, once it was a member."""
    instance_id: str = ""
    """Empty: it has no name that outlives its id."""
    client_id: str = ""
    rack: str = ""


@dataclass(frozen=True, slots=True)
class Ownership:
    """Who may read a partition, and since which epoch of the group."""

    member_id: str
    since: int
    revoked: int = 0
    """The epoch that gave it to another one: it has to be given up. 0: none did."""


@dataclass(frozen=True, slots=True)
class Position:
    """A committed offset: everything below it is done with."""

    offset: int
    metadata: str = ""
    leader_epoch: int = 0


@dataclass(frozen=True, slots=True)
class Committed:
    """A position as it is kept."""

    position: Position
    log_tick: int
    wall_ms: int
