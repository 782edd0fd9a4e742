"""Knobs of one group's consensus, all in ticks and bytes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RaftConfig:
    """``election_timeout``: a follower waits a random time in [election_timeout, 2 * election_timeout).

    It must be at least ten times ``heartbeat_interval`` (refused otherwise). The same minimum is the window in
    which votes are refused while a leader is alive, and the time within which a leader without a quorum steps
    down.

    ``group_heartbeats``: when False, the host keeps liveness per node and answers for it by the ``last_contact``
    function given to ``RaftNode``; the group itself then sends only what it has to (read rounds and retries).
    """

    election_timeout: int = 1000
    heartbeat_interval: int = 100
    group_heartbeats: bool = True
    max_inflight_messages: int = 64
    max_inflight_bytes: int = 4 * 1024 * 1024
    max_append_bytes: int = 256 * 1024
    max_uncommitted_bytes: int = 64 * 1024 * 1024
    """A leader refuses proposals beyond this: its quorum is gone or slow (back-pressure)."""
    commit_news_delay: int = 0
    """How long a leader waits for entries that can carry the news of a commit before it sends the news alone. Nobody
    is answered later for it; followers apply, and serve their readers, that much later when the group falls silent."""
    lost_leader_timeout: int = 150
    """After ``leader_lost`` a follower draws its timer from 0 to this many ticks, and for some more tries from this to
    twice this, until it hears a leader."""

    def __post_init__(self) -> None:
        if self.heartbeat_interval < 1 or self.election_timeout < 10 * self.heartbeat_interval:
            raise ValueError(
                f"election_timeout ({self.election_timeout}) must be at least ten times "
                f"heartbeat_interval ({self.heartbeat_interval}), which must be at least 1"
            )
        for name in (
            "max_inflight_messages",
            "max_inflight_bytes",
            "max_append_bytes",
            "max_uncommitted_bytes",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
