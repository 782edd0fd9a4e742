"""Bugs of the controller: decisions, who leads what, and what nodes make of the metadata."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

from raftmq.controller import reconciler
from raftmq.controller.controller import Controller
from raftmq.controller.replay import Replay
from raftmq.controller.sessions import Sessions
from raftmq.metadata import decisions
from raftmq.raft.types import Role
from raftmq.replica.host import ReplicaHost
from raftmq.replica.leading import Leading
from tests.mutants.table import Patch, mutant

AREA = "controller"


@mutant(
    AREA, "tests/controller/test_decisions_in_order.py", "test_a_decision_that_ran_out_of_time_is_seen_by_the_next_one"
)
def decide_on_an_old_image(patch: Patch) -> None:
    """The controller decides before everything in its log is applied."""

    async def at_once(self: Controller, deadline: float) -> None:
        self._leading()

    patch.setattr(Controller, "_caught_up", at_once)


@mutant(AREA, "tests/controller/test_reconciler.py", "test_an_image_that_is_replayed_after_a_restart_moves_nothing")
def reconcile_by_the_past(patch: Patch) -> None:
    """Replicas are created and removed while the log of the metadata is still being replayed."""
    patch.setattr(Replay, "is_current", lambda self: True)


@mutant(AREA, "tests/controller/test_reconciler.py", "test_metadata_is_current_once_the_controller_has_spoken")
def deny_topics_while_replaying(patch: Patch) -> None:
    """A node says that a topic does not exist before it has learnt which topics there are."""
    patch.setattr(Controller, "is_current", lambda self: True)


@mutant(AREA, "tests/controller/test_reconciler.py", "test_replicas_come_and_go_with_their_topic")
def deleted_replicas_stay(patch: Patch) -> None:
    """A node keeps its replica of a topic that was deleted."""
    patch.setattr(reconciler, "_is_gone", lambda group_id, image: False)


@mutant(AREA)
def two_leaders_told(patch: Patch) -> None:
    """A candidate says that it leads."""
    leader_of = ReplicaHost.leader_of

    def telling(self: ReplicaHost, group_id: Any) -> Any:
        group = self.replicas.group(group_id)
        if group is not None and group.node.role is Role.CANDIDATE:
            return group.me.node, group.node.term
        return leader_of(self, group_id)

    patch.setattr(ReplicaHost, "leader_of", telling)


@mutant(
    AREA,
    "tests/replica/test_leading.py",
    "test_an_older_notice_changes_nothing_and_one_without_an_in_sync_set_takes_none_away",
)
def old_notice_wins(patch: Patch) -> None:
    """Whatever is heard last of who leads is believed, however old it is."""

    def learn(self: Leading, notice: Any) -> None:
        self.known[notice.group] = notice
        self._events.leader_known(notice)

    patch.setattr(Leading, "learn", learn)


@mutant(AREA)
def name_not_looked_up(patch: Patch) -> None:
    """A topic is created although its name is taken."""
    create = decisions.create_topic

    def creating(image: Any, wish: Any, policy: Any) -> Any:
        others = MappingProxyType({name: topic for name, topic in image.topics.items() if name != wish.name})
        return create(replace(image, topics=others), wish, policy)

    patch.setattr(decisions, "create_topic", creating)


@mutant(AREA, "tests/controller/test_sessions.py", "test_a_silent_node_is_fenced_and_unfenced_when_it_is_heard")
def nobody_is_unfenced(patch: Patch) -> None:
    """A node that comes back stays fenced."""
    observe = Sessions.observe
    patch.setattr(Sessions, "observe", lambda self, image, now: (observe(self, image, now)[0], []))
