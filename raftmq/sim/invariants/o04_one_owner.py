"""O4: a partition has one owner: no two members are told to have it under one epoch, and whoever is given a record was
the last to be told so (KIP-848). Exceptions: where clocks are wrong a member may take its session for longer than its
coordinator does; whoever comes under an instance id takes its holder's place before that one can know; a group without
members and offsets is forgotten, and its epochs begin anew."""

from __future__ import annotations

from raftmq.groups.machine import GroupsMachine
from raftmq.sim.group_history import Given, Owns, Who
from raftmq.sim.invariants.base import Invariant, Sight
from raftmq.sim.oracle import Operation, Partition


class OneOwner(Invariant):
    name = "O4 one owner"
    sees_only_changes = True

    def __init__(self) -> None:
        self._told: dict[tuple[str, Partition, int], Who] = {}

    def ended(self, operation: Operation) -> None:
        match operation:
            case Owns(who, epoch, partition, is_remembered=True):
                other = self._told.setdefault((who.group, partition, epoch), who)
                self.require(other == who, f"{partition}: {other} and {who} have it under epoch {epoch}")
            case Given(who, partition, offset, owner, is_timely=True):
                self.require(
                    owner is not None and owner.who == who,
                    f"{partition}: {who} is given offset {offset}, and {owner} has it",
                )

    def saw(self, sight: Sight) -> None:
        machine = sight.group.machine
        if not isinstance(machine, GroupsMachine):
            return
        for name, group in machine.groups.items():
            for key, owner in group.owners.items():
                self.require(
                    owner.member_id in group.members and owner.since <= group.epoch,
                    f"{name}: {key} is owned by {owner}, of members {sorted(group.members)} in epoch {group.epoch}",
                )
            strangers = sorted({one for one in group.target.values() if one not in group.members})
            self.require(not strangers, f"{name}: {strangers} are to read, and are no members")
