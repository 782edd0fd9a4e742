"""L3: what was acknowledged at ALL or QUORUM can be read at the offset of its receipt, for ever, and so can what failed
with the outcome APPLIED. Exception: a
duplicate older than the producer's window has a receipt without an offset; it must be there all the same."""

from __future__ import annotations

from raftmq.sim.invariants.base import Final, Invariant


class NoLostWrite(Invariant):
    name = "L3 no lost write"

    def final(self, final: Final) -> None:
        found = {
            (partition, value): offset for partition, records in final.read.items() for offset, value, _ in records
        }
        for send in final.oracle.sends.values():
            self.require(
                not send.is_surely_stored or (send.partition, send.value) in found,
                f"{send.partition}: {send.value!r} is gone, and its producer was told APPLIED: {send.reason}",
            )
            if send.is_promised:
                offset = found.get((send.partition, send.value))
                self.require(
                    offset is not None and send.offset in (None, offset),
                    f"{send.partition}: {send.value!r} was acknowledged at offset {send.offset}, and is "
                    f"{'gone' if offset is None else f'at {offset}'}",
                )
