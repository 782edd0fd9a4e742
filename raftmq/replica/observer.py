"""What a group tells its owner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftmq.ids import LogIndex

if TYPE_CHECKING:
    from raftmq.replica.group import ReplicaGroup


class Observer:
    """The default hears nothing."""

    def leadership_changed(self, group: ReplicaGroup) -> None:
        """Role, term or leader is another. Called before anything of the change leaves."""

    def progressed(self, group: ReplicaGroup) -> None:
        """Something was persisted, committed, applied or acknowledged."""

    def snapshot_ordered(self, group: ReplicaGroup) -> None:
        """Its leader wants this replica to fetch a snapshot. Said again and again, for as long as it is so."""

    def read_granted(self, group: ReplicaGroup, request_id: int, index: LogIndex | None) -> None:
        """A read barrier holds once `index` is applied; None: it never will."""
