"""Bugs of the consensus core: log, commitment, reads, configurations."""

from __future__ import annotations

from typing import Any

from raftmq.ids import LogIndex
from raftmq.raft import quorum
from raftmq.raft.core import Core
from raftmq.raft.durability import Durability
from raftmq.raft.follower import Follower
from raftmq.raft.leader import Leader
from raftmq.raft.messages import AppendEntries, AppendReply, TimeoutNow
from raftmq.raft.node import RaftNode
from raftmq.raft.quorum import quorum_value
from raftmq.raft.read_index import ReadRounds
from raftmq.raft.types import EntryKind
from raftmq.replica.barriers import Barriers
from tests.mutants.table import Patch, mutant

AREA = "consensus"


@mutant(AREA)
def answer_before_sync(patch: Patch) -> None:
    """Votes and append answers leave before they are durable."""
    patch.setattr(Core, "send_after_persist", Core.send_now)


@mutant(AREA)
def leader_counts_itself_unsynced(patch: Patch) -> None:
    """A leader takes its own log for durable."""
    matched = Leader.match_index

    def match_index(self: Leader, member: Any) -> LogIndex:
        return self.core.log.last if member == self.core.me else matched(self, member)

    patch.setattr(Leader, "match_index", match_index)


@mutant(AREA)
def commit_earlier_terms_by_counting(patch: Patch) -> None:
    """An entry of an earlier term is committed because a majority holds it (figure 8 of the paper)."""

    def advance(self: Leader) -> None:
        reached = quorum_value(self.core.membership, self.match_index)
        if reached is not None and reached > self.core.commit_index:
            self.core.commit_to(LogIndex(reached))
            self.news = True

    patch.setattr(Leader, "_advance_commit", advance)


@mutant(AREA)
def no_first_entry(patch: Patch) -> None:
    """A new leader appends no entry of its own term, and waits for somebody else to."""
    patch.setattr(Leader, "start", lambda self: self.membership_changed())


@mutant(AREA)
def majority_is_half(patch: Patch) -> None:
    """Half of the voters decide."""
    patch.setattr(quorum, "majority", lambda voters: max(1, len(voters) // 2))


@mutant(AREA)
def truncate_on_a_short_append(patch: Patch) -> None:
    """Whatever lies behind the last entry of a message is cut, conflict or not."""
    take = Follower.on_append_entries

    def on_append(self: Follower, message: AppendEntries) -> None:
        end = message.prev_index + len(message.entries)
        log = self.core.log
        if message.entries and log.matches(message.prev_index, message.prev_term):
            cut = LogIndex(max(end, self.core.commit_index) + 1)
            if cut <= log.last:
                self.core.truncate(cut)
        take(self, message)

    patch.setitem(Follower.handlers, AppendEntries, on_append)


@mutant(AREA, "tests/raft/paper/test_5_3_replication.py", "test_5_3_the_consistency_check_refuses_and_hints")
def append_without_matching(patch: Patch) -> None:
    """A follower takes entries whatever the entry before them is."""
    take = Follower.on_append_entries

    def on_append(self: Follower, message: AppendEntries) -> None:
        term = self.core.log.term_at(message.prev_index)
        if term is not None and message.prev_index <= self.core.log.last and term <= message.term:
            message = AppendEntries(
                message.source, message.target, message.term, message.prev_index, term, message.entries,
                message.commit_index,
            )  # fmt: skip
        take(self, message)

    patch.setitem(Follower.handlers, AppendEntries, on_append)


@mutant(AREA, "tests/raft/paper/test_5_3_replication.py", "test_5_3_only_conflicting_entries_are_removed")
def keep_what_conflicts(patch: Patch) -> None:
    """A follower keeps its own entry where the leader has another one."""
    take = Follower._take

    def taking(self: Follower, entry: Any) -> None:
        if entry.index > self.core.log.last:
            take(self, entry)

    patch.setattr(Follower, "_take", taking)


@mutant(AREA, "tests/raft/test_checklist.py", "test_item_21_a_follower_commits_no_further_than_the_message_verified")
def commit_beyond_verified(patch: Patch) -> None:
    """A follower commits its own end as soon as the leader's commit index is there."""
    commit = Follower._commit
    patch.setattr(Follower, "_commit", lambda self, leader, verified: commit(self, leader, self.core.log.last))


@mutant(AREA, "tests/raft/paper/test_5_1_terms.py", "test_5_1_every_other_message_of_an_older_term_is_dropped")
def match_index_from_an_older_term(patch: Patch) -> None:
    """An answer to an append of an earlier term counts in this one."""
    step = RaftNode.step

    def stepping(self: RaftNode, message: Any, now: Any) -> None:
        role = self._core.role
        if isinstance(message, AppendReply) and message.term < self._core.term and isinstance(role, Leader):
            role.step(message)
        else:
            step(self, message, now)

    patch.setattr(RaftNode, "step", stepping)


@mutant(
    AREA, "tests/raft/paper/test_5_3_replication.py", "test_5_3_figure_7_every_follower_is_brought_to_the_leaders_log"
)
def refusal_counts_as_match(patch: Patch) -> None:
    """Where a follower's log may agree is taken for where it does."""
    take = Leader.on_append_reply

    def on_reply(self: Leader, reply: AppendReply) -> None:
        progress = self.replication.get(reply.source)
        if reply.rejected and progress is not None and reply.match_index <= self.core.log.last:
            progress.accepted(reply.match_index, self.core.log.start, self.core.now)
            self._advance_commit()
        else:
            take(self, reply)

    patch.setitem(Leader.handlers, AppendReply, on_reply)


@mutant(AREA)
def leader_rewrites_its_log(patch: Patch) -> None:
    """A new leader throws away what it does not know to be committed."""
    start = Leader.start

    def starting(self: Leader) -> None:
        if self.core.log.last > self.core.commit_index:
            self.core.truncate(LogIndex(self.core.commit_index + 1))
        self._first_index = LogIndex(self.core.log.last + 1)
        start(self)

    patch.setattr(Leader, "start", starting)


@mutant(AREA, "tests/raft/test_durability.py", "test_a_late_mark_does_not_vouch_for_entries_that_were_written_anew")
def old_mark_speaks_for_new_entries(patch: Patch) -> None:
    """A sync that was begun before a truncation vouches for what was appended after it."""

    def truncated(self: Durability, index: LogIndex) -> None:
        self.index = min(self.index, LogIndex(index - 1))

    patch.setattr(Durability, "truncated", truncated)


@mutant(AREA, "tests/replica/test_host.py", "test_the_latest_offset_needs_a_quorum")
def read_without_a_quorum(patch: Patch) -> None:
    """A leader takes its own word for being one."""
    patch.setattr(Barriers, "barrier", lambda self, group, now, done: done(True))


@mutant(AREA, "tests/raft/paper/test_8_reads.py", "test_8_an_answer_to_an_earlier_round_confirms_nothing_newer")
def read_round_reused(patch: Patch) -> None:
    """An answer to an earlier round confirms reads that were asked for after it."""
    confirm = ReadRounds.confirm
    patch.setattr(ReadRounds, "confirm", lambda self, number: confirm(self, self.newest if number else 0))


@mutant(AREA)
def serve_before_the_first_entry(patch: Patch) -> None:
    """A new leader answers before an entry of its own term is applied."""
    patch.setattr(Leader, "can_serve", property(lambda self: True))
    patch.setattr(Leader, "commits_own_term", property(lambda self: True))


@mutant(
    AREA,
    "tests/raft/paper/test_6_membership.py",
    "test_6_a_joint_configuration_commits_nothing_without_both_majorities",
)
def joint_quorum_of_the_new_half(patch: Patch) -> None:
    """In a joint configuration the incoming voters decide alone."""
    patch.setattr(quorum, "halves", lambda membership: (membership.voters,))


@mutant(
    AREA, "tests/raft/paper/test_6_membership.py", "test_4_1_the_published_bug_of_single_server_changes_does_not_happen"
)
def change_before_the_first_entry(patch: Patch) -> None:
    """A leader changes the configuration before an entry of its own term is committed."""
    patch.setattr(Leader, "commits_own_term", property(lambda self: True))


@mutant(
    AREA,
    "tests/raft/paper/test_dissertation_3_10_transfer.py",
    "test_3_10_a_target_that_lags_is_brought_up_to_date_first",
)
def transfer_to_a_lagging_replica(patch: Patch) -> None:
    """Leadership is handed to a replica that does not hold the whole log yet."""

    def hand_over(self: Leader) -> None:
        if self.transfer_target is not None:
            self.core.send_now(TimeoutNow(self.core.me, self.transfer_target, self.core.term))

    patch.setattr(Leader, "_hand_over", hand_over)


@mutant(
    AREA,
    "tests/raft/paper/test_dissertation_3_10_transfer.py",
    "test_3_10_proposals_are_refused_meanwhile_and_taken_again_when_it_fails",
)
def propose_during_a_transfer(patch: Patch) -> None:
    """A leader takes records while it hands over, so that the target never holds the whole log."""
    patch.setattr(Leader, "_refuse_in_transfer", lambda self: None)


@mutant(
    AREA,
    "tests/raft/paper/test_dissertation_9_6_prevote.py",
    "test_6_2_a_leader_without_a_quorum_steps_down_within_one_election_timeout",
)
def lead_without_a_quorum(patch: Patch) -> None:
    """A leader that hears from nobody goes on leading."""
    patch.setattr(Leader, "_has_quorum", lambda self: True)


@mutant(AREA)
def payload_lost_on_resend(patch: Patch) -> None:
    """An append that is repeated leaves out its first entry."""
    sent = RaftNode.sent

    def sending(self: RaftNode, order: Any, entries: Any) -> Any:
        message = sent(self, order, entries)
        if len(entries) > 2 and entries[0].kind is EntryKind.DATA:
            return AppendEntries(
                message.source, message.target, message.term, LogIndex(message.prev_index + 1), entries[0].term,
                message.entries[1:], message.commit_index,
            )  # fmt: skip
        return message

    patch.setattr(RaftNode, "sent", sending)
