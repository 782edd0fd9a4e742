"""Known bugs, put back from outside: the proof that the simulation finds what it is for.

Each is a function that patches the production code. ``seed`` is one that catches it, so that the test need not search.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from raftmq.controller.controller import Controller
from raftmq.controller.replay import Replay
from raftmq.errors import LeadershipLost, Outcome, RaftmqError
from raftmq.ids import LogIndex
from raftmq.partition import overlay, producers
from raftmq.partition.message_ids import MessageIdOverlay, MessageIdTable, Named, NamedBatch
from raftmq.partition.producers import Placement
from raftmq.raft import core as raft_core
from raftmq.raft import voting
from raftmq.raft.follower import Follower
from raftmq.raft.leader import Leader
from raftmq.raft.quorum import quorum_value
from raftmq.raft.types import HardState
from raftmq.replica.answers import row_of
from raftmq.replica.barriers import Barriers
from raftmq.replica.host import Bounds, ReplicaHost
from raftmq.replica.produce import Leadership

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Mutant:
    """``caught_by``: the failure must name one of these. ``seed`` catches it; None: too rare to search for here."""

    apply: Callable[[Patch], None]
    caught_by: tuple[str, ...]
    seed: int | None


def answer_before_sync(patch: Patch) -> None:
    """Votes and append answers leave before they are durable."""
    patch.setattr(raft_core.Core, "send_after_persist", raft_core.Core.send_now)


def leader_counts_itself_unsynced(patch: Patch) -> None:
    """A leader takes its own log for durable."""
    matched = Leader.match_index

    def match_index(self: Leader, member: Any) -> LogIndex:
        return self.core.log.last if member == self.core.me else matched(self, member)

    patch.setattr(Leader, "match_index", match_index)


def commit_earlier_terms_by_counting(patch: Patch) -> None:
    """Figure 8 of the paper."""

    def advance(self: Leader) -> None:
        reached = quorum_value(self.core.membership, self.match_index)
        if reached is not None and reached > self.core.commit_index:
            self.core.commit_to(LogIndex(reached))
            self.news = True

    patch.setattr(Leader, "_advance_commit", advance)


def forget_the_vote(patch: Patch) -> None:
    """A restart remembers the term and not the vote."""
    begin = raft_core.Core.__init__

    def init(self: Any, config: Any, me: Any, restored: Any, *rest: Any) -> None:
        begin(self, config, me, replace(restored, hard_state=HardState(restored.hard_state.term)), *rest)

    patch.setattr(raft_core.Core, "__init__", init)


def vote_twice(patch: Patch) -> None:
    """Whoever asks gets a vote, whoever got one before."""

    def vote_for(self: Any, candidate: Any) -> None:
        self.hard_state = HardState(self.term, candidate)

    answer = voting.answer

    def answering(core: Any, request: Any) -> None:
        if not request.pre_vote and request.term == core.term and core.leader is None:
            core.hard_state = HardState(core.term)
        answer(core, request)

    patch.setattr(raft_core.Core, "vote_for", vote_for)
    patch.setattr(voting, "answer", answering)


def truncate_on_a_short_append(patch: Patch) -> None:
    """Whatever lies behind the last entry of a message is cut, conflict or not."""
    take = Follower.on_append_entries

    def on_append(self: Follower, message: Any) -> None:
        end = message.prev_index + len(message.entries)
        log = self.core.log
        if message.entries and log.matches(message.prev_index, message.prev_term):
            cut = LogIndex(max(end, self.core.commit_index) + 1)
            if cut <= log.last:
                self.core.truncate(cut)
        take(self, message)

    patch.setitem(Follower.handlers, next(t for t in Follower.handlers if t.__name__ == "AppendEntries"), on_append)


def skip_deduplication(patch: Patch) -> None:
    """A batch whose sequence was used before is appended again."""
    decide = producers.decide

    def deciding(state: Any, batch: Any) -> Any:
        try:
            verdict = decide(state, batch)
        except RaftmqError:
            return producers.APPEND
        return producers.APPEND if isinstance(verdict, producers.Duplicate) else verdict

    patch.setattr(producers, "decide", deciding)
    patch.setattr(overlay, "decide", deciding)


def no_overlay(patch: Patch) -> None:
    """The leader forgets what it has appended and not yet committed."""
    patch.setattr(overlay.ProducerOverlay, "note", lambda self, batch, placement: None)


def watermark_above_commit(patch: Patch) -> None:
    """Consumers get whatever the leader has."""

    def bounds(self: ReplicaHost, group: Any) -> Bounds:
        return Bounds(group.machine.log_start_offset, group.end_offset, group.node.term)

    async def read(self: ReplicaHost, group: Any, offset: Any, max_bytes: int, hold: Any) -> Any:
        held = group.tail.batches(offset, group.end_offset, max_bytes)
        return [row_of(entry) for entry in held or []]

    patch.setattr(ReplicaHost, "_bounds", bounds)
    patch.setattr(ReplicaHost, "_read", read)


def read_without_a_quorum(patch: Patch) -> None:
    """A leader takes its own word for being one."""

    def barrier(self: Barriers, group: Any, now: Any, done: Callable[[bool], None]) -> None:
        done(True)

    patch.setattr(Barriers, "barrier", barrier)


def suspect_votes(patch: Patch) -> None:
    """A disk that lost what it synced goes on as if it had not."""
    begin = raft_core.Core.__init__

    def init(self: Any, config: Any, me: Any, restored: Any, *rest: Any) -> None:
        begin(self, config, me, replace(restored, suspect=False), *rest)

    patch.setattr(raft_core.Core, "__init__", init)


def unknown_told_as_not_applied(patch: Patch) -> None:
    """A producer whose leader was deposed is told that nothing happened."""
    patch.setattr(LeadershipLost, "default_outcome", Outcome.NOT_APPLIED)
    begin = LeadershipLost.__init__

    def init(self: Any, message: str, **more: Any) -> None:
        more.pop("outcome", None)
        begin(self, message, outcome=Outcome.NOT_APPLIED, **more)

    patch.setattr(LeadershipLost, "__init__", init)


def decide_on_an_old_image(patch: Patch) -> None:
    """The controller decides before everything in its log is applied."""

    async def at_once(self: Controller, deadline: float) -> None:
        self._leading()

    patch.setattr(Controller, "_caught_up", at_once)


def reconcile_by_the_past(patch: Patch) -> None:
    """Replicas are created and removed while the log of the metadata is still being replayed."""
    patch.setattr(Replay, "is_current", lambda self: True)


def acknowledge_on_append(patch: Patch) -> None:
    """A record is acknowledged as soon as the leader's disk has it, whatever was asked for."""
    end = Leadership._end

    def ending(self: Leadership, acks: Any, index: LogIndex, now: Any) -> None:
        end(self, acks, self.group.node.match_index(self.group.me), now)

    patch.setattr(Leadership, "_end", ending)


def forget_message_ids(patch: Patch) -> None:
    """An id leads to nothing, neither in the table nor in what is under way."""

    def remember(self: MessageIdTable, batch: Named, placement: Placement) -> NamedBatch:
        remembered = self._batches[batch.message_id] = NamedBatch.of(self.total, batch, placement)
        self.total += 1
        return remembered

    patch.setattr(MessageIdTable, "remember", remember)
    for kind in (MessageIdTable, MessageIdOverlay):
        patch.setattr(kind, "find", lambda self, batch, log_tick: None)


MUTANTS: dict[str, Mutant] = {
    "answer before sync": Mutant(answer_before_sync, ("R9",), 0),
    "leader counts itself unsynced": Mutant(leader_counts_itself_unsynced, ("R6", "R9", "L15"), 1),
    "commit earlier terms by counting": Mutant(commit_earlier_terms_by_counting, ("R10",), 0),
    "forget the vote": Mutant(forget_the_vote, ("R7", "R1"), None),
    "vote twice": Mutant(vote_twice, ("R7", "R1"), 1),
    "truncate on a short append": Mutant(truncate_on_a_short_append, ("R4", "R5", "R6", "L15", "L3"), None),
    "skip deduplication": Mutant(skip_deduplication, ("L2", "L7", "halted"), 0),
    "no overlay": Mutant(no_overlay, ("halted", "L2", "L7"), None),
    "watermark above commit": Mutant(watermark_above_commit, ("L9", "L1", "L10", "final read"), 0),
    "read without a quorum": Mutant(read_without_a_quorum, ("L10",), 37),
    "a suspect votes": Mutant(suspect_votes, ("R4", "R5", "R7", "R8", "L3"), 44),
    "unknown told as not applied": Mutant(unknown_told_as_not_applied, ("L5", "L2"), None),
    "decide on an old image": Mutant(decide_on_an_old_image, ("halted", "C2"), 6),
    "reconcile by the past": Mutant(reconcile_by_the_past, ("R7", "R8"), None),
    "forget message ids": Mutant(forget_message_ids, ("duplicate=", "L2"), 4),
    "acknowledge on append": Mutant(acknowledge_on_append, ("L15", "L3", "L1"), 0),
}
