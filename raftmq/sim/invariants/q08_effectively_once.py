"""Q8: acknowledged and published is one step. What a worker publishes together with its acknowledgements stands in the
log whole or not at all, in the entry that acknowledges the very messages that it comes of; of a message, and of work
that is known by a key, one result is published at most; whose result is published is not handed out again; and where
workers acknowledge nothing without a result, each message that is acknowledged has exactly one. Exceptions: its group
begins anew, which makes a message another one, and forgets keys; and groups that remember only the newest few keys."""

from __future__ import annotations

from collections.abc import Mapping

from raftmq.sim.handing_over import is_result
from raftmq.sim.invariants.base import Final, Invariant
from raftmq.sim.oracle import HandedOver, Partition
from raftmq.sim.queue_truth import Judged
from raftmq.sim.queueing import named

KEYS_ENOUGH = 10_000
"""A group that keeps so many forgets none in a run."""
Offsets = Mapping[tuple[Partition, bytes], int]
Message = tuple[str, int, int]
"""Partition, offset, and how often its group had begun anew."""


class EffectivelyOnce(Invariant):
    name = "Q8 effectively once"

    def final(self, final: Final) -> None:
        found = {
            (partition, value): offset
            for partition, records in final.read.items()
            for offset, value, _ in records
            if is_result(value)
        }
        for judged in final.queues:
            published: dict[Message, int] = {}
            keys: set[tuple[str, int, bytes]] = set()
            for one in final.oracle.handed:
                if one.queue == judged.history.name and self._is_published(one, found):
                    self._check_entry(judged, one, found)
                    self._check_once(judged, one, published, keys)
            self._check_closed(judged, published)
            if judged.plan.handing.share == 1.0:
                self._check_all(judged, published, keys, final)

    def _is_published(self, one: HandedOver, found: Offsets) -> bool:
        at = [found.get((one.partition, value)) for value in one.values]
        if at[0] is None:
            self.require(at.count(None) == len(at), f"{one}: only a part of it is published, at {at}")
            return False
        self.require(at == list(range(at[0], at[0] + len(at))), f"{one}: it is published in pieces, at {at}")
        return True

    def _check_entry(self, judged: Judged, one: HandedOver, found: Offsets) -> None:
        """It is one entry with verdicts on its messages, and on no others."""
        first = found[one.partition, one.values[0]]
        behind, settles = judged.truths[named(one.partition)].together.get(first, (0, ()))
        said = sorted((op.lease, offset) for op in settles for offset in op.offsets)
        self.require(
            behind == first + len(one.values) and said == sorted(one.claims),
            f"{one}: it is published at offset {first}, together with verdicts on {said}",
        )

    def _check_once(
        self, judged: Judged, one: HandedOver, published: dict[Message, int], keys: set[tuple[str, int, bytes]]
    ) -> None:
        where = named(one.partition)
        group = judged.groups[where]
        for lease, offset in one.claims:
            era = group.lives[lease, offset].era
            self.require((where, offset, era) not in published, f"{one}: offset {offset} has another result already")
            acked = group.acked.get((offset, era), (0, b""))
            self.require(
                acked[0] == lease, f"{one}: it is published, and offset {offset} was acknowledged under {acked[0]}"
            )
            published[where, offset, era] = lease
        era = group.lives[one.claims[0]].era
        for key in one.keys:
            forgets = judged.plan.settings.processed_keys_max < KEYS_ENOUGH
            self.require(forgets or (where, era, key) not in keys, f"{one}: the work {key!r} has a result already")
            keys.add((where, era, key))

    def _check_closed(self, judged: Judged, published: Mapping[Message, int]) -> None:
        """Whether a worker was told or not: what its result says is done is not handed out again."""
        for one in judged.history.deliveries:
            group = judged.groups.get(one.partition)
            if group is None or (one.lease, one.offset) not in group.lives:
                continue
            lease = published.get((one.partition, one.offset, group.lives[one.lease, one.offset].era))
            self.require(
                lease is None or one.lease <= lease,
                f"{judged.history.name}, {one}: its result was published under lease {lease}, and lease {one.lease} "
                f"was given out",
            )
        for (where, offset, era), lease in published.items():
            group = judged.groups[where]
            self.require(
                era != group.seeks or offset not in group.state.open,
                f"{judged.history.name}, {where} offset {offset}: its result was published under lease {lease}, and it "
                f"is not done",
            )

    def _check_all(
        self, judged: Judged, published: Mapping[Message, int], keys: set[tuple[str, int, bytes]], final: Final
    ) -> None:
        """Nothing is acknowledged without a result of it, or of the same work."""
        works = {(where, key) for where, _, key in keys}
        for partition, records in final.read.items():
            where = named(partition)
            results = {offset for offset, value, _ in records if is_result(value)}
            acked = judged.groups[where].acked if where in judged.groups else {}
            for (offset, era), (lease, key) in acked.items():
                self.require(
                    offset in results or (where, offset, era) in published or (where, key) in works,
                    f"{judged.history.name}, {where} offset {offset}: it was acknowledged under lease {lease}, and "
                    f"nothing was published",
                )
