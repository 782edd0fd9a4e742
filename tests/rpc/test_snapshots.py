"""Snapshots over the wire: parts as bytes and back, the stream between two nodes, and what no sound peer sends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from raftmq.errors import Unavailable
from raftmq.ids import GroupId, LogIndex, NodeId, Offset, ReplicaId, StoreId, Term
from raftmq.internal.v1 import peer_pb2
from raftmq.ports import (
    Anchor,
    SnapshotEnd,
    SnapshotEntries,
    SnapshotHead,
    SnapshotPart,
    SnapshotState,
    StateKind,
)
from raftmq.raft.types import EntryKind, Membership, SnapshotMeta
from raftmq.records.entry import CHAIN_START, LogEntry, seal
from raftmq.rpc.codec import MalformedFrame
from raftmq.rpc.snapshot_codec import decode_part, encode_part, requested

from .nodes import Node

TWO = NodeId(2)
MEMBERS = Membership(frozenset(ReplicaId(NodeId(n), StoreId(n)) for n in (1, 2, 3)))
HEAD = SnapshotHead(
    SnapshotMeta(LogIndex(9), Term(4), MEMBERS),
    b"chain--9",
    LogIndex(7),
    Anchor(Term(3), b"chain--6", Offset(60), 600, 1_700_000_000_000),
    LogIndex(8),
)


def entry(index: int, payload: bytes = b"payload") -> LogEntry:
    return seal(
        previous_chain=CHAIN_START,
        index=LogIndex(index),
        term=Term(4),
        kind=EntryKind.DATA,
        version=1,
        base_offset=Offset(index),
        count=1,
        log_tick=1,
        wall_ms=1,
        inline=b"header",
        payload=payload,
    )


ENTRIES = SnapshotEntries((entry(8), entry(9, bytes(300_000))))
STATE = SnapshotState(((StateKind.APPLIED, b"", b"row"), (StateKind.PRODUCER, b"12345678", b"")))
END = SnapshotEnd(bytes(16))
PARTS: list[SnapshotPart] = [HEAD, ENTRIES, SnapshotEntries(()), STATE, SnapshotState(()), END]


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Node, Node]]:
    one, two = await Node(1).start(), await Node(2).start()
    one.transport.set_peers({TWO: ("127.0.0.1", two.port)})
    yield one, two
    await one.stop()
    await two.stop()


@pytest.mark.parametrize("part", PARTS, ids=lambda part: type(part).__name__)
def test_round_trip(part: SnapshotPart) -> None:
    wire = peer_pb2.SnapshotPart.FromString(encode_part(part).SerializeToString())
    assert decode_part(wire) == part


async def test_the_parts_arrive_as_they_were_sent(pair: tuple[Node, Node]) -> None:
    one, two = pair
    two.snapshot = list(PARTS)
    arrived = [part async for part in one.transport.fetch_snapshot(TWO, GroupId(5), LogIndex(8))]
    assert arrived == PARTS
    assert two.snapshots_asked == [(5, 8)]


async def test_a_stream_that_breaks_off_is_unavailable_after_what_came(pair: tuple[Node, Node]) -> None:
    one, two = pair
    two.snapshot = [HEAD, ENTRIES, Unavailable("trimmed meanwhile")]
    arrived: list[SnapshotPart] = []
    with pytest.raises(Unavailable, match="trimmed meanwhile"):
        arrived.extend([part async for part in _noted(one, arrived)])
    assert arrived == [HEAD, ENTRIES]


async def _noted(node: Node, arrived: list[SnapshotPart]) -> AsyncIterator[SnapshotPart]:
    async for part in node.transport.fetch_snapshot(TWO, GroupId(5), LogIndex(0)):
        arrived.append(part)
        yield part


async def test_a_node_that_is_not_there_or_of_another_cluster_is_unavailable(pair: tuple[Node, Node]) -> None:
    one, two = pair
    two.server.cluster_id = "another"
    for node in (TWO, NodeId(7)):
        with pytest.raises(Unavailable):
            [part async for part in one.transport.fetch_snapshot(node, GroupId(5), LogIndex(0))]
    await two.server.close()
    with pytest.raises(Unavailable):
        [part async for part in one.transport.fetch_snapshot(TWO, GroupId(5), LogIndex(0))]
    assert two.snapshots_asked == []


def head(change: Callable[[peer_pb2.SnapshotHead], object]) -> peer_pb2.SnapshotPart:
    wire = encode_part(HEAD)
    change(wire.head)
    return wire


def entries(change: Callable[[peer_pb2.WireEntry], object]) -> peer_pb2.SnapshotPart:
    wire = encode_part(ENTRIES)
    change(wire.entries.entries[0])
    return wire


@pytest.mark.parametrize(
    "wire",
    [
        peer_pb2.SnapshotPart(),
        head(lambda h: setattr(h, "index", 0)),
        head(lambda h: setattr(h, "index", 2**63)),
        head(lambda h: setattr(h, "index", 6)),
        head(lambda h: setattr(h, "raft_start", 0)),
        head(lambda h: setattr(h, "first_index", 2**64 - 1)),
        head(lambda h: setattr(h, "term", 2)),
        head(lambda h: setattr(h, "term", 2**60)),
        head(lambda h: setattr(h, "anchor_offset", 2**63)),
        head(lambda h: setattr(h, "chain", b"short")),
        head(lambda h: setattr(h, "anchor_chain", b"")),
        head(lambda h: h.ClearField("membership")),
        head(lambda h: setattr(h.membership.voters[0], "node", 0)),
        entries(lambda e: setattr(e, "header", e.header[:-1])),
        entries(lambda e: setattr(e, "payload", b"another")),
        entries(lambda e: setattr(e, "payload", b"")),
        peer_pb2.SnapshotPart(state=peer_pb2.SnapshotState(rows=[peer_pb2.StateRow(kind=99)])),
    ],
)
def test_what_no_sound_peer_sends_is_refused(wire: peer_pb2.SnapshotPart) -> None:
    with pytest.raises(MalformedFrame):
        decode_part(wire)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(PARTS[:2]), st.data())
def test_bytes_that_were_damaged_are_the_same_part_or_none(part: SnapshotPart, data: st.DataObject) -> None:
    whole = encode_part(part).SerializeToString()[:400]
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    try:
        decoded = decode_part(peer_pb2.SnapshotPart.FromString(damaged))
    except (MalformedFrame, DecodeError):
        return
    assert isinstance(decoded, (SnapshotHead, SnapshotEntries, SnapshotState, SnapshotEnd))


@pytest.mark.parametrize("field", ["group", "from_index"])
def test_a_request_out_of_range_is_refused(field: str) -> None:
    wire = peer_pb2.FetchSnapshotRequest(group=1, from_index=2)
    assert requested(wire) == (1, 2)
    setattr(wire, field, 2**63)
    with pytest.raises(MalformedFrame):
        requested(wire)
