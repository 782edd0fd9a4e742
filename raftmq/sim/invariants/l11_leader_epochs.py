"""L11: along the offsets of a partition the leader epoch never falls, and a receipt names the epoch that the record
is stored under. Exception: a duplicate's receipt tells the epoch of whoever answered, if the original is too old to
be known."""

from __future__ import annotations

from raftmq.sim.invariants.base import Final, Invariant


class LeaderEpochs(Invariant):
    name = "L11 leader epochs"

    def final(self, final: Final) -> None:
        for partition, records in final.read.items():
            newest = 0
            for offset, value, epoch in records:
                self.require(epoch >= newest, f"{partition} offset {offset} is of epoch {epoch}, after {newest}")
                newest = epoch
                send = final.oracle.sends.get(value)
                if send is None or send.partition != partition:
                    continue  # the copy of a dead letter
                if send.is_promised and send.offset is not None:
                    self.require(
                        send.epoch == epoch,
                        f"{partition} offset {offset} is of epoch {epoch}, its receipt says {send.epoch}",
                    )
