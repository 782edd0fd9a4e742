"""How far the groups are behind that this node coordinates, for metrics: asked of the leaders now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from raftmq.broker.deadlines import CallContext
from raftmq.broker.lag import Lag, lags, partitions_of, topics_by_id
from raftmq.broker.offsets import Offsets
from raftmq.coordinator.coordinator import Coordinator
from raftmq.metadata.image import MetadataImage
from raftmq.ports import Clock

INTERVAL_S = 5.0
LIMIT_MS = 5_000
SERIES_MAX = 1_000
"""Partitions, over all groups of a node, that metrics tell of: by name of the group, the first ones."""


class LagWatch:
    """``run`` until cancelled."""

    def __init__(
        self, coordinator: Coordinator, offsets: Offsets, image: Callable[[], MetadataImage], clock: Clock
    ) -> None:
        self.known: list[tuple[str, str, int, Lag]] = []
        """(group, topic, partition, lag), as of the last look; at most `SERIES_MAX`."""
        self._coordinator = coordinator
        self._offsets = offsets
        self._image = image
        self._clock = clock

    async def run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            await self.look()

    async def look(self) -> None:
        """Once."""
        found: list[tuple[str, str, int, Lag]] = []
        for group in self._coordinator.led_groups():
            topics = topics_by_id(self._image())
            wanted = partitions_of(group, topics)
            told = wanted[: SERIES_MAX - len(found)]
            context = CallContext.starting(LIMIT_MS)
            lag_of = await lags(self._offsets, group, told, topics, self._clock.wall_ms(), context)
            found += [(group.name, topics[key.topic_id].name, key.partition, lag_of[key]) for key in sorted(lag_of)]
        self.known = found
