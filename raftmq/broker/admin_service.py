"""raftmq.v1.Admin: topics. Decided by the controller's leader, read from any node's picture."""

from __future__ import annotations

from raftmq.broker.deadlines import CallContext, duration_ms
from raftmq.broker.dispatch import Entry, Target
from raftmq.broker.view import View
from raftmq.errors import InvalidArgument
from raftmq.ids import CONTROLLER_GROUP
from raftmq.metadata.altering import AlterTopic
from raftmq.metadata.decisions import CreateTopic
from raftmq.metadata.depth import DepthWish
from raftmq.v1 import admin_pb2

TIMEOUT_DEFAULT_MS = 10_000
TIMEOUT_MAX_MS = 60_000
RETENTION_MAX_MS = 100 * 366 * 24 * 3600 * 1000


class AdminService:
    """The methods of ``raftmq.v1.Admin``."""

    def __init__(self, view: View) -> None:
        self._view = view

    def entries(self) -> dict[str, Entry]:
        """For the table of methods."""
        return {
            "Admin.CreateTopic": Entry(self.create_topic, reads=False, target=self._create_target),
            "Admin.AlterTopic": Entry(self.alter_topic, reads=False, target=self._named_target),
            "Admin.DeleteTopic": Entry(self.delete_topic, reads=False, target=self._named_target),
            "Admin.ListTopics": Entry(self.list_topics, reads=True),
            "Admin.DescribeTopic": Entry(self.describe_topic, reads=True),
        }

    @staticmethod
    def _create_target(request: admin_pb2.CreateTopicRequest) -> Target:
        if not request.name:
            raise InvalidArgument("names no topic", field="name")
        return Target(CONTROLLER_GROUP, _timeout_ms(request))

    async def create_topic(
        self, request: admin_pb2.CreateTopicRequest, context: CallContext
    ) -> admin_pb2.CreateTopicResponse:
        topic = await self._view.cluster.create_topic(
            CreateTopic(
                request.name,
                request.partitions,
                request.replication_factor,
                request.min_in_sync_replicas,
                request.max_batch_bytes,
                _retention_ms(request),
                request.retention_bytes,
                _window_ms(request),
                request.message_id_window_count,
                _depth(request).settled(),
            ),
            context.within(_timeout_ms(request)),
            validate_only=request.validate_only,
        )
        return admin_pb2.CreateTopicResponse(header=self._view.controller_header(), topic=self._view.topic_info(topic))

    @staticmethod
    def _named_target(request: admin_pb2.AlterTopicRequest | admin_pb2.DeleteTopicRequest) -> Target:
        if not request.name:
            raise InvalidArgument("names no topic", field="name")
        return Target(CONTROLLER_GROUP, TIMEOUT_DEFAULT_MS)

    async def alter_topic(
        self, request: admin_pb2.AlterTopicRequest, context: CallContext
    ) -> admin_pb2.AlterTopicResponse:
        topic = await self._view.cluster.alter_topic(
            _alteration(request), context.within(TIMEOUT_DEFAULT_MS), validate_only=request.validate_only
        )
        return admin_pb2.AlterTopicResponse(header=self._view.controller_header(), topic=self._view.topic_info(topic))

    async def delete_topic(
        self, request: admin_pb2.DeleteTopicRequest, context: CallContext
    ) -> admin_pb2.DeleteTopicResponse:
        await self._view.cluster.delete_topic(request.name, context.within(TIMEOUT_DEFAULT_MS))
        return admin_pb2.DeleteTopicResponse(header=self._view.controller_header())

    async def list_topics(
        self, request: admin_pb2.ListTopicsRequest, context: CallContext
    ) -> admin_pb2.ListTopicsResponse:
        """As this node knows them: never less than was committed when it started, never less than it told before."""
        await self._view.until_replayed(context)
        topics = self._view.topics(request.include_internal)
        return admin_pb2.ListTopicsResponse(header=self._view.controller_header(), topics=topics)

    async def describe_topic(
        self, request: admin_pb2.DescribeTopicRequest, _context: CallContext
    ) -> admin_pb2.DescribeTopicResponse:
        topic = self._view.topic(request.name, "name")
        return admin_pb2.DescribeTopicResponse(
            header=self._view.controller_header(), topic=self._view.topic_info(topic)
        )


def _alteration(request: admin_pb2.AlterTopicRequest) -> AlterTopic:
    def told(name: str) -> int | None:
        return getattr(request, name) if request.HasField(name) else None  # type: ignore[arg-type]

    return AlterTopic(
        name=request.name,
        min_in_sync_replicas=told("min_in_sync_replicas"),
        max_batch_bytes=told("max_batch_bytes"),
        retention_ms=_retention_ms(request) if request.HasField("retention") else None,
        retention_bytes=told("retention_bytes"),
        message_id_window_ms=_window_ms(request) if request.HasField("message_id_window") else None,
        message_id_window_count=told("message_id_window_count"),
        depth=_depth(request) if request.HasField("depth") else None,
        partitions=told("partitions"),
        replication_factor=told("replication_factor"),
        expected_version=request.expected_version,
    )


def _timeout_ms(request: admin_pb2.CreateTopicRequest) -> int:
    if not request.HasField("timeout"):
        return TIMEOUT_DEFAULT_MS
    return duration_ms(request.timeout, "timeout", low=1, high=TIMEOUT_MAX_MS)


def _retention_ms(request: admin_pb2.CreateTopicRequest | admin_pb2.AlterTopicRequest) -> int:
    """0: for ever."""
    if not request.HasField("retention"):
        return 0
    return duration_ms(request.retention, "retention", low=0, high=RETENTION_MAX_MS)


def _depth(request: admin_pb2.CreateTopicRequest | admin_pb2.AlterTopicRequest) -> DepthWish:
    wish = request.depth
    return DepthWish(
        wish.max_records if wish.HasField("max_records") else None,
        wish.max_bytes if wish.HasField("max_bytes") else None,
        duration_ms(wish.max_age, "depth.max_age", low=0, high=RETENTION_MAX_MS) if wish.HasField("max_age") else None,
        wish.overflow if wish.HasField("overflow") else None,
        wish.sample_one_in if wish.HasField("sample_one_in") else None,
    )


def _window_ms(request: admin_pb2.CreateTopicRequest | admin_pb2.AlterTopicRequest) -> int:
    """0: the default."""
    if not request.HasField("message_id_window"):
        return 0
    return duration_ms(request.message_id_window, "message_id_window", low=0, high=RETENTION_MAX_MS)
