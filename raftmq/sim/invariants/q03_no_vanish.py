"""Q3: nothing vanishes: in the end every record that a group began with was acknowledged by a worker, or nobody knows
whether it was, or it is parked. Exceptions: it was not wanted after some time; the group drops what fails too often;
somebody cancelled it; it was moved to the topic of dead letters (Q9); it waits for its time; the topic's rules, or
those of another group, removed it first."""

from __future__ import annotations

from raftmq.sim.invariants.base import Final, Invariant
from raftmq.sim.oracle import Oracle, Partition
from raftmq.sim.queue_truth import Group, Judged, acknowledged
from raftmq.sim.queueing import named


class NoVanish(Invariant):
    name = "Q3 no vanish"

    def final(self, final: Final) -> None:
        for judged in final.queues:
            for partition, records in final.read.items():
                group = judged.groups.get(named(partition))
                if group is not None:
                    offsets = [offset for offset, _, _ in records if offset >= group.state.start]
                    self._check(judged, partition, group, offsets, final.oracle)

    def _check(self, judged: Judged, partition: Partition, group: Group, offsets: list[int], oracle: Oracle) -> None:
        state, truth = group.state, judged.truths[named(partition)]
        done = {offset for _, offset in acknowledged(judged.history, named(partition), group)}
        for offset in offsets:
            if offset in done or offset in state.open:
                continue  # what is open is parked, or waits for its time: see ``workforce``
            self.require(
                offset in truth.expires
                or judged.plan.settings.at_end == "drop"
                or (partition, offset) in oracle.cancelled
                or offset in group.removed
                or (judged.can_skip and offset < truth.log_start),
                f"{judged.history.name}, {partition} offset {offset}: it is done, and nobody acknowledged it",
            )
