"""Looks at what each step changed, and has the invariants judge it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from raftmq.ids import GroupId, LogIndex
from raftmq.ports import Frame
from raftmq.raft.types import Role
from raftmq.records.entry import LogEntry
from raftmq.replica.group import ReplicaGroup
from raftmq.sim.invariants import Invariant, Sight, all_invariants
from raftmq.sim.node import NodeProcess, SimNode
from raftmq.sim.oracle import Operation, Oracle
from raftmq.sim.retaining import Histories

FULL_EVERY = 256
"""Turns between two looks at everything."""


class Checker:
    """Keeps the last sight of every replica. Reads only what lives: a dead process is not looked at."""

    def __init__(self, nodes: dict[int, SimNode]) -> None:
        self.states: Counter[str] = Counter()
        """How often the run came through states that are worth reaching."""
        self.oracle = Oracle(self.ended)
        self._nodes = nodes
        self.histories = Histories()
        self._sights: dict[tuple[int, GroupId], Sight] = {}
        self._halted: set[ReplicaGroup] = set()
        self._turns = 0
        invariants = all_invariants(nodes, self.oracle)
        self.invariants = invariants
        self._saw = _overriding(invariants, "saw")
        self._saw_anyway = [one for one in self._saw if not one.sees_only_changes]
        self._booted = _overriding(invariants, "booted")
        self._sent = _overriding(invariants, "sent")
        self._ended = _overriding(invariants, "ended")

    def mute(self) -> None:
        """The run is over: what happens while it is taken apart means nothing."""
        self._saw = self._saw_anyway = self._booted = self._sent = self._ended = []

    # -- moments -----------------------------------------------------------------------------------------------------

    def booted(self, process: NodeProcess) -> None:
        """A process has read its disk: from here on its replicas are those of this process."""
        for key in [key for key in self._sights if key[0] == process.number]:
            del self._sights[key]
        for invariant in self._booted:
            invariant.booted(process)
        assert process.assembly is not None
        if process.node.store.identity.suspect:
            self.states["suspect disks"] += 1
        for row in process.node.store.replicas():
            if row.installing is not None:
                self.states["snapshots interrupted by a crash"] += 1

    def turned(self, process: NodeProcess, groups: set[GroupId]) -> None:
        """The process ran, and `groups` may have changed."""
        self._turns += 1
        assembly = process.assembly
        if groups and assembly is not None:
            for group_id in sorted(groups):
                group = assembly.replicas.group(group_id)
                if group is not None:
                    self._look(process, group)
        if self._turns % FULL_EVERY == 0:
            self.full()

    def sent(self, process: NodeProcess, frame: Frame) -> None:
        """A frame leaves a node."""
        for addressed in frame.messages:
            for invariant in self._sent:
                invariant.sent(process, addressed.group, addressed.message)

    def ended(self, operation: Operation) -> None:
        """A client's operation has ended."""
        for invariant in self._ended:
            invariant.ended(operation)

    def full(self) -> None:
        """Look at every replica of every process, touched or not."""
        for _, node in sorted(self._nodes.items()):
            process = node.process
            if process is None or process.assembly is None:
                continue
            for group in process.assembly.replicas.groups.values():
                self._look(process, group)
            for key in [key for key in self._sights if key[0] == node.number]:
                if process.assembly.replicas.group(key[1]) is None:
                    del self._sights[key]

    # -- looking -----------------------------------------------------------------------------------------------------

    def _look(self, process: NodeProcess, group: ReplicaGroup) -> None:
        if process.node.store.has_failed:
            return  # the process ends, and what it did not get written down is nobody's
        if group.halted is not None:
            self.require_running(process, group)
            return
        if group.is_out_of_service:
            return  # between two generations: neither is what it is
        key = process.number, group.id
        before = self._sights.get(key)
        shown = _shown(process, group)
        if before is not None and before.group is group and before.shown == shown:
            if self._saw_anyway:
                self._ask(self._saw_anyway, self._unchanged(before))
            return
        if before is None or before.group is not group:
            sight = self._first(process, group)
        elif before.generation != group.generation:
            sight = self._installed(process, group, before)
        else:
            node = group.node
            sight = Sight(
                process.node, process, group, node.role, node.term, node.last_index, node.commit_index,
                group.row.suspect, before, before.chains, before.terms, group.row.raft_start,
                group.generation,
            )  # fmt: skip
            self._compare(sight, before)
        sight.shown = shown
        self.histories.of(group.id).note(sight.commit, lambda index: self._entry(sight, index))
        self._sights[key] = sight
        self._count(sight, before)
        self._ask(self._saw, sight)

    @staticmethod
    def _ask(invariants: list[Invariant], sight: Sight) -> None:
        for invariant in invariants:
            invariant.saw(sight)
        sight.before = None  # one step back is enough

    @staticmethod
    def _unchanged(before: Sight) -> Sight:
        return replace(before, before=before, kept=before.last, entries=())

    def require_running(self, process: NodeProcess, group: ReplicaGroup) -> None:
        """A replica that halts does so for damage: there must have been some."""
        if process.node.store.corrupted:
            self._halted.add(group)
            self.states["replicas halted over damage"] = len(self._halted)
            return
        raise AssertionError(f"{process.name}: group {group.id} halted: {group.halted}")

    def _first(self, process: NodeProcess, group: ReplicaGroup) -> Sight:
        """All of the log: what the disk had when the replica was opened, and what came since."""
        stored = list(process.node.store.scan_headers(group.generation, group.row.raft_start))
        last = group.node.last_index
        entries: list[LogEntry] = []
        for index in range(group.row.raft_start, last + 1):
            entry = group.entry(LogIndex(index)) or stored[index - group.row.raft_start]
            entries.append(entry)
        chains, terms = self.histories.of(group.id).before(group)
        chains += [entry.chain for entry in entries]
        terms += [entry.term for entry in entries]
        node = group.node
        return Sight(
            process.node, process, group, node.role, node.term, last, node.commit_index, group.row.suspect, None,
            chains, terms, group.row.raft_start, group.generation, LogIndex(0), tuple(entries),
        )  # fmt: skip

    def _installed(self, process: NodeProcess, group: ReplicaGroup, before: Sight) -> Sight:
        """A snapshot took the place of the log."""
        sight = self._first(process, group)
        kept = min(before.last, sight.last)
        while sight.chains[kept] != before.chains[kept]:
            kept = LogIndex(kept - 1)
        sight.before, sight.kept = before, kept
        sight.entries = tuple(entry for entry in sight.entries if entry.index > kept)
        self.states["snapshots installed"] += 1
        assert process.assembly is not None
        if process.assembly.orders[group.id] != group.node.term:
            self.states["snapshots installed under a leader change"] += 1
        return sight

    def _entry(self, sight: Sight, index: LogIndex) -> LogEntry:
        """Of the log that was seen, payload and all."""
        group = sight.group
        if index < group.row.raft_start:
            return self.histories.of(group.id).entry(index)
        try:
            return group.entry(index) or sight.node.store.peek(group.generation, index)
        except IndexError:
            where = f"group {group.id} on {group.me}"
            raise AssertionError(f"{where}: entry {index} was appended, and no round was made for it") from None

    def _compare(self, sight: Sight, before: Sight) -> None:
        """Find what is new in the log, by its chain."""
        group, chains, terms = sight.group, sight.chains, sight.terms
        kept = min(before.last, sight.last)
        while kept > 0:
            entry = group.entry(LogIndex(kept))
            if entry is None or entry.chain == chains[kept]:
                break
            kept = LogIndex(kept - 1)
        if kept < before.last:
            self.states["truncations"] += 1
        if kept == sight.last and kept == before.last:
            sight.kept = LogIndex(kept)
            return
        del chains[kept + 1 :], terms[kept + 1 :]
        entries: list[LogEntry] = []
        for index in range(kept + 1, sight.last + 1):
            entry = self._entry(sight, LogIndex(index))
            entries.append(entry)
            chains.append(entry.chain)
            terms.append(entry.term)
        sight.kept, sight.entries = LogIndex(kept), tuple(entries)

    def _count(self, sight: Sight, before: Sight | None) -> None:
        if sight.role is Role.LEADER and not sight.was_leader:
            self.states["leaders elected"] += 1
            if sight.last - 1 > sight.commit:
                self.states["leader changes with uncommitted entries"] += 1
        if before is not None and before.is_suspect and not sight.is_suspect:
            self.states["suspect replicas cleared"] += 1
        if before is not None and sight.generation == before.generation and sight.start > before.start:
            self.states["trims applied"] += 1


def _shown(process: NodeProcess, group: ReplicaGroup) -> tuple[object, ...]:
    """All that can be seen of a replica: what is equal here has not changed. The row is replaced when anything in it
    changes, and the state machine's state goes by the index that it has applied."""
    node, machine, assembly = group.node, group.machine, process.assembly
    assert assembly is not None
    return (
        node.role, node.term, node.last_index, node.commit_index, group.end_chain, group.generation, group.row, machine,
        machine.applied_index, machine.log_start_offset, machine.next_offset, assembly.host.leader_of(group.id),
    )  # fmt: skip


def _overriding(invariants: list[Invariant], method: str) -> list[Invariant]:
    """Those that have something to say at this moment."""
    return [one for one in invariants if getattr(type(one), method) is not getattr(Invariant, method)]
