"""What requests about consumer groups must look like, and answers about them in the words of the API."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from google.protobuf.timestamp_pb2 import Timestamp

from raftmq import status
from raftmq.broker.deadlines import duration_ms
from raftmq.broker.view import View
from raftmq.coordinator.coordinator import Beat
from raftmq.errors import InvalidArgument, MessageTooLarge, NotReady, RaftmqError
from raftmq.groups.types import Assignor, Committed, Member, Position, TopicPartition
from raftmq.v1 import groups_pb2

_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")
_TEXT_MAX = 253
_OFFSET_MAX = 2**63 - 1
TOPICS_MAX = 100
"""That one member reads."""
OFFSETS_MAX = 10_000
METADATA_BYTES_MAX = 4_096
COMMIT_BYTES_MAX = 512 * 1024
SESSION_DEFAULT_MS, REBALANCE_DEFAULT_MS = 30_000, 60_000
_TIMEOUT_MIN_MS, _TIMEOUT_MAX_MS = 1_000, 3_600_000
WAIT_MAX_MS = 60_000


def group_name(name: str) -> str:
    """Raises InvalidArgument."""
    return _name(name, "group")


def _name(text: str, field: str) -> str:
    if not text:
        raise InvalidArgument("is required", field=field)
    if not _NAME.fullmatch(text):
        raise InvalidArgument("has 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-'", field=field)
    return text


def _text(text: str, field: str) -> str:
    if len(text) > _TEXT_MAX or not text.isprintable():
        raise InvalidArgument(f"has at most {_TEXT_MAX} printable characters", field=field)
    return text


def check_heartbeat(request: groups_pb2.HeartbeatRequest) -> None:
    """What any node can check. Raises InvalidArgument, naming the field."""
    _name(request.member_id, "member_id")
    if request.instance_id:
        _name(request.instance_id, "instance_id")
    _text(request.client_id, "client_id")
    _text(request.rack, "rack")
    if len(request.topics) > TOPICS_MAX:
        raise InvalidArgument(f"{len(request.topics)} topics, at most {TOPICS_MAX}", field="topics")
    for position, topic in enumerate(request.topics):
        _name(topic, f"topics[{position}]")
    if request.assignor not in groups_pb2.Assignor.values():
        raise InvalidArgument(f"assignor {request.assignor} is not known here", field="assignor")
    if request.member_epoch == 0 and not request.leave and not request.topics:
        raise InvalidArgument("is required at joining", field="topics")
    if sum(len(one.partitions) for one in request.owned) > OFFSETS_MAX:
        raise InvalidArgument(f"more than {OFFSETS_MAX} partitions", field="owned")
    wait_ms(request)
    _timeout_ms(request, "session_timeout", SESSION_DEFAULT_MS)
    _timeout_ms(request, "rebalance_timeout", REBALANCE_DEFAULT_MS)


def beat_of(request: groups_pb2.HeartbeatRequest, ids: Mapping[str, int]) -> Beat:
    """`ids`: of the topics that there are, by name. What is owned of others counts for nothing: see
    ``expect_known``."""
    member = Member(
        member_id=request.member_id,
        topics=tuple(request.topics),
        session_timeout_ms=_timeout_ms(request, "session_timeout", SESSION_DEFAULT_MS),
        rebalance_timeout_ms=_timeout_ms(request, "rebalance_timeout", REBALANCE_DEFAULT_MS),
        instance_id=request.instance_id,
        client_id=request.client_id,
        rack=request.rack,
    )
    owned = frozenset(
        TopicPartition(one.topic_id or ids[one.topic], number)
        for one in request.owned
        if one.topic_id or one.topic in ids
        for number in one.partitions
    )
    assignor = Assignor(request.assignor) if request.assignor else None
    return Beat(member, request.member_epoch, assignor, owned, request.leave)


def expect_known(request: groups_pb2.HeartbeatRequest, ids: Mapping[str, int]) -> None:
    """To be asked while `ids` may lack topics that there are: what a member has of one that is not known must not be
    taken for given up. Raises NotReady."""
    for position, one in enumerate(request.owned):
        if not one.topic_id and one.topic not in ids:
            raise NotReady(f"this node has yet to hear of topic {one.topic}", field=f"owned[{position}].topic")


def wait_ms(request: groups_pb2.HeartbeatRequest) -> int:
    """How long the answer may be held back."""
    if not request.HasField("max_wait"):
        return 0
    return duration_ms(request.max_wait, "max_wait", low=0, high=WAIT_MAX_MS)


def _timeout_ms(request: groups_pb2.HeartbeatRequest, field: str, default: int) -> int:
    if not request.HasField(field):  # type: ignore[arg-type]
        return default
    value = duration_ms(getattr(request, field), field, low=_TIMEOUT_MIN_MS, high=2**40)
    if value > _TIMEOUT_MAX_MS:
        raise InvalidArgument(f"{value} ms is more than {_TIMEOUT_MAX_MS} ms", field=field)
    return value


def check_commit(request: groups_pb2.CommitOffsetsRequest) -> None:
    """What any node can check. Raises InvalidArgument or MessageTooLarge, naming the field."""
    if request.member_id:
        _name(request.member_id, "member_id")
    elif request.member_epoch:
        raise InvalidArgument("means nothing without a member id", field="member_epoch")
    if not request.offsets:
        raise InvalidArgument("names no offset", field="offsets")
    if len(request.offsets) > OFFSETS_MAX:
        raise InvalidArgument(f"{len(request.offsets)} of them, at most {OFFSETS_MAX}", field="offsets")
    if request.ByteSize() > COMMIT_BYTES_MAX:
        raise MessageTooLarge(f"a commit has at most {COMMIT_BYTES_MAX} bytes", field="offsets")
    for position, one in enumerate(request.offsets):
        if one.offset > _OFFSET_MAX:
            raise InvalidArgument(f"{one.offset} is more than {_OFFSET_MAX}", field=f"offsets[{position}].offset")
        if len(one.metadata.encode()) > METADATA_BYTES_MAX:
            raise InvalidArgument(f"has at most {METADATA_BYTES_MAX} bytes", field=f"offsets[{position}].metadata")


def positions_of(
    request: groups_pb2.CommitOffsetsRequest, view: View
) -> tuple[list[tuple[TopicPartition, Position]], list[groups_pb2.RefusedOffset]]:
    """What is to be committed, and what cannot be because there is no such partition."""
    wanted: list[tuple[TopicPartition, Position]] = []
    refused: list[groups_pb2.RefusedOffset] = []
    for position, one in enumerate(request.offsets):
        try:
            topic = view.topic(one.topic, f"offsets[{position}].topic")
            view.partition(topic, one.partition, f"offsets[{position}].partition")
        except RaftmqError as error:
            refused.append(refusal(one.topic, one.partition, error))
        else:
            key = TopicPartition(topic.topic_id, one.partition)
            wanted.append((key, Position(one.offset, one.metadata, one.leader_epoch)))
    return wanted, refused


def refusal(topic: str, partition: int, error: RaftmqError) -> groups_pb2.RefusedOffset:
    return groups_pb2.RefusedOffset(topic=topic, partition=partition, error=status.to_message(error))


def error_of(refused: groups_pb2.RefusedOffset) -> RaftmqError:
    return status.from_message(refused.error)


def partitions_of(keys: Iterable[TopicPartition], names: Mapping[int, str]) -> list[groups_pb2.TopicPartitions]:
    """By topic, in order. What is of no known topic is left out."""
    found: dict[int, groups_pb2.TopicPartitions] = {}
    for key in sorted(keys):
        if key.topic_id in names:
            if key.topic_id not in found:
                found[key.topic_id] = groups_pb2.TopicPartitions(topic=names[key.topic_id], topic_id=key.topic_id)
            found[key.topic_id].partitions.append(key.partition)
    return list(found.values())


def committed_of(key: TopicPartition, topic: str, committed: Committed) -> groups_pb2.CommittedOffset:
    position = committed.position
    return groups_pb2.CommittedOffset(
        topic=topic,
        partition=key.partition,
        offset=position.offset,
        metadata=position.metadata,
        leader_epoch=position.leader_epoch,
        committed_at=timestamp(committed.wall_ms),
    )


def timestamp(wall_ms: int) -> Timestamp:
    moment = Timestamp()
    moment.FromMilliseconds(wall_ms)
    return moment
