"""L14: once the cluster is quiet all replicas of a partition hold the same log, and clients read exactly what is in
it. No exception."""

from __future__ import annotations

from raftmq.raft.types import EntryKind
from raftmq.records.batch import decode_records
from raftmq.sim.invariants.base import Final, Invariant
from raftmq.v1 import types_pb2


class EqualReplicas(Invariant):
    name = "L14 equal replicas"

    def final(self, final: Final) -> None:
        for partition, logs in final.logs.items():
            for log in logs[1:]:
                self.require(
                    [entry.row for entry in log] == [entry.row for entry in logs[0]],
                    f"{partition}: replicas' logs differ ({len(log)} and {len(logs[0])} entries)",
                )
            stored = []
            for entry in logs[0]:
                if entry.kind is EntryKind.DATA:
                    header = types_pb2.BatchHeader.FromString(entry.inline)
                    for position, record in enumerate(decode_records(header, entry.payload)):
                        stored.append((entry.base_offset + position, record.value, entry.term))
            self.require(stored == final.read[partition], f"{partition}: the final read is not what the replicas hold")
