"""L12: a batch is stored whole: as many records as its header says, at consecutive offsets, behind the batch before.
No exception while nothing is compacted."""

from __future__ import annotations

from raftmq.raft.types import EntryKind
from raftmq.records.batch import decode_records
from raftmq.sim.invariants.base import Final, Invariant
from raftmq.v1 import types_pb2


class BatchesWhole(Invariant):
    name = "L12 batches whole"

    def final(self, final: Final) -> None:
        for partition, logs in final.logs.items():
            following = 0
            for entry in logs[0]:
                self.require(
                    entry.base_offset == following,
                    f"{partition}: entry {entry.index} begins at offset {entry.base_offset}, expected {following}",
                )
                following = entry.next_offset
                if entry.kind is EntryKind.DATA:
                    header = types_pb2.BatchHeader.FromString(entry.inline)
                    records = decode_records(header, entry.payload)
                    self.require(
                        len(records) == header.count == entry.count,
                        f"{partition}: entry {entry.index} has {len(records)} records, {header.count} in its header",
                    )
