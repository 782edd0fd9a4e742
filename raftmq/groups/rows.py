"""Rows of derived state: one for each consumer group, one for each committed offset."""

from __future__ import annotations

import struct

from raftmq.groups.commands import facts_from_proto, facts_to_proto, key_from_proto, key_to_proto
from raftmq.groups.group import ConsumerGroup
from raftmq.groups.types import Assignor, Committed, Member, Ownership, Position, TopicPartition
from raftmq.internal.v1 import groups_pb2
from raftmq.records.poison import parse_strictly

_LENGTH = struct.Struct(">H")
_PARTITION = struct.Struct(">QI")


def group_key(name: str) -> bytes:
    return name.encode()


def encode_group(group: ConsumerGroup) -> bytes:
    """Everything but the offsets. Equal groups give equal bytes."""
    row = groups_pb2.ConsumerGroupRow(
        epoch=group.epoch,
        assignor=group.assignor,
        facts=facts_to_proto(topic for _, topic in sorted(group.facts.items())),
        resting_since=group.resting_since,
    )
    for _, member in sorted(group.members.items()):
        row.members.add(
            member_id=member.member_id,
            instance_id=member.instance_id,
            client_id=member.client_id,
            rack=member.rack,
            topics=member.topics,
            session_timeout_ms=member.session_timeout_ms,
            rebalance_timeout_ms=member.rebalance_timeout_ms,
            joined_epoch=member.joined_epoch,
        )
    for key in sorted(group.owners.keys() | group.target.keys()):
        owner = group.owners.get(key)
        row.owners.add(
            partition=key_to_proto(key),
            owner="" if owner is None else owner.member_id,
            since=0 if owner is None else owner.since,
            revoked=0 if owner is None else owner.revoked,
            target=group.target.get(key, ""),
        )
    return row.SerializeToString()


def decode_group(key: bytes, value: bytes) -> ConsumerGroup:
    """Raises ValueError."""
    row = parse_strictly(groups_pb2.ConsumerGroupRow, value)
    group = ConsumerGroup(key.decode())
    group.is_new = False
    group.epoch = row.epoch
    group.resting_since = row.resting_since
    group.assignor = Assignor(row.assignor)
    group.facts = {topic.name: topic for topic in facts_from_proto(row.facts)}
    for one in row.members:
        group.members[one.member_id] = Member(
            one.member_id, tuple(one.topics), one.session_timeout_ms, one.rebalance_timeout_ms, one.joined_epoch,
            one.instance_id, one.client_id, one.rack,
        )  # fmt: skip
    for owned in row.owners:
        partition = key_from_proto(owned.partition)
        if not {owned.owner, owned.target} - {""} <= group.members.keys():
            raise ValueError(f"{partition} belongs to a stranger")
        if owned.owner:
            group.owners[partition] = Ownership(owned.owner, owned.since, owned.revoked)
        if owned.target:
            group.target[partition] = owned.target
    return group


def offset_key(name: str, partition: TopicPartition) -> bytes:
    group = name.encode()
    return _LENGTH.pack(len(group)) + group + _PARTITION.pack(*partition)


def decode_offset_key(key: bytes) -> tuple[str, TopicPartition]:
    """Raises ValueError, struct.error."""
    (length,) = _LENGTH.unpack_from(key)
    end = _LENGTH.size + length
    if len(key) != end + _PARTITION.size:
        raise ValueError(f"{len(key)} bytes are no key of a committed offset")
    return key[_LENGTH.size : end].decode(), TopicPartition(*_PARTITION.unpack_from(key, end))


def encode_offset(committed: Committed) -> bytes:
    position = committed.position
    return groups_pb2.CommittedOffsetRow(
        offset=position.offset,
        metadata=position.metadata,
        leader_epoch=position.leader_epoch,
        log_tick=committed.log_tick,
        wall_ms=committed.wall_ms,
    ).SerializeToString()


def decode_offset(value: bytes) -> Committed:
    """Raises ValueError."""
    row = parse_strictly(groups_pb2.CommittedOffsetRow, value)
    return Committed(Position(row.offset, row.metadata, row.leader_epoch), row.log_tick, row.wall_ms)
