"""The members of the controller's own group follow the image: see ``metadata.voters`` for who votes and who learns."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from raftmq.errors import RaftmqError
from raftmq.ids import CONTROLLER_GROUP, ReplicaId
from raftmq.metadata.image import MetadataImage
from raftmq.metadata.voters import plan_voters
from raftmq.ports import Clock
from raftmq.raft.types import Membership
from raftmq.replica import changing
from raftmq.replica.manager import Replicas

_log = structlog.get_logger(__name__)


class MetadataGroup:
    """To be asked on the group's leader. ``is_silent``: a member has not been heard for a session's length."""

    def __init__(self, replicas: Replicas, clock: Clock, is_silent: Callable[[ReplicaId], bool]) -> None:
        self.waits = ""
        """What the next change of the voters waits for; empty: there is none to come."""
        self._replicas = replicas
        self._clock = clock
        self._is_silent = is_silent

    @property
    def membership(self) -> Membership:
        group = self._replicas.group(CONTROLLER_GROUP)
        return Membership(frozenset()) if group is None else group.node.membership

    def follow(self, image: MetadataImage) -> None:
        """Take the next step towards what `image` asks for, if there is one and it can be taken now."""
        try:
            found = changing.configuration(self._replicas, CONTROLLER_GROUP, self._clock.tick())
            if not found.is_settled:
                self.waits = "a change of the controller's group is being committed"
                return
            silent = frozenset(member for member in found.membership.learners if self._is_silent(member))
            plan = plan_voters(image, found.membership, found.caught_up, found.match_index, silent)
            self.waits = plan.waits
            if plan.target is not None:
                self.waits = self.waits or "a change of the controller's group is being committed"
                _log.info("controller's members change", voters=sorted(map(str, plan.target.voters)))
                changing.change(self._replicas, CONTROLLER_GROUP, found.index, plan.target, self._clock.tick())
        except RaftmqError as refusal:
            self.waits = refusal.message
