"""Q9: what is parked reaches the topic of dead letters: of every message that is parked in the end there is a copy, and
as many as a leader has said that there are, each with its key, its value and a reason; so what is removed once it has
been copied is never in neither place. There are no more copies of a message than times that it was parked, and none of
what never was. No exception: where a leader dies in between, the id of the copy has it stored once."""

from __future__ import annotations

from raftmq.sim.invariants.base import Final, Invariant
from raftmq.sim.letters import LetterOf, stored
from raftmq.sim.oracle import Partition
from raftmq.sim.queue_truth import Group, Judged
from raftmq.sim.queueing import named


class DeadLetters(Invariant):
    name = "Q9 dead letters"

    def final(self, final: Final) -> None:
        known: set[LetterOf] = set()
        for judged in final.queues:
            if judged.plan.settings.dead_letter_topic:
                for partition in final.logs:
                    group = judged.groups.get(named(partition))
                    if group is not None:
                        known |= self._check(judged, partition, group, final)
        strangers = sorted(final.letters.keys() - known)
        self.require(not strangers, f"{strangers[:1]}: it was never parked, and is among the dead letters")

    def _check(self, judged: Judged, partition: Partition, group: Group, final: Final) -> set[LetterOf]:
        where, copied = named(partition), set[LetterOf]()
        originals = dict(stored(final.logs[partition][0]))
        for offset in sorted({*group.parkings, *group.routed, *group.state.parked.offsets}):
            of = LetterOf(judged.history.name, where, offset)
            letters = final.letters.get(of, [])
            self.require(letters or offset not in group.state.parked.offsets, f"{of}: it is parked, and was not copied")
            said, most = group.routed[offset], group.parkings[offset]
            self.require(
                said <= len(letters) <= most,
                f"{of}: it was parked {most} times, said to be copied {said} times, and copied {len(letters)} times: "
                f"{letters}",
            )
            original = originals[offset]
            for letter in letters:
                self.require(
                    (letter.key, letter.value) == (original.key, original.value)
                    and letter.attempts > 0
                    and letter.failures <= letter.attempts
                    and letter.reason,
                    f"{of}: the copy is {letter}, the message {original.key!r}: {original.value!r}",
                )
            copied.add(of)
        return copied
