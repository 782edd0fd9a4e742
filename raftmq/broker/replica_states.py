"""What this node knows of the replicas it holds, in the words of the API. Asks nobody and needs no leader."""

from __future__ import annotations

from raftmq.ids import CONTROLLER_GROUP, LogIndex
from raftmq.metadata.image import MetadataImage
from raftmq.ports import StorageError, Store
from raftmq.raft.types import Role
from raftmq.replica.group import ReplicaGroup
from raftmq.v1 import cluster_pb2


def replica_state(group: ReplicaGroup, image: MetadataImage) -> cluster_pb2.ReplicaState:
    """Everything but the chain and the in-sync set. The controller's group, and a replica whose topic is gone from
    `image`, has no topic name."""
    status = group.node.status()
    found = image.partition(group.id) if group.id != CONTROLLER_GROUP else None
    leads = status.role is Role.LEADER
    return cluster_pb2.ReplicaState(
        topic="" if found is None else found[0].name,
        partition=0 if found is None else found[1].partition,
        group_id=group.id,
        role=status.role.value,
        term=status.term,
        leader_node_id=0 if status.leader is None else status.leader.node,
        last_index=status.last_index,
        persisted_index=status.persisted_index,
        commit_index=status.commit_index,
        applied_index=status.applied_index,
        log_start_offset=group.machine.log_start_offset,
        log_end_offset=group.end_offset,
        high_watermark=group.machine.next_offset,
        suspect=status.suspect,
        lag={member.node: max(0, status.last_index - peer.match_index) for member, peer in sorted(status.peers.items())}
        if leads
        else {},
    )


def chain_index(group: ReplicaGroup, wanted: LogIndex) -> LogIndex:
    """Where the chain is told: at `wanted` if the log reaches so far, else (and for 0) at the commit index."""
    return wanted if 0 < wanted <= group.node.last_index else group.node.commit_index


def chain_at(group: ReplicaGroup, index: LogIndex, store: Store) -> bytes | None:
    """The chain hash up to `index`; None where the log no longer, or not yet, reaches there.

    Reads one row from disk where the entry is not in memory: call it off the event loop.
    """
    if index == group.row.raft_start - 1:
        return group.row.anchor.chain
    entry = group.entry(index)
    if entry is not None:
        return entry.chain
    if index < group.row.raft_start:
        return None
    try:
        return store.read_entries(group.generation, index, index, 1)[0].chain
    except StorageError:
        # The replica may have been dropped or truncated meanwhile; damage is the pump's to find, and to act upon.
        return None
