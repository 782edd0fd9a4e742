"""Linearizable reads: calls that wait until this replica has applied everything acknowledged before they began.

A barrier asks the core for a read index, which a quorum confirms in a round begun after the request (dissertation,
section 6.4), then waits until that index is applied. Watches are simpler: they wait for the high watermark to pass an
offset, for long polls.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

from raftmq.ids import GroupId, LogIndex, Offset, Tick
from raftmq.raft.errors import NotLeader
from raftmq.replica.group import ReplicaGroup


class Barriers:
    """Callbacks get True when the condition holds, False when leadership was lost first. Each is called once."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._asked: dict[int, tuple[GroupId, Callable[[bool], None]]] = {}
        self._applying: dict[GroupId, list[tuple[LogIndex, int, Callable[[bool], None]]]] = {}
        self._serving: dict[GroupId, list[Callable[[bool], None]]] = {}
        self._watches: dict[GroupId, dict[int, tuple[Offset, Callable[[bool], None]]]] = {}

    def barrier(self, group: ReplicaGroup, now: Tick, done: Callable[[bool], None]) -> None:
        """Ask. The caller must see to it that the group is looked at in the next round."""
        number = next(self._numbers)
        self._asked[number] = (group.id, done)
        try:
            group.node.read_index(number, now)
        except NotLeader:
            del self._asked[number]
            done(False)

    def granted(self, group: ReplicaGroup, number: int, index: LogIndex | None) -> None:
        """The core confirmed the read at `index`, or never will (None)."""
        asked = self._asked.pop(number, None)
        if asked is None:
            return
        if index is None:
            asked[1](False)
        else:
            heappush(self._applying.setdefault(group.id, []), (index, number, asked[1]))

    def watch(self, group: ReplicaGroup, offset: Offset, done: Callable[[bool], None]) -> int:
        """Call ``done`` as soon as the record at `offset` is visible. Returns a number for ``unwatch``."""
        number = next(self._numbers)
        self._watches.setdefault(group.id, {})[number] = (offset, done)
        return number

    def unwatch(self, group_id: GroupId, number: int) -> None:
        """Nobody waits any more. Nothing happens if ``done`` was called."""
        self._watches.get(group_id, {}).pop(number, None)

    def when_serving(self, group: ReplicaGroup, done: Callable[[bool], None]) -> None:
        """Call ``done`` as soon as this new leader has applied its term's first entry."""
        self._serving.setdefault(group.id, []).append(done)

    def progressed(self, group: ReplicaGroup) -> None:
        if group.id in self._serving and group.can_serve():
            for done in self._serving.pop(group.id):
                done(True)
        applying = self._applying.get(group.id)
        while applying and applying[0][0] <= group.machine.applied_index:
            heappop(applying)[2](True)
        watches = self._watches.get(group.id)
        if watches:
            visible = group.machine.next_offset
            for number in [number for number, (offset, _) in watches.items() if offset < visible]:
                watches.pop(number)[1](True)

    def lost(self, group_id: GroupId) -> None:
        """This node no longer leads the group."""
        for number, (asked_of, done) in list(self._asked.items()):
            if asked_of == group_id:
                del self._asked[number]
                done(False)
        for done in self._serving.pop(group_id, []):
            done(False)
        for _, _, done in sorted(self._applying.pop(group_id, []), key=lambda item: item[:2]):
            done(False)
        for _, done in self._watches.pop(group_id, {}).values():
            done(False)
