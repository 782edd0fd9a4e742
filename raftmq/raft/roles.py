"""What every role has in common, and how roles follow each other (Raft, figure 4; dissertation, section 9.6).

                 timer                      pre-votes of a quorum               votes of a quorum
FOLLOWER ----------------> PRE_CANDIDATE ------------------------> CANDIDATE --------------------> LEADER
 ^    |                       |                                       ^  |                           |
 |    +-----------------------------------------------(TimeoutNow)----+  |                           |
 +----------------------------+------------------------------------------+---------------------------+
      a live leader, a higher term, a lost vote; for a leader also: no quorum within an election timeout
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

from raftmq.ids import ReplicaId, Term, Tick
from raftmq.raft.core import Core
from raftmq.raft.messages import Message
from raftmq.raft.types import Role


class Roles(Protocol):
    """The transitions. Each one replaces ``core.role``: a role must do nothing more after it called one."""

    def follow(self, term: Term | None = None, leader: ReplicaId | None = None) -> None:
        """Become a follower: in a higher `term`, or of a `leader` that showed itself, or of nobody yet."""

    def pre_campaign(self) -> None:
        """Ask whether an election could be won, without changing the term."""

    def campaign(self, transfer: bool = False) -> None:
        """Enter a new term and ask for votes. `transfer`: on the order of the leader."""

    def lead(self) -> None:
        """The election is won."""


class RoleBehaviour:
    """A role: a dispatch table of the messages it takes, and what time and durability mean to it."""

    role: ClassVar[Role]
    handlers: ClassVar[Mapping[type[Message], Callable[[Any, Any], None]]] = {}

    def __init__(self, core: Core) -> None:
        self.core = core

    def step(self, message: Message) -> None:
        """Take a message of the present term. What the role has no handler for is stale, and dropped."""
        handler = self.handlers.get(type(message))
        if handler is not None:
            handler(self, message)

    def tick(self) -> None:
        """Act if ``deadline`` has been reached."""

    def deadline(self) -> Tick | None:
        """The next tick at which ``tick`` would act. None: never, unless something else happens first."""
        return None

    def leans_on(self, since: Tick) -> list[ReplicaId]:
        """Replicas that the host heard of at `since` or later: as long as it hears of all of them again within every
        election timeout, ``tick`` would do nothing. Empty: there is something else that time alone brings about."""
        return []

    def persisted(self) -> None:
        """More of the log, or a newer hard state, is durable."""

    def membership_changed(self) -> None:
        """A configuration came into force, or was rolled back."""

    def asked_for_vote(self, candidate: ReplicaId) -> None:
        """`candidate` believes that there is no leader."""

    def retire(self) -> None:
        """The role ends: give up what waits in it."""
