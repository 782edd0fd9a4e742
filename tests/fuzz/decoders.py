"""Every decoder of what lies on a disk, with bytes that it takes and the errors that it may raise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError

from raftmq.config import ConfigError, parse
from raftmq.controller.formation import Formation
from raftmq.errors import RaftmqError
from raftmq.ids import BootCount, Generation, GroupId, LogIndex, NodeId, Offset, QueueId, ReplicaId, StoreId, Term
from raftmq.internal.v1 import peer_pb2
from raftmq.metadata import events
from raftmq.partition import commands
from raftmq.partition.machine import PartitionMachine
from raftmq.partition.message_ids import Window
from raftmq.partition.queues.commands import Hold, QueueCommand, Routed, Verdict
from raftmq.partition.queues.settings import Ordering, QueueSettings
from raftmq.ports import (
    Anchor,
    LostTail,
    SnapshotEnd,
    SnapshotEntries,
    SnapshotHead,
    SnapshotPart,
    SnapshotState,
    StateKind,
    StorageError,
)
from raftmq.raft.types import EntryKind, SnapshotMeta
from raftmq.records.batch import check_batch, decode_records, make_batch
from raftmq.records.entry import CorruptEntry, decode
from raftmq.records.membership_codec import decode_membership, encode_membership
from raftmq.records.poison import CorruptState, PoisonEntry
from raftmq.rpc.codec import MalformedFrame
from raftmq.rpc.snapshot_codec import decode_part, encode_part
from raftmq.storage.keys import key_group, pair_key, pair_number, state_key, state_suffix, value_number
from raftmq.storage.marker import Mark, MarkerLost, decode_mark, encode_mark
from raftmq.storage.rows import (
    DiskIdentity,
    decode_identity,
    decode_offset,
    decode_replica,
    encode_identity,
    encode_offset,
    encode_replica,
)
from raftmq.v1 import types_pb2
from tests.partition.queues.build import Partition
from tests.partition.queues.test_queue_codec import OPS
from tests.storage.build import GENERATION, MEMBERS, row
from tests.storage.whole_disk import real_log

CORPUS = Path(__file__).parent / "corpus"


@dataclass(frozen=True)
class Decoder:
    """`valid`: bytes that it takes. What it may raise for others is `errors`, and nothing else."""

    read: Callable[[bytes], object]
    valid: Sequence[bytes]
    errors: tuple[type[Exception], ...]


def _batch_bytes(codec: types_pb2.Codec.ValueType) -> bytes:
    records = [types_pb2.Record(key=b"k", value=b"v" * 40) for _ in range(3)]
    return make_batch(records, codec=codec, producer_id=7).SerializeToString()


def _read_batch(data: bytes) -> object:
    batch = types_pb2.RecordBatch.FromString(data)
    check_batch(batch, max_batch_bytes=1 << 20)
    return decode_records(batch.header, batch.records)


def _read_stored_entry(data: bytes) -> object:
    """A row and a payload, the row's length first."""
    length = int.from_bytes(data[:2], "big")
    return decode(data[2 : 2 + length], data[2 + length :])


def _stored_entries() -> list[bytes]:
    return [len(entry.row).to_bytes(2, "big") + entry.row + entry.payload for entry in real_log(3)]


def _read_state(data: bytes) -> object:
    """Pieces, each with a kind, the length of its key, and that of its value."""
    rows: list[tuple[StateKind, bytes, bytes]] = []
    while len(data) >= 4:
        kind, key_length, length = data[0], data[1], int.from_bytes(data[2:4], "big")
        key, value, data = data[4 : 4 + key_length], data[4 + key_length :][:length], data[4 + key_length + length :]
        rows.append((StateKind(kind if kind in list(StateKind) else StateKind.APPLIED), key, value))
    machine = PartitionMachine()
    machine.restore(rows)
    return machine


def _stored_queue() -> bytes:
    """Rows of a queue group of every kind."""
    partition = Partition(QueueSettings(ordering=Ordering.KEY, is_fair=True))
    partition.publish(6)
    partition.introduce(0, 6, keys=(1, 1, 2, 3, 4, 5), lanes=(1, 2, 1, 2, 1, 2))
    granted = partition.grant(4)
    partition.ack(granted.lease, 0, processed_keys=(b"key",))
    partition.settle(granted.lease, Verdict.RETRY, 2)
    partition.settle(granted.lease, Verdict.PARK, 3, reason="bad", error="it broke")
    partition.ask(Hold(Offset(3), b"record"))
    return _stored_rows(partition.machine)


def _stored_state() -> bytes:
    machine = PartitionMachine()
    for entry in real_log(6):
        machine.apply(entry)
    return _stored_rows(machine)


def _stored_rows(machine: PartitionMachine) -> bytes:
    pieces = []
    for kind, key, value in machine.take_rows():
        assert value is not None
        pieces.append(bytes([kind, len(key)]) + len(value).to_bytes(2, "big") + key + value)
    return b"".join(pieces)


_REPLICA = ReplicaId(NodeId(3), StoreId(1003))
_EVENTS: list[events.Event] = [
    events.NodeFenced(NodeId(2)),
    events.TopicDeleted(7),
    events.AssignmentChanged(GroupId(3), (_REPLICA,)),
]
_PARTS: list[SnapshotPart] = [
    SnapshotHead(SnapshotMeta(LogIndex(9), Term(3), MEMBERS), bytes(8), LogIndex(1), Anchor(), LogIndex(1)),
    SnapshotEntries(tuple(real_log(2))),
    SnapshotState(((StateKind.APPLIED, b"", b"row"),)),
    SnapshotEnd(bytes(16)),
]
_CLUSTER = b"""cluster: local
nodes:
  - {id: 1, client_port: 9401, peer_port: 9501, http_port: 9601, data: data/n1}
timeouts: {heartbeat_interval_ms: 100}
limits: {free_space_percent: 5}
"""
_LOST = DiskIdentity(NodeId(1), StoreId(99), BootCount(4), LostTail(GroupId(5), Term(8)))

DECODERS: dict[str, Decoder] = {
    "entry": Decoder(_read_stored_entry, _stored_entries(), (CorruptEntry,)),
    "entry_header": Decoder(lambda data: decode(data, None), [entry.row for entry in real_log(3)], (CorruptEntry,)),
    "replica_row": Decoder(decode_replica, [encode_replica(row()), encode_replica(row(suspect=True))], (StorageError,)),
    "offset_row": Decoder(
        decode_offset, [encode_offset(e) for e in real_log(3) if e.kind is EntryKind.DATA], (StorageError,)
    ),
    "identity": Decoder(
        decode_identity,
        [encode_identity(DiskIdentity(NodeId(1), StoreId(99), BootCount(4))), encode_identity(_LOST)],
        (StorageError,),
    ),
    "marker": Decoder(decode_mark, [encode_mark(StoreId(99), Mark(BootCount(3), 1234, Term(7), 5))], (MarkerLost,)),
    "pair_key": Decoder(
        lambda data: pair_number(data, GENERATION), [pair_key(GENERATION, LogIndex(9))], (StorageError,)
    ),
    "number": Decoder(value_number, [bytes(8)], (StorageError,)),
    "group_key": Decoder(key_group, [bytes(8)], (StorageError,)),
    "state_key": Decoder(
        lambda data: state_suffix(data, Generation(7), StateKind.PRODUCER),
        [state_key(Generation(7), StateKind.PRODUCER, b"producer")],
        (StorageError,),
    ),
    "membership": Decoder(decode_membership, [encode_membership(MEMBERS)], (CorruptEntry,)),
    "state": Decoder(_read_state, [_stored_state(), _stored_queue()], (CorruptState,)),
    "command": Decoder(
        lambda data: commands.decode(data, commands.VERSION),
        [commands.encode(commands.TickCommand()), commands.encode(commands.WindowCommand(Window(5, 6)))],
        (PoisonEntry,),
    ),
    "queue_command": Decoder(
        lambda data: commands.decode(data, commands.QUEUE_VERSION),
        [commands.encode(QueueCommand((op,))) for op in OPS],
        (PoisonEntry,),
    ),
    "parkings_command": Decoder(
        lambda data: commands.decode(data, commands.PARKINGS_VERSION),
        [commands.encode(QueueCommand((Routed(QueueId(5), (1, 2), True, (7, 9)),)))],
        (PoisonEntry,),
    ),
    "metadata": Decoder(lambda data: events.decode(data, events.VERSION), [events.encode(_EVENTS)], (PoisonEntry,)),
    "batch": Decoder(
        _read_batch,
        [_batch_bytes(codec) for codec in (types_pb2.CODEC_UNSPECIFIED, types_pb2.CODEC_ZSTD, types_pb2.CODEC_LZ4)],
        (RaftmqError, DecodeError),
    ),
    "snapshot_part": Decoder(
        lambda data: decode_part(peer_pb2.SnapshotPart.FromString(data)),
        [encode_part(part).SerializeToString() for part in _PARTS],
        (MalformedFrame, DecodeError),
    ),
    "formation": Decoder(Formation.decode, [Formation("c" * 32, b"digest", (_REPLICA,)).encode()], (DecodeError,)),
    "cluster_yml": Decoder(
        lambda data: parse(data.decode("utf-8", "replace"), base=Path("/")), [_CLUSTER], (ConfigError,)
    ),
}


def corpus(name: str) -> list[bytes]:
    """Kept cases: a line of hexadecimal each, with a remark behind it."""
    lines = (CORPUS / f"{name}.txt").read_text().splitlines()
    return [bytes.fromhex(line.partition("#")[0]) for line in lines]
