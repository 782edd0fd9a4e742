"""A data directory as a node leaves it: real batches, producers, a trimmed log, the controller's group."""

from __future__ import annotations

from pathlib import Path
from random import Random

from raftmq.ids import CONTROLLER_GROUP, Generation, GroupId, LogIndex, Offset, Term
from raftmq.partition.machine import PartitionMachine
from raftmq.ports import Anchor, PutEntries, PutReplica, PutState, ReplicaRow, TrimBefore, TrimPoint, WriteOp
from raftmq.raft.types import EntryKind, HardState
from raftmq.records.batch import BATCH_VERSION, check_batch, make_batch
from raftmq.records.entry import CHAIN_START, LogEntry, seal
from raftmq.storage.options import Tuning
from raftmq.storage.rocks import RocksStore
from raftmq.v1 import types_pb2
from tests.storage.build import MEMBERS, NODE

GROUPS = (GroupId(1), GroupId(2))
TRIMMED = GROUPS[1]
TERM = Term(3)
TRIMMED_TO = 11


def real_log(length: int, seed: int = 1) -> list[LogEntry]:
    """A no-op, then batches of two producers, now with payloads that go to blob files, now with small ones."""
    rng = Random(seed)
    entries: list[LogEntry] = []
    sequences = {7: 0, 8: 0}
    for number in range(length):
        last = entries[-1] if entries else None
        kind, inline, payload, count = EntryKind.NOOP, b"", b"", 0
        if number % 10:
            producer = 7 + number % 2
            batch = check_batch(
                make_batch(
                    [types_pb2.Record(value=rng.randbytes(rng.choice((10, 2000)))) for _ in range(3)],
                    producer_id=producer, producer_epoch=0, first_sequence=sequences[producer],
                ),
                max_batch_bytes=1 << 20,
            )  # fmt: skip
            sequences[producer] += batch.count
            kind, inline, payload, count = EntryKind.DATA, batch.header_bytes, batch.payload, batch.count
        entries.append(
            seal(
                previous_chain=CHAIN_START if last is None else last.chain,
                index=LogIndex(number + 1),
                term=TERM,
                kind=kind,
                version=BATCH_VERSION,
                base_offset=Offset(0) if last is None else last.next_offset,
                count=count,
                log_tick=100 * number,
                wall_ms=1_700_000_000_000 + 300 * number,
                inline=inline,
                payload=payload,
            )
        )
    return entries


def replica(group: GroupId, generation: Generation, entries: list[LogEntry]) -> list[WriteOp]:
    """A replica that has applied all of them."""
    machine = PartitionMachine()
    for entry in entries:
        machine.apply(entry)
    row = ReplicaRow(group, generation, HardState(TERM), ((LogIndex(0), MEMBERS),), commit_index=entries[-1].index)
    return [
        PutReplica(row),
        PutEntries(generation, tuple(entries)),
        *(PutState(generation, kind, key, value) for kind, key, value in machine.take_rows()),
    ]


def trimmed(group: GroupId, generation: Generation, entries: list[LogEntry]) -> list[WriteOp]:
    """What trims a replica of ``replica`` to begin with entry TRIMMED_TO."""
    last = entries[TRIMMED_TO - 2]
    anchor = Anchor(last.term, last.chain, last.next_offset, last.log_tick, last.wall_ms)
    row = ReplicaRow(
        group, generation, HardState(TERM), ((LogIndex(0), MEMBERS),), entries[-1].index,
        LogIndex(TRIMMED_TO), anchor, last.next_offset,
    )  # fmt: skip
    begin, end = TrimPoint(LogIndex(1), Offset(0), 0), TrimPoint(row.raft_start, anchor.offset, anchor.wall_ms)
    return [PutReplica(row), TrimBefore(generation, begin, end)]


def controller() -> list[WriteOp]:
    """Group 0 with a no-op in its log: it keeps no rows."""
    row = ReplicaRow(CONTROLLER_GROUP, Generation(1), HardState(TERM), ((LogIndex(0), MEMBERS),), LogIndex(1))
    return [PutReplica(row), PutEntries(Generation(1), tuple(real_log(1)))]


def make_disk(path: Path, *, flushed: bool = True, tuning: Tuning | None = None) -> None:
    """`flushed`: everything lies in tables and blob files, as after an orderly end; else in the write-ahead log."""
    store = RocksStore(path, node=NODE, tuning=tuning)
    store.write(controller())
    for position, group in enumerate(GROUPS, start=2):
        entries = real_log(40, seed=group)
        store.write(replica(group, Generation(position), entries))
        if group == TRIMMED:
            store.write(trimmed(group, Generation(position), entries))
    store.sync()
    store.settle()
    if flushed:
        store.close()
    else:
        from tests.storage.test_rocks_store import abandon

        abandon(store)
