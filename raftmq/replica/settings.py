"""Knobs of the shell."""

from __future__ import annotations

from dataclasses import dataclass, replace

from raftmq.ids import CONTROLLER_GROUP, GroupId
from raftmq.raft.config import RaftConfig


@dataclass(frozen=True, slots=True)
class ReplicaSettings:
    """In milliseconds and bytes."""

    raft: RaftConfig
    replica_lag_max: int = 2000
    tail_bytes: int = 64 * 1024 * 1024
    """For the newest entries of all groups together."""
    flush_interval: int = 500
    """How often derived state is written where no entry takes it along."""
    held_bytes_max: int = 64 * 1024 * 1024
    """What a log keeps below its first record for replicas that are behind; beyond it they need a snapshot."""

    def raft_of(self, group: GroupId) -> RaftConfig:
        """What the controller's group commits, every node waits for; its news does not."""
        return replace(self.raft, commit_news_delay=0) if group == CONTROLLER_GROUP else self.raft
