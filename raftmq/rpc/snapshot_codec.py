"""Parts of a snapshot as protobuf, both ways. Decoding trusts nobody; whether parts fit, the receiver checks."""

from __future__ import annotations

from raftmq.ids import GroupId, LogIndex, Offset, Term
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
from raftmq.raft.types import SnapshotMeta
from raftmq.records.entry import CHAIN_BYTES, CorruptEntry
from raftmq.records.entry import decode as decode_entry
from raftmq.records.membership_codec import membership_from_proto, membership_to_proto
from raftmq.rpc.codec import NUMBER_MAX, TERM_MAX, MalformedFrame

INDEX_MIN = 1
"""No part of a snapshot speaks of index 0: where there is nothing, there is no snapshot."""


def encode_part(part: SnapshotPart) -> peer_pb2.SnapshotPart:
    match part:
        case SnapshotHead():
            return peer_pb2.SnapshotPart(head=_encode_head(part))
        case SnapshotEntries(entries):
            wire = [peer_pb2.WireEntry(header=entry.row, payload=entry.payload) for entry in entries]
            return peer_pb2.SnapshotPart(entries=peer_pb2.SnapshotEntries(entries=wire))
        case SnapshotState(rows):
            state = [peer_pb2.StateRow(kind=kind, key=key, value=value) for kind, key, value in rows]
            return peer_pb2.SnapshotPart(state=peer_pb2.SnapshotState(rows=state))
        case SnapshotEnd(digest):
            return peer_pb2.SnapshotPart(end=peer_pb2.SnapshotEnd(digest=digest))


def decode_part(wire: peer_pb2.SnapshotPart) -> SnapshotPart:
    """The part in `wire`; each of its entries is whole. Raises MalformedFrame."""
    try:
        match wire.WhichOneof("part"):
            case "head":
                return _decode_head(wire.head)
            case "entries":
                return SnapshotEntries(tuple(decode_entry(one.header, one.payload) for one in wire.entries.entries))
            case "state":
                return SnapshotState(tuple((StateKind(row.kind), row.key, row.value) for row in wire.state.rows))
            case "end":
                return SnapshotEnd(wire.end.digest)
    except (CorruptEntry, ValueError) as error:
        raise MalformedFrame(f"a part of a snapshot: {error}") from None
    raise MalformedFrame("a part of a snapshot without content")


def requested(wire: peer_pb2.FetchSnapshotRequest) -> tuple[GroupId, LogIndex]:
    """(group, first entry wanted). Raises MalformedFrame."""
    if wire.group > NUMBER_MAX or wire.from_index > NUMBER_MAX:
        raise MalformedFrame(f"group {wire.group} or index {wire.from_index} is above {NUMBER_MAX}")
    return GroupId(wire.group), LogIndex(wire.from_index)


def _encode_head(head: SnapshotHead) -> peer_pb2.SnapshotHead:
    return peer_pb2.SnapshotHead(
        index=head.meta.index,
        term=head.meta.term,
        membership=membership_to_proto(head.meta.membership),
        chain=head.chain,
        raft_start=head.raft_start,
        anchor_term=head.anchor.term,
        anchor_chain=head.anchor.chain,
        anchor_offset=head.anchor.offset,
        anchor_log_tick=head.anchor.log_tick,
        anchor_wall_ms=head.anchor.wall_ms,
        first_index=head.first_index,
    )


def _decode_head(wire: peer_pb2.SnapshotHead) -> SnapshotHead:
    numbers = (wire.index, wire.raft_start, wire.first_index)
    if not all(INDEX_MIN <= number <= NUMBER_MAX for number in numbers) or wire.raft_start > wire.index:
        raise MalformedFrame(f"a snapshot of entries {wire.raft_start} to {wire.index}, from {wire.first_index} on")
    if not wire.anchor_term <= wire.term <= TERM_MAX or wire.term == 0:
        raise MalformedFrame(f"a snapshot of terms {wire.anchor_term} to {wire.term}")
    if max(wire.anchor_offset, wire.anchor_log_tick, wire.anchor_wall_ms) > NUMBER_MAX:
        raise MalformedFrame("a snapshot's anchor has numbers that are too large")
    if not len(wire.chain) == len(wire.anchor_chain) == CHAIN_BYTES:
        raise MalformedFrame(f"a chain hash has {CHAIN_BYTES} bytes")
    return SnapshotHead(
        SnapshotMeta(LogIndex(wire.index), Term(wire.term), membership_from_proto(wire.membership)),
        wire.chain,
        LogIndex(wire.raft_start),
        Anchor(
            Term(wire.anchor_term),
            wire.anchor_chain,
            Offset(wire.anchor_offset),
            wire.anchor_log_tick,
            wire.anchor_wall_ms,
        ),
        LogIndex(wire.first_index),
    )
