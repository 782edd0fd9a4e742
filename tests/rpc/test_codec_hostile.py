"""A message that cannot be right is left out and reported; the rest of its frame arrives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftmq.ids import GroupId, LogIndex, NodeId, Offset, ReplicaId, StoreId, Term
from raftmq.internal.v1 import peer_pb2
from raftmq.ports import Frame, GroupMessage
from raftmq.raft.messages import TimeoutNow
from raftmq.raft.types import EntryKind
from raftmq.records.entry import CHAIN_START, LogEntry, seal
from raftmq.rpc.codec import TERM_MAX, Decoded, MalformedFrame, decode_frame, parse_frame

from .nodes import entry

ME = ReplicaId(NodeId(2), StoreId(2_000))
PEER = ReplicaId(NodeId(1), StoreId(1_000))
GOOD = GroupMessage(GroupId(9), TimeoutNow(PEER, ME, Term(3)))


def message(term: int = 3, group: int = 9) -> peer_pb2.RaftMessage:
    return peer_pb2.RaftMessage(
        group=group,
        source=peer_pb2.ReplicaId(node=1, store=1_000),
        target=peer_pb2.ReplicaId(node=2, store=2_000),
        term=term,
    )


def good() -> peer_pb2.RaftMessage:
    wire = message()
    wire.timeout_now.SetInParent()
    return wire


def decode_beside_a_good_one(bad: peer_pb2.RaftMessage) -> Decoded:
    return decode_frame(peer_pb2.Frame(messages=[good(), bad, good()]), PEER, ME)


def wire_entry(sealed: object) -> peer_pb2.WireEntry:
    assert isinstance(sealed, LogEntry)
    return peer_pb2.WireEntry(header=sealed.row, payload=sealed.payload)


def appended(*entries: peer_pb2.WireEntry, prev_index: int = 4, prev_term: int = 1) -> peer_pb2.RaftMessage:
    wire = message()
    wire.append_entries.prev_index = prev_index
    wire.append_entries.prev_term = prev_term
    wire.append_entries.entries.extend(entries)
    return wire


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]


def broken_payload() -> peer_pb2.RaftMessage:
    wire = wire_entry(entry(5, b"payload").payload)
    wire.payload = flipped(wire.payload, 3)
    return appended(wire)


def broken_row() -> peer_pb2.RaftMessage:
    wire = wire_entry(entry(5, b"payload").payload)
    wire.header = flipped(wire.header, 20)
    return appended(wire)


def membership_of_nobody() -> peer_pb2.RaftMessage:
    sealed = seal(
        previous_chain=CHAIN_START,
        index=LogIndex(5),
        term=Term(1),
        kind=EntryKind.MEMBERSHIP,
        version=1,
        base_offset=Offset(5),
        count=0,
        log_tick=0,
        wall_ms=0,
        inline=b"",
    )
    return appended(wire_entry(sealed))


def vote(last_index: int = 0, last_term: int = 0) -> peer_pb2.RaftMessage:
    wire = message()
    wire.request_vote.last_index = last_index
    wire.request_vote.last_term = last_term
    return wire


def snapshot_with(members: list[peer_pb2.ReplicaId]) -> peer_pb2.RaftMessage:
    wire = message()
    wire.install_snapshot.membership.voters.extend(members)
    return wire


def with_term(wire: peer_pb2.RaftMessage, term: int) -> peer_pb2.RaftMessage:
    wire.term = term
    return wire


def from_another(wire: peer_pb2.RaftMessage) -> peer_pb2.RaftMessage:
    wire.source.store = 1_001
    return wire


def to_another(wire: peer_pb2.RaftMessage) -> peer_pb2.RaftMessage:
    wire.target.node = 3
    return wire


def in_group(wire: peer_pb2.RaftMessage, group: int) -> peer_pb2.RaftMessage:
    wire.group = group
    return wire


FIVE, SIX, SEVEN = (entry(index).payload for index in (5, 6, 7))

BAD: dict[str, Callable[[], peer_pb2.RaftMessage]] = {
    "no body": message,
    "absurd term": lambda: with_term(good(), TERM_MAX + 1),
    "largest term there is": lambda: with_term(good(), 2**64 - 1),
    "group out of range": lambda: in_group(good(), 2**63),
    "another source": lambda: from_another(good()),
    "another target": lambda: to_another(good()),
    "no source": lambda: peer_pb2.RaftMessage(term=1, timeout_now=peer_pb2.TimeoutNow()),
    "index out of range": lambda: vote(last_index=2**63),
    "absurd last term": lambda: vote(last_term=TERM_MAX + 1),
    "corrupt payload": broken_payload,
    "corrupt row": broken_row,
    "row too short": lambda: appended(peer_pb2.WireEntry(header=b"x")),
    "payload cut": lambda: appended(peer_pb2.WireEntry(header=wire_entry(entry(5, b"abc").payload).header)),
    "hole between entries": lambda: appended(wire_entry(FIVE), wire_entry(SEVEN)),
    "entries in disorder": lambda: appended(wire_entry(SIX), wire_entry(FIVE), prev_index=5),
    "entry doubled": lambda: appended(wire_entry(FIVE), wire_entry(FIVE)),
    "hole after previous": lambda: appended(wire_entry(SIX)),
    "entry's term below the previous": lambda: appended(wire_entry(FIVE), prev_term=2),
    "entry's term above the message's": lambda: appended(wire_entry(entry(5, term=4).payload)),
    "previous index out of range": lambda: appended(prev_index=2**64 - 1),
    "membership without voters": membership_of_nobody,
    "snapshot without voters": lambda: snapshot_with([]),
    "snapshot with node 0": lambda: snapshot_with([peer_pb2.ReplicaId(node=0, store=1)]),
    "snapshot with a member twice": lambda: snapshot_with([peer_pb2.ReplicaId(node=1, store=1)] * 2),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_message_is_left_out(name: str) -> None:
    result = decode_beside_a_good_one(BAD[name]())
    assert result.frame == Frame(messages=(GOOD, GOOD))
    assert len(result.faults) == 1


def test_a_sound_append_is_no_fault() -> None:
    """What the bad ones are measured against."""
    result = decode_beside_a_good_one(appended(wire_entry(FIVE), wire_entry(SIX)))
    assert result.faults == ()
    assert len(result.frame.messages) == 3


def led(groups: list[int], terms: list[int]) -> peer_pb2.LedSet:
    return peer_pb2.LedSet(groups=groups, terms=terms)


@pytest.mark.parametrize(
    "bad",
    [
        peer_pb2.Frame(heartbeat=peer_pb2.NodeHeartbeat(sequence=2**63)),
        peer_pb2.Frame(heartbeat=peer_pb2.NodeHeartbeat(led_version=2**63)),
        peer_pb2.Frame(heartbeat=peer_pb2.NodeHeartbeat(led_set=led([1, 2], [1]))),
        peer_pb2.Frame(heartbeat=peer_pb2.NodeHeartbeat(led_set=led([1, 1], [1, 1]))),
        peer_pb2.Frame(heartbeat=peer_pb2.NodeHeartbeat(led_set=led([1, 2], [1, TERM_MAX + 1]))),
        peer_pb2.Frame(heartbeat=peer_pb2.NodeHeartbeat(led_set=led([2**63, 2], [1, 1]))),
        peer_pb2.Frame(heartbeat_ack=peer_pb2.NodeHeartbeatAck(disputed=led([1], []))),
        peer_pb2.Frame(notices=[peer_pb2.LeaderNotice(group=1, term=1, leader_node=0)]),
        peer_pb2.Frame(notices=[peer_pb2.LeaderNotice(group=1, term=TERM_MAX + 1, leader_node=1)]),
        peer_pb2.Frame(notices=[peer_pb2.LeaderNotice(group=1, term=1, leader_node=1, in_sync=[2**31])]),
    ],
    ids=str,
)
def test_a_bad_part_of_a_frame_is_left_out(bad: peer_pb2.Frame) -> None:
    bad.messages.append(good())
    result = decode_frame(bad, PEER, ME)
    assert result.frame == Frame(messages=(GOOD,))
    assert len(result.faults) == 1


def test_bytes_that_are_no_frame_are_malformed() -> None:
    with pytest.raises(MalformedFrame):
        parse_frame(b"\xff\xff\xff\xff")


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_frame_or_malformed(data: bytes) -> None:
    try:
        wire = parse_frame(data)
    except MalformedFrame:
        return
    assert isinstance(decode_frame(wire, PEER, ME), Decoded)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_damaged_append_never_gets_through_changed(data: st.DataObject) -> None:
    """Any single damaged byte: what is decoded has exactly the entries that were sent, or none at all."""
    sent = peer_pb2.Frame(messages=[appended(wire_entry(entry(5, b"some payload").payload))]).SerializeToString()
    at = data.draw(st.integers(0, len(sent) - 1))
    damaged = sent[:at] + bytes((data.draw(st.integers(0, 255)),)) + sent[at + 1 :]
    try:
        result = decode_frame(parse_frame(damaged), PEER, ME)
    except MalformedFrame:
        return
    for item in result.frame.messages:
        entries = getattr(item.message, "entries", ())
        assert [received.payload for received in entries] in ([], [entry(5, b"some payload").payload])
