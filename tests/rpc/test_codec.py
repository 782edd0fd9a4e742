"""What goes in comes out; the pieces of a frame may be joined."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from raftmq.ids import GroupId, LogIndex, NodeId, Offset, ReplicaId, StoreId, Term
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
from raftmq.raft.types import Entry, EntryKind, Membership, SnapshotMeta
from raftmq.records.entry import CHAIN_START, seal
from raftmq.records.membership_codec import encode_membership
from raftmq.rpc.codec import TERM_MAX, Decoded, decode_frame, encode_frame, parse_frame

ME = ReplicaId(NodeId(2), StoreId(2_000))
PEER = ReplicaId(NodeId(1), StoreId(1_000))

terms = st.integers(0, TERM_MAX).map(Term)
indexes = st.integers(0, 2**63 - 1).map(LogIndex)
groups = st.integers(0, 2**63 - 1).map(GroupId)
counters = st.integers(0, 2**63 - 1)
nodes = st.integers(1, 2**31 - 1).map(NodeId)
replicas = st.builds(ReplicaId, nodes, st.integers(1, 2**63 - 1).map(StoreId))
address = (st.just(PEER), st.just(ME))


@st.composite
def memberships(draw: st.DrawFn) -> Membership:
    members = draw(st.lists(replicas, min_size=1, max_size=7, unique=True))
    voters = draw(st.integers(1, len(members)))
    outgoing = draw(st.sets(st.sampled_from(members[:voters])))
    return Membership(frozenset(members[:voters]), frozenset(outgoing), frozenset(members[voters:]))


@st.composite
def appends(draw: st.DrawFn) -> AppendEntries:
    previous = draw(st.integers(0, 2**62))
    rising = sorted(draw(st.lists(st.integers(0, TERM_MAX), min_size=2, max_size=6)))
    entries = []
    for position, term in enumerate(rising[1:-1], 1):
        kind = draw(st.sampled_from(EntryKind))
        membership = draw(memberships()) if kind is EntryKind.MEMBERSHIP else None
        sealed = seal(
            previous_chain=CHAIN_START,
            index=LogIndex(previous + position),
            term=Term(term),
            kind=kind,
            version=1,
            base_offset=Offset(7),
            count=1,
            log_tick=3,
            wall_ms=4,
            inline=draw(st.binary(max_size=20)) if membership is None else encode_membership(membership),
            payload=draw(st.binary(max_size=50)),
        )
        entries.append(Entry(sealed.index, sealed.term, kind, sealed, sealed.size, membership))
    before = LogIndex(previous), Term(rising[0])
    return AppendEntries(PEER, ME, Term(rising[-1]), *before, tuple(entries), draw(indexes), draw(counters))


messages: st.SearchStrategy[Message] = st.one_of(
    appends(),
    st.builds(RequestVote, *address, terms, indexes, terms, st.booleans(), st.booleans()),
    st.builds(VoteReply, *address, terms, st.booleans(), st.booleans()),
    st.builds(AppendReply, *address, terms, indexes, st.booleans(), indexes, terms, st.booleans(), indexes, counters),
    st.builds(Heartbeat, *address, terms, indexes, counters),
    st.builds(HeartbeatReply, *address, terms, counters),
    st.builds(InstallSnapshot, *address, terms, st.builds(SnapshotMeta, indexes, terms, memberships()), counters),
    st.builds(TimeoutNow, *address, terms),
)
term_maps = st.dictionaries(groups, terms, max_size=5)


@st.composite
def heartbeats(draw: st.DrawFn) -> NodeHeartbeat:
    version = draw(counters)
    led = LedSet(version, draw(term_maps)) if draw(st.booleans()) else None
    return NodeHeartbeat(draw(counters), version, led, draw(st.sampled_from(DiskLevel)))


frames = st.builds(
    Frame,
    st.none() | heartbeats(),
    st.none() | st.builds(NodeHeartbeatAck, counters, counters, term_maps),
    st.lists(st.builds(GroupMessage, groups, messages), max_size=6).map(tuple),
    st.lists(st.builds(LeaderNotice, groups, terms, nodes, st.lists(nodes, max_size=5).map(tuple)), max_size=3).map(
        tuple
    ),
)


def decoded(data: bytes) -> Decoded:
    return decode_frame(parse_frame(data), PEER, ME)


def in_lane_order(frame: Frame) -> Frame:
    """The same frame with its appends last."""
    lanes = sorted(frame.messages, key=lambda item: isinstance(item.message, AppendEntries))
    return Frame(frame.heartbeat, frame.heartbeat_ack, tuple(lanes), frame.notices)


@given(frames)
@settings(max_examples=150, deadline=None)
def test_a_frame_survives_the_wire(frame: Frame) -> None:
    pieces = encode_frame(frame)
    assert decoded(b"".join(piece.data for piece in pieces)) == Decoded(in_lane_order(frame))


@given(frames, frames)
@settings(max_examples=50, deadline=None)
def test_equal_frames_have_equal_bytes_and_joined_messages_add_up(first: Frame, second: Frame) -> None:
    assert encode_frame(first) == encode_frame(first)
    data = [piece for frame in (first, second) for piece in encode_frame(frame) if not piece.is_single]
    whole = decoded(b"".join(piece.data for piece in data)).frame
    parts = [decoded(piece.data).frame for piece in data]
    assert whole.messages == tuple(message for part in parts for message in part.messages)
    assert whole.notices == tuple(notice for part in parts for notice in part.notices)


def test_an_empty_frame_has_no_pieces() -> None:
    assert encode_frame(Frame()) == []


def test_zeros_are_not_absence() -> None:
    """Every body and both heartbeats are there with nothing but default values in them."""
    zero = (PEER, ME, Term(0))
    frame = Frame(
        NodeHeartbeat(0, 0, LedSet(0, {})),
        NodeHeartbeatAck(0, 0, {}),
        (
            GroupMessage(GroupId(0), RequestVote(*zero, LogIndex(0), Term(0))),
            GroupMessage(GroupId(0), VoteReply(*zero, granted=False)),
            GroupMessage(GroupId(0), AppendReply(*zero, LogIndex(0))),
            GroupMessage(GroupId(0), Heartbeat(*zero, LogIndex(0))),
            GroupMessage(GroupId(0), HeartbeatReply(*zero)),
            GroupMessage(GroupId(0), TimeoutNow(*zero)),
            GroupMessage(GroupId(0), AppendEntries(*zero, LogIndex(0), Term(0), (), LogIndex(0))),
        ),
    )
    assert decoded(b"".join(piece.data for piece in encode_frame(frame))) == Decoded(frame)


def test_an_absent_led_set_is_not_an_empty_one() -> None:
    (piece,) = encode_frame(Frame(NodeHeartbeat(1, 5, None)))
    assert decoded(piece.data).frame.heartbeat == NodeHeartbeat(1, 5, None)


def test_appends_are_data_and_everything_else_is_control() -> None:
    zero = (PEER, ME, Term(1))
    probe = AppendEntries(*zero, LogIndex(0), Term(0), (), LogIndex(0))
    frame = Frame(
        messages=(
            GroupMessage(GroupId(1), probe),
            GroupMessage(GroupId(2), TimeoutNow(*zero)),
            GroupMessage(GroupId(3), probe),
        )
    )
    assert [(piece.is_control, piece.is_single) for piece in encode_frame(frame)] == [
        (True, False),
        (False, False),
        (False, False),
    ]
