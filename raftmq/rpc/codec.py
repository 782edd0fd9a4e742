"""Frames as protobuf, both ways.

Encoding cuts a frame into *pieces*: serialised frames that may be concatenated, because joining the bytes of two
protobuf messages joins their repeated fields. So a queue holds bytes, its bounds are exact, and several pieces are
sent as one message without being packed twice.

Decoding trusts nobody. What cannot be right (numbers out of range, entries with a hole between them or a wrong
checksum, a message from another replica than the stream's) is left out and reported as a fault; the rest of the
frame is good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from google.protobuf.message import DecodeError

from raftmq.ids import GroupId, LogIndex, NodeId, ReplicaId, Term
from raftmq.internal.v1 import peer_pb2
from raftmq.ports import DiskLevel, Frame, GroupMessage, LeaderNotice, LedSet, NodeHeartbeat, NodeHeartbeatAck
from raftmq.raft.messages import (
    AppendEntries,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    RequestVote,
    TimeoutNow,
    VoteReply,
)
from raftmq.raft.types import Entry, EntryKind, SnapshotMeta
from raftmq.records.entry import CorruptEntry, LogEntry
from raftmq.records.entry import decode as decode_entry
from raftmq.records.membership_codec import decode_membership, membership_from_proto, membership_to_proto

NUMBER_MAX = 2**63 - 1
"""Indexes, rounds, groups and stores stay below it, so that other languages and the disk format can hold them."""
TERM_MAX = 2**48
"""No cluster gets here: at one election a millisecond it takes 8,900 years. A larger term is a lie that would stick."""
NODE_MAX = 2**31 - 1

_Wire = TypeVar("_Wire")
_Domain = TypeVar("_Domain")


class MalformedFrame(ValueError):
    """Something a sound peer never sends. The text says what; it ends in counters and logs, never at the peer."""


# -- encoding ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Piece:
    """A serialised frame.

    ``is_control``: overtakes data. ``is_single``: has a field that is not repeated, so two such pieces must not be
    joined.
    """

    data: bytes
    is_control: bool
    is_single: bool = False


def encode_frame(frame: Frame) -> list[Piece]:
    """The pieces of `frame`: at most one of control, and one for every ``AppendEntries``.

    All appends stay in one lane, with entries or without: one that overtakes another is rejected for its previous
    index, and costs a round trip.
    """
    control = peer_pb2.Frame()
    pieces: list[Piece] = []
    if frame.heartbeat is not None:
        _encode_heartbeat(frame.heartbeat, control.heartbeat)
    if frame.heartbeat_ack is not None:
        _encode_heartbeat_ack(frame.heartbeat_ack, control.heartbeat_ack)
    for item in frame.messages:
        if isinstance(item.message, AppendEntries):
            data = peer_pb2.Frame(messages=[_encode_message(item)])
            pieces.append(Piece(data.SerializeToString(), is_control=False))
        else:
            control.messages.append(_encode_message(item))
    for notice in frame.notices:
        control.notices.add(group=notice.group, term=notice.term, leader_node=notice.leader, in_sync=notice.in_sync)
    is_single = frame.heartbeat is not None or frame.heartbeat_ack is not None
    if is_single or control.messages or control.notices:
        pieces.insert(0, Piece(control.SerializeToString(), is_control=True, is_single=is_single))
    return pieces


def _encode_heartbeat(heartbeat: NodeHeartbeat, to: peer_pb2.NodeHeartbeat) -> None:
    to.SetInParent()
    to.sequence = heartbeat.sequence
    to.led_version = heartbeat.led_version
    to.disk_level = heartbeat.disk
    if heartbeat.led is not None:
        assert heartbeat.led.version == heartbeat.led_version, "a led set travels with its own version"
        to.led_set.SetInParent()  # an empty set is not the same as none
        _encode_terms(heartbeat.led.terms, to.led_set)


def _encode_heartbeat_ack(ack: NodeHeartbeatAck, to: peer_pb2.NodeHeartbeatAck) -> None:
    to.SetInParent()
    to.sequence = ack.sequence
    to.led_version = ack.led_version
    _encode_terms(ack.disputed, to.disputed)


def _encode_terms(terms: dict[GroupId, Term], to: peer_pb2.LedSet) -> None:
    groups = sorted(terms)
    to.groups.extend(groups)
    to.terms.extend([terms[group] for group in groups])


def _encode_message(item: GroupMessage) -> peer_pb2.RaftMessage:
    message = item.message
    to = peer_pb2.RaftMessage(
        group=item.group,
        source=peer_pb2.ReplicaId(node=message.source.node, store=message.source.store),
        target=peer_pb2.ReplicaId(node=message.target.node, store=message.target.store),
        term=message.term,
    )
    name, fill = _ENCODERS[type(message)]
    body = getattr(to, name)
    body.SetInParent()  # a body of zeros is still a body
    fill(message, body)
    return to


def _fill_request_vote(message: RequestVote, to: peer_pb2.RequestVote) -> None:
    to.last_index = message.last_index
    to.last_term = message.last_term
    to.pre_vote = message.pre_vote
    to.transfer = message.transfer


def _fill_vote_reply(message: VoteReply, to: peer_pb2.VoteReply) -> None:
    to.granted = message.granted
    to.pre_vote = message.pre_vote


def _fill_append_entries(message: AppendEntries, to: peer_pb2.AppendEntries) -> None:
    to.prev_index = message.prev_index
    to.prev_term = message.prev_term
    to.commit_index = message.commit_index
    to.admission = message.admission
    for entry in message.entries:
        sealed = entry.payload
        assert isinstance(sealed, LogEntry), "only sealed entries leave a node"
        to.entries.add(header=sealed.row, payload=sealed.payload)


def _fill_append_reply(message: AppendReply, to: peer_pb2.AppendReply) -> None:
    to.match_index = message.match_index
    to.rejected = message.rejected
    to.prev_index = message.prev_index
    to.hint_term = message.hint_term
    to.suspect = message.suspect
    to.commit_index = message.commit_index
    to.admission = message.admission


def _fill_heartbeat(message: Heartbeat, to: peer_pb2.Heartbeat) -> None:
    to.commit_index = message.commit_index
    to.round = message.round


def _fill_heartbeat_reply(message: HeartbeatReply, to: peer_pb2.HeartbeatReply) -> None:
    to.round = message.round


def _fill_install_snapshot(message: InstallSnapshot, to: peer_pb2.InstallSnapshot) -> None:
    to.index = message.snapshot.index
    to.term = message.snapshot.term
    to.membership.CopyFrom(membership_to_proto(message.snapshot.membership))
    to.admission = message.admission


def _fill_timeout_now(message: TimeoutNow, to: peer_pb2.TimeoutNow) -> None:
    """Nothing in it."""


# -- decoding ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Decoded:
    """What was good of a frame, and what was wrong with the rest."""

    frame: Frame
    faults: tuple[str, ...] = ()


def parse_frame(data: bytes) -> peer_pb2.Frame:
    """Bytes from a stream. Raises MalformedFrame where they are no frame."""
    try:
        return peer_pb2.Frame.FromString(data)
    except DecodeError as error:
        raise MalformedFrame(str(error)) from None


def decode_frame(message: peer_pb2.Frame, source: ReplicaId, target: ReplicaId) -> Decoded:
    """The frame in `message`, as `target` may believe it on a stream that `source` opened. Never raises."""
    faults: list[str] = []

    def sound(decode: Callable[[_Wire], _Domain], items: Iterable[_Wire]) -> Iterator[_Domain]:
        for item in items:
            try:
                yield decode(item)
            except (MalformedFrame, CorruptEntry) as error:
                faults.append(str(error))

    heartbeats = [message.heartbeat] if message.HasField("heartbeat") else []
    acks = [message.heartbeat_ack] if message.HasField("heartbeat_ack") else []
    frame = Frame(
        heartbeat=next(sound(_decode_heartbeat, heartbeats), None),
        heartbeat_ack=next(sound(_decode_heartbeat_ack, acks), None),
        messages=tuple(sound(lambda item: _decode_message(item, source, target), message.messages)),
        notices=tuple(sound(_decode_notice, message.notices)),
    )
    return Decoded(frame, tuple(faults))


def _number(value: int, what: str, limit: int = NUMBER_MAX) -> int:
    if value > limit:
        raise MalformedFrame(f"{what} {value} is above {limit}")
    return value


def _index(value: int) -> LogIndex:
    return LogIndex(_number(value, "index"))


def _term(value: int) -> Term:
    return Term(_number(value, "term", TERM_MAX))


def _group(value: int) -> GroupId:
    return GroupId(_number(value, "group"))


def node_id(value: int) -> NodeId:
    """A node's number from the wire. Raises MalformedFrame outside 1 .. 2**31 - 1."""
    if not 1 <= value <= NODE_MAX:
        raise MalformedFrame(f"{value} is no node")
    return NodeId(value)


def _decode_heartbeat(wire: peer_pb2.NodeHeartbeat) -> NodeHeartbeat:
    version = _number(wire.led_version, "version of a led set")
    led = LedSet(version, _decode_terms(wire.led_set)) if wire.HasField("led_set") else None
    # A level that only later versions know is worse than those known here.
    disk = DiskLevel(min(wire.disk_level, DiskLevel.FULL))
    return NodeHeartbeat(_number(wire.sequence, "sequence"), version, led, disk)


def _decode_heartbeat_ack(wire: peer_pb2.NodeHeartbeatAck) -> NodeHeartbeatAck:
    return NodeHeartbeatAck(
        _number(wire.sequence, "sequence"),
        _number(wire.led_version, "version of a led set"),
        _decode_terms(wire.disputed),
    )


def _decode_terms(wire: peer_pb2.LedSet) -> dict[GroupId, Term]:
    if len(wire.groups) != len(wire.terms):
        raise MalformedFrame(f"{len(wire.groups)} groups with {len(wire.terms)} terms")
    terms = dict(zip(wire.groups, wire.terms, strict=True))
    if len(terms) != len(wire.groups):
        raise MalformedFrame("a group twice in a led set")
    if terms:  # a thousand groups: only the largest are looked at
        _group(max(wire.groups))
        _term(max(wire.terms))
    return cast(dict[GroupId, Term], terms)


def _decode_notice(wire: peer_pb2.LeaderNotice) -> LeaderNotice:
    return LeaderNotice(
        _group(wire.group), _term(wire.term), node_id(wire.leader_node), tuple(map(node_id, wire.in_sync))
    )


def _decode_message(wire: peer_pb2.RaftMessage, source: ReplicaId, target: ReplicaId) -> GroupMessage:
    for wire_id, expected, role in ((wire.source, source, "from"), (wire.target, target, "to")):
        if (wire_id.node, wire_id.store) != expected:
            raise MalformedFrame(f"message {role} n{wire_id.node}/{wire_id.store:x}, not {role} {expected}")
    name = wire.WhichOneof("body")
    if name is None:
        raise MalformedFrame("message without a body that is known here")
    address = source, target, _term(wire.term)
    return GroupMessage(_group(wire.group), _DECODERS[name](address, getattr(wire, name)))


_Address = tuple[ReplicaId, ReplicaId, Term]


def _decode_request_vote(address: _Address, wire: peer_pb2.RequestVote) -> Message:
    return RequestVote(*address, _index(wire.last_index), _term(wire.last_term), wire.pre_vote, wire.transfer)


def _decode_vote_reply(address: _Address, wire: peer_pb2.VoteReply) -> Message:
    return VoteReply(*address, wire.granted, wire.pre_vote)


def _decode_append_entries(address: _Address, wire: peer_pb2.AppendEntries) -> Message:
    index, term = _index(wire.prev_index), _term(wire.prev_term)
    entries, commit = tuple(map(_decode_entry, wire.entries)), _index(wire.commit_index)
    message = AppendEntries(*address, index, term, entries, commit, _number(wire.admission, "admission"))
    for entry in message.entries:
        if entry.index != index + 1 or not term <= entry.term <= message.term:
            raise MalformedFrame(
                f"entry ({entry.index}, term {entry.term}) after ({index}, term {term}) in term {message.term}"
            )
        index, term = _index(entry.index), entry.term
    return message


def _decode_entry(wire: peer_pb2.WireEntry) -> Entry:
    sealed = decode_entry(wire.header, wire.payload)
    membership = decode_membership(sealed.inline) if sealed.kind is EntryKind.MEMBERSHIP else None
    return Entry(sealed.index, sealed.term, sealed.kind, sealed, sealed.size, membership)


def _decode_append_reply(address: _Address, wire: peer_pb2.AppendReply) -> Message:
    return AppendReply(
        *address,
        _index(wire.match_index),
        wire.rejected,
        _index(wire.prev_index),
        _term(wire.hint_term),
        wire.suspect,
        _index(wire.commit_index),
        _number(wire.admission, "admission"),
    )


def _decode_group_heartbeat(address: _Address, wire: peer_pb2.Heartbeat) -> Message:
    return Heartbeat(*address, _index(wire.commit_index), _number(wire.round, "round"))


def _decode_heartbeat_reply(address: _Address, wire: peer_pb2.HeartbeatReply) -> Message:
    return HeartbeatReply(*address, _number(wire.round, "round"))


def _decode_install_snapshot(address: _Address, wire: peer_pb2.InstallSnapshot) -> Message:
    membership = membership_from_proto(wire.membership)
    meta = SnapshotMeta(_index(wire.index), _term(wire.term), membership)
    return InstallSnapshot(*address, meta, _number(wire.admission, "admission"))


def _decode_timeout_now(address: _Address, wire: peer_pb2.TimeoutNow) -> Message:
    return TimeoutNow(*address)


# A row for every kind of message: the class, its field in the oneof, and the two directions.
_BODIES: tuple[tuple[type[Message], str, Callable[[Any, Any], None], Callable[[_Address, Any], Message]], ...] = (
    (RequestVote, "request_vote", _fill_request_vote, _decode_request_vote),
    (VoteReply, "vote_reply", _fill_vote_reply, _decode_vote_reply),
    (AppendEntries, "append_entries", _fill_append_entries, _decode_append_entries),
    (AppendReply, "append_reply", _fill_append_reply, _decode_append_reply),
    (Heartbeat, "heartbeat", _fill_heartbeat, _decode_group_heartbeat),
    (HeartbeatReply, "heartbeat_reply", _fill_heartbeat_reply, _decode_heartbeat_reply),
    (InstallSnapshot, "install_snapshot", _fill_install_snapshot, _decode_install_snapshot),
    (TimeoutNow, "timeout_now", _fill_timeout_now, _decode_timeout_now),
)
_ENCODERS = {kind: (name, fill) for kind, name, fill, _ in _BODIES}
_DECODERS = {name: decode for _, name, _, decode in _BODIES}
