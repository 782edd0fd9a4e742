"""Values on disk that are not log rows: what a replica and a disk know of themselves, and the offset index.

Every decoder raises StorageError, and nothing else, on bytes that it did not write.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from raftmq.ids import BootCount, Generation, GroupId, LogIndex, NodeId, Offset, ReplicaId, StoreId, Term
from raftmq.internal.v1 import peer_pb2, storage_pb2
from raftmq.ports import Anchor, LostTail, ReplicaRow, StorageError
from raftmq.raft.types import HardState, Membership
from raftmq.records.entry import CHAIN_BYTES, CorruptEntry, LogEntry, crc32c
from raftmq.records.membership_codec import membership_from_proto, membership_to_proto
from raftmq.records.poison import parse_strictly
from raftmq.records.topic_kinds import TopicKind


class UnknownFormat(StorageError):
    """Whole, as far as can be told, and of a version that is not known here."""


REPLICA_FORMAT = 1
STORE_FORMAT = 1

_CRC = struct.Struct(">I")


# -- replica rows ------------------------------------------------------------------------------------------------


def encode_replica(row: ReplicaRow) -> bytes:
    """Serialise a row of ``raft``. Equal rows give equal bytes: members are sorted."""
    message = storage_pb2.ReplicaRow(
        format=REPLICA_FORMAT,
        group=row.group,
        generation=row.generation,
        term=row.hard_state.term,
        vote=None if row.hard_state.vote is None else _encode_id(row.hard_state.vote),
        commit_index=row.commit_index,
        raft_start=row.raft_start,
        anchor_term=row.anchor.term,
        anchor_chain=row.anchor.chain,
        anchor_offset=row.anchor.offset,
        anchor_log_tick=row.anchor.log_tick,
        anchor_wall_ms=row.anchor.wall_ms,
        log_start_offset=row.log_start_offset,
        memberships=[
            storage_pb2.IndexedMembership(index=index, membership=membership_to_proto(membership))
            for index, membership in row.memberships
        ],
        suspect=row.suspect,
        installing=row.installing or 0,
        damaged=row.damaged or 0,
        kind=row.kind,
    )
    return message.SerializeToString()


def decode_replica(value: bytes) -> ReplicaRow:
    """The row of ``raft`` in `value`. Raises StorageError, also for a format that this version does not know."""
    try:
        message = parse_strictly(storage_pb2.ReplicaRow, value)
    except ValueError as error:
        raise StorageError(f"a replica's row cannot be read: {error}") from error
    if message.format != REPLICA_FORMAT:
        raise UnknownFormat(
            f"a replica's row has format {message.format}, this version reads {REPLICA_FORMAT}: "
            "start the version of raftmq that wrote it"
        )
    if len(message.anchor_chain) != CHAIN_BYTES:
        raise StorageError(f"a chain hash has {CHAIN_BYTES} bytes, this one {len(message.anchor_chain)}")
    vote = _decode_id(message.vote) if message.HasField("vote") else None
    return ReplicaRow(
        group=GroupId(message.group),
        generation=Generation(message.generation),
        hard_state=HardState(Term(message.term), vote),
        memberships=_memberships(message),
        commit_index=LogIndex(message.commit_index),
        raft_start=LogIndex(message.raft_start),
        anchor=Anchor(
            term=Term(message.anchor_term),
            chain=message.anchor_chain,
            offset=Offset(message.anchor_offset),
            log_tick=message.anchor_log_tick,
            wall_ms=message.anchor_wall_ms,
        ),
        log_start_offset=Offset(message.log_start_offset),
        suspect=message.suspect,
        installing=Generation(message.installing) if message.installing else None,
        damaged=Generation(message.damaged) if message.damaged else None,
        kind=_kind(message.kind),
    )


def _kind(number: int) -> TopicKind:
    try:
        return TopicKind(number)
    except ValueError:
        raise UnknownFormat(
            f"a replica is of kind {number}, which is not known here: start the version of raftmq that wrote it"
        ) from None


def _memberships(message: storage_pb2.ReplicaRow) -> tuple[tuple[LogIndex, Membership], ...]:
    try:
        return tuple((LogIndex(item.index), _membership(item)) for item in message.memberships)
    except CorruptEntry as error:
        raise StorageError(f"a replica's row has a bad configuration: {error}") from error


def _membership(item: storage_pb2.IndexedMembership) -> Membership:
    """A replica that came later knows no configuration before the first one of its log."""
    if item.index == 0 and item.membership == peer_pb2.Membership():
        return Membership(frozenset())
    return membership_from_proto(item.membership)


def _encode_id(replica: ReplicaId) -> peer_pb2.ReplicaId:
    return peer_pb2.ReplicaId(node=replica.node, store=replica.store)


def _decode_id(message: peer_pb2.ReplicaId) -> ReplicaId:
    return ReplicaId(NodeId(message.node), StoreId(message.store))


# -- the offset index --------------------------------------------------------------------------------------------

_OFFSET = struct.Struct(">BQIQQII")
_OFFSET_FORMAT = 1


@dataclass(frozen=True, slots=True)
class OffsetRow:
    """Value of ``offsets``: where a batch lies, and what a reader needs of its header.

    Layout, big-endian: format u8, index u64, count u32, term u64, wall_ms u64, payload_length u32,
    payload_crc u32, then the serialised batch header, then CRC-32C of everything before it u32.
    """

    index: LogIndex
    count: int
    term: Term
    wall_ms: int
    payload_length: int
    payload_crc: int
    header: bytes


def encode_offset(entry: LogEntry) -> bytes:
    """The row of ``offsets`` for a data entry."""
    body = (
        _OFFSET.pack(
            _OFFSET_FORMAT,
            entry.index,
            entry.count,
            entry.term,
            entry.wall_ms,
            len(entry.payload),
            entry.payload_crc,
        )
        + entry.inline
    )
    return body + _CRC.pack(crc32c(body))


def decode_offset(value: bytes) -> OffsetRow:
    """The row of ``offsets`` in `value`. Raises StorageError."""
    if len(value) < _OFFSET.size + _CRC.size:
        raise StorageError(f"an offset row of {len(value)} bytes is too short")
    body = value[: -_CRC.size]
    if _CRC.unpack_from(value, len(body))[0] != crc32c(body):
        raise StorageError("offset row checksum mismatch")
    fmt, index, count, term, wall_ms, payload_length, payload_crc = _OFFSET.unpack_from(body)
    if fmt != _OFFSET_FORMAT:
        raise StorageError(f"offset row format {fmt} is not known here")
    header = body[_OFFSET.size :]
    return OffsetRow(LogIndex(index), count, Term(term), wall_ms, payload_length, payload_crc, header)


# -- the disk itself ---------------------------------------------------------------------------------------------

_IDENTITY = struct.Struct(">HIQQBQQ")


@dataclass(frozen=True, slots=True)
class DiskIdentity:
    """The store's own row in ``node``. `boot_count` is that of the newest open."""

    node: NodeId
    store_id: StoreId
    boot_count: BootCount
    lost: LostTail | None = None


def encode_identity(identity: DiskIdentity) -> bytes:
    lost = identity.lost
    body = _IDENTITY.pack(
        STORE_FORMAT,
        identity.node,
        identity.store_id,
        identity.boot_count,
        lost is not None,
        lost.group if lost else 0,
        lost.term if lost else 0,
    )
    return body + _CRC.pack(crc32c(body))


def decode_identity(value: bytes) -> DiskIdentity:
    """The store's own row. Raises StorageError, also for a format that this version does not know."""
    if len(value) >= 2 and (fmt := int.from_bytes(value[:2], "big")) != STORE_FORMAT:
        raise UnknownFormat(
            f"the data directory has format {fmt}, this version reads {STORE_FORMAT}: "
            "start the version of raftmq that wrote it"
        )
    if len(value) != _IDENTITY.size + _CRC.size:
        raise StorageError(f"the identity row has {_IDENTITY.size + _CRC.size} bytes, not {len(value)}")
    body = value[: -_CRC.size]
    if _CRC.unpack_from(value, len(body))[0] != crc32c(body):
        raise StorageError("identity row checksum mismatch")
    _, node, store, boot, is_lost, group, term = _IDENTITY.unpack(body)
    lost = LostTail(GroupId(group), Term(term)) if is_lost else None
    return DiskIdentity(NodeId(node), StoreId(store), BootCount(boot), lost)
