"""Drives this node's replicas to what the metadata says: creates the missing, removes the deleted."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from raftmq.ids import CONTROLLER_GROUP, GroupId
from raftmq.metadata.depth import Overflow
from raftmq.metadata.image import MetadataImage, PartitionRecord, TopicRecord
from raftmq.partition.message_ids import Window
from raftmq.raft.types import Membership
from raftmq.records.topic_kinds import TopicKind
from raftmq.replica.manager import Replicas
from raftmq.replica.retention import Retention

_log = structlog.get_logger(__name__)


class Reconciler:
    """Acts only on an image that is *current* (``Replay``): one of the past shows topics that are long deleted, or none
    where there will be one. What a current image does not list is gone, and what it is the first to list is new: a
    disk that once lost rows cannot have lost one of *that* group.
    """

    def __init__(self, replicas: Replicas, is_current: Callable[[], bool]) -> None:
        self._replicas = replicas
        self._is_current = is_current
        self._done: MetadataImage | None = None
        self._new_from: GroupId | None = None
        """Groups from this number on were created after this process had a current image."""

    def follow(self, image: MetadataImage) -> None:
        """Compare and act. Idempotent; to be called whenever group 0 has made progress on this node."""
        if image is self._done or not self._is_current():
            return
        if self._new_from is None:
            self._new_from = image.next_group_id
        wanted = {
            partition.group: (topic, partition)
            for topic in image.topics.values()
            for partition in topic.partitions
            if self._replicas.me in partition.replicas or self._replicas.me in partition.replicas_after
        }
        running = self._replicas.groups
        for group_id in sorted(wanted.keys() - running.keys()):
            self._create(*wanted[group_id], is_new=group_id >= self._new_from)
        self._replicas.upkeep.retention = {
            group_id: Retention(topic.retention_ms, topic.retention_bytes)
            for group_id, (topic, _) in wanted.items()
            # What makes room in a full partition only says where its log starts: the entries go by retention.
            if topic.retention_ms
            or topic.retention_bytes
            or topic.depth.overflow is Overflow.DROP_OLDEST
            or topic.kind is not TopicKind.RECORDS
        }
        self._replicas.upkeep.windows = {
            group_id: Window(topic.message_id_window_count, topic.message_id_window_ms)
            for group_id, (topic, _) in sorted(wanted.items())
            if topic.message_id_window_count and topic.message_id_window_ms
        }
        for group_id in running:
            if group_id not in wanted and _is_gone(group_id, image):
                _log.info("removing replica", group=group_id)
                self._replicas.drop(group_id, lives_on=group_id in image.groups)
        leaders, departed = self._replicas.leaders, self._replicas.departed
        gone = [g for g in sorted({*leaders, *departed.groups}) if g not in image.groups and _is_gone(g, image)]
        departed.forget(gone)
        for group_id in gone:
            leaders.pop(group_id, None)
        self._done = image

    def _create(self, topic: TopicRecord, partition: PartitionRecord, is_new: bool) -> None:
        """Only ever for this node's very disk: assignments name node *and* store.

        Whoever comes later than the group's beginning has no configuration but those of the log, which it is sent. The
        first one, that a group begins with, is only for those whom it names.
        """
        me = self._replicas.me
        is_first = partition.moves == 0 and me in partition.replicas
        _log.info("creating replica", topic=topic.name, partition=partition.partition, group=partition.group)
        self._replicas.create(
            partition.group,
            Membership(frozenset(partition.replicas if is_first else ())),
            eager=is_first and partition.replicas[0] == me,
            is_new=is_new,
            kind=topic.kind,
        )


def _is_gone(group_id: GroupId, image: MetadataImage) -> bool:
    """For a group that `image` does not list here. A number that it has not given away yet says that it is not this
    node's metadata that the group came from: better keep too much."""
    return group_id != CONTROLLER_GROUP and group_id < image.next_group_id
