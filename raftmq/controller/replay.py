"""Is the metadata on this node of the present, or is its log still being replayed?"""

from __future__ import annotations

from raftmq.ids import CONTROLLER_GROUP, LogIndex
from raftmq.replica.manager import Replicas


class Replay:
    """Current is a node that has applied an entry of the term it is in, and everything that its own log held when it
    started. To be made before the replicas run.

    An entry of the present term comes after everything that was ever committed before that term; but the process before
    this one may have known more of that same term, and acted upon it. That much is in the log: whatever a node does
    because of an entry is written after the entry. If another leader has cut the end of that log off, nothing of it
    was committed, and an entry of a later term is there instead.
    """

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas
        group = replicas.group(CONTROLLER_GROUP)
        self._began_at = LogIndex(0) if group is None else group.node.last_index
        self._began_in = None if group is None else group.node.term_at(group.node.last_index)

    def is_current(self) -> bool:
        group = self._replicas.group(CONTROLLER_GROUP)
        if group is None:
            return False
        applied = group.machine.applied_index
        term = group.node.term_at(applied)
        return term == group.node.term and (applied >= self._began_at or term != self._began_in)
