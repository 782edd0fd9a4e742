"""R9: nothing is answered before the sync that covers it: a vote is on disk before it is told, and so is every entry
that an append reply claims (Raft, figure 2: "persistent state, updated before responding").

No exception. A snapshot makes a new generation of the log, and a replica that comes back to a disk is one, too: what is
durable is kept by generation, and the row says which one counts, so that what one of them held never answers for
another."""

from __future__ import annotations

from raftmq.ids import GroupId
from raftmq.raft.messages import AppendReply, Message, RequestVote, VoteReply
from raftmq.sim.invariants.base import Invariant
from raftmq.sim.node import NodeProcess


class DurableFirst(Invariant):
    name = "R9 durable before answered"

    def sent(self, process: NodeProcess, group: GroupId, message: Message) -> None:
        if isinstance(message, AppendReply):
            if not message.rejected:
                self._entries(process, group, message)
        elif isinstance(message, RequestVote):
            if not message.pre_vote:
                self._term(process, group, message)
        elif isinstance(message, VoteReply) and not message.pre_vote:
            row = self._term(process, group, message)
            if message.granted and row is not None and row.hard_state.term == message.term:
                self.require(
                    row.hard_state.vote == message.target,
                    f"group {group}: {message.source} tells of a vote for {message.target}, its disk says "
                    f"{row.hard_state.vote}",
                )

    def _term(self, process: NodeProcess, group: GroupId, message: Message):  # type: ignore[no-untyped-def]
        row = process.node.durable.rows.get(group)
        if row is None or row.hard_state.term < message.term:
            self.violated(
                f"group {group}: {message.source} speaks in term {message.term}, its disk says "
                f"{None if row is None else row.hard_state.term}"
            )
        return row

    def _entries(self, process: NodeProcess, group: GroupId, message: AppendReply) -> None:
        durable = process.node.durable
        row = durable.rows.get(group)
        held = 0 if row is None else durable.last.get(row.generation, 0)
        if message.match_index > held:
            self.violated(
                f"group {group}: {message.source} claims to hold entry {message.match_index}, its disk ends at {held}"
            )
