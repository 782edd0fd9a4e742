"""Turning the core's append orders into messages: from memory, or read back from disk for a follower that is behind."""

from __future__ import annotations

from raftmq.ids import GroupId, LogIndex, ReplicaId, Term
from raftmq.ports import Channel, GroupMessage
from raftmq.raft.messages import AppendEntries, AppendOrder
from raftmq.raft.node import RaftNode
from raftmq.raft.types import Entry, EntryKind, Membership, Role
from raftmq.records.entry import CorruptEntry, LogEntry
from raftmq.records.membership_codec import decode_membership
from raftmq.replica.outbox import Outbox
from raftmq.replica.readback import ReadBack
from raftmq.replica.tail import Tail


class Replication:
    """The leader's side of one group. Followers near the log's end get entries on the RAFT channel, others on BULK."""

    def __init__(self, node: RaftNode, tail: Tail, read_back: ReadBack) -> None:
        self._node = node
        self._tail = tail
        self._read_back = read_back
        self._bulk_until: dict[ReplicaId, LogIndex] = {}

    def start_term(self) -> None:
        """This node has become leader."""
        self._bulk_until.clear()

    def forget(self, member: ReplicaId) -> None:
        """Nothing that is under way to `member` is counted on any more, so nothing can be overtaken."""
        self._bulk_until.pop(member, None)

    def fill(self, group: GroupId, outbox: Outbox) -> None:
        """Send everything that the core wants sent and that is at hand; order the rest to be read."""
        for target in list(self._node.append_targets()):
            while (order := self._node.next_append(target)) is not None:
                message = self._message(order, outbox)
                if message is None:
                    break
                outbox.send(target.node, GroupMessage(group, message[0]), message[1])
        if self._read_back:
            self._drop_spent()

    def _message(self, order: AppendOrder, outbox: Outbox) -> tuple[AppendEntries, Channel] | None:
        if order.first > order.last:
            return self._append(order, ()), self._channel(order.target, order.prev_index, from_disk=False)
        entries = self._tail.range(order.first, order.last, order.max_bytes)
        from_disk = not entries
        if from_disk:
            entries = self._read_back.range(order.target, order.first, order.last, order.max_bytes)
        if not entries:
            # Only what the disk surely has: the rest is in the tail.
            self._read_back.order(
                order.target, order.first, min(order.last, LogIndex(self._tail.first_index - 1)), outbox
            )
            return None
        return self._append(order, entries), self._channel(order.target, entries[-1].index, from_disk)

    def _append(self, order: AppendOrder, entries: tuple[LogEntry, ...]) -> AppendEntries:
        _check_runs(order, entries)
        return self._node.sent(
            order, tuple(Entry(e.index, e.term, e.kind, e, e.size, _membership_of(e)) for e in entries)
        )

    def _channel(self, target: ReplicaId, last: LogIndex, from_disk: bool) -> Channel:
        """Appends of one follower must not overtake each other: back to RAFT only when nothing of BULK is under way."""
        until = self._bulk_until.get(target)
        if not from_disk:
            if until is None:
                return Channel.RAFT
            if self._node.match_index(target) >= until:
                del self._bulk_until[target]
                return Channel.RAFT
        self._bulk_until[target] = last if until is None else max(until, last)
        return Channel.BULK

    def _drop_spent(self) -> None:
        """What was read from disk stays only as long as its follower has yet to get it."""
        leads = self._node.role is Role.LEADER
        for reader in self._read_back.readers:
            if reader is None:
                continue
            if leads:
                self._read_back.spent(reader, self._node.match_index(reader))
            else:
                self._read_back.forget(reader)


def _check_runs(order: AppendOrder, entries: tuple[LogEntry, ...]) -> None:
    """Each entry must be the one that the core means: an index alone does not say so."""
    runs = [*order.runs, (Term(0), LogIndex(order.last + 1))]
    position = 0
    for entry in entries:
        while entry.index >= runs[position + 1][1]:
            position += 1
        if entry.term != runs[position][0]:
            raise CorruptEntry(
                f"entry {entry.index} read back is of term {entry.term}, the log has term {runs[position][0]} there"
            )


def _membership_of(entry: LogEntry) -> Membership | None:
    return decode_membership(entry.inline) if entry.kind is EntryKind.MEMBERSHIP else None
