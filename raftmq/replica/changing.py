"""A group's configuration, as its leader tells it and as it lets it be changed.

Who wants a change has looked first, and says what at: the change is refused where the configuration is another one by
then. Looking begins with a read barrier (``ReplicaHost.barrier``), so that a leader of the past tells nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from raftmq.errors import NotLeader, NotReady, PreconditionFailed
from raftmq.ids import GroupId, LogIndex, ReplicaId, Tick
from raftmq.raft import errors as raft
from raftmq.raft.types import Membership, Role
from raftmq.replica.manager import Replicas


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a leader knows of its group's members."""

    membership: Membership
    index: LogIndex
    """Of the entry that holds it; 0: the group began with it."""
    is_settled: bool
    """It is committed, as is an entry of the leader's own term: another may follow."""
    caught_up: tuple[ReplicaId, ...]
    """Members, learners among them, that hold what the log ended with a moment ago, on disks that can be believed."""
    match_index: dict[ReplicaId, LogIndex]
    last_index: LogIndex


def configuration(replicas: Replicas, group_id: GroupId, now: Tick) -> Configuration:
    """Raises NotLeader."""
    group = replicas.group(group_id)
    leadership = replicas.leadership(group_id)
    if group is None or leadership is None or not group.is_leader or not leadership.current:
        raise NotLeader("this node does not lead the group")
    status = group.node.status()
    match = {member: group.node.match_index(member) for member in sorted(status.membership.all)}
    floor = leadership.in_sync.floor(now)
    return Configuration(
        status.membership,
        status.membership_index,
        group.can_serve() and not status.membership.is_joint and status.membership_index <= status.commit_index,
        tuple(
            member
            for member in sorted(match)
            if match[member] >= floor
            and not group.node.member_suspect(member)
            and not replicas.heartbeats.is_dead(member)
        ),
        match,
        status.last_index,
    )


def change(replicas: Replicas, group_id: GroupId, expected: LogIndex, target: Membership, now: Tick) -> None:
    """Propose `target`; it is there when ``configuration`` says so.

    Raises NotLeader, PreconditionFailed (the configuration is not the one at `expected`), NotReady (not now).
    """
    group = replicas.group(group_id)
    if group is None or group.node.role is not Role.LEADER or group.halted is not None:
        raise NotLeader("this node does not lead the group")
    index = group.node.status().membership_index
    if index != expected:
        raise PreconditionFailed(f"the configuration is that of entry {index}, not {expected}", field="expected_index")
    group.node.set_clock(now)  # from when on newcomers are waited for
    try:
        group.node.change_membership(target)
    except raft.NotLeader as refusal:
        raise NotLeader(str(refusal)) from None
    except raft.RaftRefusal as refusal:
        raise NotReady(str(refusal)) from None
    replicas.touch(group_id)
