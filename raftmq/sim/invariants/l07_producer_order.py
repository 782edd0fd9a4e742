"""L7: of each producer a partition holds its epochs in order, and within an epoch its sequence numbers from 0 on
without a gap. Exception: producers without an id have no order to keep."""

from __future__ import annotations

from raftmq.raft.types import EntryKind
from raftmq.sim.invariants.base import Final, Invariant
from raftmq.v1 import types_pb2


class ProducerOrder(Invariant):
    name = "L7 producer order"

    def final(self, final: Final) -> None:
        for partition, logs in final.logs.items():
            last: dict[int, tuple[int, int]] = {}
            for entry in logs[0]:
                if entry.kind is not EntryKind.DATA:
                    continue
                header = types_pb2.BatchHeader.FromString(entry.inline)
                if not header.producer_id:
                    continue
                epoch, following = last.get(header.producer_id, (-1, 0))
                wanted = following if header.producer_epoch == epoch else 0
                self.require(
                    header.producer_epoch >= epoch and header.first_sequence == wanted,
                    f"{partition}: entry {entry.index} of producer {header.producer_id} is epoch "
                    f"{header.producer_epoch}, sequence {header.first_sequence}, after epoch {epoch} up to {following}",
                )
                last[header.producer_id] = header.producer_epoch, wanted + header.count
