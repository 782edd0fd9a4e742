"""raftmq.v1.Broker: records in and out, and what clients need to know to get there."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from raftmq.broker.deadlines import CallContext
from raftmq.broker.dispatch import Entry, StreamEntry
from raftmq.broker.fetching import Fetching
from raftmq.broker.forwarding import Forwarder
from raftmq.broker.leaders import Leaders
from raftmq.broker.offsets import Offsets
from raftmq.broker.produce_stream import produce_stream
from raftmq.broker.producers import Producers
from raftmq.broker.producing import Producing
from raftmq.broker.subscribing import subscribe
from raftmq.broker.view import View
from raftmq.ids import BootCount
from raftmq.records.topic_kinds import TopicKind
from raftmq.v1 import broker_pb2
from raftmq.version import __version__

API_LEVEL = 6
"""What clients may ask for: `GetServerInfoResponse.api_level` says how it grows, and what each level brought."""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What this process says of itself."""

    boot_count: BootCount
    max_message_bytes: int
    max_batch_bytes: int
    produce_timeout_ms: int = 30_000


class BrokerService:
    """The methods of ``raftmq.v1.Broker``."""

    def __init__(self, view: View, forwarder: Forwarder, facts: ServerFacts, rng: Random) -> None:
        self._view = view
        self._facts = facts
        self._producing = Producing(view, facts.produce_timeout_ms)
        self._fetching = Fetching(view)
        leaders = Leaders(view, forwarder, rng)
        self._offsets = Offsets(view, leaders)
        self._producers = Producers(view, leaders)

    def entries(self) -> dict[str, Entry | StreamEntry]:
        """For the table of methods."""
        return {
            "Broker.Produce": Entry(
                self._producing.produce,
                reads=False,
                target=self._producing.target,
                begin=self._producing.begin,
                join=self._producing.join,
            ),
            "Broker.ProduceStream": StreamEntry(produce_stream),
            "Broker.Subscribe": StreamEntry(subscribe),
            "Broker.Fetch": Entry(self._fetching.fetch, reads=True, target=self._fetching.target),
            "Broker.ListOffsets": Entry(self._offsets.list_offsets, reads=True),
            "Broker.InitProducer": Entry(self._producers.init_producer, reads=False),
            "Broker.DescribeProducers": Entry(self._producers.describe_producers, reads=True),
            "Broker.GetMetadata": Entry(self.get_metadata, reads=True),
            "Broker.GetServerInfo": Entry(self.get_server_info, reads=True),
        }

    async def get_metadata(
        self, request: broker_pb2.GetMetadataRequest, context: CallContext
    ) -> broker_pb2.GetMetadataResponse:
        """A topic that is asked for by name and not known here is left out."""
        await self._view.until_replayed(context)
        image = self._view.cluster.image
        records = {name for name, topic in image.topics.items() if topic.kind is TopicKind.RECORDS}
        names = sorted(set(request.topics) & image.topics.keys()) if request.topics else sorted(records)
        controller = self._view.cluster.controller()
        return broker_pb2.GetMetadataResponse(
            header=self._view.controller_header(),
            nodes=self._view.nodes(),
            topics=[self._view.topic_info(image.topics[name]) for name in names],
            controller_node_id=0 if controller is None else controller[0],
            metadata_version=image.version,
        )

    async def get_server_info(
        self, _request: broker_pb2.GetServerInfoRequest, _context: CallContext
    ) -> broker_pb2.GetServerInfoResponse:
        return broker_pb2.GetServerInfoResponse(
            header=self._view.controller_header(),
            version=__version__,
            api_level=API_LEVEL,
            boot_count=self._facts.boot_count,
            max_message_bytes=self._facts.max_message_bytes,
            max_batch_bytes=self._facts.max_batch_bytes,
        )
