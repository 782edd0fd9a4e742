"""Queue groups on one node: the controller's leader decides, every node knows the outcome from its own image."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from raftmq.errors import DeadlineExceeded, Outcome, UnknownQueueGroup
from raftmq.internal.v1 import storage_pb2
from raftmq.metadata import queue_groups
from raftmq.metadata.events import Event
from raftmq.metadata.image import MetadataImage
from raftmq.metadata.queue_groups import QueueGroupRecord, QueueSettings, SetQueueGroup, find

if TYPE_CHECKING:
    from raftmq.controller.controller import Controller

ENSURE_QUEUE_GROUP = "raftmq.controller/EnsureQueueGroup"


class QueueGroups:
    """What `controller` does about queue groups. To be asked of the controller's leader, but for ``ensure``."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def known(self, topic: str, name: str) -> QueueGroupRecord | None:
        """The group as this node knows it."""
        image = self._controller.image
        record = image.topics.get(topic)
        return None if record is None else find(image.queue_groups, record.topic_id, name)

    async def set(self, wish: SetQueueGroup, timeout_ms: int, *, validate_only: bool = False) -> QueueGroupRecord:
        """Make a group or alter it; returns it as it is then. Raises as ``decide``, and what is wrong with `wish`."""
        if validate_only:
            return _found(self._controller.replayed(_set(self._controller.image, wish)), wish)
        await self._controller.decide(lambda image: _set(image, wish), timeout_ms)
        return _found(self._controller.image, wish)

    async def delete(self, topic: str, name: str, timeout_ms: int) -> None:
        """Raises as ``decide``, UnknownTopic, UnknownQueueGroup."""

        def decided(image: MetadataImage) -> list[Event]:
            record = image.topics.get(topic)
            topic_id = None if record is None else record.topic_id
            return [*queue_groups.delete_group(topic_id, image.queue_groups, topic, name)]

        await self._controller.decide(decided, timeout_ms)

    async def ensure(self, topic: str, name: str, timeout_ms: int) -> QueueGroupRecord:
        """The group, made with the defaults if there is none yet. Works on any node; returns when this one knows it.

        Raises InvalidArgument, UnknownTopic, NoLeader, DeadlineExceeded.
        """
        found = self.known(topic, name)
        if found is not None:
            return found
        queue_groups.check_group_name(name)
        deadline = asyncio.get_running_loop().time() + timeout_ms / 1000
        request = storage_pb2.EnsureQueueGroup(topic=topic, name=name).SerializeToString()
        await self._controller.patiently(ENSURE_QUEUE_GROUP, request, timeout_ms)
        try:
            async with asyncio.timeout_at(deadline):
                while (found := self.known(topic, name)) is None:
                    await self._controller.news()
        except TimeoutError:
            raise DeadlineExceeded(
                f"group {name} is made, but this node has not heard of it yet", outcome=Outcome.NOT_APPLIED
            ) from None
        return found

    async def answer(self, request: bytes, timeout_ms: int) -> bytes:
        """What another node's ``ensure`` asks of the leader."""
        asked = storage_pb2.EnsureQueueGroup.FromString(request)
        wish = SetQueueGroup(asked.topic, asked.name, QueueSettings(), only_new=True)
        await self._controller.decide(lambda image: _set(image, wish), timeout_ms)
        return b""


def _set(image: MetadataImage, wish: SetQueueGroup) -> list[Event]:
    topic = image.topics.get(wish.topic)
    topic_id = None if topic is None else topic.topic_id
    decided = queue_groups.set_group(topic_id, image.queue_groups, image.next_queue_group_id, wish)
    queue_groups.check_dead_letters(wish, image.topics)
    return [*decided]


def _found(image: MetadataImage, wish: SetQueueGroup) -> QueueGroupRecord:
    topic = image.topics.get(wish.topic)
    found = None if topic is None else find(image.queue_groups, topic.topic_id, wish.name)
    if found is None:
        raise UnknownQueueGroup(f"group {wish.name} was set, and deleted at once", outcome=Outcome.APPLIED)
    return found
