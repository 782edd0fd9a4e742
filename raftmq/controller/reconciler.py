"""Drives this node's replicas to what the metadata says: creates the missing, removes the deleted."""

from __future__ import annotations

import structlog

from raftmq.ids import CONTROLLER_GROUP
from raftmq.metadata.image import MetadataImage
from raftmq.raft.types import Membership
from raftmq.replica.manager import Replicas

_log = structlog.get_logger(__name__)


def reconcile(image: MetadataImage, replicas: Replicas) -> None:
    """Compare and act. Idempotent; called whenever the image changed.

    A replica is created only for this node's very disk (node *and* store id), and removed only when the image has
    allocated its group's number and no longer lists the group: an image that is still being replayed after a restart
    does not know yet what it will know, and must not cost a replica.
    """
    running = replicas.groups
    wanted = {
        partition.group: (topic, partition)
        for topic in image.topics.values()
        for partition in topic.partitions
        if replicas.me in partition.replicas
    }
    for group_id, (topic, partition) in sorted(wanted.items()):
        if group_id not in running:
            _log.info("creating replica", topic=topic.name, partition=partition.partition, group=group_id)
            eager = partition.replicas[0] == replicas.me
            replicas.create(group_id, Membership(frozenset(partition.replicas)), eager)
    for group_id in running:
        if group_id != CONTROLLER_GROUP and group_id not in wanted and group_id < image.next_group_id:
            _log.info("removing replica", group=group_id)
            replicas.drop(group_id)
