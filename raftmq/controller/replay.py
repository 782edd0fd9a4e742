"""Is the metadata on this node of the present, or is its log still being replayed?"""

from __future__ import annotations

from raftmq.ids import CONTROLLER_GROUP, LogIndex
from raftmq.replica.manager import Replicas


class Replay:
    """Current is a node that has applied an entry of the term it is in, everything that its own log held when it
    started, and everything that its first leader called committed. To be made before the replicas run.

    An entry of the present term comes after everything that was ever committed before that term; but the process before
    this one may have known more of that same term, and acted upon it. That much is in the log: whatever a node does
    because of an entry is written after the entry. If another leader has cut the end of that log off, nothing of it
    was committed, and an entry of a later term is there instead.
    """

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas
        group = replicas.group(CONTROLLER_GROUP)
        self._began_at = LogIndex(0) if group is None else group.node.last_index
        self._told: LogIndex | None = None
        """What was committed when a leader first spoke to this process, or when it first led itself."""
        self._was_current = False
        self._began_in = None if group is None else group.node.term_at(group.node.last_index)

    def is_current(self) -> bool:
        group = self._replicas.group(CONTROLLER_GROUP)
        if group is None:
            return False
        if self._told is None:
            self._told = group.node.commit_index if group.can_serve() else group.node.heard_commit
        applied = group.machine.applied_index
        term = group.node.term_at(applied)
        is_current = (
            self._told is not None
            and applied >= self._told
            and term == group.node.term
            and (applied >= self._began_at or term != self._began_in)
        )
        self._was_current = self._was_current or is_current
        return is_current

    def was_current(self) -> bool:
        """The image has been current once since the start, so that it holds everything that was committed by then."""
        return self._was_current or self.is_current()
