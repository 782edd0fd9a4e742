"""Commands of consumer groups: bodies of COMMAND entries. Frozen per version; a new command needs a new version.

One entry holds what came in one pass of the leader's loop. Each change is a request: what becomes of it is decided when
it is applied, by every replica alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from raftmq.groups.types import Assignor, Member, Position, TopicFacts, TopicPartition
from raftmq.ids import LogIndex
from raftmq.internal.v1 import groups_pb2, storage_pb2
from raftmq.records.poison import PoisonEntry, parse_strictly

VERSION = 1
"""Of everything but what stands at the next one."""
RESTING_VERSION = 2
"""Of commands with a group that rests, or is forgotten."""


@dataclass(frozen=True, slots=True)
class Join:
    """Also of one that is a member already, with other topics or settings. `assignor` None: the group's own."""

    member: Member
    assignor: Assignor | None
    facts: tuple[TopicFacts, ...]


@dataclass(frozen=True, slots=True)
class Leave:
    member_id: str


@dataclass(frozen=True, slots=True)
class Expire:
    """The member was not heard, or did not give up what it had to."""

    member_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Confirm:
    """The member, which has heard of `epoch`, reads `partitions` no more."""

    member_id: str
    epoch: int
    partitions: tuple[TopicPartition, ...]


@dataclass(frozen=True, slots=True)
class Commit:
    """`member_id` empty: of a consumer outside of the membership."""

    member_id: str
    epoch: int
    offsets: tuple[tuple[TopicPartition, Position], ...]


@dataclass(frozen=True, slots=True)
class TopicsChanged:
    """The topics that members read are these now; those in `deleted` exist no more."""

    facts: tuple[TopicFacts, ...]
    deleted: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SetOffsets:
    offsets: tuple[tuple[TopicPartition, Position], ...]


@dataclass(frozen=True, slots=True)
class DeleteOffsets:
    partitions: tuple[TopicPartition, ...]


@dataclass(frozen=True, slots=True)
class DeleteGroup:
    """The group, and its offsets."""


@dataclass(frozen=True, slots=True)
class Rest:
    """The group has no members: from here on it counts how long that has been, if it does not yet."""


@dataclass(frozen=True, slots=True)
class Forget:
    """The group, and its offsets, if it rests since then and has committed nothing after `as_of`. Log ticks."""

    resting_since: int
    as_of: int


Change = (
    Rest | Forget | Join | Leave | Expire | Confirm | Commit | TopicsChanged | SetOffsets | DeleteOffsets | DeleteGroup
)


@dataclass(frozen=True, slots=True)
class Trim:
    """Entries before `raft_start` are needed by nobody: what they led to is in the state."""

    raft_start: LogIndex


@dataclass(frozen=True, slots=True)
class Changes:
    """Each with the name of its group."""

    changes: tuple[tuple[str, Change], ...]


GroupsCommand = Trim | Changes


def version_of(command: GroupsCommand) -> int:
    """The one version in which `command` may be proposed, once the cluster version allows it."""
    if isinstance(command, Changes) and any(isinstance(change, Rest | Forget) for _, change in command.changes):
        return RESTING_VERSION
    return VERSION


def encode(command: GroupsCommand) -> bytes:
    """The body of `command`, of the version that ``version_of`` says."""
    match command:
        case Trim(raft_start):
            message = groups_pb2.GroupsCommand(trim=storage_pb2.TrimCommand(raft_start=raft_start))
        case Changes(changes):
            message = groups_pb2.GroupsCommand(changes=groups_pb2.GroupChanges())
            for group, change in changes:
                message.changes.changes.append(_to_proto(group, change))
    return message.SerializeToString()


def decode(body: bytes, version: int) -> GroupsCommand:
    """The command in an entry's body. Raises PoisonEntry where this version does not understand all of it."""
    if version not in (VERSION, RESTING_VERSION):
        raise PoisonEntry(
            f"a command of version {version}; this node understands {RESTING_VERSION} and must be upgraded"
        )
    try:
        command = _read(parse_strictly(groups_pb2.GroupsCommand, body))
    except ValueError as error:
        raise PoisonEntry(f"a command that cannot be read: {error}") from None
    if version != version_of(command):
        raise PoisonEntry(f"what it says is of version {version_of(command)}, its header says {version}")
    return command


def _read(message: groups_pb2.GroupsCommand) -> GroupsCommand:
    """Raises ValueError."""
    match message.WhichOneof("command"):
        case "trim":
            return Trim(LogIndex(message.trim.raft_start))
        case "changes":
            return Changes(tuple((one.group, _from_proto(one)) for one in message.changes.changes))
        case _:
            raise ValueError("a command without content")


def _to_proto(group: str, change: Change) -> groups_pb2.GroupChange:
    match change:
        case Join():
            return groups_pb2.GroupChange(group=group, join=_join_to_proto(change))
        case Leave(member_id):
            return groups_pb2.GroupChange(group=group, leave=groups_pb2.LeaveGroup(member_id=member_id))
        case Expire(member_id, reason):
            expired = groups_pb2.ExpireMember(member_id=member_id, reason=reason)
            return groups_pb2.GroupChange(group=group, expire=expired)
        case Confirm(member_id, epoch, partitions):
            confirmed = groups_pb2.ConfirmRevoked(
                member_id=member_id, member_epoch=epoch, partitions=keys_to_proto(partitions)
            )
            return groups_pb2.GroupChange(group=group, confirm=confirmed)
        case Commit(member_id, epoch, offsets):
            commit = groups_pb2.CommitOffsets(
                member_id=member_id, member_epoch=epoch, offsets=_offsets_to_proto(offsets)
            )
            return groups_pb2.GroupChange(group=group, commit=commit)
        case TopicsChanged(facts, deleted):
            topics = groups_pb2.TopicsChanged(facts=facts_to_proto(facts), deleted=deleted)
            return groups_pb2.GroupChange(group=group, topics_changed=topics)
        case SetOffsets(offsets):
            wanted = groups_pb2.SetOffsets(offsets=_offsets_to_proto(offsets))
            return groups_pb2.GroupChange(group=group, set_offsets=wanted)
        case DeleteOffsets(partitions):
            gone = groups_pb2.DeleteOffsets(partitions=keys_to_proto(partitions))
            return groups_pb2.GroupChange(group=group, delete_offsets=gone)
        case DeleteGroup():
            return groups_pb2.GroupChange(group=group, delete_group=groups_pb2.DeleteGroup())
        case Rest():
            return groups_pb2.GroupChange(group=group, rest=groups_pb2.RestGroup())
        case Forget(resting_since, as_of):
            gone_by = groups_pb2.ForgetGroup(resting_since=resting_since, as_of=as_of)
            return groups_pb2.GroupChange(group=group, forget=gone_by)


def _from_proto(message: groups_pb2.GroupChange) -> Change:
    match message.WhichOneof("change"):
        case "join":
            return _join_from_proto(message.join)
        case "leave":
            return Leave(message.leave.member_id)
        case "expire":
            return Expire(message.expire.member_id, message.expire.reason)
        case "confirm":
            confirm = message.confirm
            return Confirm(confirm.member_id, confirm.member_epoch, keys_from_proto(confirm.partitions))
        case "commit":
            commit = message.commit
            return Commit(commit.member_id, commit.member_epoch, _offsets_from_proto(commit.offsets))
        case "topics_changed":
            topics = message.topics_changed
            return TopicsChanged(facts_from_proto(topics.facts), tuple(topics.deleted))
        case "set_offsets":
            return SetOffsets(_offsets_from_proto(message.set_offsets.offsets))
        case "delete_offsets":
            return DeleteOffsets(keys_from_proto(message.delete_offsets.partitions))
        case "delete_group":
            return DeleteGroup()
        case "rest":
            return Rest()
        case "forget":
            return Forget(message.forget.resting_since, message.forget.as_of)
        case _:
            raise ValueError("a change without content")


def _join_to_proto(join: Join) -> groups_pb2.JoinGroup:
    member = join.member
    return groups_pb2.JoinGroup(
        member_id=member.member_id,
        instance_id=member.instance_id,
        client_id=member.client_id,
        rack=member.rack,
        topics=member.topics,
        assignor=join.assignor or 0,
        session_timeout_ms=member.session_timeout_ms,
        rebalance_timeout_ms=member.rebalance_timeout_ms,
        facts=facts_to_proto(join.facts),
    )


def _join_from_proto(message: groups_pb2.JoinGroup) -> Join:
    if not message.member_id or not message.topics:
        raise ValueError("a member without an id or without topics")
    member = Member(
        member_id=message.member_id,
        topics=tuple(message.topics),
        session_timeout_ms=message.session_timeout_ms,
        rebalance_timeout_ms=message.rebalance_timeout_ms,
        instance_id=message.instance_id,
        client_id=message.client_id,
        rack=message.rack,
    )
    return Join(member, Assignor(message.assignor) if message.assignor else None, facts_from_proto(message.facts))


def facts_to_proto(facts: Iterable[TopicFacts]) -> list[groups_pb2.TopicFacts]:
    return [
        groups_pb2.TopicFacts(
            name=topic.name,
            topic_id=topic.topic_id,
            partitions=topic.partitions,
            racks=[groups_pb2.PartitionRacks(racks=sorted(racks)) for racks in topic.racks],
        )
        for topic in facts
    ]


def facts_from_proto(messages: Iterable[groups_pb2.TopicFacts]) -> tuple[TopicFacts, ...]:
    return tuple(
        TopicFacts(one.name, one.topic_id, one.partitions, tuple(frozenset(racks.racks) for racks in one.racks))
        for one in messages
    )


def key_to_proto(key: TopicPartition) -> groups_pb2.PartitionKey:
    return groups_pb2.PartitionKey(topic_id=key.topic_id, partition=key.partition)


def key_from_proto(message: groups_pb2.PartitionKey) -> TopicPartition:
    return TopicPartition(message.topic_id, message.partition)


def keys_to_proto(keys: Iterable[TopicPartition]) -> list[groups_pb2.PartitionKey]:
    return [key_to_proto(key) for key in keys]


def keys_from_proto(messages: Iterable[groups_pb2.PartitionKey]) -> tuple[TopicPartition, ...]:
    return tuple(key_from_proto(message) for message in messages)


def _offsets_to_proto(offsets: Iterable[tuple[TopicPartition, Position]]) -> list[groups_pb2.OffsetToSet]:
    return [
        groups_pb2.OffsetToSet(
            partition=key_to_proto(key),
            offset=position.offset,
            metadata=position.metadata,
            leader_epoch=position.leader_epoch,
        )
        for key, position in offsets
    ]


def _offsets_from_proto(
    messages: Iterable[groups_pb2.OffsetToSet],
) -> tuple[tuple[TopicPartition, Position], ...]:
    return tuple(
        (key_from_proto(one.partition), Position(one.offset, one.metadata, one.leader_epoch)) for one in messages
    )
