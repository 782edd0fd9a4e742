"""Bugs around votes and terms, and around those who must not vote."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from raftmq.raft import voting
from raftmq.raft.core import Core
from raftmq.raft.log_terms import LogTerms
from raftmq.raft.node import RaftNode
from raftmq.raft.ready import Ready
from raftmq.raft.replication import Replication
from raftmq.raft.transitions import Transitions
from raftmq.raft.types import HardState, Role
from raftmq.replica.in_sync import GroupFollowers
from raftmq.storage import memory, suspicion
from tests.mutants.table import Patch, mutant

AREA = "votes"


@mutant(AREA, "tests/raft/paper/test_5_2_elections.py", "test_5_2_a_vote_survives_a_restart")
def forget_the_vote(patch: Patch) -> None:
    """A restart remembers the term and not the vote."""
    begin = Core.__init__

    def init(self: Any, config: Any, me: Any, restored: Any, *rest: Any) -> None:
        begin(self, config, me, replace(restored, hard_state=HardState(restored.hard_state.term)), *rest)

    patch.setattr(Core, "__init__", init)


@mutant(AREA, "tests/raft/test_storm.py", "test_safety_in_the_storm_and_liveness_after_it")
def vote_not_written(patch: Patch) -> None:
    """A vote given in a term that was written before does not reach the disk."""
    take = RaftNode.ready

    def ready(self: RaftNode) -> Ready:
        before = self._told_hard_state.term
        taken = take(self)
        if taken.hard_state is not None and taken.hard_state.term == before:
            return replace(taken, hard_state=None)
        return taken

    patch.setattr(RaftNode, "ready", ready)


@mutant(AREA)
def term_not_written(patch: Patch) -> None:
    """A new term without a vote does not reach the disk."""
    take = RaftNode.ready

    def ready(self: RaftNode) -> Ready:
        taken = take(self)
        if taken.hard_state is not None and taken.hard_state.vote is None:
            return replace(taken, hard_state=None)
        return taken

    patch.setattr(RaftNode, "ready", ready)


@mutant(AREA, "tests/raft/paper/test_5_2_elections.py", "test_5_2_at_most_one_vote_a_term_first_come_first_served")
def vote_twice(patch: Patch) -> None:
    """Whoever asks gets a vote, whoever got one before."""

    def vote_for(self: Core, candidate: Any) -> None:
        self.hard_state = HardState(self.term, candidate)

    answer = voting.answer

    def answering(core: Core, request: Any) -> None:
        if not request.pre_vote and request.term == core.term and core.leader is None:
            core.hard_state = HardState(core.term)
        answer(core, request)

    patch.setattr(Core, "vote_for", vote_for)
    patch.setattr(voting, "answer", answering)


@mutant(AREA, "tests/raft/paper/test_5_4_safety.py", "test_5_4_1_a_vote_goes_only_to_a_log_that_is_as_up_to_date")
def vote_for_a_shorter_log(patch: Patch) -> None:
    """Whether the candidate's log is up to date does not matter."""
    patch.setattr(LogTerms, "is_up_to_date", lambda self, index, term: True)


@mutant(AREA, "tests/raft/paper/test_5_4_safety.py", "test_5_4_1_a_vote_goes_only_to_a_log_that_is_as_up_to_date")
def longer_log_beats_newer_log(patch: Patch) -> None:
    """Logs are compared by length, not by their last term first."""
    patch.setattr(LogTerms, "is_up_to_date", lambda self, index, term: index >= self.last)


@mutant(AREA, "tests/raft/paper/test_5_1_terms.py", "test_5_1_everyone_with_an_older_term_becomes_a_follower")
def no_pre_vote(patch: Patch) -> None:
    """A candidate enters a new term without asking whether it could win."""
    patch.setattr(Transitions, "pre_campaign", lambda self: self.campaign())


@mutant(
    AREA, "tests/raft/paper/test_dissertation_9_6_prevote.py", "test_4_2_3_votes_are_refused_while_a_leader_is_alive"
)
def no_vote_stickiness(patch: Patch) -> None:
    """A replica that hears its leader votes for somebody else all the same."""
    patch.setattr(voting, "knows_live_leader", lambda core: core.role.role is Role.LEADER)


@mutant(AREA)
def suspect_votes(patch: Patch) -> None:
    """A disk that lost what it synced goes on as if it had not."""
    begin = Core.__init__

    def init(self: Any, config: Any, me: Any, restored: Any, *rest: Any) -> None:
        begin(self, config, me, replace(restored, suspect=False), *rest)

    patch.setattr(Core, "__init__", init)


@mutant(AREA, "tests/storage/test_memory_store.py", "test_losing_synced_batches_makes_the_disk_suspect")
def loss_not_noticed(patch: Patch) -> None:
    """The tail marker is not compared with what the disk holds."""
    patch.setattr(memory, "loss", lambda mark, boot_count, sequence: None)


@mutant(AREA, "tests/storage/test_suspicion.py", "test_terms_rise_above_everything_that_is_known")
def suspect_keeps_its_term(patch: Patch) -> None:
    """A disk that lost what it synced does not rise above the terms in which it may have voted."""
    judge = suspicion.suspect

    def judging(rows: Any, mark: Any, before: Any) -> Any:
        judged = judge(rows, mark, before)
        kept = tuple(replace(row, suspect=True) for row in rows)
        return replace(judged, rows=kept)

    patch.setattr(suspicion, "suspect", judging)
    patch.setattr(memory, "suspect", judging)


@mutant(AREA, "tests/replica/test_manager.py", "test_a_new_process_is_in_sync_only_once_it_has_answered")
def suspect_counts_as_in_sync(patch: Patch) -> None:
    """A replica whose disk lost something is in sync like any other."""
    patch.setattr(GroupFollowers, "is_suspect", lambda self, member: False)


@mutant(
    AREA,
    "tests/raft/test_returning.py",
    "test_what_the_one_before_acknowledged_says_nothing_about_the_newcomer",
)
def believe_answers_of_a_removed_replica(patch: Patch) -> None:
    """What a replica acknowledged before it was removed counts for the one that comes back to the same disk."""
    changed = Replication.membership_changed

    def changing(self: Replication) -> None:
        changed(self)
        for progress in self._progress.values():
            progress.admission = 0

    patch.setattr(Replication, "membership_changed", changing)
