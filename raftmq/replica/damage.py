"""A replica whose disk cannot be read any more starts over: empty, suspect, beside what is left of it.

    damaged generation   |== what can still be read ==|x|====|   kept ............................ dropped
    new generation                                               | appends, or a snapshot | whole: suspect no more

Single entries could be fetched again and put back. But what made one row unreadable seldom stops at one, the rows of
four families would have to be made again for each, and a replica that has lost what it acknowledged must not vote
meanwhile. All of that is what a suspect replica does already, and a snapshot checks everything that it brings. So the
whole replica is fetched; it costs a copy of one partition, and there is one way to come back, not two.

Two reads must fail: one may have met a bit that was flipped on its way, and a majority of replicas that start over for
nothing would be a partition without a leader.

What is left stays on the disk until the new generation holds all that was committed: if the same damage were found
everywhere (a bug, not a disk), nothing would be gone. Only where the others are a majority without it may a replica
start over, or nobody could clear it of suspicion: a partition of one or two replicas is left as it is. And only once in
a process: a disk that damages it again will not stop there.

One thing is not mended so: the replica's own row (term, vote, configurations, generation). A replica that starts over
keeps its term and never votes twice in it because the row says so, and knows from it whom it leaves alone and where its
old data lies. Of all this the row's key tells only the group. And rows are small, so that a block of the file holds the
rows of many groups: where one is damaged, the scan cannot even say which others there were, and a replica that is taken
for new may vote. So the store refuses to open, and says what to do: an empty disk is a new store, whose votes nobody
counts until an operator has admitted it. (``storage/opening.py``.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from raftmq.ids import Generation, GroupId, ReplicaId
from raftmq.ports import ReplicaRow, WriteOp
from raftmq.replica.group import ReplicaGroup
from raftmq.replica.leading import Events
from raftmq.replica.rows import beside_damage, may_start_over


class Write(Protocol):
    def __call__(self, ops: list[WriteOp], *, must_sync: bool) -> None: ...


class Damage:
    """What becomes of damaged replicas of one node. ``write`` puts something into the next round."""

    def __init__(
        self,
        me: ReplicaId,
        new_generation: Callable[[], Generation],
        write: Write,
        touch: Callable[[GroupId], None],
        events: Events,
    ) -> None:
        self._me = me
        self._new_generation = new_generation
        self._write = write
        self._touch = touch
        self._events = events
        self._started_over: set[GroupId] = set()

    def found(self, group: ReplicaGroup, reason: str) -> None:
        """A reader met what cannot be read. A replica that cannot start over goes on: the rest of it may be whole."""
        if self._may(group.row):
            group.halt(reason, is_damaged=True)
            self._touch(group.id)

    def look(self, group: ReplicaGroup) -> ReplicaRow | None:
        """Of a group that halted as damaged: the row of the replica that takes its place. None: it stays halted."""
        group.is_damaged = False
        return self.start_over(group.row, group.halted or "")

    def start_over(self, row: ReplicaRow, reason: str) -> ReplicaRow | None:
        """The row of a replica that takes the place of the damaged one. None where none may."""
        if not self._may(row):
            return None
        self._started_over.add(row.group)
        self._events.replica_started_over(row.group, reason)
        new, ops = beside_damage(row, self._new_generation())
        self._write(ops, must_sync=True)
        return new

    def _may(self, row: ReplicaRow) -> bool:
        return row.group not in self._started_over and may_start_over(row, self._me)
