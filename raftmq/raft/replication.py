"""What a leader sends to its members: append orders, heartbeats, orders to fetch a snapshot, and repetitions."""

from __future__ import annotations

from collections.abc import Iterator

from raftmq.ids import LogIndex, ReplicaId, Tick
from raftmq.raft.core import Core
from raftmq.raft.messages import AppendEntries, AppendOrder, Heartbeat, InstallSnapshot
from raftmq.raft.progress import Progress
from raftmq.raft.types import Entry, SnapshotMeta


class Replication:
    """The members of one leader's term, each with its progress."""

    __slots__ = ("_admissions", "_core", "_progress")

    def __init__(self, core: Core) -> None:
        self._core = core
        # Invariant: exactly the members of the present configuration but this replica, in order of their ids.
        self._progress: dict[ReplicaId, Progress] = {}
        self._admissions = -1

    def membership_changed(self) -> None:
        """Newcomers are probed at the end of the log; they say themselves how far back it must go."""
        core, known = self._core, self._progress
        self._admissions += 1  # the first time these are no newcomers: all of them have number 0
        self._progress = {
            member: known.get(member)
            or Progress(core.config, LogIndex(core.log.last + 1), core.now, admission=self._admissions)
            for member in core.others(core.membership.all)
        }

    def get(self, member: ReplicaId) -> Progress | None:
        return self._progress.get(member)

    def items(self) -> Iterator[tuple[ReplicaId, Progress]]:
        return iter(self._progress.items())

    # -- appends: ordered here, filled and sent by the host ------------------------------------------------------

    def targets(self) -> list[ReplicaId]:
        log, commit, now = self._core.log, self._core.commit_index, self._core.now
        return [member for member, p in self.items() if p.may_send(log.last, commit, now)]

    def next_append(self, member: ReplicaId) -> AppendOrder | None:
        """The next message for `member`. One that needs what the log no longer has is told to fetch a snapshot."""
        core, progress = self._core, self._progress.get(member)
        if progress is None or not progress.may_send(core.log.last, core.commit_index, core.now):
            return None
        first = progress.next_index
        prev = LogIndex(first - 1)
        prev_term = core.log.term_at(prev)
        if prev_term is None:
            self._order_snapshot(member, progress)
            return None
        last = core.log.last if progress.wants_entries else prev
        return AppendOrder(
            target=member,
            term=core.term,
            prev_index=prev,
            prev_term=prev_term,
            first=first,
            last=last,
            runs=core.log.runs_between(first, last),
            max_bytes=core.config.max_append_bytes,
            commit_index=core.commit_index,
        )

    def committed(self) -> None:
        """The commit index rose."""
        for progress in self._progress.values():
            progress.committed(self._core.now)

    def sent(self, order: AppendOrder, entries: tuple[Entry, ...]) -> AppendEntries:
        """The host has filled `order` with `entries` (all of the range or its beginning)."""
        core, progress = self._core, self._progress[order.target]
        last = LogIndex(order.prev_index + len(entries))
        assert (order.term, order.first) == (core.term, progress.next_index), "the order is out of date"
        assert bool(entries) == (order.first <= order.last), "an order is filled with one entry at least"
        assert last <= order.last, "more entries than were ordered"
        for index, entry in enumerate(entries, order.first):
            assert entry.index == index, f"expected entry {index}, got {entry.index}"
            assert core.log.matches(entry.index, entry.term), f"entry {index} is of another log"
        progress.sent(last, sum(entry.size for entry in entries), order.commit_index, core.now)
        return AppendEntries(
            core.me,
            order.target,
            core.term,
            order.prev_index,
            order.prev_term,
            entries,
            order.commit_index,
            progress.admission,
        )

    # -- snapshots -----------------------------------------------------------------------------------------------

    def _order_snapshot(self, member: ReplicaId, progress: Progress) -> None:
        """Name what this replica can vouch for: its applied state. The bytes may come from any member."""
        core = self._core
        index = core.applied_index
        term, membership = core.log.term_at(index), core.memberships.at(index)
        if term is None or membership is None:
            return  # right after a restart the applied state is older than what is known of it: it catches up
        progress.snapshot_ordered(index, core.now)
        meta = SnapshotMeta(index, term, membership)
        core.send_now(InstallSnapshot(core.me, member, core.term, meta, progress.admission))

    # -- time ----------------------------------------------------------------------------------------------------

    def retry_at(self) -> Tick | None:
        commit = self._core.commit_index
        due = (progress.retry_at(commit) for progress in self._progress.values())
        return min((at for at in due if at is not None), default=None)

    @property
    def snapshot_due(self) -> bool:
        """Somebody is to be told anew to fetch a snapshot, at the next ``retry``, whenever that is."""
        return any(progress.snapshot_due for progress in self._progress.values())

    def retry(self) -> bool:
        """Give up waiting for answers that are overdue. Returns whether there is something to append."""
        core, found = self._core, False
        for member, progress in self.items():
            found |= progress.retry(core.commit_index, core.now)
            if progress.snapshot_due:
                self._order_snapshot(member, progress)
        return found

    def heartbeat(self, round_number: int, unanswered_only: bool = False) -> None:
        """Tell every member that its leader lives. The commit index is capped by what the member acknowledged:
        beyond that, what it holds may not be the leader's log."""
        core = self._core
        for member, progress in self.items():
            if unanswered_only and progress.round_acked >= round_number:
                continue
            commit = LogIndex(min(core.commit_index, progress.match_index))
            core.send_now(Heartbeat(core.me, member, core.term, commit, round_number))
