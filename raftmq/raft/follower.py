"""A follower: takes what its leader sends, and asks for an election when it hears none (Raft, section 5)."""

from __future__ import annotations

from typing import ClassVar

from raftmq.ids import LogIndex, ReplicaId, Term, Tick
from raftmq.raft.core import Core
from raftmq.raft.messages import (
    AppendEntries,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    TimeoutNow,
)
from raftmq.raft.roles import RoleBehaviour
from raftmq.raft.types import Entry, Role


class Follower(RoleBehaviour):
    """Also the role of learners, of replicas outside the configuration, and of suspects: those never campaign."""

    role: ClassVar[Role] = Role.FOLLOWER

    def tick(self) -> None:
        core = self.core
        if not core.may_campaign or core.now < core.election_deadline:
            return
        core.merge_leader_contact()
        if core.now >= core.election_deadline:
            core.roles.pre_campaign()

    def deadline(self) -> Tick | None:
        return self.core.election_deadline if self.core.may_campaign else None

    def leans_on(self, since: Tick) -> list[ReplicaId]:
        core = self.core
        leader = core.leader
        return [leader] if leader is not None and core.is_patient and core.host_contact(leader) >= since else []

    # -- from the leader -----------------------------------------------------------------------------------------

    def on_append_entries(self, message: AppendEntries) -> None:
        core = self.core
        core.heard_leader(message.source)
        core.heard_commit = LogIndex(max(core.heard_commit or 0, message.commit_index))
        if message.prev_index > core.log.last or (
            message.prev_index >= core.log.start - 1 and not core.log.matches(message.prev_index, message.prev_term)
        ):
            hint, hint_term = core.log.conflict_hint(message.prev_index, message.prev_term)
            self._reply(message, hint, rejected=True, prev_index=message.prev_index, hint_term=hint_term)
            return
        for entry in message.entries:
            self._take(entry)
        verified = LogIndex(message.prev_index + len(message.entries))
        self._commit(message.commit_index, verified)
        if core.suspect:
            self._clear_suspicion(message, verified)
        self._reply(message, verified)

    def _take(self, entry: Entry) -> None:
        """Append `entry` unless it is here. Only a different term at its index is a conflict: a message that is
        short, late or doubled says nothing about what follows its last entry, so nothing is cut on its account.
        """
        log = self.core.log
        if entry.index < log.start or log.matches(entry.index, entry.term):
            return
        if entry.index <= log.last:
            self.core.truncate(entry.index)
        self.core.append(entry)

    def _commit(self, leader_commit: LogIndex, verified: LogIndex) -> None:
        """The leader's commit index, but no further than this message has shown the logs to be equal."""
        index = min(leader_commit, verified)
        if index > self.core.commit_index:
            self.core.commit_to(index)

    def _clear_suspicion(self, message: AppendEntries, verified: LogIndex) -> None:
        """A suspect never voted in this term (the host raised it above every vote), so this leader was elected
        without it, after the loss, and holds every committed entry. Once the leader has committed an entry of
        its own term, its commit index covers all of them; once this log is verified up to there, nothing that
        was lost is missing any more.
        """
        commit = message.commit_index
        if commit <= verified and self.core.log.matches(commit, message.term):
            self.core.suspect = False

    def _reply(
        self,
        message: AppendEntries | InstallSnapshot,
        match_index: LogIndex,
        rejected: bool = False,
        prev_index: LogIndex = LogIndex(0),
        hint_term: Term = Term(0),
    ) -> None:
        core = self.core
        reply = AppendReply(
            core.me,
            message.source,
            core.term,
            match_index,
            rejected,
            prev_index,
            hint_term,
            suspect=core.suspect,
            commit_index=core.commit_index,
            admission=message.admission,
        )
        core.send_after_persist(reply)

    def on_heartbeat(self, message: Heartbeat) -> None:
        """The leader has capped the commit index by what this replica acknowledged to it in this term."""
        core = self.core
        core.heard_leader(message.source)
        self._commit(message.commit_index, core.log.last)
        core.send_after_persist(HeartbeatReply(core.me, message.source, core.term, message.round))

    def on_install_snapshot(self, message: InstallSnapshot) -> None:
        core, meta = self.core, message.snapshot
        core.heard_leader(message.source)
        core.snapshot_ordered_in = (message.term, message.admission)
        if core.wants_snapshot(meta):
            core.outbox.snapshot = core.completed(meta)
            # What is committed here is in the leader's log too. If that reaches back so far after all (a snapshot was
            # installed, and the news of it got lost), appends will do.
            self._reply(message, core.commit_index)
            return
        if meta.index > core.commit_index:
            core.commit_to(meta.index)
        self._reply(message, meta.index)

    def on_timeout_now(self, message: TimeoutNow) -> None:
        """The leader hands over: no pre-vote, because its answer is known (dissertation, section 3.10)."""
        core = self.core
        if core.leader == message.source and core.may_campaign:
            core.roles.campaign(transfer=True)

    handlers: ClassVar = {
        AppendEntries: on_append_entries,
        Heartbeat: on_heartbeat,
        InstallSnapshot: on_install_snapshot,
        TimeoutNow: on_timeout_now,
    }


def snapshot_reply(core: Core, index: LogIndex) -> None:
    """Tell the leader that the snapshot it ordered is installed. Another leader than the one that ordered it learns it
    when it asks."""
    if core.leader is not None and core.leader != core.me:
        term, admission = core.snapshot_ordered_in
        reply = AppendReply(
            core.me,
            core.leader,
            core.term,
            index,
            suspect=core.suspect,
            commit_index=core.commit_index,
            admission=admission if term == core.term else 0,
        )
        core.send_after_persist(reply)
