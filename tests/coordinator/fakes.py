"""Raft groups of consumer groups without Raft: what is proposed is committed and applied at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

from raftmq.errors import NotLeader, RaftmqError
from raftmq.groups.machine import GroupsMachine
from raftmq.ids import GroupId, LogIndex, Offset, Term, Tick
from raftmq.raft.types import EntryKind
from raftmq.records.entry import CHAIN_BYTES, LogEntry, seal
from raftmq.replica.group import ReplicaGroup
from raftmq.replica.sealing import Draft


class ManualClock:
    """Stands still until it is put forward."""

    def __init__(self) -> None:
        self.now = 1_000_000

    def tick(self) -> Tick:
        return Tick(self.now)

    def wall_ms(self) -> int:
        return 1_700_000_000_000 + self.now


def entry(machine: GroupsMachine, inline: bytes, *, tick: int = 0, version: int = 1) -> LogEntry:
    """The next command of the machine's log, made at the log tick `tick` if that is later than the last one."""
    tick = max(tick, machine.log_tick)
    return seal(
        previous_chain=bytes(CHAIN_BYTES),
        index=LogIndex(machine.applied_index + 1),
        term=Term(1),
        kind=EntryKind.COMMAND,
        version=version,
        base_offset=Offset(0),
        count=0,
        log_tick=tick,
        wall_ms=1_700_000_000_000 + tick,
        inline=inline,
    )


@dataclass
class _Node:
    term: Term = Term(1)


@dataclass
class FakeRaftGroup:
    """One replica of a Raft group."""

    id: GroupId
    leads: Callable[[GroupId], bool]
    machine: GroupsMachine = field(default_factory=GroupsMachine)
    node: _Node = field(default_factory=_Node)

    @property
    def is_leader(self) -> bool:
        return self.leads(self.id)

    def can_serve(self) -> bool:
        return self.is_leader

    def stamp(self, now: Tick, wall_ms: int) -> tuple[int, int]:
        return now, wall_ms


class GroupsHost:
    """`leads`: of which Raft groups. A group exists once it is asked for."""

    def __init__(self, leads: Callable[[GroupId], bool] = lambda _: True) -> None:
        self.replicas = self
        self.held: dict[GroupId, FakeRaftGroup] = {}
        self.entries = 0
        self.barriers = 0
        self.errors: list[RaftmqError] = []
        """What the next commands end with, after they have been applied."""
        self._leads = leads

    @property
    def led(self) -> Mapping[GroupId, ReplicaGroup]:
        return cast("Mapping[GroupId, ReplicaGroup]", self.held)

    def group(self, group_id: GroupId) -> ReplicaGroup | None:
        if group_id not in self.held:
            self.held[group_id] = FakeRaftGroup(group_id, self._leads)
        return cast(ReplicaGroup, self.held[group_id])

    async def barrier(self, group_id: GroupId, timeout_ms: int) -> None:
        self.barriers += 1
        if not self._leads(group_id):
            raise NotLeader("this node does not lead the group")

    async def command(self, group_id: GroupId, draft: Draft, timeout_ms: int) -> object:
        machine = self.held[group_id].machine
        assert draft.stamp is not None
        self.entries += 1
        result = machine.apply(entry(machine, draft.inline, tick=draft.stamp[0], version=draft.version))
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop(0)
        return result
