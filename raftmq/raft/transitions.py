"""How roles replace each other. The one module that knows them all, so that they need not know each other."""

from __future__ import annotations

from raftmq.ids import ReplicaId, Term
from raftmq.raft.candidate import Candidate, PreCandidate
from raftmq.raft.core import Core
from raftmq.raft.follower import Follower
from raftmq.raft.leader import Leader
from raftmq.raft.roles import RoleBehaviour
from raftmq.raft.types import Role


class Transitions:
    """See ``roles.Roles``: every change of role of one replica goes through here."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def follow(self, term: Term | None = None, leader: ReplicaId | None = None) -> None:
        core = self._core
        if term is not None:
            core.set_term(term)
        if core.role.role is not Role.FOLLOWER:
            core.forget_leader()
            self._enter(Follower(core))
            core.draw_timer()
        if leader is not None:
            core.heard_leader(leader)

    def pre_campaign(self) -> None:
        standing = PreCandidate(self._core)
        self._enter(standing)
        standing.start()

    def campaign(self, transfer: bool = False) -> None:
        standing = Candidate(self._core)
        self._enter(standing)
        standing.start(transfer)

    def lead(self) -> None:
        leader = Leader(self._core)
        self._enter(leader)
        leader.start()

    def _enter(self, role: RoleBehaviour) -> None:
        self._core.role.retire()
        self._core.role = role
